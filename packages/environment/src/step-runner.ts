import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { BlobDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import { isErrno, toByteString } from '@hyperdocker/base';
import type { DirEntry, Store, TreeEntry } from '@hyperdocker/cas';
import { applyDelta, lookupPath, setPath } from '@hyperdocker/cas';
import type { ActionDefinition, ActionResult, Askers, PathSet, Trace } from '@hyperdocker/engine';
import { TraceRecorder, ignoring, joinPaths } from '@hyperdocker/engine';
import type { FuseHost } from '@hyperdocker/mount';
import { captureUpper, materialize, mountOverlay, unmount } from '@hyperdocker/mount';
import type { ContainerExit, ContainerSpec, ContainerUser, OciRuntime, RunningContainer } from '@hyperdocker/sandbox';
import { mountTargets } from '@hyperdocker/sandbox';
import type { Passthrough } from './passthrough.ts';

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
  passthrough: Passthrough;
  user: ContainerUser;
  /** Ends a running step at once. What it has written is dropped. */
  signal: AbortSignal;
}

export type StepOutcome =
  | { ok: true; result: ActionResult; paths: PathSet; askers: Askers }
  | { ok: false; exitCode: number; log: string; ms: number };

let runs = 0;

/**
 * Runs one step for real: in a container, on a frozen tree that sees every path that the step looks at, with its writes in a
 * directory of its own. A failed or killed step leaves nothing.
 * @param caches what the cache directories hold at the start, by absolute path; only those that the input does not have.
 */
export async function runStep(context: StepContext, definition: ActionDefinition, input: TreeDigest, caches: ReadonlyMap<string, TreeDigest>, onOutput: (text: string) => void): Promise<StepOutcome> {
  const started = performance.now();
  const id = `step-${process.pid}-${++runs}`;
  const dir = join(context.stepsDir, id);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const { store } = context;
  let start = input;
  for (const [path, tree] of caches) start = setPath(store, start, inTree(path), { kind: 'dir', name: '' as ByteString, mode: 0o755, digest: tree });
  store.flush();
  try {
    await using lower = await mountLower(context, id, start, join(dir, 'lower'), true);
    const { spec, exit, log } = await runOver(context, { id, dir, lower: lower.path, definition }, onOutput);
    const ms = performance.now() - started;
    if (exit !== 0) return { ok: false, exitCode: exit, log, ms };
    const { paths, askers } = await lower.release();
    const skip = new Set(mountTargets(spec).map(({ path }) => inTree(path)));
    const carried = new TraceRecorder();
    const captured = captureUpper(store, join(dir, 'upper'), start, skip, (path, asked) => carried.record(path, asked));
    const after = applyDelta(store, start, captured);
    const { delta, kept } = withCaches(store, captured, after, definition.cacheDirs);
    const result: ActionResult = { delta, log: store.putBlob(Buffer.from(log)) as BlobDigest, durationMs: ms, caches: kept, volatile: volatileReasons(context, definition) };
    return { ok: true, result, paths: context.fuse === undefined ? new Map() : withoutCaches(joinPaths(paths, carried.finish()), [...caches.keys()]), askers };
  } finally {
    removeScratch(dir);
  }
}

/** Should something still be mounted there, the error that led to it is the one to report; `down` removes the rest. */
function removeScratch(dir: string): void {
  try {
    rmSync(dir, { recursive: true, force: true });
  } catch (error) {
    if (!isErrno(error, 'EBUSY')) throw error;
  }
}

/** Mounts, runs, unmounts: afterwards the upper directory is quiet. */
async function runOver(context: StepContext, step: { id: string; dir: string; lower: string; definition: ActionDefinition }, onOutput: (text: string) => void): Promise<{ spec: ContainerSpec; exit: number; log: string }> {
  const { dir, definition } = step;
  const merged = join(dir, 'merged');
  await mountOverlay({ lower: step.lower, upper: join(dir, 'upper'), work: join(dir, 'work'), merged });
  try {
    const spec: ContainerSpec = {
      id: step.id,
      rootfs: merged,
      args: ['/bin/sh', '-c', definition.command],
      env: { ...definition.env, ...context.passthrough.env },
      cwd: definition.workdir,
      user: context.user,
      hostname: 'hyperdocker',
      mounts: context.passthrough.mounts,
      network: definition.network ? 'host' : 'none',
      terminal: false,
    };
    let log = '';
    const container = context.runtime.run(spec, {
      bundleDir: join(dir, 'bundle'),
      stdio: 'capture',
      onOutput(_stream, bytes) {
        const text = bytes.toString('utf8');
        log += text;
        onOutput(text);
      },
    });
    const exit = await exitUnlessAborted(container, context.signal);
    context.signal.throwIfAborted();
    if (exit.problem !== undefined) log += `${exit.problem.message}\n`;
    return { spec, exit: exit.code, log };
  } finally {
    await unmount(merged);
  }
}

/** The end of a container, which the signal brings about at once. */
export async function exitUnlessAborted(container: RunningContainer, signal: AbortSignal): Promise<ContainerExit> {
  const kill = (): void => void container.kill();
  signal.addEventListener('abort', kill, { once: true });
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
export async function mountLower(projector: Projector, id: string, tree: TreeDigest, mountpoint: string, tracing: boolean): Promise<Lower> {
  const { fuse } = projector;
  if (fuse === undefined) {
    return { path: materialize(projector.store, tree, projector.materializedDir, projector.storeDir), release: async () => ({ paths: new Map(), askers: new Map() }), [Symbol.asyncDispose]: async () => {} };
  }
  mkdirSync(mountpoint, { recursive: true });
  await fuse.mount(id, { tree, mountpoint, storeDir: projector.storeDir, tracing });
  let released = false;
  const release = (): Promise<Trace> => {
    released = true;
    return fuse.unmount(id);
  };
  return { path: mountpoint, release, [Symbol.asyncDispose]: async () => void (released || !existsSync(mountpoint) || (await release())) };
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

/** `setPath` on a delta, where parents that the delta lacks keep the modes and owners that they have in the whole tree. */
function setWithParents(store: Store, delta: TreeDigest, whole: TreeDigest, path: ByteString, entry: TreeEntry): TreeDigest {
  const parts = path.split('/') as ByteString[];
  let result = delta;
  for (let depth = 1; depth < parts.length; depth++) {
    const parent = parts.slice(0, depth).join('/') as ByteString;
    const existing = lookupPath(store, whole, parent);
    if (lookupPath(store, result, parent) === undefined && existing?.kind === 'dir') {
      result = setPath(store, result, parent, { ...existing, digest: store.putTree([]) } satisfies DirEntry);
    }
  }
  return setPath(store, result, path, entry);
}

/** What lay in a cache directory is no input: it is there to make the step faster, not to change what it makes. */
function withoutCaches(paths: PathSet, dirs: readonly string[]): PathSet {
  return ignoring(paths, dirs.map(inTree));
}

function volatileReasons(context: StepContext, definition: ActionDefinition): string[] {
  return [...(definition.network ? ['had the network'] : []), ...(context.fuse === undefined ? ['was not traced'] : [])];
}

/** An absolute path in a container, as a path in its tree. */
export function inTree(path: string): ByteString {
  return toByteString(path.replace(/^\/+/, ''));
}
