import type { TreeDigest } from '@hyperdocker/base';
import { HdError, toByteString } from '@hyperdocker/base';
import type { Store, TreeEntry } from '@hyperdocker/cas';
import { emptyTree, lookupPath } from '@hyperdocker/cas';
import type { CopyOperation, DockerConfig, Dockerfile, DockerfileStage, HistoryEntry, Origin, RunOperation, StageOperation } from '@hyperdocker/frontend';
import { PROXY_ARGUMENTS, baseOf, evaluateGlobals, evaluateStage, expandAt, invalidDockerfile, neededStages, originOf, parseDockerfile, platformArguments, targetStage } from '@hyperdocker/frontend';
import type { Image, ImageDocument } from '@hyperdocker/oci';
import type { StepId } from '../events.ts';
import { findImage, resolveImage } from '../images.ts';
import { HOST_PLATFORM, userOf } from '../plan.ts';
import { sourceDateMs } from '../source-date.ts';
import { WriteLease } from '../write-lease.ts';
import { addSource, isRemote, fetchRemote } from './add-source.ts';
import { contextIgnores, readContext } from './build-context.ts';
import type { CopyOptions, Owner } from './copy-tree.ts';
import { copyInto, extractInto, makeDirectory } from './copy-tree.ts';
import { statCacheOf } from './build-files.ts';
import type { BuildState, BuilderOptions } from './build-state.ts';
import { NEEDS_RUNNER } from './build-state.ts';
import { fileTree } from './file-tree.ts';
import type { DockerfileBuilt } from './request.ts';
import { runCommand } from './run-command.ts';
import { Semaphore } from './semaphore.ts';
import { SharedLease } from './shared-lease.ts';
import { followLinks, lookUpIn } from './tree-paths.ts';

/** What a stage comes to. */
interface Built { tree: TreeDigest; config: DockerConfig; history: HistoryEntry[]; author: string | undefined; args: ReadonlyMap<string, string> }

/**
 * Builds a Dockerfile: stages that the target needs, several at once; commands as traced steps, which run again when something that they looked at has changed; COPY and ADD
 * as operations on trees.
 * @throws HdError DOCKERFILE_INVALID, STAGE_UNKNOWN, COPY_FAILED, STEP_FAILED, NEEDS_RUNNER, and those of images, contexts and secrets
 */
export function buildDockerfile(options: BuilderOptions): Promise<DockerfileBuilt> {
  return new Builder(options).run();
}

class Builder implements BuildState {
  readonly options: BuilderOptions;
  readonly lease: SharedLease;
  readonly turns: Semaphore;
  readonly signal: AbortSignal;
  ran = 0;
  cached = 0;
  readonly #dockerfile: Dockerfile;
  readonly #buildArgs: ReadonlyMap<string, string>;
  readonly #contexts: ReadonlyMap<string, string>;
  #globals: ReadonlyMap<string, string> = new Map();
  readonly #stages = new Map<number, Promise<Built>>();
  readonly #images = new Map<string, Promise<Image>>();
  readonly #contextTrees = new Map<string, TreeDigest>();
  readonly #kept = new DisposableStack();
  readonly #numbers = new Map<string, number>();
  readonly #abort = new AbortController();
  #total = 0;

  constructor(options: BuilderOptions) {
    const { request, store } = options;
    this.options = options;
    this.lease = new SharedLease(store, `hd build ${request.name}`);
    this.turns = new Semaphore(request.jobs);
    this.signal = AbortSignal.any([options.signal, this.#abort.signal]);
    this.#dockerfile = parseDockerfile(request.text, request.name);
    this.#buildArgs = new Map(request.buildArgs);
    this.#contexts = new Map(request.contexts);
  }

  async run(): Promise<DockerfileBuilt> {
    const startedMs = performance.now();
    const { request } = this.options;
    using _kept = this.#kept;
    const target = targetStage(this.#dockerfile, request.target);
    this.#globals = evaluateGlobals(this.#dockerfile, platformArguments(HOST_PLATFORM, request.platform, target.name ?? 'default'), this.#buildArgs);
    const needed = neededStages(this.#dockerfile, target, this.#globals, this.#contextNames);
    this.#numberSteps(needed);
    // All begin at once. The first failure ends the others, and is told when nobody is at work any more.
    const all = needed.map((stage) => this.#stage(stage));
    const first = await Promise.all(all).then(() => undefined, (error: unknown) => ({ error }));
    if (first !== undefined) {
      this.#abort.abort(first.error);
      await Promise.allSettled(all);
      throw first.error;
    }
    const built = await this.#stage(target);
    const document = this.#document(built);
    return { tree: built.tree, document, names: [], ran: this.ran, cached: this.cached, ms: performance.now() - startedMs };
  }

  #stage(stage: DockerfileStage): Promise<Built> {
    const known = this.#stages.get(stage.index);
    if (known !== undefined) return known;
    // Whoever needs it sees the error; it may come before anybody does.
    const building = this.lease.work(() => this.#buildStage(stage));
    building.catch(() => {});
    this.#stages.set(stage.index, building);
    return building;
  }

  async #buildStage(stage: DockerfileStage): Promise<Built> {
    const { request } = this.options;
    const base = await this.#base(stage);
    const evaluated = evaluateStage(this.#dockerfile, stage, base.config, this.#globals, this.#buildArgs, base.args);
    let tree = base.tree;
    for (const operation of evaluated.operations) {
      this.signal.throwIfAborted();
      tree = await this.#apply(stage, operation, tree);
    }
    this.#keep(tree);
    const labels = stage === targetStage(this.#dockerfile, request.target) && request.labels.length > 0 ? { Labels: { ...evaluated.config.Labels, ...Object.fromEntries(request.labels) } } : {};
    return { tree, config: { ...evaluated.config, ...labels }, history: [...base.history, ...evaluated.history], author: evaluated.author ?? base.author, args: evaluated.args };
  }

  async #base(stage: DockerfileStage): Promise<Built> {
    const { store } = this.options;
    const { line } = stage.from;
    const origin = baseOf(this.#dockerfile, stage, this.#globals, this.#contextNames);
    if (origin.kind === 'stage') return await this.#otherStage(origin.index, emptyTree(store));
    if (origin.kind === 'context') {
      const value = this.#contexts.get(origin.name) ?? '';
      const image = imageOfContext(value);
      if (image === undefined) return { tree: this.#context(origin.name), config: {}, history: [], author: undefined, args: NO_ARGS };
      return builtOf(await this.#image(line, image, this.#platformOf(stage)));
    }
    if (origin.text === 'scratch') return { tree: emptyTree(store), config: SCRATCH_CONFIG, history: [], author: undefined, args: NO_ARGS };
    return builtOf(await this.#image(line, origin.text, this.#platformOf(stage)));
  }

  #platformOf(stage: DockerfileStage): string {
    const { platform, line } = stage.from;
    if (platform === undefined) return this.options.request.platform;
    return expandAt(this.#dockerfile, line, platform, this.#globals).text || this.options.request.platform;
  }

  #apply(stage: DockerfileStage, operation: StageOperation, tree: TreeDigest): Promise<TreeDigest> | TreeDigest {
    switch (operation.kind) {
      case 'workdir':
        return this.at(operation.instruction.line, () => makeDirectory(this.options.store, tree, operation.path, this.#owner(tree, operation.user)));
      case 'copy':
        return this.#copy(stage, operation, tree);
      case 'run':
        return this.#runStep(stage, operation, tree);
    }
  }

  async #runStep(stage: DockerfileStage, operation: RunOperation, tree: TreeDigest): Promise<TreeDigest> {
    const { line } = operation.instruction;
    const platform = this.#platformOf(stage);
    const borrowed: { path: string; readonly: boolean; entry: TreeEntry }[] = [];
    for (const mount of operation.mounts) {
      if (mount.type !== 'bind') continue;
      const from = await this.#files(stage, line, mount.from, tree);
      borrowed.push({ path: mount.target, readonly: mount.readonly, entry: this.at(line, () => entryAt(this.options.store, from, mount.source)) });
    }
    const fill = async (from: string | undefined, source: string): Promise<TreeDigest | undefined> => {
      if (from === undefined) return undefined;
      const entry = entryAt(this.options.store, await this.#files(stage, line, from, tree), source);
      return entry.kind === 'dir' ? entry.digest : undefined;
    };
    return await runCommand(this, { operation, tree, platform, borrowed, fill, id: this.#stepId(stage, operation) });
  }

  async #copy(stage: DockerfileStage, operation: CopyOperation, tree: TreeDigest): Promise<TreeDigest> {
    const { store, home } = this.options;
    const { signal } = this;
    const { instruction, sources, files, destination, chown, chmod, exclude, checksum } = operation;
    const { line, keyword } = instruction;
    const owner = chown === undefined ? undefined : this.at(line, () => ownerOf(store, tree, chown));
    const options: CopyOptions = { exclude, parents: instruction.parents, link: instruction.link, ...(owner === undefined ? {} : { owner }), ...(chmod === undefined ? {} : { mode: chmod }) };
    let result = tree;
    if (files.length > 0) result = this.at(line, () => copyInto(store, result, fileTree(store, files), files.map(({ name }) => `/${name}`), destination, options));
    for (const source of sources) {
      if (keyword === 'ADD' && isRemote(source)) {
        const fetched = await this.lease.apart([{ kind: 'tree', digest: result }], () => this.atAsync(line, () => fetchRemote({ store, home, signal, keepGitDir: instruction.keepGitDir, unpack: instruction.unpack === true }, source, checksum)));
        result = this.at(line, () => (fetched.kind === 'archive' ? extractInto(store, result, fetched.tree, destination, options) : copyInto(store, result, fetched.tree, fetched.names, destination, withMode(options, chmod ?? fetched.mode))));
        continue;
      }
      const from = await this.#files(stage, line, operation.from, result);
      if (keyword !== 'ADD') result = this.at(line, () => copyInto(store, result, from, [source], destination, options));
      else if (instruction.unpack === false) result = this.at(line, () => copyInto(store, result, from, [source], destination, options));
      else result = await this.atAsync(line, () => addSource(store, { tree: result, from, source, destination, options, lease: this.lease }));
    }
    return result;
  }

  /** What a `from` names; without one, the context. @param inUse what must not be collected while another stage is waited for */
  async #files(stage: DockerfileStage, line: number, from: string | undefined, inUse: TreeDigest): Promise<TreeDigest> {
    if (from === undefined || from === '') return this.#context(undefined);
    const origin: Origin = originOf(this.#dockerfile, stage, line, from, this.#contextNames);
    switch (origin.kind) {
      case 'stage':
        return (await this.#otherStage(origin.index, inUse)).tree;
      case 'context': {
        const image = imageOfContext(this.#contexts.get(origin.name) ?? '');
        return image === undefined ? this.#context(origin.name) : (await this.#image(line, image, this.#platformOf(stage), inUse)).tree;
      }
      case 'image':
        return origin.text === 'scratch' ? emptyTree(this.options.store) : (await this.#image(line, origin.text, this.#platformOf(stage), inUse)).tree;
    }
  }

  #otherStage(index: number, inUse: TreeDigest): Promise<Built> {
    const stage = this.#dockerfile.stages[index];
    if (stage === undefined) throw new HdError('STAGE_UNKNOWN', `there is no stage ${index}`);
    return this.lease.apart([{ kind: 'tree', digest: inUse }], () => this.#stage(stage));
  }

  /** A directory of the host. Read once, when it is asked for first. */
  #context(name: string | undefined): TreeDigest {
    const { store, home, request } = this.options;
    const dir = name === undefined ? request.contextDir : (this.#contexts.get(name) ?? '');
    const known = this.#contextTrees.get(dir);
    if (known !== undefined) return known;
    const ignore = contextIgnores(dir, name === undefined ? request.path : undefined);
    const { tree } = readContext({ store, storeDir: home.storeDir, dir, ignore, cacheFile: statCacheOf(home, dir) });
    this.#contextTrees.set(dir, tree);
    this.#keep(tree);
    return tree;
  }

  #image(line: number, text: string, platform: string, inUse?: TreeDigest): Promise<Image> {
    const key = `${platform} ${text}`;
    const loading = this.#images.get(key) ?? this.#loadImage(line, text, platform);
    this.#images.set(key, loading);
    return this.lease.apart(inUse === undefined ? [] : [{ kind: 'tree', digest: inUse }], () => loading);
  }

  #loadImage(line: number, text: string, platform: string): Promise<Image> {
    const { store, home, request, emit, runner } = this.options;
    const { signal } = this;
    const here = { store, platform, projectDir: request.contextDir };
    const found = request.pull ? undefined : this.at(line, () => findImage(text, here));
    const load = async (): Promise<Image> => {
      if (found === undefined && runner === undefined) throw NEEDS_RUNNER;
      using lease = new WriteLease(store, `hd build ${request.name}`);
      const image = await this.atAsync(line, () => resolveImage(text, { ...here, home, lease, refresh: request.pull, emit, signal }));
      this.#keep(image.tree);
      return image;
    };
    const loading = load();
    loading.catch(() => {});
    return loading;
  }

  #keep(tree: TreeDigest): void {
    this.options.store.flush();
    this.#kept.use(this.options.store.pin({ kind: 'tree', digest: tree }, `hd build ${this.options.request.name}`));
  }

  #owner(tree: TreeDigest, user: string): Owner | undefined {
    if (user === '') return undefined;
    const { uid, gid } = userOf(this.options.store, tree, user);
    return { uid, gid };
  }

  get proxies(): Record<string, string> {
    return Object.fromEntries([...this.#buildArgs].filter(([name]) => PROXY_ARGUMENTS.includes(name)));
  }

  get #contextNames(): ReadonlySet<string> {
    return new Set(this.#contexts.keys());
  }

  #numberSteps(needed: readonly DockerfileStage[]): void {
    for (const stage of needed) for (const instruction of stage.instructions) if (instruction.keyword === 'RUN') this.#numbers.set(`${stage.index} ${instruction.line}`, ++this.#total);
  }

  /** Those of ONBUILD come after all others: how many there are is known only with the base image. */
  #stepId(stage: DockerfileStage, { instruction }: RunOperation): StepId {
    const key = `${stage.index} ${instruction.line}`;
    const index = this.#numbers.get(key) ?? ++this.#total;
    const isOne = this.#dockerfile.stages.length === 1;
    const command = instruction.text.replace(/^RUN\s+/, '');
    return { index, total: this.#total, command: isOne ? command : `${stage.name ?? stage.index}: ${command}`, line: instruction.line, file: this.options.request.name };
  }

  /** Errors of trees and images get the line that led to them. */
  at<T>(line: number, work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw this.#located(line, error);
    }
  }

  async atAsync<T>(line: number, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw this.#located(line, error);
    }
  }

  #located(line: number, error: unknown): unknown {
    if (!(error instanceof HdError) || error === NEEDS_RUNNER || error.details?.['line'] !== undefined) return error;
    const { file, lines } = this.#dockerfile;
    return invalidDockerfile({ file, line, source: lines[line - 1] }, error.message, error.code, error.hint);
  }

  #document({ config, history, author }: Built): ImageDocument {
    const [os = 'linux', architecture = 'amd64', variant] = this.options.request.platform.split('/');
    const created = new Date(sourceDateMs(this.options.env)).toISOString();
    return { architecture, ...(variant === undefined ? {} : { variant }), os, created, ...(author === undefined ? {} : { author }), config, history: history.map((entry) => ({ created, ...entry })) };
  }
}

const NO_ARGS: ReadonlyMap<string, string> = new Map();
const SCRATCH_CONFIG: DockerConfig = { Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'], WorkingDir: '/' };

function builtOf({ tree, document }: Image): Built {
  const config = (document?.['config'] ?? {}) as DockerConfig;
  const history = (Array.isArray(document?.['history']) ? document['history'] : []) as HistoryEntry[];
  const author = document?.['author'];
  return { tree, config, history, author: typeof author === 'string' ? author : undefined, args: NO_ARGS };
}

/** Of a context that is an image: what a FROM would say. */
function imageOfContext(value: string): string | undefined {
  if (value.startsWith('docker-image://')) return value.slice('docker-image://'.length);
  return value.startsWith('oci-layout://') ? `oci:${value.slice('oci-layout://'.length)}` : undefined;
}

/** Where a mount takes its files from. @throws HdError COPY_FAILED */
function entryAt(store: Store, tree: TreeDigest, path: string): TreeEntry {
  const real = followLinks(lookUpIn(store, tree), toByteString(path));
  const entry: TreeEntry | undefined = real === '' ? { kind: 'dir', name: toByteString(''), mode: 0o755, digest: tree } : lookupPath(store, tree, real);
  if (entry === undefined) throw new HdError('COPY_FAILED', `${path} is not there to be mounted`);
  return entry;
}

/** `user[:group]`, by the files of the image: a number alone stands for both. @throws HdError USER_NOT_FOUND, GROUP_NOT_FOUND */
function ownerOf(store: Store, tree: TreeDigest, text: string): Owner {
  const both = /^\d+$/.test(text) ? `${text}:${text}` : text;
  const { uid, gid } = userOf(store, tree, both);
  return { uid, gid };
}

function withMode(options: CopyOptions, mode: string | undefined): CopyOptions {
  return mode === undefined ? options : { ...options, mode };
}
