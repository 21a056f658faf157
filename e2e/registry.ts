import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export const noRegistry: string | false = spawnSync('docker-registry', ['--version']).status === 0 ? false : 'no docker-registry on this machine';
export const noSkopeo: string | false = spawnSync('skopeo', ['--version']).status === 0 ? false : 'no skopeo on this machine';

export interface RunningRegistry extends AsyncDisposable {
  /** `localhost:PORT`. */
  readonly host: string;
  readonly port: number;
  /** Requests that it has answered so far, as its log has them. */
  requests(): number;
  stop(): Promise<void>;
}

export interface RegistrySettings {
  tls?: { certificate: string; key: string };
  /** As registry configurations have it. */
  auth?: Readonly<Record<string, unknown>>;
}

/** A real registry on a free loopback port, over the files in `dir`. */
export async function startRegistry(dir: string, { tls, auth }: RegistrySettings = {}): Promise<RunningRegistry> {
  mkdirSync(join(dir, 'data'), { recursive: true });
  const config = join(dir, 'config.yml');
  writeFileSync(config, JSON.stringify({ version: '0.1', log: { level: 'info' }, storage: { filesystem: { rootdirectory: join(dir, 'data') } }, http: { addr: '127.0.0.1:0', ...(tls === undefined ? {} : { tls }) }, ...(auth === undefined ? {} : { auth }) }));
  const child = spawn('docker-registry', ['serve', config], { stdio: ['ignore', 'pipe', 'pipe'] });
  const exited = once(child, 'exit');
  let requests = 0;
  const port = await new Promise<number>((resolve, reject) => {
    void exited.then(([code]) => reject(new Error(`docker-registry ended with ${String(code)}`)));
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        const found = /listening on 127\.0\.0\.1:(\d+)/.exec(line)?.[1];
        if (found !== undefined) resolve(Number(found));
        if (line.includes('response completed')) requests++;
      });
    }
  });
  const stop = async (): Promise<void> => {
    child.kill();
    await exited;
  };
  return { host: `localhost:${port}`, port, requests: () => requests, stop, [Symbol.asyncDispose]: stop };
}

/** `skopeo copy`, without TLS and without signatures. Returns the digest of the copied manifest. */
export function skopeoCopy(from: string, to: string, dir: string): string {
  const digestFile = join(dir, 'digest');
  execFileSync('skopeo', ['--insecure-policy', 'copy', '--quiet', '--src-tls-verify=false', '--dest-tls-verify=false', '--digestfile', digestFile, from, to], { stdio: ['ignore', 'ignore', 'pipe'] });
  return execFileSync('cat', [digestFile], { encoding: 'utf8' }).trim();
}
