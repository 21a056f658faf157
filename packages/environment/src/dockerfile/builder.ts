import type { TreeDigest } from '@hyperdocker/base';
import { HdError } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { emptyTree } from '@hyperdocker/cas';
import type { CopyOperation, DockerConfig, Dockerfile, DockerfileStage, HistoryEntry, Instruction, Origin, RunOperation, StageOperation } from '@hyperdocker/frontend';
import { PROXY_ARGUMENTS, baseOf, evaluateGlobals, evaluateStage, expandAt, invalidDockerfile, neededStages, originOf, parseDockerfile, platformArguments, targetStage } from '@hyperdocker/frontend';
import type { Image, ImageDocument } from '@hyperdocker/oci';
import { EMPTY_CONFIG } from '@hyperdocker/oci';
import type { BuildRecord, StepRecord } from '../build-record.ts';
import { readBuildRecord, unreached, writeBuildRecord } from '../build-record.ts';
import type { StepId } from '../events.ts';
import { findImage, resolveImage } from '../images.ts';
import { canonicalName } from '../named-images.ts';
import { userOf } from '../plan.ts';
import { HOST_PLATFORM } from '../platform.ts';
import { sourceDateMs } from '../source-date.ts';
import { WriteLease } from '../write-lease.ts';
import { addSource, isRemote, fetchRemote } from './add-source.ts';
import { contextIgnores, readContext } from './build-context.ts';
import type { CopyOptions, Owner } from './copy-tree.ts';
import { copyInto, extractInto, makeDirectory } from './copy-tree.ts';
import { recordFileOf, statCacheOf } from './build-files.ts';
import type { BuildState, BuilderOptions } from './build-state.ts';
import { NEEDS_RUNNER } from './build-state.ts';
import { fileTree } from './file-tree.ts';
import type { DryBuild } from './foresee-command.ts';
import { foreseeCommand } from './foresee-command.ts';
import type { Files } from './foreseen-files.ts';
import { known, layFiles, unknownFiles } from './foreseen-files.ts';
import type { DockerfileBuilt } from './request.ts';
import type { Borrowed, CommandRun } from './run-command.ts';
import { entryAt, runCommand } from './run-command.ts';
import { Semaphore } from './semaphore.ts';
import { SharedLease } from './shared-lease.ts';

/** What a stage comes to. */
interface Built { files: Files; /** Foreseen on an image that is not here. */ baseMissing: boolean; config: DockerConfig; history: HistoryEntry[]; author: string | undefined; args: ReadonlyMap<string, string> }

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
  readonly previous: BuildRecord | undefined;
  readonly records: StepRecord[] = [];
  readonly #dockerfile: Dockerfile;
  readonly #buildArgs: ReadonlyMap<string, string>;
  readonly #contexts: ReadonlyMap<string, string>;
  #globals: ReadonlyMap<string, string> = new Map();
  readonly #stages = new Map<number, Promise<Built>>();
  readonly #images = new Map<string, Promise<Image>>();
  readonly #absent = new WeakSet<Image>();
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
    this.previous = readBuildRecord(recordFileOf(options.home, request));
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
      if (first.error !== NEEDS_RUNNER && !this.options.signal.aborted && this.records.length > 0) this.#writeRecord(needed);
      throw first.error;
    }
    if (this.options.dry === undefined) this.#writeRecord(needed);
    const built = await this.#stage(target);
    const document = this.#document(built);
    return { tree: built.files.tree, document, names: [], ran: this.ran, cached: this.cached, ms: performance.now() - startedMs };
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
    let { files } = base;
    for (const operation of evaluated.operations) {
      this.signal.throwIfAborted();
      files = await this.#apply(stage, operation, files, base.baseMissing);
    }
    this.#keep(files.tree);
    const labels = stage === targetStage(this.#dockerfile, request.target) && request.labels.length > 0 ? { Labels: { ...evaluated.config.Labels, ...Object.fromEntries(request.labels) } } : {};
    return { files, baseMissing: base.baseMissing, config: { ...evaluated.config, ...labels }, history: [...base.history, ...evaluated.history], author: evaluated.author ?? base.author, args: evaluated.args };
  }

  async #base(stage: DockerfileStage): Promise<Built> {
    const { store } = this.options;
    const { line } = stage.from;
    const origin = baseOf(this.#dockerfile, stage, this.#globals, this.#contextNames);
    if (origin.kind === 'stage') return await this.#otherStage(origin.index, emptyTree(store));
    if (origin.kind === 'context') {
      const value = this.#contexts.get(origin.name) ?? '';
      const image = imageOfContext(value);
      if (image === undefined) return blank(this.#context(origin.name), {});
      return this.#builtOf(await this.#image(line, image, this.#platformOf(stage)));
    }
    if (origin.text === 'scratch') return blank(emptyTree(store), SCRATCH_CONFIG);
    return this.#builtOf(await this.#image(line, origin.text, this.#platformOf(stage)));
  }

  #platformOf(stage: DockerfileStage): string {
    const { platform, line } = stage.from;
    if (platform === undefined) return this.options.request.platform;
    return expandAt(this.#dockerfile, line, platform, this.#globals).text || this.options.request.platform;
  }

  async #apply(stage: DockerfileStage, operation: StageOperation, files: Files, baseMissing: boolean): Promise<Files> {
    switch (operation.kind) {
      case 'workdir':
        return await this.#lay(operation.instruction.line, files, known(files.tree), () => makeDirectory(this.options.store, files.tree, operation.path, this.#owner(files.tree, operation.user)));
      case 'copy':
        return await this.#copy(stage, operation, files);
      case 'run':
        return await this.#runStep(stage, operation, files, baseMissing);
    }
  }

  async #runStep(stage: DockerfileStage, operation: RunOperation, files: Files, baseMissing: boolean): Promise<Files> {
    const { line } = operation.instruction;
    const { dry, store } = this.options;
    const platform = this.#platformOf(stage);
    const borrowed: Borrowed[] = [];
    for (const mount of operation.mounts) {
      if (mount.type === 'bind') borrowed.push({ path: mount.target, readonly: mount.readonly, source: mount.source, files: await this.#files(stage, line, mount.from, files.tree) });
    }
    const fill = async (from: string | undefined, source: string): Promise<TreeDigest | undefined> => {
      if (from === undefined) return undefined;
      const entry = entryAt(store, (await this.#files(stage, line, from, files.tree)).tree, source);
      return entry.kind === 'dir' ? entry.digest : undefined;
    };
    const run: CommandRun = { operation, files, baseMissing, platform, borrowed, fill, id: this.#stepId(stage, operation.instruction) };
    return dry === undefined ? known(await runCommand(this, run)) : foreseeCommand(this, dry, run);
  }

  /** Errors get the line that led to them. */
  #lay(line: number, onto: Files, from: Files, lay: (from: TreeDigest) => Promise<TreeDigest> | TreeDigest): Promise<Files> {
    return this.atAsync(line, () => layFiles(onto, from, lay));
  }

  async #copy(stage: DockerfileStage, operation: CopyOperation, files: Files): Promise<Files> {
    const { store } = this.options;
    const { instruction, sources, destination, chown, chmod, exclude } = operation;
    const { line, keyword } = instruction;
    const optionsOn = (): CopyOptions => ({ exclude, parents: instruction.parents, link: instruction.link, ...(chown === undefined ? {} : { owner: ownerOf(store, files.tree, chown) }), ...(chmod === undefined ? {} : { mode: chmod }) });
    let result = files;
    if (operation.files.length > 0) result = await this.#lay(line, result, known(fileTree(store, operation.files)), (from) => copyInto(store, result.tree, from, operation.files.map(({ name }) => `/${name}`), destination, optionsOn()));
    for (const source of sources) {
      if (keyword === 'ADD' && isRemote(source)) {
        result = await this.#addRemote(operation, source, result, optionsOn);
        continue;
      }
      const from = await this.#files(stage, line, operation.from, result.tree);
      const isUnpacked = keyword === 'ADD' && instruction.unpack !== false;
      result = await this.#lay(line, result, from, (origin) => (isUnpacked
        ? addSource(store, { tree: result.tree, from: origin, source, destination, options: optionsOn(), lease: this.lease })
        : copyInto(store, result.tree, origin, [source], destination, optionsOn())));
    }
    return result;
  }

  async #addRemote({ instruction, destination, chmod, checksum }: CopyOperation, source: string, files: Files, optionsOn: () => CopyOptions): Promise<Files> {
    const { store, home, dry } = this.options;
    const { line } = instruction;
    if (dry !== undefined) return { tree: files.tree, doubts: [...files.doubts, { index: 0, before: files.tree, after: undefined }] };
    const { signal } = this;
    const fetched = await this.lease.apart([{ kind: 'tree', digest: files.tree }], () => this.atAsync(line, () => fetchRemote({ store, home, signal, keepGitDir: instruction.keepGitDir, unpack: instruction.unpack === true }, source, checksum)));
    return await this.#lay(line, files, known(fetched.tree), (from) => (fetched.kind === 'archive' ? extractInto(store, files.tree, from, destination, optionsOn()) : copyInto(store, files.tree, from, fetched.names, destination, withMode(optionsOn(), chmod ?? fetched.mode))));
  }

  /** What a `from` names; without one, the context. @param inUse what must not be collected while another stage is waited for */
  async #files(stage: DockerfileStage, line: number, from: string | undefined, inUse: TreeDigest): Promise<Files> {
    if (from === undefined || from === '') return known(this.#context(undefined));
    const origin: Origin = originOf(this.#dockerfile, stage, line, from, this.#contextNames);
    switch (origin.kind) {
      case 'stage':
        return (await this.#otherStage(origin.index, inUse)).files;
      case 'context': {
        const image = imageOfContext(this.#contexts.get(origin.name) ?? '');
        return image === undefined ? known(this.#context(origin.name)) : this.#builtOf(await this.#image(line, image, this.#platformOf(stage), inUse)).files;
      }
      case 'image':
        return origin.text === 'scratch' ? known(emptyTree(this.options.store)) : this.#builtOf(await this.#image(line, origin.text, this.#platformOf(stage), inUse)).files;
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
    const { store, home, request, emit, runner, dry } = this.options;
    const { signal } = this;
    const here = { store, platform, projectDir: request.contextDir };
    const found = request.pull && dry === undefined ? undefined : this.at(line, () => findImage(text, here));
    if (dry !== undefined) return Promise.resolve(found ?? this.#absentImage(dry, text));
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

  #absentImage(dry: DryBuild, text: string): Image {
    const image: Image = { tree: emptyTree(this.options.store), source: text, resolved: '', config: EMPTY_CONFIG };
    dry.missing.add(text);
    this.#absent.add(image);
    return image;
  }

  #builtOf(image: Image): Built {
    const config = (image.document?.['config'] ?? {}) as DockerConfig;
    const history = (Array.isArray(image.document?.['history']) ? image.document['history'] : []) as HistoryEntry[];
    const author = image.document?.['author'];
    const baseMissing = this.#absent.has(image);
    return { files: baseMissing ? unknownFiles(image.tree) : known(image.tree), baseMissing, config, history, author: typeof author === 'string' ? author : undefined, args: NO_ARGS };
  }

  #writeRecord(needed: readonly DockerfileStage[]): void {
    const { request, home } = this.options;
    const reached = new Set(this.records.map(({ step }) => step.index));
    const rest = needed.flatMap((stage) => stage.instructions.filter((instruction) => instruction.keyword === 'RUN').map((instruction) => this.#stepId(stage, instruction))).filter(({ index }) => !reached.has(index));
    const unseen = rest.map((id) => ({ id, definition: { command: id.command, workdir: '', env: {}, user: '', platform: request.platform, network: request.network, cacheDirs: [] } }));
    const steps = [...this.records, ...unreached(unseen, 0, this.previous)].sort((a, b) => a.step.index - b.step.index);
    writeBuildRecord(recordFileOf(home, request), '/', steps, { name: request.name, contextDir: request.contextDir, images: request.tags.map(canonicalName) });
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
  #stepId(stage: DockerfileStage, instruction: Instruction): StepId {
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

function blank(tree: TreeDigest, config: DockerConfig): Built {
  return { files: known(tree), baseMissing: false, config, history: [], author: undefined, args: NO_ARGS };
}

/** Of a context that is an image: what a FROM would say. */
function imageOfContext(value: string): string | undefined {
  if (value.startsWith('docker-image://')) return value.slice('docker-image://'.length);
  return value.startsWith('oci-layout://') ? `oci:${value.slice('oci-layout://'.length)}` : undefined;
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
