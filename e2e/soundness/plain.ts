import { lstatSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { fromBuffer, hostPath, joinBytes, sys } from '@hyperdocker/base';
import type { Store, TreeEntry } from '@hyperdocker/cas';
import { linkGroupFor } from '@hyperdocker/cas';
import { materialize } from '@hyperdocker/mount';
import type { Plan } from '../../packages/environment/src/plan.ts';
import { ChrootRuntime } from './chroot-runtime.ts';
import { PROGRAMS } from './trees.ts';

export type PlainOutcome = { ok: true; tree: TreeDigest; logs: readonly string[] } | { ok: false; step: number; exitCode: number; log: string };

/**
 * The same steps one after the other in one ordinary directory: no cache, and neither FUSE nor overlay nor captured outputs. The shortest way from a project
 * to its result, for comparison. A few programs can tell that they are here: an overlay splits hard links when one of their names is written to, and its
 * directories have other sizes.
 */
export async function plainBuild(store: Store, plan: Plan, start: TreeDigest, dir: string): Promise<PlainOutcome> {
  try {
    const rootfs = materialize(store, start, dir);
    const runtime = new ChrootRuntime({ path: '', root: dir });
    const logs: string[] = [];
    for (const { id, definition } of plan.steps) {
      let log = '';
      const { exit } = runtime.run({
        id: `plain-${id.index}`, rootfs, args: ['/bin/sh', '-c', definition.command], env: definition.env, cwd: definition.workdir, user: plan.user, hostname: '', mounts: [], network: 'none', terminal: false,
      }, { bundleDir: dir, stdio: 'capture', onOutput: (_, bytes) => (log += bytes.toString('utf8')) });
      const { code } = await exit;
      if (code !== 0) return { ok: false, step: id.index, exitCode: code, log };
      logs.push(log);
    }
    return { ok: true, tree: new DirectoryReader(store, rootfs).tree('' as ByteString), logs };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** A directory of the host as a tree without its programs, read independently of how outputs are captured. Regular files, directories and links, and `/dev/null`. */
class DirectoryReader {
  readonly #store: Store;
  readonly #root: string;
  readonly #groups = new Map<bigint, number>();

  constructor(store: Store, root: string) {
    this.#store = store;
    this.#root = root;
  }

  tree(path: ByteString): TreeDigest {
    const names = readdirSync(hostPath(this.#root, path), { encoding: 'buffer' }).map(fromBuffer).filter((name) => path !== '' || !PROGRAMS.has(name)).sort();
    return this.#store.putTree(names.map((name) => this.#entry(joinBytes(path, name), name)));
  }

  #entry(path: ByteString, name: ByteString): TreeEntry {
    const host = hostPath(this.#root, path);
    const stats = lstatSync(host, { bigint: true });
    const mode = Number(stats.mode & 0o7777n);
    const linked = !stats.isDirectory() && stats.nlink > 1n;
    if (linked && !this.#groups.has(stats.ino)) this.#groups.set(stats.ino, linkGroupFor(path, ''));
    const xattrs = sys().listXattrs(host).sort().map((key) => [key, sys().getXattr(host, key) ?? Buffer.alloc(0)] as const);
    const meta = { uid: Number(stats.uid), gid: Number(stats.gid), mtimeNs: 0n, xattrs, linkGroup: linked ? (this.#groups.get(stats.ino) ?? 0) : 0, links: Number(linked ? stats.nlink : 1n) };
    if (stats.isDirectory()) return { kind: 'dir', name, mode, digest: this.tree(path), meta };
    if (stats.isSymbolicLink()) return { kind: 'symlink', name, mode, target: fromBuffer(readlinkSync(host, { encoding: 'buffer' })), meta };
    if (stats.isCharacterDevice()) return { kind: 'char', name, mode, major: Number(stats.rdev >> 8n), minor: Number(stats.rdev & 0xffn), meta };
    return { kind: 'file', name, mode, ...this.#store.putFile(host), meta };
  }
}
