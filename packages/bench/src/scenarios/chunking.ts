import { hash as nodeHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { assert, hasher } from '@hyperdocker/base';
import type { ChunkingProfile } from '@hyperdocker/cas';
import { Chunker, PROFILES } from '@hyperdocker/cas';
import type { Cuts } from '../native-chunker.ts';
import { nativeChunker } from '../native-chunker.ts';
import type { Race, Scenario, Side } from '../scenario.ts';
import type { Workshop } from '../workshop.ts';

const MIB = 1024 * 1024;
const CUT_BYTES = 256 * MIB;
const CUT_TIMES = 2;
const HASH_TOTAL_BYTES = 256 * MIB;
const HASH_SIZES = { '4-KiB': 4 * 1024, '16-KiB': 16 * 1024, '64-KiB': 64 * 1024, '1-MiB': MIB, '16-MiB': 16 * MIB };

export const chunkingScenarios: Scenario[] = [
  ...(['fine', 'standard'] as const).map((profile): Scenario => ({
    name: `chunking.speed.${profile}`, rounds: 9, what: `finding the cuts in ${CUT_TIMES} × ${CUT_BYTES / MIB} MiB of random bytes in memory, one thread`, open: (workshop) => chunkingSpeed(workshop, profile),
  })),
  ...Object.entries(HASH_SIZES).map(([label, sizeBytes]): Scenario => ({
    name: `hash.speed.${label}`, rounds: 9, what: `${HASH_TOTAL_BYTES / sizeBytes} digests of ${label.replace('-', ' ')} as text, one thread`, open: async () => hashSpeed(sizeBytes),
  })),
];

async function chunkingSpeed(workshop: Workshop, profile: ChunkingProfile): Promise<Race> {
  const path = join(workshop.tempDir('random'), 'bytes');
  writeFileSync(path, randomBytes(CUT_BYTES));
  const bytes = readFileSync(path);
  const chunker = new Chunker(PROFILES[profile]);
  const describe = ({ chunks }: Omit<Cuts, 'ms'>): string => `${(CUT_TIMES * CUT_BYTES) / MIB} MiB, ${chunks} chunks`;
  const expected = cutAll(chunker, bytes);
  const sides: Side[] = [
    {
      name: 'hd',
      run: async () => {
        const startedMs = performance.now();
        const cuts = cutAll(chunker, bytes);
        return { ms: performance.now() - startedMs, work: describe(cuts) };
      },
    },
  ];
  const native = await nativeChunker(workshop.workDir);
  if (native.ok) {
    sides.push({
      name: native.name,
      run: async () => {
        const cuts = await native.cut(path, CUT_TIMES, PROFILES[profile]);
        assert(cuts.chunks === expected.chunks && cuts.check === expected.check, 'both cut at the same places');
        return { ms: cuts.ms, work: describe(cuts) };
      },
    });
  } else {
    workshop.say(`the native side is left out: ${native.why}`);
  }
  return { sides, [Symbol.asyncDispose]: async () => {} };
}

function cutAll(chunker: Chunker, bytes: Uint8Array): Omit<Cuts, 'ms'> {
  let chunks = 0;
  let check = 0;
  for (let time = 0; time < CUT_TIMES; time++) {
    for (let at = 0; at < bytes.length; chunks++) {
      const length = chunker.cut(bytes, at, bytes.length, true);
      check = (Math.imul(check, 31) + length) >>> 0;
      at += length;
    }
  }
  return { chunks, check };
}

function hashSpeed(sizeBytes: number): Race {
  const bytes = randomBytes(16 * MIB);
  const pieces = Array.from({ length: bytes.length / sizeBytes }, (_, index) => bytes.subarray(index * sizeBytes, (index + 1) * sizeBytes));
  const side = (name: string, digest: (piece: Buffer) => string): Side => ({
    name,
    run: async () => {
      const startedMs = performance.now();
      for (let time = 0; time < HASH_TOTAL_BYTES / bytes.length; time++) for (const piece of pieces) digest(piece);
      return { ms: performance.now() - startedMs, work: `${HASH_TOTAL_BYTES / MIB} MiB` };
    },
  });
  return {
    sides: [side(`hd: BLAKE3, ${hasher.name}`, (piece) => hasher.hash(piece)), side("Node's SHA-256", (piece) => nodeHash('sha256', piece, 'hex'))],
    [Symbol.asyncDispose]: async () => {},
  };
}

/** The same ones every time (xorshift32). */
function randomBytes(sizeBytes: number): Buffer {
  const words = new Uint32Array(sizeBytes / 4);
  let state = 1;
  for (let index = 0; index < words.length; index++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[index] = state;
  }
  return Buffer.from(words.buffer);
}
