import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export const hasRegistry: boolean = spawnSync('docker-registry', ['--version']).status === 0;

/** A real registry on a free loopback port, with its files in `dir`. Ends at dispose. */
export async function startRegistry(dir: string): Promise<{ host: string } & AsyncDisposable> {
  mkdirSync(join(dir, 'data'), { recursive: true });
  const config = join(dir, 'config.yml');
  writeFileSync(config, JSON.stringify({ version: '0.1', log: { level: 'info' }, storage: { filesystem: { rootdirectory: join(dir, 'data') } }, http: { addr: '127.0.0.1:0' } }));
  const child = spawn('docker-registry', ['serve', config], { stdio: ['ignore', 'pipe', 'pipe'] });
  const exited = once(child, 'exit');
  const port = await new Promise<string>((resolve, reject) => {
    void exited.then(([code]) => reject(new Error(`docker-registry ended with ${String(code)}`)));
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        const found = /listening on 127\.0\.0\.1:(\d+)/.exec(line)?.[1];
        if (found !== undefined) resolve(found);
      });
    }
  });
  return {
    host: `127.0.0.1:${port}`,
    [Symbol.asyncDispose]: async () => {
      child.kill();
      await exited;
    },
  };
}
