export { buildImage } from './client.ts';
export type { BuildImageOptions } from './client.ts';
export { cachesDir } from './cache-mounts.ts';
export type { DockerfileBuilt, DockerfileRequest } from './request.ts';
