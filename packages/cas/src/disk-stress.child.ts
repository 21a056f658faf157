import { existsSync, readFileSync } from 'node:fs';
import { HdError, hasher, isErrno } from '@hyperdocker/base';
import type { BlobDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import { sampleBytes, testNode, testNodeLinks } from './conformance.ts';
import type { FileEntry, RefTarget, Store } from './contract.ts';
import { openStore } from './disk-store.ts';
import { walkTree } from './tree-ops.ts';

/**
 * One of the processes of disk-stress.test.ts: `<dir> write | read | collect <seed> <rounds>`. Ends with 0 if nothing that was live was lost. Readers and collections go
 * on until the file `<dir>.done` is there.
 */
const [dir = '', role = '', seedText = '', roundsText = ''] = process.argv.slice(2);
const seed = Number(seedText);
const rounds = Number(roundsText);
/** Writers use the same few contents again and again, so that they keep finding what nobody needs any more. */
const CONTENTS = 300;
const SLOTS = 4;

let state = seed;
const random = (below: number): number => {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
};

{
  using store = openStore(dir, { nodeLinks: testNodeLinks, chunking: 'fine' });
  if (role === 'write') write(store);
  else if (role === 'read') read(store);
  else collect(store);
}

function contentOf(number: number): Buffer {
  const bytes = sampleBytes(number % 10 === 0 ? 90_000 + number : 300 + number);
  bytes.writeUInt32LE(number, 0);
  return bytes;
}

function putTree(store: Store): TreeDigest {
  const files = Array.from({ length: 1 + random(8) }, (_, i): FileEntry => {
    const bytes = contentOf(random(CONTENTS));
    return { kind: 'file', name: `f${i}` as ByteString, mode: 0o644, digest: store.putBlob(bytes), size: bytes.length };
  });
  const below = store.putTree(files);
  return store.putTree([{ kind: 'dir', name: 'below' as ByteString, mode: 0o755, digest: below }, ...files.slice(0, 2)]);
}

function write(store: Store): void {
  for (let round = 0; round < rounds; round++) {
    const name = `w${seed}/${random(SLOTS)}`;
    switch (random(5)) {
      case 0:
        store.deleteRef(name);
        break;
      case 1: {
        // Referred to long after it was flushed: only the lease keeps it.
        using _lease = store.lease('a slow writer');
        const tree = putTree(store);
        store.flush();
        verify(store, tree);
        store.setRef(name, { kind: 'tree', digest: tree });
        break;
      }
      case 2: {
        // In use, and never referred to.
        const lease = store.lease('before the pin');
        const tree = putTree(store);
        store.flush();
        using _pin = store.pin({ kind: 'tree', digest: tree }, 'a pin');
        lease[Symbol.dispose]();
        for (let i = 0; i < 5; i++) verify(store, tree);
        break;
      }
      case 3: {
        const node = store.putNode(testNode([{ kind: 'tree', digest: putTree(store) }]));
        store.setRef(name, { kind: 'node', digest: node });
        break;
      }
      default:
        store.setRef(name, { kind: 'tree', digest: putTree(store) });
    }
    const own = store.listRefs(`w${seed}/`);
    const chosen = own[random(own.length)];
    if (chosen !== undefined) verify(store, treeOf(store, chosen.ref.target));
  }
}

function goesOn(round: number): boolean {
  return round < rounds || !existsSync(`${dir}.done`);
}

function read(store: Store): void {
  for (let round = 0; goesOn(round); round++) {
    const refs = store.listRefs('w');
    const chosen = refs[random(refs.length)];
    if (chosen === undefined) continue;
    const { name, ref } = chosen;
    try {
      using _pin = random(2) === 0 ? store.pin(ref.target, 'a reader') : undefined;
      verify(store, treeOf(store, ref.target));
    } catch (error) {
      if (!(error instanceof HdError) || error.code !== 'OBJECT_MISSING') throw error;
      // Gone is right if the ref has moved meanwhile.
      const now = store.getRef(name);
      if (now?.atMs === ref.atMs && now.target.digest === ref.target.digest) throw new Error(`${name} has lost ${error.message}`, { cause: error });
    }
  }
}

function collect(store: Store): void {
  const total = { collections: 0, removed: 0, demoted: 0, bytesFreed: 0 };
  for (let round = 0; goesOn(round); round++) {
    const { chunksRemoved, manifestsRemoved, demoted, bytesFreed } = store.gc({ demoteAfterMs: 0, dryRun: random(6) === 0, waitMs: 60_000 });
    total.collections++;
    total.removed += chunksRemoved + manifestsRemoved;
    total.demoted += demoted;
    total.bytesFreed += bytesFreed;
  }
  process.stdout.write(`${JSON.stringify(total)}\n`);
}

function treeOf(store: Store, { kind, digest }: RefTarget): TreeDigest {
  const [link] = kind === 'node' ? testNodeLinks(store.getNode(digest as never)) : [{ digest }];
  return link?.digest as TreeDigest;
}

/** Reads all of it in one of the ways in which a blob can be read. */
function verify(store: Store, tree: TreeDigest): void {
  for (const { entry } of walkTree(store, tree)) {
    if (entry.kind !== 'file') continue;
    if (hasher.hash(bytesOf(store, entry.digest)) !== entry.digest) throw new Error(`other bytes for ${entry.digest}`);
  }
}

function bytesOf(store: Store, digest: BlobDigest): Buffer {
  switch (random(3)) {
    case 0:
      return store.getBlob(digest);
    case 1:
      return Buffer.concat([...store.streamBlob(digest)]);
    default: {
      const path = store.blobFile(digest);
      try {
        return path === undefined ? store.getBlob(digest) : readFileSync(path);
      } catch (error) {
        // A collection took the copy before it was opened. The blob is where it was.
        if (!isErrno(error, 'ENOENT')) throw error;
        return store.getBlob(digest);
      }
    }
  }
}
