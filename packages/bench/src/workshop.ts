import { cpSync, existsSync, mkdirSync, mkdtempSync, realpathSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describeError } from '@hyperdocker/base';
import type { DockerFound } from '@hyperdocker/demo';
import { Docker, run } from '@hyperdocker/demo';
import { Hd } from './hd.ts';

/** All sides stand on these files, byte for byte: Debian's packages, put together by mmdebstrap. */
export interface DebianBase { suite: string; include: string; /** Its name for Docker. */ tag: string }

/** What a front-end project has: many small files, some large bundles. */
const TREE_PACKAGES = ['next@15.1.0', 'react@19.0.0', 'react-dom@19.0.0', 'typescript@5.7.2', 'webpack@5.97.1', 'three@0.171.0', 'monaco-editor@0.52.2', 'pdfjs-dist@4.9.155'];
export const DOCKER_BASE = 'bench-base';
export const BASE: DebianBase = { suite: 'bookworm', include: 'python3,python3-pip', tag: DOCKER_BASE };

export interface WorkshopOptions {
  /** Kept, and used again by the next run with it. A temporary directory otherwise. */
  workDir: string | undefined;
  docker: 'use' | 'install' | 'leave-out';
  hdBin: string;
  /** Holds `<name>.git` for the scenarios that walk through a project's history. */
  reposDir: string | undefined;
  say: (text: string) => void;
}

/** What scenarios share: a home for `hd`, an engine, and a base image. Each is made when it is first asked for. */
export class Workshop implements AsyncDisposable {
  readonly checkout = fileURLToPath(new URL('../../..', import.meta.url));
  readonly #options: WorkshopOptions;
  readonly #workDir: string;
  /** Projects and stores of this run. Gone afterwards. */
  readonly #tempDir: string;
  #docker: Promise<DockerFound> | undefined;
  readonly #imported = new Map<string, Promise<void>>();

  constructor(options: WorkshopOptions) {
    this.#options = options;
    this.#tempDir = mkdtempSync(join(tmpdir(), 'hd-bench-'));
    this.#workDir = options.workDir ?? join(this.#tempDir, 'work');
    mkdirSync(this.#workDir, { recursive: true });
  }

  /** Kept, if so asked, and used again by later runs: what is made in it gets its name when it is whole. */
  get workDir(): string {
    return this.#workDir;
  }

  say(text: string): void {
    this.#options.say(text);
  }

  get hdHome(): string {
    return join(this.#workDir, 'hd-home');
  }

  get hdBin(): string {
    return this.#options.hdBin;
  }

  /** A root of the static busybox of this machine, under all its names. @throws HdError BENCH_COMMAND where there is none */
  async busyboxTar(): Promise<string> {
    const tar = join(this.#workDir, 'bench-busybox.tar');
    if (existsSync(tar)) return tar;
    const root = this.tempDir('busybox');
    for (const dir of ['bin', 'etc', 'root', 'tmp', 'home']) mkdirSync(join(root, dir));
    writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n');
    writeFileSync(join(root, 'etc/group'), 'root:x:0:\nnobody:x:65534:\n');
    await run('sh', ['-ec', 'cp "$(command -v busybox)" bin/busybox; for name in $(busybox --list); do [ "$name" = busybox ] || ln -s busybox "bin/$name"; done; chmod 1777 tmp; ldd bin/busybox > /dev/null 2>&1 && { echo "busybox is not static: apt-get install busybox-static" >&2; exit 1; }; tar --sort=name --numeric-owner --owner=0 --group=0 -cf "$1" .', 'sh', `${tar}.new`], { cwd: root });
    renameSync(`${tar}.new`, tar);
    return tar;
  }

  tempDir(name: string): string {
    return mkdtempSync(join(this.#tempDir, `${name}-`));
  }

  /** A copy of an example. */
  project(example: string): string {
    const dir = this.tempDir(example);
    cpSync(join(this.checkout, 'examples', example), dir, { recursive: true });
    return dir;
  }

  /** A `node_modules` of about 15,000 files and 330 MB. Undefined, having said why, where it cannot be had. */
  async packageTree(): Promise<string | undefined> {
    const dir = join(this.#workDir, 'packages');
    const tree = join(dir, 'node_modules');
    if (existsSync(tree)) return tree;
    this.#options.say('installing the packages that are stored');
    rmSync(`${dir}.new`, { recursive: true, force: true });
    mkdirSync(`${dir}.new`);
    try {
      await run('npm', ['install', '--prefix', `${dir}.new`, '--no-save', '--ignore-scripts', '--no-audit', '--no-fund', '--omit=optional', '--no-package-lock', ...TREE_PACKAGES]);
    } catch (error) {
      this.#options.say(`the packages cannot be installed, files are made up instead: ${describeError(error)}`);
      return undefined;
    }
    renameSync(`${dir}.new`, dir);
    return tree;
  }

  /** @param env further variables for it */
  hd(projectDir: string, env: NodeJS.ProcessEnv = {}): Hd {
    return new Hd(this.#options.hdBin, this.hdHome, projectDir, env);
  }

  /** A directory that is filled once, and used again by the next run in the same work directory. */
  async kept(name: string, fill: (dir: string) => Promise<unknown>): Promise<string> {
    const dir = join(this.#workDir, name);
    if (existsSync(dir)) return dir;
    this.#options.say(`fetching ${name}`);
    rmSync(`${dir}.new`, { recursive: true, force: true });
    mkdirSync(`${dir}.new`);
    await fill(`${dir}.new`);
    renameSync(`${dir}.new`, dir);
    return dir;
  }

  /** The clone of a project, where there is one. */
  repo(name: string): string | undefined {
    const dir = join(this.#options.reposDir ?? '', `${name}.git`);
    return this.#options.reposDir !== undefined && existsSync(dir) ? realpathSync(dir) : undefined;
  }

  /** The base as a tar: what `hd` makes of `apt://…` by itself. */
  async baseTar(base = BASE): Promise<string> {
    const tar = join(this.#workDir, `${base.tag}.tar`);
    if (existsSync(tar)) return tar;
    this.say('making the base image for the other side');
    await run('mmdebstrap', ['--variant=minbase', '--format=tar', `--include=${base.include}`, base.suite, `${tar}.new`], { env: { ...process.env, SOURCE_DATE_EPOCH: '1577836800' } });
    renameSync(`${tar}.new`, tar);
    return tar;
  }

  /** Undefined, having said why, where there is none. With the base image under its tag. */
  async docker(base = BASE): Promise<Docker | undefined> {
    this.#docker ??= this.#startDocker();
    const found = await this.#docker;
    if (!found.ok) return undefined;
    const imported = this.#imported.get(base.tag) ?? this.baseTar(base).then((tar) => found.docker.importBase(tar, base.tag));
    this.#imported.set(base.tag, imported);
    await imported;
    return found.docker;
  }

  /** Version of the engine in use. */
  async dockerVersion(): Promise<string | undefined> {
    const found = await this.#docker;
    return found?.ok === true ? found.docker.version() : undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const found = await this.#docker?.catch(() => undefined);
    if (found?.ok === true) await found.docker[Symbol.asyncDispose]();
    rmSync(this.#tempDir, { recursive: true, force: true });
  }

  async #startDocker(): Promise<DockerFound> {
    const { docker, say } = this.#options;
    const found: DockerFound = docker === 'leave-out' ? { ok: false, why: 'asked for by --no-docker' } : await Docker.start(join(this.#workDir, 'docker'), { install: docker === 'install' });
    if (!found.ok) say(`the Docker side is left out: ${found.why}`);
    return found;
  }
}
