import type { BigIntStats } from 'node:fs';
import { readFileSync, readdirSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { BlobDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import { HdError, fromBuffer, hostPath, isErrno, joinBytes, lstatIfAny, toText } from '@hyperdocker/base';
import type { Meta, Store, TreeEntry } from '@hyperdocker/cas';
import type { IgnoreMatch, IgnoreMatcher } from '@hyperdocker/frontend';
import { ignoreMatcher, readIgnoreFile } from '@hyperdocker/frontend';
import { readJson, writeJson } from '../json-file.ts';
import type { FilePut } from '../put-files.ts';
import { FilesToPut, putOnceMore } from '../put-files.ts';

/** A directory that COPY takes files from, as Docker sends it to its builder: whole modes and times, and root's. */
export interface BuildContext { tree: TreeDigest; files: number; bytes: number; hashed: number }

export interface ContextOptions {
  store: Store;
  storeDir: string;
  dir: string;
  /** Patterns that leave files out. */
  ignore: readonly string[];
  /** What files came to the last time, by their stat. A cache. */
  cacheFile: string;
}

/** Inode, size, times in nanoseconds, mode; what it came to. */
type Known = [ino: string, size: number, mtimeNs: string, ctimeNs: string, digest: BlobDigest];
interface KnownContext { version: 1; tree: TreeDigest; files: Record<string, Known> }

/** As with a project's files: what was young when it was hashed may change without a change of its times. */
const RACY_NS = 20_000_000n;

/** @throws HdError CONTEXT_UNREADABLE */
export function readContext(options: ContextOptions): BuildContext {
  return new Scan(options).run();
}

/** Those of `<Dockerfile>.dockerignore`, else those of the context's .dockerignore. */
export function contextIgnores(contextDir: string, dockerfile: string | undefined): string[] {
  for (const file of [...(dockerfile === undefined ? [] : [`${dockerfile}.dockerignore`]), join(contextDir, '.dockerignore')]) {
    if (statSync(file, { throwIfNoEntry: false })?.isFile() === true) return readIgnoreFile(readFileSync(file, 'utf8'));
  }
  return [];
}

interface Draft { name: ByteString; stats: BigIntStats; path: ByteString; children?: Draft[]; target?: ByteString; put?: FilePut }

class Scan {
  readonly #options: ContextOptions;
  readonly #matcher: IgnoreMatcher;
  readonly #startedNs = BigInt(Date.now()) * 1_000_000n;
  readonly #known: Record<string, Known>;
  readonly #seen: Record<string, Known> = {};
  readonly #toRead: Draft[] = [];
  #files = 0;
  #bytes = 0;

  constructor(options: ContextOptions) {
    this.#options = options;
    this.#matcher = ignoreMatcher(options.ignore);
    const cache = readJson(options.cacheFile) as Partial<KnownContext> | undefined;
    this.#known = cache?.version === 1 && cache.tree !== undefined && cache.files !== undefined && options.store.hasTree(cache.tree) ? cache.files : {};
  }

  run(): BuildContext {
    const { store, storeDir, cacheFile } = this.#options;
    const root = this.#list('' as ByteString, undefined);
    using files = new FilesToPut(store, storeDir);
    for (const { path, stats } of this.#toRead) files.add({ host: hostPath(this.#options.dir, path), size: Number(stats.size) });
    const puts = files.finish();
    for (const [nth, draft] of this.#toRead.entries()) {
      const put = puts[nth] ?? putOnceMore(store, hostPath(this.#options.dir, draft.path), (cause) => this.#unreadable('read', draft.path, cause));
      if (put === undefined) continue;
      draft.put = put;
      if (BigInt(put.size) === draft.stats.size) this.#remember(draft, put);
    }
    const tree = this.#finish(root);
    store.flush();
    if (this.#toRead.length > 0 || Object.keys(this.#seen).length !== Object.keys(this.#known).length) writeJson(cacheFile, { version: 1, tree, files: this.#seen } satisfies KnownContext);
    return { tree, files: this.#files, bytes: this.#bytes, hashed: this.#toRead.length };
  }

  #list(path: ByteString, above: IgnoreMatch | undefined): Draft[] {
    const drafts: Draft[] = [];
    for (const name of this.#names(path)) {
      const child = joinBytes(path, name);
      const match = this.#matcher.match(toText(child), above);
      const stats = lstatIfAny(hostPath(this.#options.dir, child));
      if (stats === undefined) continue;
      const draft: Draft = { name, stats, path: child };
      if (stats.isDirectory()) {
        if (match.ignored && !this.#matcher.hasExceptions) continue;
        draft.children = this.#list(child, match);
        // Of an ignored directory only what leads to exceptions is there.
        if (match.ignored && draft.children.length === 0) continue;
      } else if (match.ignored || !this.#leaf(draft)) continue;
      drafts.push(draft);
    }
    return drafts;
  }

  /** False: of a kind that means nothing elsewhere. */
  #leaf(draft: Draft): boolean {
    const { stats, path } = draft;
    if (stats.isSymbolicLink()) {
      draft.target = fromBuffer(readlinkSync(hostPath(this.#options.dir, path), { encoding: 'buffer' }));
      return true;
    }
    if (!stats.isFile()) return false;
    const known = this.#known[path];
    if (known !== undefined && known[0] === String(stats.ino) && known[1] === Number(stats.size) && known[2] === String(stats.mtimeNs) && known[3] === String(stats.ctimeNs)) {
      draft.put = { digest: known[4], size: known[1] };
      this.#seen[path] = known;
    } else this.#toRead.push(draft);
    return true;
  }

  #remember({ path, stats }: Draft, { digest }: FilePut): void {
    const youngest = stats.mtimeNs > stats.ctimeNs ? stats.mtimeNs : stats.ctimeNs;
    if (youngest + RACY_NS < this.#startedNs) this.#seen[path] = [String(stats.ino), Number(stats.size), String(stats.mtimeNs), String(stats.ctimeNs), digest];
  }

  #finish(drafts: readonly Draft[]): TreeDigest {
    return this.#options.store.putTree(drafts.flatMap(({ name, stats, children, target, put }): TreeEntry[] => {
      const meta: Meta = { uid: 0, gid: 0, mtimeNs: stats.mtimeNs, xattrs: [], linkGroup: 0, links: 1 };
      const mode = Number(stats.mode & 0o7777n);
      if (children !== undefined) return [{ kind: 'dir', name, mode, digest: this.#finish(children), meta }];
      if (target !== undefined) return [{ kind: 'symlink', name, mode: 0o777, target, meta }];
      // Gone since it was looked at.
      if (put === undefined) return [];
      this.#files++;
      this.#bytes += put.size;
      return [{ kind: 'file', name, mode, digest: put.digest, size: put.size, meta }];
    }));
  }

  #names(path: ByteString): ByteString[] {
    try {
      return readdirSync(hostPath(this.#options.dir, path), { encoding: 'buffer' }).map(fromBuffer);
    } catch (cause) {
      if (isErrno(cause, 'ENOENT', 'ENOTDIR') && path !== '') return [];
      throw this.#unreadable('list', path, cause);
    }
  }

  #unreadable(doing: 'list' | 'read', path: ByteString, cause: unknown): HdError {
    return new HdError('CONTEXT_UNREADABLE', `cannot ${doing} ${join(this.#options.dir, toText(path))}`, { cause, hint: 'leave it out with a line in .dockerignore, or fix its permissions' });
  }
}
