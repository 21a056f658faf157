import { fileURLToPath } from 'node:url';

export const BUILD_SERVER_PROGRAM = fileURLToPath(new URL('./build-server-main.ts', import.meta.url));
