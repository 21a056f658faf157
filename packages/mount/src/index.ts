export { captureUpper } from './capture.ts';
export { FuseHost, fuseProblem } from './fuse-host.ts';
export { materialize, materializeEntry, setMetadata } from './materialize.ts';
export type { Overlay } from './overlay.ts';
export { mountOverlay, unmount } from './overlay.ts';
export { Projection } from './projection.ts';
