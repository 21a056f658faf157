import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { HdError, inUserNamespace, sha256Hex, toByteString } from '@hyperdocker/base';
import type { RefTarget, Store, TreeEntry } from '@hyperdocker/cas';
import { applyDelta, lookupPath, setPath } from '@hyperdocker/cas';
import type { ActionDefinition, ActionResult, SecretUse } from '@hyperdocker/engine';
import { definitionKey } from '@hyperdocker/engine';
import type { RunMount, RunOperation } from '@hyperdocker/frontend';
import { shellQuote } from '@hyperdocker/frontend';
import { fuseProblem, materialize } from '@hyperdocker/mount';
import type { ContainerMount } from '@hyperdocker/sandbox';
import { counterpart, reasonText, recordStep, refineReason } from '../build-record.ts';
import type { StepId } from '../events.ts';
import type { PlanUser } from '../plan.ts';
import { userOf } from '../plan.ts';
import { HOST_PLATFORM } from '../platform.ts';
import type { LookedUpStep } from '../prepared-step.ts';
import { readSecrets } from '../secrets.ts';
import type { Attached, StepOutcome } from '../step-runner.ts';
import { inTree, runStep } from '../step-runner.ts';
import type { BuildState } from './build-state.ts';
import { NEEDS_RUNNER } from './build-state.ts';
import { copyFiles, holdCache } from './cache-mounts.ts';
import { makeDirectory } from './copy-tree.ts';
import type { Files } from './foreseen-files.ts';
import { followLinks, lookUpIn } from './tree-paths.ts';

export interface CommandRun {
  operation: RunOperation;
  /** What its stage has come to. */
  files: Files;
  /** Foreseen on the base of an image that is not here. */
  baseMissing: boolean;
  platform: string;
  borrowed: readonly Borrowed[];
  /** What a cache directory begins with. */
  fill: (from: string | undefined, source: string) => Promise<TreeDigest | undefined>;
  id: StepId;
}

/** What a `--mount=type=bind` mounts where. */
export interface Borrowed { path: string; readonly: boolean; files: Files; source: string }

/** A RUN that is ready to be looked up. */
interface Prepared {
  definition: ActionDefinition;
  user: PlanUser;
  own: TreeDigest;
  input: TreeDigest;
  /** What `own` would be on other files. */
  ownOf: (tree: TreeDigest) => TreeDigest;
}

/** What the stage is after a RUN: run now, or put together from what an earlier one left. @throws HdError STEP_FAILED, NEEDS_RUNNER, PLATFORM_UNSUPPORTED, and those of users and secrets */
export async function runCommand(builder: BuildState, run: CommandRun): Promise<TreeDigest> {
  const { actions, request, emit, store } = builder.options;
  const prepared = builder.at(run.id.line, () => prepare(builder, run));
  const { own, input } = prepared;
  const step = lookedUp(prepared, run.id);
  const found = request.noCache ? ({ kind: 'miss', reason: { why: 'asked' } } as const) : actions.find(step.key, input);
  if (found.kind === 'hit') {
    builder.cached++;
    builder.records.push(recordStep(builder.previous, step, 'cached'));
    emit({ type: 'step', status: 'cached', step: run.id, facts: found.facts, savedMs: found.result.durationMs });
    return applyDelta(store, own, found.result.delta);
  }
  if (builder.options.runner === undefined) throw NEEDS_RUNNER;
  builder.ran++;
  using pins = new DisposableStack();
  const keep = (target: RefTarget): void => void pins.use(store.pin(target, `RUN at line ${run.id.line}`));
  const inUse = [own, input].map((digest) => ({ kind: 'tree' as const, digest }));
  const reason = refineReason(found.reason, counterpart(builder.previous, step, step.key), step.definition);
  const outcome = await builder.lease.apart(inUse, () => builder.turns.run(() => attempt(builder, run, prepared, reasonText(reason), keep)));
  builder.records.push(recordStep(builder.previous, step, outcome.kind === 'done' ? 'ran' : 'failed', { reason, durationMs: outcome.ms }));
  const result = finish(builder, run.id, prepared, outcome);
  return applyDelta(store, own, result.delta);
}

/** What there is to look it up by. */
export function lookedUp({ definition, input }: Prepared, id: StepId): LookedUpStep {
  return { id, definition, key: definitionKey(definition), input };
}

/** @throws HdError NOT_ALLOWED, PLATFORM_UNSUPPORTED, COPY_FAILED, and those of users and secrets */
export function prepare(builder: BuildState, { operation, files: { tree }, platform, borrowed, id }: CommandRun): Prepared {
  const { store, request } = builder.options;
  const { instruction, mounts, script } = operation;
  const isPrivileged = instruction.security === 'insecure';
  if (isPrivileged && !request.allowInsecure) throw new HdError('NOT_ALLOWED', '--security=insecure is not allowed', { hint: 'allow it with `hd build --allow security.insecure`' });
  if (isPrivileged && inUserNamespace()) throw new HdError('NOT_ALLOWED', '--security=insecure needs root');
  requireRunnable(platform);
  const user = userOf(store, tree, operation.user);
  // Docker's runtime makes it, too.
  const ownOf = (files: TreeDigest): TreeDigest => makeDirectory(store, files, operation.workdir, undefined);
  const own = ownOf(tree);
  const secrets = secretUses(builder, mounts);
  const ssh = mounts.filter((mount) => mount.type === 'ssh' && agentOf(builder, mount) !== undefined);
  const env = { HOME: user.home, ...operation.env, ...Object.fromEntries(ssh.map((mount) => ['SSH_AUTH_SOCK', mount.target ?? ''])) };
  const declared = [...mounts.map(canonical), ...(script === undefined ? [] : [`script ${script.path} ${sha256Hex(script.text)}`])];
  const definition: ActionDefinition = {
    command: commandText(operation), args: operation.args, workdir: operation.workdir, platform, env, cacheDirs: [],
    user: `${user.uid}:${user.gid}:${(user.additionalGids ?? []).join(',')}`,
    network: instruction.network === 'none' ? false : instruction.network === 'host' || request.network,
    ...(secrets.length === 0 ? {} : { secrets }), ...(declared.length === 0 ? {} : { mounts: declared }), ...(isPrivileged ? { privileged: true } : {}),
  };
  const input = withBorrowed(store, own, borrowed);
  const isTraced = builder.options.runner === undefined ? fuseProblem() === undefined : builder.options.runner.fuse !== undefined;
  builder.at(id.line, () => requireSecrets(builder, mounts));
  return { definition: isTraced ? definition : { ...definition, untracedInput: input }, user, own, input, ownOf };
}

/** @throws HdError COPY_FAILED */
export function withBorrowed(store: Store, own: TreeDigest, borrowed: readonly Borrowed[]): TreeDigest {
  let input = own;
  for (const { path, files, source } of borrowed) input = setPath(store, input, physical(store, input, path), { ...entryAt(store, files.tree, source), name: '' as ByteString });
  return input;
}

/** Where a mount takes its files from. @throws HdError COPY_FAILED */
export function entryAt(store: Store, tree: TreeDigest, path: string): TreeEntry {
  const real = followLinks(lookUpIn(store, tree), toByteString(path));
  const entry: TreeEntry | undefined = real === '' ? { kind: 'dir', name: toByteString(''), mode: 0o755, digest: tree } : lookupPath(store, tree, real);
  if (entry === undefined) throw new HdError('COPY_FAILED', `${path} is not there to be mounted`);
  return entry;
}

/** What `/bin/sh -c` would run; for people, and where variables hold secrets. */
function commandText({ args }: RunOperation): string {
  const [shell, flag, text] = args;
  return args.length === 3 && shell === '/bin/sh' && flag === '-c' && text !== undefined ? text : args.map(shellQuote).join(' ');
}

async function attempt(builder: BuildState, run: CommandRun, { definition, user, own, input }: Prepared, reason: string, keep: (target: RefTarget) => void): Promise<StepOutcome> {
  const { runner, store, home, emit, env, request } = builder.options;
  if (runner === undefined) throw NEEDS_RUNNER;
  const { operation, id, borrowed } = run;
  builder.signal.throwIfAborted();
  await using held = new AsyncDisposableStack();
  const mounts: ContainerMount[] = [];
  for (const mount of operation.mounts) {
    const made = await hostMount(builder, run, mount, held);
    if (made !== undefined) mounts.push(made);
  }
  if (operation.script !== undefined) mounts.push(scriptMount(home.tempDir, operation.script, held));
  emit({ type: 'step', status: 'running', step: id, reason });
  const attached: Attached = { mounts, own, borrowed: borrowed.map(({ path, readonly }) => ({ readonly, path: `/${physical(store, input, path)}` })) };
  const passthrough = { ...runner.passthrough, env: { ...runner.passthrough.env, ...builder.proxies } };
  return await runStep({ ...runner, passthrough, user, limits: {}, signal: builder.signal }, {
    definition, input, attached, keep, caches: new Map(), onOutput: (text) => emit({ type: 'step-output', step: id, text }),
    secrets: readSecrets(request.secrets, definition.secrets ?? [], { env, projectDir: request.contextDir }),
  });
}

function finish(builder: BuildState, step: StepId, { definition, input }: Prepared, outcome: StepOutcome): ActionResult {
  const { actions, emit } = builder.options;
  switch (outcome.kind) {
    case 'done': {
      const { result, trace } = outcome;
      actions.record(definitionKey(definition), input, trace, result);
      emit({ type: 'step', status: 'ran', step, ms: result.durationMs, facts: trace.paths.size, volatile: [...result.volatile] });
      return result;
    }
    case 'failed':
      emit({ type: 'step', status: 'failed', step, ms: outcome.ms, exitCode: outcome.exitCode, log: outcome.log });
      throw new HdError('STEP_FAILED', `${step.file ?? ''}:${step.line}: RUN ended with exit code ${outcome.exitCode}`, { hint: 'see its output above', details: { line: step.line, exitCode: outcome.exitCode, command: definition.command } });
    case 'leaked':
      throw new HdError('SECRET_LEAKED', `${step.file ?? ''}:${step.line}: RUN wrote the secret ${outcome.leak.id} to /${outcome.leak.path}; nothing that it wrote was stored`, {
        hint: 'let the tool read the secret where it is mounted, or remove the file before the command ends', details: { line: step.line, secret: outcome.leak.id, path: `/${outcome.leak.path}` },
      });
  }
}

async function hostMount(builder: BuildState, run: CommandRun, mount: RunMount, held: AsyncDisposableStack): Promise<ContainerMount | undefined> {
  const { home, store } = builder.options;
  switch (mount.type) {
    case 'cache': {
      const from = await run.fill(mount.from, mount.source);
      const fill = from === undefined ? undefined : (dir: string): void => copyFiles(materialize(store, from, home.materializedDir, home.storeDir), dir);
      const cache = await holdCache(home, mount, builder.signal, fill);
      held.use(cache);
      return { source: cache.dir, destination: mount.target, readonly: mount.readonly };
    }
    case 'tmpfs':
      return { type: 'tmpfs', source: 'tmpfs', destination: mount.target, readonly: false, ...(mount.sizeBytes === undefined ? {} : { sizeBytes: mount.sizeBytes }) };
    case 'ssh': {
      const socket = agentOf(builder, mount);
      return socket === undefined ? undefined : { source: socket, destination: mount.target, readonly: false };
    }
    default:
      return undefined;
  }
}

function scriptMount(tempDir: string, { path, text }: NonNullable<RunOperation['script']>, held: AsyncDisposableStack): ContainerMount {
  const dir = mkdtempSync(join(tempDir, 'script-'));
  held.defer(() => rmSync(dir, { recursive: true }));
  const source = join(dir, 'script');
  writeFileSync(source, text, { mode: 0o755 });
  return { source, destination: path, readonly: true };
}

/** Secrets that were given. What is not required and not given is not there. */
function secretUses(builder: BuildState, mounts: readonly RunMount[]): SecretUse[] {
  const given = new Set(builder.options.request.secrets.map(({ id }) => id));
  return mounts.flatMap((mount): SecretUse[] => {
    if (mount.type !== 'secret' || !given.has(mount.id)) return [];
    const { id, env, target = `/run/secrets/${id}`, mode, uid, gid } = mount;
    return [{ id, file: target, access: { mode, uid, gid }, ...(env === undefined ? {} : { env }) }];
  });
}

function requireSecrets(builder: BuildState, mounts: readonly RunMount[]): void {
  const given = new Set(builder.options.request.secrets.map(({ id }) => id));
  for (const mount of mounts) {
    if (mount.type === 'secret' && mount.required && !given.has(mount.id)) throw new HdError('SECRET_MISSING', `the secret ${mount.id} is required, and was not given`, { hint: `give it with \`hd build --secret id=${mount.id},src=FILE\`` });
    if (mount.type === 'ssh' && mount.required && agentOf(builder, mount) === undefined) throw new HdError('SSH_MISSING', `the SSH agent ${mount.id} is required, and was not given`, { hint: `give it with \`hd build --ssh ${mount.id}\`` });
  }
}

function agentOf(builder: BuildState, mount: RunMount): string | undefined {
  return mount.type === 'ssh' ? builder.options.request.ssh.find(([id]) => id === mount.id)?.[1] : undefined;
}

/** Of another processor's only what the kernel hands to an emulator. */
function requireRunnable(platform: string): void {
  if (platform === HOST_PLATFORM || platform.startsWith(`${HOST_PLATFORM}/`) || (HOST_PLATFORM === 'linux/amd64' && platform === 'linux/386')) return;
  throw new HdError('PLATFORM_UNSUPPORTED', `a command for ${platform} cannot run on ${HOST_PLATFORM}`, { hint: 'build it on such a machine; stages without RUN can be built anywhere' });
}

/** Where a path of the container is in its tree. */
function physical(store: Store, tree: TreeDigest, path: string): ByteString {
  const real = followLinks(lookUpIn(store, tree), inTree(path));
  if (real === '' || lookupPath(store, tree, real)?.kind === 'whiteout') throw new HdError('COPY_FAILED', 'nothing can be mounted at /');
  return real;
}

/** The same mount has the same text. */
function canonical(mount: RunMount): string {
  return Object.entries(mount).filter(([, value]) => value !== undefined).sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, value]) => `${name}=${String(value)}`).join(',');
}
