import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { BlobDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import { HdError, isErrno, toByteString } from '@hyperdocker/base';
import type { RefTarget, Store } from '@hyperdocker/cas';
import { applyDelta, lookupPath, setPath } from '@hyperdocker/cas';
import type { ActionDefinition, ActionResult, PathSet, Trace } from '@hyperdocker/engine';
import { TraceRecorder, ignoring, joinPaths, variablesNotPassed } from '@hyperdocker/engine';
import type { FuseHost } from '@hyperdocker/mount';
import { captureUpper, materialize, mountOverlay, unmountScratch } from '@hyperdocker/mount';
import type { ContainerExit, ContainerLimits, ContainerMount, ContainerSpec, ContainerUser, OciRuntime, RunningContainer } from '@hyperdocker/sandbox';
import { mountTargets } from '@hyperdocker/sandbox';
import { NetworkUse } from './network-use.ts';
import type { KeptOutputs } from './outputs.ts';
import { keepOutputs, setWithParents } from './outputs.ts';
import type { Passthrough } from './passthrough.ts';
import { NO_PASSTHROUGH } from './passthrough.ts';
import type { Leak } from './redact.ts';
import { Masker, findLeak } from './redact.ts';
import { outOfMemoryText } from './service-set.ts';
import type { SecretValues } from './secrets.ts';
import { mountSecrets, withSecretVariables } from './secrets.ts';

/** How trees become root file systems on this machine. */
export interface Projector {
  store: Store;
  storeDir: string;
  /** Undefined: no FUSE here; trees are written out as files, and nothing is traced. */
  fuse: FuseHost | undefined;
  materializedDir: string;
}

export interface StepContext extends Projector {
  runtime: OciRuntime;
  /** Scratch space of this environment's steps. Removed after each. */
  stepsDir: string;
  /** What the names of its containers begin with. */
  containerPrefix?: string;
  passthrough: Passthrough;
  user: ContainerUser;
  limits: ContainerLimits;
  /** Nothing of it gets in; that a step speaks of one of its variables is noted. */
  hostEnv: NodeJS.ProcessEnv;
  /** Ends a running step at once. What it has written is dropped. */
  signal: AbortSignal;
}

export interface StepRun {
  definition: ActionDefinition;
  input: TreeDigest;
  /** What the cache directories hold at the start, by absolute path; only those that the input does not have. */
  caches: ReadonlyMap<string, TreeDigest>;
  /** Of at least the secrets that the definition names. */
  secrets: SecretValues;
  onOutput: (text: string) => void;
  /** Told while it runs, soon after, what it looks at. */
  onAsked?: (paths: PathSet) => void;
  /** Keeps what it runs on, and what it leaves, from `gc` for as long as the caller needs it. While the command runs, there is no lease. */
  keep: (target: RefTarget) => void;
  attached?: Attached;
}

/** What is there for one step alone and is no part of what it leaves. The definition's `mounts` tell of it. */
export interface Attached {
  /** Of the host's. */
  mounts: readonly ContainerMount[];
  /** Paths of the input that were put there for this step: what it looks at there counts, what it writes there is dropped. */
  borrowed: readonly { path: string; readonly: boolean }[];
  /** The input without them. */
  own: TreeDigest;
}

export type StepOutcome =
  | { kind: 'done'; result: ActionResult; trace: Trace; outputs: Omit<KeptOutputs, 'delta'>; ms: number }
  | { kind: 'failed'; exitCode: number; log: string; trace: Trace; ms: number }
  /** It ended well, but what it wrote holds a secret. Nothing of it was stored. */
  | { kind: 'leaked'; leak: Leak; ms: number };

let runs = 0;

/**
 * Runs one step for real: in a container, on a frozen tree that sees every path that the step looks at, with its writes in a
 * directory of its own. A failed or killed step leaves nothing.
 * @throws HdError TRACE_LOST when it cannot be said what the step looked at: then its result is worth nothing
 */
export async function runStep(context: StepContext, run: StepRun): Promise<StepOutcome> {
  const { definition, caches } = run;
  const started = performance.now();
  const id = `${context.containerPrefix ?? ''}${process.pid}-step${++runs}`;
  const dir = join(context.stepsDir, id);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const { store } = context;
  let start = run.input;
  for (const [path, tree] of caches) start = setPath(store, start, inTree(path), { kind: 'dir', name: '' as ByteString, mode: 0o755, digest: tree });
  run.keep({ kind: 'tree', digest: start });
  store.flush();
  try {
    await using lower = await mountLower(context, id, start, join(dir, 'lower'), { onAsked: run.onAsked });
    const { spec, exit, log, network } = await runOver(context, { id, dir, lower: lower.path, run });
    const ms = performance.now() - started;
    // First of all: without a whole trace not even a failure is one.
    const { paths, askers } = await traceOf(lower);
    if (exit !== 0) return { kind: 'failed', exitCode: exit, log, trace: { paths: withoutCaches(paths, [...caches.keys()]), askers }, ms };
    const upper = join(dir, 'upper');
    const leak = findLeak(upper, run.secrets);
    if (leak !== undefined) return { kind: 'leaked', leak, ms };
    using _lease = store.lease('the outputs of a step');
    const skip = new Set(mountTargets(spec).map(({ path }) => inTree(path)));
    const carried = new TraceRecorder();
    const captured = captureUpper(store, upper, start, skip, (path, asked) => carried.record(path, asked));
    const after = applyDelta(store, start, captured);
    const { delta: all, ...outputs } = outputsOf(store, { before: start, delta: captured, after }, definition);
    const wanted = run.attached === undefined ? all : withoutBorrowed(store, all, run.attached);
    const { delta, kept } = withCaches(store, wanted, after, definition.cacheDirs);
    const result: ActionResult = {
      delta, log: store.putBlob(Buffer.from(log)) as BlobDigest, durationMs: ms, caches: kept, volatile: volatileReasons(context, definition, network),
      notPassed: variablesNotPassed(definition.command, definition.env, context.hostEnv),
    };
    for (const digest of [delta, ...kept.map(({ tree }) => tree)]) run.keep({ kind: 'tree', digest });
    run.keep({ kind: 'blob', digest: result.log });
    store.flush();
    const asked = context.fuse === undefined ? new Map() : withoutCaches(joinPaths(paths, carried.finish()), [...caches.keys()]);
    return { kind: 'done', result, outputs, trace: { paths: asked, askers }, ms };
  } finally {
    removeScratch(dir);
  }
}

/** Should something still be mounted there, the error that led to it is the one to report; `down` removes the rest. */
function removeScratch(dir: string): void {
  try {
    rmSync(dir, { recursive: true, force: true });
  } catch (error) {
    if (!isErrno(error, 'EBUSY', 'ENOTCONN')) throw error;
  }
}

/** A tracer that died, or could not answer for its tree, has recorded an unknown part of what the step saw. */
async function traceOf(lower: Lower): Promise<Trace> {
  try {
    return await lower.release();
  } catch (cause) {
    throw new HdError('TRACE_LOST', 'what the step looked at was not recorded to the end, so nothing of it is kept', { cause, hint: 'start again with `hd up`; if it comes back, see `hd doctor`' });
  }
}

function outputsOf(store: Store, trees: { before: TreeDigest; delta: TreeDigest; after: TreeDigest }, { outputs, cacheDirs }: ActionDefinition): KeptOutputs {
  if (outputs === undefined) return { delta: trees.delta, dropped: 0, missing: [] };
  const paths = outputs.map(inTree);
  const { missing, ...kept } = keepOutputs(store, trees, [...paths, ...cacheDirs.map(inTree)]);
  return { ...kept, missing: missing.filter((path) => paths.includes(path)) };
}

/** Mounts, runs, unmounts: afterwards the upper directory is quiet. */
async function runOver(context: StepContext, step: { id: string; dir: string; lower: string; run: StepRun }): Promise<{ spec: ContainerSpec; exit: number; log: string; network: keyof typeof NETWORK_REASONS }> {
  const { dir, run } = step;
  const { definition, secrets } = run;
  const merged = join(dir, 'merged');
  mountOverlay({ lower: step.lower, upper: join(dir, 'upper'), work: join(dir, 'work'), merged, scratch: true });
  try {
    const uses = definition.secrets ?? [];
    await using mounted = await mountSecrets(uses, secrets, context.user, join(dir, 'secrets'));
    // A step without network gets nothing of the host's: not even its list of hosts.
    const passthrough = definition.network ? context.passthrough : NO_PASSTHROUGH;
    const spec: ContainerSpec = {
      id: step.id,
      rootfs: merged,
      args: definition.args === undefined || uses.some(({ env }) => env !== undefined) ? withSecretVariables(definition.command, uses) : definition.args,
      env: { ...definition.env, ...passthrough.env },
      cwd: definition.workdir,
      user: context.user,
      hostname: 'hyperdocker',
      mounts: [...passthrough.mounts, ...mounted.mounts, ...attachedMounts(run.attached, merged)],
      network: definition.network ? 'host' : 'none',
      terminal: false,
      limits: context.limits,
      ...(definition.privileged === true ? { privileged: true } : {}),
    };
    let log = '';
    const write = (text: string): void => {
      log += text;
      if (text !== '') run.onOutput(text);
    };
    using networkUse = definition.network ? NetworkUse.watch(step.id) : undefined;
    const maskers = { stdout: new Masker(secrets), stderr: new Masker(secrets) };
    context.signal.throwIfAborted();
    const container = context.runtime.run(spec, {
      bundleDir: join(dir, 'bundle'),
      stdio: 'capture',
      onOutput: (stream, bytes) => write(maskers[stream].push(bytes)),
    });
    const exit = await exitUnlessAborted(container, context.signal);
    context.signal.throwIfAborted();
    for (const masker of Object.values(maskers)) write(masker.end());
    if (exit.outOfMemory !== undefined) log += `${outOfMemoryText(exit.outOfMemory)}\n`;
    if (exit.problem !== undefined) log += `${exit.problem.message}\n`;
    return { spec, exit: exit.code, log, network: definition.network ? (networkUse?.result() ?? 'unknown') : 'unused' };
  } finally {
    await unmountScratch(merged);
  }
}

/** Borrowed files are in the root file system, where they are traced; a mount over itself keeps them from being written to. */
function attachedMounts(attached: Attached | undefined, merged: string): ContainerMount[] {
  if (attached === undefined) return [];
  const fixed = attached.borrowed.filter(({ readonly }) => readonly).map(({ path }): ContainerMount => ({ source: join(merged, path), destination: path, readonly: true }));
  return [...attached.mounts, ...fixed].sort((a, b) => a.destination.length - b.destination.length);
}

/** With them go directories that were there only on the way to them. */
function withoutBorrowed(store: Store, delta: TreeDigest, { borrowed, own }: Attached): TreeDigest {
  let rest = delta;
  for (const { path } of borrowed) {
    rest = setPath(store, rest, inTree(path), undefined);
    for (let parent = parentOf(inTree(path)); parent !== ''; parent = parentOf(parent)) {
      const entry = lookupPath(store, rest, parent);
      if (entry?.kind !== 'dir' || store.getTree(entry.digest).length > 0 || lookupPath(store, own, parent) !== undefined) break;
      rest = setPath(store, rest, parent, undefined);
    }
  }
  return rest;
}

function parentOf(path: ByteString): ByteString {
  return path.slice(0, Math.max(0, path.lastIndexOf('/'))) as ByteString;
}

/** The end of a container, which the signal brings about at once. */
export async function exitUnlessAborted(container: RunningContainer, signal: AbortSignal): Promise<ContainerExit> {
  const kill = (): void => void container.kill();
  signal.addEventListener('abort', kill, { once: true });
  // A signal that came before is not heard any more.
  if (signal.aborted) kill();
  try {
    return await container.exit;
  } finally {
    signal.removeEventListener('abort', kill);
  }
}

export interface Lower extends AsyncDisposable {
  path: string;
  /** Unmounts, and tells what was asked of it while tracing. Call once nobody uses it any more. */
  release(): Promise<Trace>;
}

/** A whole tree as a read-only directory. */
export async function mountLower(projector: Projector, id: string, tree: TreeDigest, mountpoint: string, tracing?: { onAsked?: ((paths: PathSet) => void) | undefined }): Promise<Lower> {
  const { fuse } = projector;
  if (fuse === undefined) {
    return { path: materialize(projector.store, tree, projector.materializedDir, projector.storeDir), release: async () => ({ paths: new Map(), askers: new Map() }), [Symbol.asyncDispose]: async () => {} };
  }
  mkdirSync(mountpoint, { recursive: true });
  await fuse.mount(id, { tree, mountpoint, storeDir: projector.storeDir, tracing: tracing !== undefined, ...(tracing?.onAsked === undefined ? {} : { onAsked: tracing.onAsked }) });
  return fuseLower(fuse, id, mountpoint);
}

/** What a FUSE host serves at `mountpoint` under this id. */
export function fuseLower(fuse: FuseHost, id: string, mountpoint: string): Lower {
  let released = false;
  const release = async (): Promise<Trace> => {
    released = true;
    try {
      return await fuse.unmount(id);
    } catch (error) {
      // Where its server is gone, the mount is still there, with nobody behind it. Where it is not, this fails, and that is well.
      await unmountScratch(mountpoint).catch(() => {});
      throw error;
    }
  };
  // Disposed of without having been released: something went wrong before, and that is the error to report.
  return { path: mountpoint, release, [Symbol.asyncDispose]: async () => void (released || (await release().catch(() => {}))) };
}

/** The delta with what each cache directory ended with, whole: replayed, it does not depend on what was there before. */
function withCaches(store: Store, captured: TreeDigest, after: TreeDigest, cacheDirs: readonly string[]): { delta: TreeDigest; kept: ActionResult['caches'] } {
  let delta = captured;
  const kept: { path: string; tree: TreeDigest }[] = [];
  for (const path of cacheDirs) {
    const entry = lookupPath(store, after, inTree(path));
    if (entry?.kind !== 'dir') continue;
    delta = setWithParents(store, delta, after, inTree(path), { ...entry, opaque: true });
    kept.push({ path, tree: entry.digest });
  }
  return { delta, kept };
}

/** What lay in a cache directory is no input: it is there to make the step faster, not to change what it makes. */
function withoutCaches(paths: PathSet, dirs: readonly string[]): PathSet {
  return ignoring(paths, dirs.map(inTree));
}

const NETWORK_REASONS = { used: ['used the network'], unused: [], unknown: ['could use the network'] } as const;

function volatileReasons(context: StepContext, definition: ActionDefinition, network: keyof typeof NETWORK_REASONS): string[] {
  return [...NETWORK_REASONS[network], ...((definition.secrets ?? []).length > 0 ? ['had secrets'] : []), ...(context.fuse === undefined ? ['was not traced'] : [])];
}

/** An absolute path in a container, as a path in its tree. */
export function inTree(path: string): ByteString {
  return toByteString(path.replace(/^\/+/, ''));
}
