import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { accessSync, closeSync, constants, copyFileSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { HdError } from '@hyperdocker/base';
import { attempt, readPage, run } from './process.ts';

/** Of one `docker build`: instructions that were run, and those that came from the cache. */
export interface DockerBuild { ran: string[]; cached: number; /** Of each RUN of the Dockerfile, in its order: was it run? */ commands: boolean[] }

export type DockerFound = { ok: true; docker: Docker } | { ok: false; why: string };

const PROXY_VARIABLES = ['http_proxy', 'https_proxy', 'no_proxy', 'HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY'];
const CA_VARIABLES = ['SSL_CERT_FILE', 'REQUESTS_CA_BUNDLE', 'PIP_CERT', 'NODE_EXTRA_CA_CERTS'];
const START_TIMEOUT_MS = 60_000;

export interface BuildChoices {
  noCache?: boolean;
  /** A Dockerfile outside of the directory that is built. */
  file?: string;
  label?: string;
  /** Further options, as they are. */
  options?: readonly string[];
}

export interface RunChoices {
  label?: string;
  /** A small first process that hands signals on, as the engine brings it. */
  init?: boolean;
}

/** The real engine, with BuildKit. */
export class Docker implements AsyncDisposable {
  readonly #client: string;
  readonly #env: NodeJS.ProcessEnv;
  /** Ours, if it is. */
  readonly #own: { daemon: ChildProcess; stateDir: string; dataDir: string } | undefined;

  private constructor(client: string, env: NodeJS.ProcessEnv, own?: { daemon: ChildProcess; stateDir: string; dataDir: string }) {
    this.#client = client;
    this.#env = { ...env, DOCKER_BUILDKIT: '1' };
    this.#own = own;
  }

  /** The engine that runs already, as the `docker` command of this environment finds it. It is left running. */
  static async attach(env: NodeJS.ProcessEnv): Promise<DockerFound> {
    const clients = onPath('docker');
    if (clients.length === 0) return { ok: false, why: 'there is no docker command on this machine' };
    const client = clients.find(hasBuildKit);
    if (client === undefined) return { ok: false, why: 'the docker command has no BuildKit: it needs the buildx plugin' };
    const docker = new Docker(client, env);
    const { code, output } = await attempt(client, ['version', '--format', '{{.Server.Version}}'], { env: docker.#env });
    return code === 0 ? { ok: true, docker } : { ok: false, why: output.trim().split('\n').find((line) => /daemon|permission|error/i.test(line)) ?? 'no Docker engine answers' };
  }

  /** A daemon of our own with its own data, on the host's network, gone at dispose. Images and build cache go to `dataDir`. */
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
    const docker = new Docker(client, { ...process.env, DOCKER_HOST: host }, { daemon, stateDir, dataDir });
    const why = await docker.#whyNotReady(daemon, stateDir);
    if (why === undefined) return { ok: true, docker };
    await docker[Symbol.asyncDispose]();
    return { ok: false, why };
  }

  /** For whoever calls the same `docker` by itself. */
  get environment(): NodeJS.ProcessEnv {
    return this.#env;
  }

  /** The `docker` command that has BuildKit. */
  get client(): string {
    return this.#client;
  }

  /** Of an engine of our own. */
  get daemonPid(): number | undefined {
    return this.#own?.daemon.pid;
  }

  /** Where images and build cache of an engine of our own are. */
  get dataDir(): string | undefined {
    return this.#own?.dataDir;
  }

  version(): Promise<string> {
    return this.#docker('version', '--format', '{{.Server.Version}}').then((text) => text.trim());
  }

  /** A base image of the files of a tar, with what the host trusts and goes through. */
  async importBase(tar: string, tag: string): Promise<void> {
    const imported = (await this.#docker('import', tar)).trim();
    await this.#docker('tag', imported, 'bench-imported');
    await this.#outfit('bench-imported', tag);
  }

  /** The same of an archive with an image of that name. */
  async loadBase(archive: string, name: string, tag: string, label: string): Promise<void> {
    await this.#docker('load', '--input', archive);
    await this.#outfit(name, tag, label);
    // Only the name: the image stays as long as the other one does.
    await this.#docker('rmi', '--no-prune', name);
  }

  /** An image with what the host trusts and goes through: builds inside need it here too. */
  async #outfit(from: string, tag: string, label?: string): Promise<void> {
    const dir = mkdtempSync(join(tmpdir(), 'hd-bench-base-'));
    try {
      const lines = [`FROM ${from}`, ...PROXY_VARIABLES.filter((name) => process.env[name]).map((name) => `ENV ${name}="${process.env[name]}"`)];
      const bundle = CA_VARIABLES.map((name) => process.env[name]).find((path) => path !== undefined && existsSync(path));
      if (bundle !== undefined) {
        copyFileSync(bundle, join(dir, 'ca.crt'));
        lines.push('COPY ca.crt /etc/ssl/certs/ca-certificates.crt', ...CA_VARIABLES.map((name) => `ENV ${name}=/etc/ssl/certs/ca-certificates.crt`));
      }
      writeFileSync(join(dir, 'Dockerfile'), `${lines.join('\n')}\n`);
      await this.build(dir, tag, label === undefined ? {} : { label });
    } finally {
      rmSync(dir, { recursive: true });
    }
  }

  /** A base image of the files of a tar and nothing else, with a path of programs and what `change` says. Returns one of its names. */
  async baseImage(tar: string, tags: readonly string[], change: string): Promise<string> {
    if ((await Promise.all(tags.map((tag) => this.#has(tag)))).every(Boolean)) return tags[0] ?? '';
    const imported = (await this.#docker('import', '--change', 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', '--change', change, tar)).trim();
    for (const tag of tags) await this.#docker('tag', imported, tag);
    return tags[0] ?? imported;
  }

  /** As `docker load` reads it. */
  async save(image: string, file: string): Promise<void> {
    await this.#docker('save', '--output', file, image);
  }

  async build(dir: string, tag: string, choices: BuildChoices = {}): Promise<DockerBuild> {
    return readBuild(await this.#docker(...buildArguments(dir, tag, choices)));
  }

  /** The same for a build in which a command may fail: what comes after that one did not run. */
  async tryBuild(dir: string, tag: string): Promise<DockerBuild & { ok: boolean }> {
    const { code, output } = await attempt(this.#client, buildArguments(dir, tag), { env: this.#env });
    if (code !== 0 && !/did not complete successfully|executor failed running/.test(output)) throw new HdError('COMMAND_FAILED', `docker build came to nothing:\n${output.slice(-4_000)}`);
    return { ...readBuild(output), ok: code === 0 };
  }

  /** In the background, on the host's network. */
  async run(tag: string, name: string, env: Record<string, string>, { label, init = false }: RunChoices = {}): Promise<void> {
    const variables = Object.entries(env).flatMap(([key, value]) => ['--env', `${key}=${value}`]);
    await this.#docker('run', '--detach', '--network', 'host', '--name', name, ...(init ? ['--init'] : []), ...(label === undefined ? [] : ['--label', label]), ...variables, tag);
  }

  /** What a container printed, for messages. */
  async logs(name: string): Promise<string> {
    return (await attempt(this.#client, ['logs', '--tail', '20', name], { env: this.#env })).output;
  }

  async copy(file: string, name: string, path: string): Promise<void> {
    await this.#docker('cp', file, `${name}:${path}`);
  }

  /** With the time to end that the engine gives by itself. */
  async restart(name: string): Promise<void> {
    await this.#docker('restart', name);
  }

  async startAgain(name: string): Promise<void> {
    await this.#docker('start', name);
  }

  /** At once; it can be started again. */
  async stop(name: string): Promise<void> {
    await this.#docker('stop', '--time', '0', name);
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

  /** Names of the containers, and ids of the images, that have a label of this name. */
  async leftOver(labelName: string): Promise<string[]> {
    const filter = ['--filter', `label=${labelName}`, '--quiet'];
    return `${await this.#docker('ps', '--all', ...filter)}${await this.#docker('images', ...filter)}`.split('\n').filter((line) => line !== '');
  }

  /** Layers of images, what containers wrote and build cache, in bytes, as the engine counts them. Undefined where it is not on a Unix socket. */
  async diskBytes(): Promise<number | undefined> {
    const socket = /^unix:\/\/(.*)/.exec(this.#env['DOCKER_HOST'] ?? (await this.#docker('context', 'inspect', '--format', '{{.Endpoints.docker.Host}}')).trim())?.[1];
    const text = socket === undefined ? undefined : await readPage({ socketPath: socket, path: '/system/df' });
    if (text === undefined) return undefined;
    const use = JSON.parse(text) as { LayersSize?: number; Containers?: { SizeRw?: number }[] | null; BuildCache?: { Size: number; Shared: boolean }[] | null };
    const sum = (sizes: (number | undefined)[]): number => sizes.reduce<number>((total, size) => total + (size ?? 0), 0);
    return (use.LayersSize ?? 0) + sum((use.Containers ?? []).map(({ SizeRw }) => SizeRw)) + sum((use.BuildCache ?? []).filter(({ Shared }) => !Shared).map(({ Size }) => Size));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#own === undefined) return;
    const { daemon, stateDir } = this.#own;
    if (daemon.exitCode === null && daemon.signalCode === null) {
      const gone = once(daemon, 'exit');
      daemon.kill('SIGTERM');
      await gone;
    }
    const left = readFileSync('/proc/self/mountinfo', 'utf8').split('\n').map((line) => line.split(' ')[4] ?? '').filter((path) => path.startsWith(`${stateDir}/`));
    for (const path of left.toReversed()) spawnSync('umount', ['--lazy', path]);
    rmSync(stateDir, { recursive: true, force: true });
  }

  async #has(image: string): Promise<boolean> {
    return (await attempt(this.#client, ['image', 'inspect', image], { env: this.#env })).code === 0;
  }

  #docker(...args: string[]): Promise<string> {
    return run(this.#client, args, { env: this.#env });
  }

  async #whyNotReady(daemon: ChildProcess, stateDir: string): Promise<string | undefined> {
    const startedMs = performance.now();
    while (daemon.exitCode === null && performance.now() - startedMs < START_TIMEOUT_MS) {
      const version = await this.version().catch(() => '');
      if (version !== '') return undefined;
      await delay(200);
    }
    const last = readFileSync(join(stateDir, 'log'), 'utf8').trim().split('\n').at(-1);
    return `dockerd does not start here: ${last ?? ''}`;
  }
}

function buildArguments(dir: string, tag: string, { noCache = false, file, label, options = [] }: BuildChoices = {}): string[] {
  const choices = [...(noCache ? ['--no-cache'] : []), ...(file === undefined ? [] : ['--file', file]), ...(label === undefined ? [] : ['--label', label]), ...options];
  return ['build', '--network', 'host', '--progress', 'plain', '--tag', tag, ...choices, dir];
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
