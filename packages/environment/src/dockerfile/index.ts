export { buildImage } from './client.ts';
export type { BuildImageOptions } from './client.ts';
export { cachesDir } from './cache-mounts.ts';
export { dryBuild } from './dry-build.ts';
export type { DockerfileBuilt, DockerfileRequest } from './request.ts';
export { whyDockerfile } from './why-dockerfile.ts';
export type { BuildAsked } from './why-dockerfile.ts';
