export { translateDockerfile } from './dockerfile.ts';
export type { IngestNote } from './dockerfile.ts';
