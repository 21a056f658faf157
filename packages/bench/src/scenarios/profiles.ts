import { readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { hasher } from '@hyperdocker/base';
import type { CdcParameters } from '@hyperdocker/cas';
import { Chunker, PROFILES } from '@hyperdocker/cas';
import type { Corpus } from '../corpora.ts';
import { CORPORA, openCorpus } from '../corpora.ts';
import { Restic } from '../restic.ts';
import type { Race, Scenario, Side } from '../scenario.ts';
import type { Workshop } from '../workshop.ts';

/** What a record in a pack costs beside its payload, a recipe beside its chunks, and each of these (docs/format/cas.md). */
const RECORD_BYTES = 52;
const RECIPE_BYTES = 48;
const LISTED_BYTES = 36;
const COMPRESS_OVER_BYTES = 512;

interface Policy { name: string; parameters?: CdcParameters; wholeBelowBytes: number }
const KIB = 1024;
const POLICIES: Policy[] = [
  { name: 'whole files', wholeBelowBytes: Infinity },
  { name: 'fine', parameters: PROFILES.fine, wholeBelowBytes: PROFILES.fine.wholeBelowBytes },
  ...[64, 256].map((averageKib): Policy => ({
    name: `${averageKib / 4}/${averageKib}/${averageKib * 4} KiB`, parameters: { minBytes: (averageKib / 4) * KIB, averageBytes: averageKib * KIB, maxBytes: averageKib * 4 * KIB, normalization: 2 }, wholeBelowBytes: averageKib * 4 * KIB,
  })),
  { name: 'standard', parameters: PROFILES.standard, wholeBelowBytes: PROFILES.standard.wholeBelowBytes },
];

export const profileScenarios: Scenario[] = CORPORA.map((corpus) => ({
  name: `profiles.${corpus.name}`,
  rounds: 1,
  what: `${corpus.what}. Timed: read, cut, hash and compress (zstd 3) all versions, one thread, nothing written; restic: \`backup\` of each, to the disk, on all cores. The table says what all versions take, and in brackets what each adds`,
  open: (workshop) => profiles(workshop, corpus),
}));

interface Cost { objects: number; uniqueBytes: number; storedBytes: number }

async function profiles(workshop: Workshop, corpus: Corpus): Promise<Race> {
  const versions = await openCorpus(workshop.workDir, corpus);
  const sides = POLICIES.map((policy): Side => ({
    name: policy.name,
    run: async () => {
      const startedMs = performance.now();
      const space = new Space(policy);
      const costs = versions.map((dir) => space.add(dir));
      return { ms: performance.now() - startedMs, work: `${describe(costs)}, ${space.cutMs.toFixed(0)} ms of it cutting` };
    },
  }));
  const restic = await Restic.version();
  if (restic === undefined) workshop.say('restic is left out: it is not installed');
  else sides.push({ name: `restic ${restic}`, run: async () => resticSide(workshop.tempDir('restic'), versions) });
  return { sides, [Symbol.asyncDispose]: async () => {} };
}

async function resticSide(dir: string, versions: readonly string[]): Promise<{ ms: number; work: string }> {
  const repository = await Restic.init(join(dir, 'repository'));
  const costs = [];
  let ms = 0;
  for (const version of versions) {
    const startedMs = performance.now();
    await repository.backup(version);
    ms += performance.now() - startedMs;
    costs.push(await repository.cost());
  }
  rmSync(dir, { recursive: true });
  return { ms, work: `${describe(costs)}; with trees, packs and index ${megabytes(costs.at(-1)?.diskBytes ?? 0)}` };
}

/** What a store with this policy would hold. */
class Space {
  cutMs = 0;
  readonly #policy: Policy;
  readonly #chunker: Chunker | undefined;
  readonly #known = new Set<string>();
  #cost: Cost = { objects: 0, uniqueBytes: 0, storedBytes: 0 };

  constructor(policy: Policy) {
    this.#policy = policy;
    this.#chunker = policy.parameters && new Chunker(policy.parameters);
  }

  /** All of it then. */
  add(dir: string): Cost {
    walkFiles(dir, (path) => this.#addBlob(readFileSync(path)));
    return this.#cost;
  }

  #addBlob(bytes: Buffer): void {
    const chunker = bytes.length > this.#policy.wholeBelowBytes ? this.#chunker : undefined;
    if (!this.#isNew(bytes)) return;
    if (chunker === undefined) {
      this.#store(bytes);
      return;
    }
    const pieces = this.#cut(chunker, bytes);
    if (pieces.length === 1) {
      this.#store(bytes);
      return;
    }
    this.#cost = { ...this.#cost, objects: this.#cost.objects + 1, storedBytes: this.#cost.storedBytes + RECORD_BYTES + RECIPE_BYTES + pieces.length * LISTED_BYTES };
    for (const piece of pieces) if (this.#isNew(piece)) this.#store(piece);
  }

  #isNew(bytes: Buffer): boolean {
    const digest = hasher.hash(bytes);
    if (this.#known.has(digest)) return false;
    this.#known.add(digest);
    return true;
  }

  #cut(chunker: Chunker, bytes: Buffer): Buffer[] {
    const startedMs = performance.now();
    const pieces: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += pieces.at(-1)?.length ?? 0) pieces.push(bytes.subarray(at, at + chunker.cut(bytes, at, bytes.length, true)));
    this.cutMs += performance.now() - startedMs;
    return pieces;
  }

  #store(bytes: Buffer): void {
    const { objects, uniqueBytes, storedBytes } = this.#cost;
    const compressed = bytes.length > COMPRESS_OVER_BYTES ? zstdCompressSync(bytes).length : bytes.length;
    this.#cost = { objects: objects + 1, uniqueBytes: uniqueBytes + bytes.length, storedBytes: storedBytes + RECORD_BYTES + Math.min(compressed, bytes.length) };
  }
}

/** `12,345 objects, 67.8 MB unique, stored 20.1 MB (18.0 + 2.1)` */
function describe(costs: readonly Cost[]): string {
  const last = costs.at(-1) ?? { objects: 0, uniqueBytes: 0, storedBytes: 0 };
  const added = costs.map(({ storedBytes }, index) => ((storedBytes - (costs[index - 1]?.storedBytes ?? 0)) / 1e6).toFixed(1));
  return `${last.objects.toLocaleString('en')} objects, ${megabytes(last.uniqueBytes)} unique, stored ${megabytes(last.storedBytes)} (${added.join(' + ')})`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

function walkFiles(dir: string, visit: (path: string) => void): void {
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) walkFiles(path, visit);
    else if (entry.isFile()) visit(path);
  }
}
