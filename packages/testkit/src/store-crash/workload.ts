import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Decoder, Encoder } from '@hyperdocker/base';
import type { BlobDigest, ByteString } from '@hyperdocker/base';
import { openStore, rebuildIndex } from '@hyperdocker/cas';
import type { FileEntry, NodeLinks, OpenOptions, RefTarget, Store } from '@hyperdocker/cas';
import { randomNumbers } from '../random-numbers.ts';

/**
 * A life of a store, step by step, and what must hold after each. Steps may be run again after they failed. None moves more than one ref, so that a
 * crash inside it shows the refs from before it or from after it.
 */
export const STEPS: readonly Step[] = [
  { name: 'open', run: (session) => session.open() },
  { name: 'first commit', run: (session) => session.commit('main', graph(session, 'one', 70_000)) },
  { name: 'flush without a ref', run: (session) => session.flush(graph(session, 'loose ends', 3000)) },
  { name: 'second ref', run: (session) => session.commit('other', graph(session, 'two', 150_000)) },
  { name: 'move the first ref', run: (session) => session.commit('main', graph(session, 'three', 90_000)) },
  { name: 'a file of the host', run: (session) => session.flush([putHostFile(session, 260_000)]) },
  { name: 'large blob as a file', run: (session) => void session.store.blobFile(session.largeBlob()) },
  { name: 'remove the second ref', run: (session) => session.remove('other') },
  { name: 'collect garbage', run: (session) => session.gc() },
  { name: 'close', run: (session) => session.close() },
  { name: 'open again', run: (session) => session.open() },
  { name: 'what was collected comes back', run: (session) => session.commit('other', graph(session, 'two', 150_000)) },
  { name: 'close before rebuilding', run: (session) => session.close() },
  { name: 'rebuild the index', run: (session) => void rebuildIndex(session.dir, session.options) },
  { name: 'open the rebuilt', run: (session) => session.open() },
  { name: 'small commits', run: (session) => session.commit('small', graph(session, 'four', 0)) },
  { name: 'move it', run: (session) => session.commit('small', graph(session, 'five', 0)) },
  { name: 'move it back', run: (session) => session.commit('small', graph(session, 'four', 0)) },
  { name: 'and collect again', run: (session) => session.gc() },
  { name: 'collect what a ref held, with the ref', run: (session) => session.gc('other') },
  { name: 'last commit', run: (session) => session.commit('main', graph(session, 'six', 80_000)) },
  { name: 'close for good', run: (session) => session.close() },
];

export interface Step {
  name: string;
  run(session: Session): void;
}

/** What a store must hold. */
export interface Expectation {
  refs: Record<string, RefTarget>;
  /** Flushed, and not to be collected. */
  objects: RefTarget[];
}

const NODE = 'test.crash/1';
/** Nobody else is there. */
const GC_WAIT_MS = 1000;

const nodeLinks: NodeLinks = (encoded) => {
  const decoder = new Decoder(encoded, NODE);
  return [{ kind: 'tree', digest: decoder.digest() }];
};

/** The same life in two ways: `batch` with large blobs cut into pieces, `strict` with all blobs whole. */
export const WAYS = {
  batch: { nodeLinks, durability: 'batch', chunking: 'fine' },
  strict: { nodeLinks, durability: 'strict', chunking: 'standard' },
} as const satisfies Record<string, OpenOptions>;
export type Way = keyof typeof WAYS;

/** One store in the course of the steps, with what is known of it. */
export class Session {
  readonly dir: string;
  readonly options: OpenOptions;
  /** For files of the host, apart from the store. */
  readonly hostDir: string;
  #store: Store | undefined;
  readonly #refs = new Map<string, RefTarget>();
  /** Digests with what lies below them. */
  readonly #below = new Map<string, RefTarget[]>();
  #safe = new Map<string, RefTarget>();
  /** A ref that is about to go: a step that fails may have removed it or not. */
  #dropping: string | undefined;

  constructor(dir: string, hostDir: string, options: OpenOptions) {
    this.dir = dir;
    this.hostDir = hostDir;
    this.options = options;
  }

  get store(): Store {
    if (this.#store === undefined) this.open();
    return this.#store as Store;
  }

  get isOpen(): boolean {
    return this.#store !== undefined;
  }

  open(): void {
    this.#store ??= openStore(this.dir, this.options);
  }

  /** A store that failed to close is closed all the same. */
  close(): void {
    const store = this.#store;
    this.#store = undefined;
    store?.[Symbol.dispose]();
  }

  /** @param objects all that lies below the last, and the last */
  commit(ref: string, objects: RefTarget[]): void {
    const target = objects.at(-1)!;
    this.store.setRef(ref, target);
    this.#below.set(target.digest, objects);
    this.#refs.set(ref, target);
    this.#keep(objects);
  }

  remove(ref: string): void {
    this.#dropping = ref;
    this.store.deleteRef(ref);
    this.#refs.delete(ref);
  }

  flush(objects: RefTarget[]): void {
    this.store.flush();
    this.#keep(objects);
  }

  /** @param dropRef goes with it */
  gc(dropRef?: string): void {
    this.#dropping = dropRef;
    this.store.gc({ demoteAfterMs: 0, waitMs: GC_WAIT_MS, ...(dropRef === undefined ? {} : { dropRefs: [dropRef] }) });
    if (dropRef !== undefined) this.#refs.delete(dropRef);
    this.#safe = new Map();
    for (const { digest } of this.#refs.values()) this.#keep(this.#below.get(digest)!);
  }

  /** Of what `main` holds. */
  largeBlob(): BlobDigest {
    const objects = this.#below.get(this.#refs.get('main')!.digest)!;
    return objects[0]!.digest as BlobDigest;
  }

  get dropping(): string | undefined {
    return this.#dropping;
  }

  get expectation(): Expectation {
    return { refs: Object.fromEntries(this.#refs), objects: [...this.#safe.values()] };
  }

  #keep(objects: RefTarget[]): void {
    for (const object of objects) this.#safe.set(`${object.kind} ${object.digest}`, object);
  }
}

/** A node over a tree with a subtree and blobs: a large one, one that compresses, small ones. @returns all of them, the large blob first and the node last */
function graph({ store }: Session, salt: string, largeBytes: number): RefTarget[] {
  const objects: RefTarget[] = [];
  const put = (name: string, bytes: Buffer): FileEntry => {
    const digest = store.putBlob(bytes);
    objects.push({ kind: 'blob', digest });
    return { name: name as ByteString, kind: 'file', mode: 0o644, digest, size: bytes.length };
  };
  const large = put('large', noise(salt, largeBytes));
  const text = put('text', Buffer.from(`${salt} says it again. `.repeat(300)));
  const small = Array.from({ length: 5 }, (_, i) => put(`small-${i}`, noise(`${salt} ${i}`, 40 + i * 30)));
  const below = store.putTree([large, ...small]);
  const tree = store.putTree([text, { name: 'below' as ByteString, kind: 'dir', mode: 0o755, digest: below }]);
  const node = store.putNode(new Encoder(NODE).digest(tree).finish());
  return [...objects, { kind: 'tree', digest: below }, { kind: 'tree', digest: tree }, { kind: 'node', digest: node }];
}

function putHostFile({ store, hostDir }: Session, sizeBytes: number): RefTarget {
  mkdirSync(hostDir, { recursive: true });
  const path = join(hostDir, String(sizeBytes));
  writeFileSync(path, noise('of the host', sizeBytes));
  return { kind: 'blob', digest: store.putFile(path).digest };
}

/** Bytes that do not compress, the same for the same salt. */
function noise(salt: string, length: number): Buffer {
  const random = randomNumbers([...salt].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) | 0, 7));
  return Buffer.from(Uint8Array.from({ length }, () => random() * 256));
}
