import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { accessSync, closeSync, constants, copyFileSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { HdError } from '@hyperdocker/base';
import { attempt, run } from './process.ts';

/** Of one `docker build`: instructions that were run, and those that came from the cache. */
export interface DockerBuild { ran: string[]; cached: number; /** Of each RUN of the Dockerfile, in its order: was it run? */ commands: boolean[] }

export type DockerFound = { ok: true; docker: Docker } | { ok: false; why: string };

const PROXY_VARIABLES = ['http_proxy', 'https_proxy', 'no_proxy', 'HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY'];
const CA_VARIABLES = ['SSL_CERT_FILE', 'REQUESTS_CA_BUNDLE', 'PIP_CERT', 'NODE_EXTRA_CA_CERTS'];
const START_TIMEOUT_MS = 60_000;

/** The real engine, with BuildKit: a daemon of our own with its own data, on the host's network, gone at dispose. */
export class Docker implements AsyncDisposable {
  readonly #client: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #daemon: ChildProcess;
  readonly #stateDir: string;
  /** Where images and build cache are. */
  readonly dataDir: string;

  private constructor(client: string, env: NodeJS.ProcessEnv, daemon: ChildProcess, stateDir: string, dataDir: string) {
    this.dataDir = dataDir;
    this.#client = client;
    this.#env = env;
    this.#daemon = daemon;
    this.#stateDir = stateDir;
  }

  /** Images and build cache go to `dataDir`. */
  static async start(dataDir: string, options: { install: boolean }): Promise<DockerFound> {
    if (process.getuid?.() !== 0) return { ok: false, why: 'its daemon needs root' };
    if (options.install && findDaemon() === undefined) await run('apt-get', ['install', '-y', '--no-install-recommends', 'docker.io']);
    const daemonPath = findDaemon();
    const client = onPath('docker').find(hasBuildKit);
    if (daemonPath === undefined || client === undefined) {
      return { ok: false, why: `there is no ${daemonPath === undefined ? 'dockerd' : 'docker client with BuildKit'}; --install-docker installs Debian's docker.io` };
    }
    mkdirSync(dataDir, { recursive: true });
    const stateDir = mkdtempSync(join(tmpdir(), 'hd-bench-docker-'));
    const host = `unix://${join(stateDir, 'd.sock')}`;
    const log = openSync(join(stateDir, 'log'), 'w');
    const daemon = spawn(daemonPath, [
      '--iptables=false', '--bridge=none', '--data-root', dataDir, '--exec-root', join(stateDir, 'exec'), '--host', host, '--pidfile', join(stateDir, 'pid'),
    ], { stdio: ['ignore', log, log] });
    closeSync(log);
    const docker = new Docker(client, { ...process.env, DOCKER_HOST: host, DOCKER_BUILDKIT: '1' }, daemon, stateDir, dataDir);
    const why = await docker.#whyNotReady();
    if (why === undefined) return { ok: true, docker };
    await docker[Symbol.asyncDispose]();
    return { ok: false, why };
  }

  version(): Promise<string> {
    return this.#docker('version', '--format', '{{.Server.Version}}').then((text) => text.trim());
  }

  /** A base image of the files of a tar, and with what the host trusts and goes through: builds inside need it here too. */
  async importBase(tar: string, tag: string): Promise<void> {
    const imported = (await this.#docker('import', tar)).trim();
    const dir = mkdtempSync(join(tmpdir(), 'hd-bench-base-'));
    try {
      const lines = ['FROM bench-imported', ...PROXY_VARIABLES.filter((name) => process.env[name]).map((name) => `ENV ${name}="${process.env[name]}"`)];
      const bundle = CA_VARIABLES.map((name) => process.env[name]).find((path) => path !== undefined && existsSync(path));
      if (bundle !== undefined) {
        copyFileSync(bundle, join(dir, 'ca.crt'));
        lines.push('COPY ca.crt /etc/ssl/certs/ca-certificates.crt', ...CA_VARIABLES.map((name) => `ENV ${name}=/etc/ssl/certs/ca-certificates.crt`));
      }
      writeFileSync(join(dir, 'Dockerfile'), `${lines.join('\n')}\n`);
      await this.#docker('tag', imported, 'bench-imported');
      await this.build(dir, tag);
    } finally {
      rmSync(dir, { recursive: true });
    }
  }

  async build(dir: string, tag: string, options: { noCache?: boolean } = {}): Promise<DockerBuild> {
    return readBuild(await this.#docker(...buildArguments(dir, tag), ...(options.noCache === true ? ['--no-cache'] : [])));
  }

  /** The same for a build in which a command may fail: what comes after that one did not run. */
  async tryBuild(dir: string, tag: string): Promise<DockerBuild & { ok: boolean }> {
    const { code, output } = await attempt(this.#client, buildArguments(dir, tag), { env: this.#env });
    if (code !== 0 && !/did not complete successfully|executor failed running/.test(output)) throw new HdError('BENCH_COMMAND', `docker build came to nothing:\n${output.slice(-4_000)}`);
    return { ...readBuild(output), ok: code === 0 };
  }

  /** In the background, on the host's network. */
  async run(tag: string, name: string, env: Record<string, string>): Promise<void> {
    await this.#docker('run', '--detach', '--network', 'host', '--name', name, ...Object.entries(env).flatMap(([key, value]) => ['--env', `${key}=${value}`]), tag);
  }

  async pull(image: string): Promise<void> {
    await this.#docker('pull', '--quiet', image);
  }

  async push(tag: string, image: string): Promise<void> {
    await this.#docker('tag', tag, image);
    await this.#docker('push', '--quiet', image);
  }

  /** The files of an image as tars: of a container that never ran, as `docker export` has them, and of the layers as they are mounted, with all attributes. */
  async exportImage(image: string, { exported, overlaid }: { exported: string; overlaid: string }): Promise<void> {
    const container = (await this.#docker('create', image, 'none')).trim();
    const mounted = mkdtempSync(join(tmpdir(), 'hd-bench-overlay-'));
    try {
      await this.#docker('export', '--output', exported, container);
      const data = JSON.parse(await this.#docker('image', 'inspect', '--format', '{{json .GraphDriver.Data}}', image)) as { UpperDir: string; LowerDir?: string };
      const layers = [data.UpperDir, ...(data.LowerDir?.split(':') ?? [])];
      // A mount of nothing but one layer needs no overlay.
      await run('mount', layers.length === 1 ? ['--bind', layers[0] ?? '', mounted] : ['-t', 'overlay', 'overlay', '-o', `ro,lowerdir=${layers.join(':')}`, mounted]);
      try {
        await run('tar', ['--numeric-owner', '--xattrs', '--xattrs-include=*', '-C', mounted, '-cf', overlaid, '.']);
      } finally {
        await run('umount', [mounted]);
      }
    } finally {
      rmSync(mounted, { recursive: true });
      await this.remove(container);
    }
  }

  /** Those whose name fits the pattern, and what nothing else needs. */
  async removeImages(reference: string): Promise<void> {
    const ids = (await this.#docker('images', '--quiet', '--filter', `reference=${reference}`)).split('\n').filter((id) => id !== '');
    if (ids.length > 0) await this.#docker('rmi', '--force', ...new Set(ids));
  }

  /** At once: no time to end. */
  async remove(name: string): Promise<void> {
    await this.#docker('rm', '--force', name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#daemon.exitCode === null && this.#daemon.signalCode === null) {
      const gone = once(this.#daemon, 'exit');
      this.#daemon.kill('SIGTERM');
      await gone;
    }
    const left = readFileSync('/proc/self/mountinfo', 'utf8').split('\n').map((line) => line.split(' ')[4] ?? '').filter((path) => path.startsWith(`${this.#stateDir}/`));
    for (const path of left.toReversed()) spawnSync('umount', ['--lazy', path]);
    rmSync(this.#stateDir, { recursive: true, force: true });
  }

  #docker(...args: string[]): Promise<string> {
    return run(this.#client, args, { env: this.#env });
  }

  async #whyNotReady(): Promise<string | undefined> {
    const startedMs = performance.now();
    while (this.#daemon.exitCode === null && performance.now() - startedMs < START_TIMEOUT_MS) {
      const version = await this.version().catch(() => '');
      if (version !== '') return undefined;
      await delay(200);
    }
    const last = readFileSync(join(this.#stateDir, 'log'), 'utf8').trim().split('\n').at(-1);
    return `dockerd does not start here: ${last ?? ''}`;
  }
}

function buildArguments(dir: string, tag: string): string[] {
  return ['build', '--network', 'host', '--progress', 'plain', '--tag', tag, dir];
}

/** From BuildKit's plain progress: `#7 [2/3] RUN …`, then `#7 CACHED` or `#7 DONE`. */
export function readBuild(progress: string): DockerBuild {
  const instructions = new Map<string, { name: string; place: number }>();
  const cached = new Set<string>();
  for (const line of progress.split('\n')) {
    const named = /^(#\d+) \[(?:[^\]]* )?(\d+)\/\d+\] (COPY|RUN|WORKDIR) /.exec(line);
    if (named?.[1] !== undefined && named[3] !== undefined) instructions.set(named[1], { name: named[3], place: Number(named[2]) });
    const hit = /^(#\d+) CACHED/.exec(line);
    if (hit?.[1] !== undefined) cached.add(hit[1]);
  }
  const all = [...instructions].map(([id, { name, place }]) => ({ name, place, ran: !cached.has(id) }));
  const ran = all.filter((instruction) => instruction.ran).map(({ name }) => name);
  const commands = all.filter(({ name }) => name === 'RUN').sort((a, b) => a.place - b.place).map((instruction) => instruction.ran);
  return { ran, cached: all.length - ran.length, commands };
}

function findDaemon(): string | undefined {
  return onPath('dockerd')[0];
}

/** Clients before 23 have BuildKit built in; later ones bring it as the buildx plugin. */
function hasBuildKit(client: string): boolean {
  const major = Number(/version (\d+)\./.exec(spawnSync(client, ['--version'], { encoding: 'utf8' }).stdout)?.[1] ?? 0);
  return (major > 0 && major < 23) || spawnSync(client, ['buildx', 'version']).status === 0;
}

function onPath(name: string): string[] {
  const directories = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin'].filter((dir) => dir !== '');
  return [...new Set(directories)].map((dir) => join(dir, name)).filter((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
