import { appendFileSync, readFileSync, rmSync } from 'node:fs';
import type { TreeDigest } from '@hyperdocker/base';
import { isErrno } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';

/** Directories looked at before other work gets its turn. */
const BATCH = 64;
/** Only directories with so many others below are remembered on disk: the rest is found again quickly. */
const WORTH_KEEPING = 16;
/** Each edit of a large project adds some. Beyond this the file starts again. */
const MAX_LINES = 20_000;

/**
 * Which trees have no extended attribute on anything at or below them. It follows from a digest and never changes, so that it is found
 * once, in the background, and kept in a file of digests, one a line. Losing the file costs time, nothing else.
 */
export class AttributeFree {
  readonly #file: string | undefined;
  /** Whole trees that are known, with how many directories each has. */
  readonly #known = new Map<TreeDigest, number>();

  /** @param file undefined: nothing is remembered */
  constructor(file: string | undefined) {
    this.#file = file;
    const lines = file === undefined ? [] : readLines(file);
    for (const line of lines) this.#known.set(line as TreeDigest, WORTH_KEEPING);
    if (file !== undefined && lines.length > MAX_LINES) rmSync(file, { force: true });
  }

  /** Takes its time, and lets other work go on meanwhile. @throws HdError where the store lacks a part of the tree */
  async has(store: Store, tree: TreeDigest): Promise<boolean> {
    const search = this.#search(store, tree);
    for (;;) {
      for (let i = 0; i < BATCH; i++) {
        const { done, value } = search.next();
        if (done === true) return value > 0;
      }
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
  }

  /** Directories at and below `tree`, each yielded to; 0 when something there has an attribute. */
  *#search(store: Store, tree: TreeDigest): Generator<undefined, number> {
    const known = this.#known.get(tree);
    if (known !== undefined) return known;
    yield;
    let directories = 1;
    for (const entry of store.getTree(tree)) {
      if ((entry.meta?.xattrs.length ?? 0) > 0) return 0;
      if (entry.kind !== 'dir') continue;
      const below = yield* this.#search(store, entry.digest);
      if (below === 0) return 0;
      directories += below;
    }
    this.#known.set(tree, directories);
    if (directories >= WORTH_KEEPING) this.#keep(tree);
    return directories;
  }

  #keep(tree: TreeDigest): void {
    if (this.#file === undefined) return;
    try {
      appendFileSync(this.#file, `${tree}\n`);
    } catch {
      // Found again next time.
    }
  }
}

function readLines(file: string): string[] {
  try {
    return readFileSync(file, 'latin1').split('\n').filter((line) => /^[0-9a-f]{64}$/.test(line));
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  }
}
