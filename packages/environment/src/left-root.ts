import { readlinkSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Store } from '@hyperdocker/cas';
import type { TreeDigest } from '@hyperdocker/base';
import { NODE_FLAGS, processStartTime } from '@hyperdocker/base';
import type { FuseHost, Keep } from '@hyperdocker/mount';
import type { EnvPaths, Home } from './home.ts';
import { envRef } from './home.ts';
import type { AppliedTree } from './live-root.ts';
import { LIVE_MOUNT } from './live-root.ts';
import type { LiveRecord } from './live-record.ts';
import { removeLiveRecord, servedRoot, writeLiveRecord } from './live-record.ts';
import { secondsSetting } from './seconds-setting.ts';

/** How long files wait for somebody to go on with them. */
const DEFAULT_LEFT_SECONDS = 300;

/** The mounted root of an environment whose supervisor was killed, when this process was started in its mount namespace. */
export function leftToUs(paths: EnvPaths): LiveRecord | undefined {
  const record = servedRoot(paths);
  if (record === undefined) return undefined;
  try {
    return readlinkSync(`/proc/${record.host.pid}/ns/mnt`) === readlinkSync('/proc/self/ns/mnt') ? record : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Has a mounted root outlive this process: its record, its trees in the store, and the process that serves it. The host keeps only what a record speaks of.
 */
export class RootKeeper {
  readonly #store: Store;
  readonly #paths: EnvPaths;
  readonly #keep: Keep;
  #record: LiveRecord | undefined;

  constructor({ store, home, paths, env }: { store: Store; home: Home; paths: EnvPaths; env: NodeJS.ProcessEnv }) {
    this.#store = store;
    this.#paths = paths;
    const after = [process.execPath, ...NODE_FLAGS, fileURLToPath(new URL('./recover-main.ts', import.meta.url)), home.dir, paths.id];
    this.#keep = { mounts: [LIVE_MOUNT], socket: paths.hostSocket, waitMs: secondsSetting(env, 'HD_LEFT_SECONDS', DEFAULT_LEFT_SECONDS), after };
  }

  async keep(fuse: FuseHost, record: Omit<LiveRecord, 'version' | 'host'>): Promise<void> {
    this.#setRef('live', record.tree);
    this.#write({ version: 1, host: { pid: fuse.pid, startTime: processStartTime(fuse.pid) ?? '' }, ...record });
    await fuse.keep(this.#keep);
  }

  /** Another supervisor kept it, until now. */
  resume(record: LiveRecord): void {
    this.#record = record;
  }

  /** The root is brought to another tree. */
  applied({ applied, applying }: AppliedTree): void {
    if (this.#record === undefined) return;
    const { applying: _before, ...record } = this.#record;
    this.#write({ ...record, applied, ...(applying === undefined ? {} : { applying }) });
  }

  /** The tree that the root shows, where no other ref is going to name it. */
  shows(tree: TreeDigest): void {
    this.#setRef('shown', tree);
  }

  /** From now on it ends with this process. */
  async release(fuse: FuseHost | undefined): Promise<void> {
    // A host that has died keeps nothing.
    await fuse?.keep({ ...this.#keep, mounts: [] }).catch(() => {});
    this.forget();
  }

  forget(): void {
    this.#record = undefined;
    removeLiveRecord(this.#paths);
    for (const what of ['live', 'shown'] as const) this.#store.deleteRef(envRef(this.#paths.id, what));
  }

  #write(record: LiveRecord): void {
    this.#record = record;
    writeLiveRecord(this.#paths, record);
  }

  #setRef(what: 'live' | 'shown', digest: TreeDigest): void {
    const ref = envRef(this.#paths.id, what);
    if (this.#store.getRef(ref)?.target.digest !== digest) this.#store.setRef(ref, { kind: 'tree', digest });
  }
}
