export { captureUpper, isOpaqueOrMoved } from './capture.ts';
export { FuseHost, fuseProblem } from './fuse-host.ts';
export { materialize, materializeEntry, setMetadata } from './materialize.ts';
export type { Overlay } from './overlay.ts';
export { unmount } from './mount-at.ts';
export { mountMemory, mountOverlay, unmountScratch } from './overlay.ts';
export { FIXED_MTIME_NS, Projection } from './projection.ts';
