import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Emitted, SupervisorClient } from '@hyperdocker/environment';
import { connectOrFail, envPaths, findProject, openHome } from '@hyperdocker/environment';
import type { HdProcess, HdResult, World } from '@hyperdocker/testkit';
import { checkout, freePort, runHd, startHd, tempWorld } from '@hyperdocker/testkit';

/** Why the end-to-end tests cannot run here, or false. */
export const unable: string | false = process.getuid?.() !== 0
  ? 'needs root: mounts and containers'
  : ['runc', 'crun', 'youki'].every((name) => !onPath(name))
    ? 'no OCI runtime on this machine'
    : !onPath('mmdebstrap')
      ? 'no mmdebstrap on this machine'
      : false;

export const noFuse: string | false = existsSync('/dev/fuse') ? false : 'no /dev/fuse on this machine';

function onPath(name: string): boolean {
  return (process.env['PATH'] ?? '').split(':').some((dir) => existsSync(join(dir, name)));
}

/** Base images take half a minute; a step may fetch packages. */
const TIMEOUT_MS = 600_000;

/** One home, with any number of projects in it. */
export class Rig implements AsyncDisposable {
  readonly world: World = tempWorld();
  readonly #projects: ProjectRig[] = [];

  /** A copy of an example, listening on a port of its own. */
  async example(name: string, port: number): Promise<ProjectRig> {
    const dir = join(this.world.dir, `${name}-${this.#projects.length}`);
    cpSync(join(checkout, 'examples', name), dir, { recursive: true });
    const project = new ProjectRig(this.world, dir, await freePort());
    for (const file of ['hd.toml', ...walk(dir)]) project.replace(file, new RegExp(`\\b${port}\\b`, 'g'), String(project.port));
    this.#projects.push(project);
    return project;
  }

  /** A project of the files given; `PORT` in them stands for its port. */
  async project(name: string, files: Record<string, string>): Promise<ProjectRig> {
    const dir = join(this.world.dir, name);
    mkdirSync(dir);
    const project = new ProjectRig(this.world, dir, await freePort());
    for (const [path, text] of Object.entries(files)) project.write(path, text.replaceAll('PORT', String(project.port)));
    this.#projects.push(project);
    return project;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const project of this.#projects) await project.hd('down');
    await this.world[Symbol.asyncDispose]();
  }
}

export class ProjectRig {
  readonly dir: string;
  readonly port: number;
  readonly #world: World;

  constructor(world: World, dir: string, port: number) {
    this.#world = world;
    this.dir = dir;
    this.port = port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}/`;
  }

  hd(...args: string[]): Promise<HdResult> {
    return runHd(args, { cwd: this.dir, env: this.#world.env, timeoutMs: TIMEOUT_MS });
  }

  hdWith(env: Record<string, string>, ...args: string[]): Promise<HdResult> {
    return runHd(args, { cwd: this.dir, env: { ...this.#world.env, ...env }, timeoutMs: TIMEOUT_MS });
  }

  start(...args: string[]): HdProcess {
    return this.startWith({}, ...args);
  }

  startWith(env: Record<string, string>, ...args: string[]): HdProcess {
    return startHd(args, { cwd: this.dir, env: { ...this.#world.env, ...env }, timeoutMs: TIMEOUT_MS });
  }

  /** `hd up -d --wait`, which has to work. What it did, by its own events. */
  async up(...args: string[]): Promise<BuildReport> {
    const result = await this.hd('up', '-d', '--wait', '--json', ...args);
    assert.equal(result.code, 0, `hd up failed:\n${result.stdout}${result.stderr}`);
    return new BuildReport(result.stdout);
  }

  /** What the running environment does after `edit`, until it has been taken in. */
  async edit(edit: () => void, options: { until?: (event: Emitted) => boolean } = {}): Promise<BuildReport> {
    const until = options.until ?? ((event) => event.type === 'change');
    const client = await this.client();
    const stop = new AbortController();
    const timeout = setTimeout(() => stop.abort(), TIMEOUT_MS);
    const lines: string[] = [];
    const { last } = await client.status();
    edit();
    for await (const event of client.events(last, stop.signal)) {
      lines.push(JSON.stringify(event));
      if (until(event)) break;
    }
    clearTimeout(timeout);
    assert(!stop.signal.aborted, `the environment did not take the edit in:\n${lines.join('\n')}`);
    return new BuildReport(lines.join('\n'));
  }

  /** What the names of its containers begin with. */
  get containerPrefix(): string {
    return envPaths(openHome(this.#world.env), findProject(this.dir)).containerPrefix;
  }

  client(): Promise<SupervisorClient> {
    return connectOrFail(envPaths(openHome(this.#world.env), findProject(this.dir)));
  }

  read(file: string): string {
    return readFileSync(join(this.dir, file), 'utf8');
  }

  write(file: string, text: string): void {
    mkdirSync(join(this.dir, file, '..'), { recursive: true });
    writeFileSync(join(this.dir, file), text);
  }

  replace(file: string, from: string | RegExp, to: string): void {
    const before = this.read(file);
    const after = before.replace(from, to);
    if (after !== before) this.write(file, after);
  }
}

/** What was done, read from events. */
export class BuildReport {
  readonly events: { type: string; status?: string; step?: { index: number; command: string }; reason?: string; ran?: number; [key: string]: unknown }[];

  constructor(ndjson: string) {
    this.events = ndjson.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as BuildReport['events'][number]);
  }

  /** Commands of the steps that ran, in order. */
  get ran(): string[] {
    return this.#steps('ran');
  }

  get cached(): string[] {
    return this.#steps('cached');
  }

  /** What the steps printed, step after step: of the runs that stand. */
  get output(): string {
    const printed = new Map<number, string>();
    for (const { type, status, step, text } of this.events) {
      const index = step?.index ?? 0;
      if (type === 'step' && (status === 'running' || status === 'discarded')) printed.set(index, '');
      if (type === 'step-output') printed.set(index, `${printed.get(index) ?? ''}${String(text)}`);
    }
    return [...printed].sort(([a], [b]) => a - b).map(([, text]) => text).join('');
  }

  restarted(): string[] {
    return this.events.filter(({ type, status }) => type === 'service' && status === 'restarting').map(({ name }) => String(name));
  }

  #steps(status: string): string[] {
    return this.events.filter((event) => event.type === 'step' && event.status === status).map((event) => event.step?.command ?? '');
  }
}

/** Processes whose command line or whose mounts mention a path: none may be left when its environment is down. */
export function leftovers(dir: string): string[] {
  const processes = execFileSync('ps', ['-eo', 'pid,args'], { encoding: 'utf8' }).split('\n').filter((line) => line.includes(dir) && !line.includes('ps -eo'));
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n').filter((line) => line.includes(dir));
  return [...processes, ...mounts];
}

function walk(dir: string, prefix = ''): string[] {
  return readdirSync(join(dir, prefix), { withFileTypes: true }).flatMap((entry) => {
    const path = prefix === '' ? entry.name : `${prefix}/${entry.name}`;
    return entry.isDirectory() ? walk(dir, path) : [path];
  });
}
