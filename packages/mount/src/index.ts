export { captureUpper, isOpaqueOrMoved } from './capture.ts';
export { FuseHost, fuseProblem } from './fuse-host.ts';
export type { FuseHostOptions } from './fuse-host.ts';
export { materialize, materializeEntry, setMetadata } from './materialize.ts';
export type { Overlay } from './overlay.ts';
export { detachBelow, unmount } from './mount-at.ts';
export type { Keep } from './host-owner.ts';
export { mountMemory, mountOverlay, unmountScratch } from './overlay.ts';
export { FIXED_MTIME_NS, Projection } from './projection.ts';
