import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { testNodeLinks } from './conformance.ts';
import { openStore } from './disk-store.ts';

/** Times the work that each process does. */
const FACTOR = Number(process.env['HD_STRESS_FACTOR'] ?? 1);
const SCRIPT = fileURLToPath(new URL('disk-stress.child.ts', import.meta.url));

interface Ended { code: number | null; out: string }

async function runProcess(dir: string, role: string, seed: number, rounds: number): Promise<Ended> {
  const child = spawn(process.execPath, [SCRIPT, dir, role, String(seed), String(rounds)], { stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (out += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, out };
}

test('writers, readers and collections in seven processes at once: nothing that is live is lost', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'hd-stress-'));
  const dir = join(root, 'store');
  const seed = Number(process.env['HD_STRESS_SEED'] ?? Math.floor(Math.random() * 1e9));
  t.diagnostic(`HD_STRESS_SEED=${seed}`);
  try {
    openStore(dir)[Symbol.dispose]();
    const run = (role: string, rounds: number, i: number): Promise<Ended> => runProcess(dir, role, seed + i, rounds * FACTOR);
    const writers = [0, 1, 2].map((i) => run('write', 40, i));
    const others = [3, 4].map((i) => run('read', 20, i)).concat([5, 6].map((i) => run('collect', 5, i)));
    const written = await Promise.all(writers);
    writeFileSync(`${dir}.done`, '');
    const ended = [...written, ...(await Promise.all(others))];
    for (const [i, { code, out }] of ended.entries()) assert.equal(code, 0, `process ${i} with seed ${seed + i}:\n${out}`);
    const totals = ended.slice(5).map(({ out }) => JSON.parse(out) as { collections: number; removed: number });
    assert(totals.some(({ removed }) => removed > 0), 'something was collected meanwhile');
    using store = openStore(dir, { nodeLinks: testNodeLinks });
    assert.deepEqual(store.fsck().problems, []);
    t.diagnostic(`${JSON.stringify(totals)}; ${store.listRefs().length} refs whole`);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});
