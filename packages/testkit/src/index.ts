export { checkout } from './checkout.ts';
export { runHd, startHd, type HdOptions, type HdResult, type HdProcess } from './hd-process.ts';
export { inMountNamespace, mountProblem } from './mount-namespace.ts';
export { freePort, waitForHttp, waitUntil, type WaitOptions } from './network.ts';
export { tempWorld, type World } from './world.ts';
