import { rmSync } from 'node:fs';
import type { Server } from 'node:net';

/** Listens on a Unix socket that only its owner may open, in the place of whatever was there. Rejects with the server's error. */
export function listenPrivately(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    rmSync(path, { force: true });
    const before = process.umask(0o177);
    server.once('error', reject);
    server.listen(path, () => {
      process.umask(before);
      resolve();
    });
  });
}
