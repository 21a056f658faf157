import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { BlobDigest, NodeDigest, TreeDigest } from '@hyperdocker/base';
import { Decoder, toText } from '@hyperdocker/base';
import type { Store, TreeEntry } from '@hyperdocker/cas';
import { openStore, walkTree } from '@hyperdocker/cas';

/** What a step left: each path that it wrote or removed, with all that is known of it but times. */
export type Files = ReadonlyMap<string, string>;
export interface StepResult { files: Files; /** What it printed, durations masked. */ output: string }

/** The name under which what was printed is compared, among files. */
export const OUTPUT = '(output)';

/** What is in an `HD_HOME`, read by its documented formats (docs/format/graph.md), without `hd`. */
export class HomeReader {
  readonly #homeDir: string;

  constructor(homeDir: string) {
    this.#homeDir = homeDir;
  }

  /** Afterwards every step has to run. */
  forgetActions(): void {
    for (const suffix of ['', '-wal', '-shm']) rmSync(join(this.#homeDir, `actions.sqlite${suffix}`), { force: true });
  }

  /** Of all steps that ran since `forgetActions`, in the order in which they ended. */
  results(ignored: readonly string[]): StepResult[] {
    using store = this.#store();
    const db = new DatabaseSync(join(this.#homeDir, 'actions.sqlite'), { readOnly: true });
    const rows = db.prepare('SELECT result FROM runs ORDER BY used_ms').all() as { result: NodeDigest }[];
    db.close();
    return rows.map(({ result }) => {
      const { delta, log } = decodeResultHead(store.getNode(result));
      return { files: filesOf(store, delta, ignored), output: maskDurations(store.getBlob(log).toString('utf8')) };
    });
  }

  /** All files of what an environment was last built to. */
  built(ref: string, ignored: readonly string[]): Files {
    using store = this.#store();
    const tree = store.getRef(ref)?.target.digest as TreeDigest | undefined;
    return tree === undefined ? new Map() : filesOf(store, tree, ignored);
  }

  #store(): Store {
    return openStore(join(this.#homeDir, 'cas'), { nodeLinks: () => [] });
  }
}

/** Paths that two sets of files do not agree on, sorted. */
export function differing(a: Files, b: Files): string[] {
  return [...new Set([...a.keys(), ...b.keys()])].filter((path) => a.get(path) !== b.get(path)).sort();
}

/** All versions of the format begin alike. */
function decodeResultHead(encoded: Buffer): { delta: TreeDigest; log: BlobDigest } {
  const decoder = new Decoder(encoded, encoded.toString('latin1', 1, 1 + (encoded[0] ?? 0)));
  return { delta: decoder.digest() as TreeDigest, log: decoder.digest() as BlobDigest };
}

function filesOf(store: Store, tree: TreeDigest, ignored: readonly string[]): Files {
  const files = new Map<string, string>();
  for (const { path, entry } of walkTree(store, tree)) {
    const text = toText(path);
    if (!ignored.some((dir) => text === dir || text.startsWith(`${dir}/`))) files.set(text, describe(entry));
  }
  return files;
}

function describe(entry: TreeEntry): string {
  const { uid = 0, gid = 0, xattrs = [] } = entry.meta ?? {};
  const common = `${entry.kind} ${entry.mode.toString(8)} ${uid}:${gid} ${xattrs.map(([name, value]) => `${name}=${Buffer.from(value).toString('hex')}`).join(' ')}`;
  switch (entry.kind) {
    case 'file':
      return `${common} ${entry.digest.slice(0, 32)}`;
    case 'symlink':
      return `${common} ${entry.target}`;
    case 'dir':
      return `${common} ${entry.opaque === true}`;
    case 'char':
    case 'block':
      return `${common} ${entry.major}:${entry.minor}`;
    default:
      return common;
  }
}

/** Test runners print how long they took, and whether they remembered. */
export function maskDurations(text: string): string {
  return text.replace(/\(cached\)|(?<![\w.])\d+(?:\.\d+)?\s?(?:ms|s|µs|seconds?)\b|(?<=duration_ms:? )[\d.]+/g, '…');
}
