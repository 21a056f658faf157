export { checkout } from './checkout.ts';
export { runHd, startHd, type HdOptions, type HdResult, type HdProcess } from './hd-process.ts';
export { faultyDisk, tellDisk, type FaultyDisk } from './faulty-disk/faulty-disk.ts';
export type { Fault, FaultKind, Operation } from './faulty-disk/operation.ts';
export { PowerCuts, imageDigest, writeImage, type Image, type Survival } from './faulty-disk/power-cut.ts';
export { inMountNamespace, mountProblem } from './mount-namespace.ts';
export { freePort, processesIn, waitForHttp, waitUntil, type WaitOptions } from './network.ts';
export { randomNumbers } from './random-numbers.ts';
export { tempWorld, type World } from './world.ts';
