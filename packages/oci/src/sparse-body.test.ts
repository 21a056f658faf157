import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { HdError, toByteString } from '@hyperdocker/base';
import { lookupPath, openMemoryStore } from '@hyperdocker/cas';
import { importTar } from './index.ts';
import { TarReader } from './tar-reader.ts';
import { tar } from './test-tar.ts';

const world = mkdtempSync(join(tmpdir(), 'hd-sparse-test-'));
after(() => rmSync(world, { recursive: true }));

const FORMATS: Record<string, string[]> = {
  'old GNU': ['--format=gnu'], 'PAX 0.0': ['--format=pax', '--sparse-version=0.0'], 'PAX 0.1': ['--format=pax', '--sparse-version=0.1'], 'PAX 1.0': ['--format=pax', '--sparse-version=1.0'],
};

/** A file of `sizeBytes` with data where `parts` say, of which nothing else takes room on the disk. */
function writeSparse(path: string, sizeBytes: number, parts: readonly { offset: number; text: string }[]): void {
  const fd = openSync(path, 'w');
  ftruncateSync(fd, sizeBytes);
  for (const { offset, text } of parts) writeSync(fd, text, offset);
  closeSync(fd);
}

for (const [format, options] of Object.entries(FORMATS)) {
  test(`what GNU tar writes with --sparse, ${format}`, async () => {
    const dir = mkdtempSync(join(world, 'files-'));
    const block = 'x'.repeat(4096);
    mkdirSync(join(dir, 'd'.repeat(120)));
    const files: Record<string, [sizeBytes: number, parts: { offset: number; text: string }[]]> = {
      'all-hole': [1 << 20, []],
      'hole-at-the-end': [(1 << 20) + 17, [{ offset: 0, text: 'begin' }]],
      'hole-first': [1 << 20, [{ offset: (1 << 20) - 3, text: 'end' }]],
      // More than fit a header, and more than fit one block after it.
      'forty-parts': [40 << 16, Array.from({ length: 40 }, (_, i) => ({ offset: i << 16, text: `${i}${block}` }))],
      'larger-than-memory': [30 << 20, [{ offset: 5 << 20, text: block }, { offset: 29 << 20, text: 'late' }]],
      [`${'d'.repeat(120)}/deep`]: [1 << 20, [{ offset: 4096, text: 'deep' }]],
      'no-hole': [4, [{ offset: 0, text: 'none' }]],
    };
    for (const [name, [sizeBytes, parts]] of Object.entries(files)) writeSparse(join(dir, name), sizeBytes, parts);
    const file = `${dir}.tar`;
    execFileSync('tar', ['-C', dir, '--sparse', ...options, '-cf', file, '.']);
    const bytes = readFileSync(file);
    assert(bytes.length < 2 << 20, 'the archive has holes');
    for (const pieces of [bytes.length, 700]) {
      const store = openMemoryStore();
      const tree = await importTar(store, cut(bytes, pieces), { tempDir: world });
      for (const name of Object.keys(files)) {
        const entry = lookupPath(store, tree, toByteString(name));
        assert(entry?.kind === 'file', name);
        assert(store.getBlob(entry.digest).equals(readFileSync(join(dir, name))), name);
      }
      assert.equal(store.getTree(tree).length, Object.keys(files).length, 'under their own names');
    }
  });

  test(`a huge sparse claim is named, and takes no room: ${format}`, async () => {
    const dir = mkdtempSync(join(world, 'huge-'));
    writeSparse(join(dir, 'lastlog'), 2 ** 40, [{ offset: 0, text: 'x' }]);
    const bytes = execFileSync('tar', ['-C', dir, '--sparse', ...options, '-cf', '-', 'lastlog']);
    await assert.rejects(importTar(openMemoryStore(), [bytes], { tempDir: world }), (error: unknown) => error instanceof HdError && error.code === 'LAYER_INVALID' && /the sparse file lastlog claims 1099511627776 bytes/.test(error.message));
  });
}

test('many sparse members of a permitted size are together too large', async () => {
  const member = (name: string) => [{ name: 'p', type: 'x', data: record('GNU.sparse.size', String(3 * 2 ** 30)) + record('GNU.sparse.map', '') }, { name }];
  const sizes: number[] = [];
  const reader = new TarReader({ entry: ({ size }) => sizes.push(size), data() {}, hole() {}, end() {} });
  assert.throws(() => reader.push(tar([...member('a'), ...member('b'), ...member('c')])), /the sparse file c claims 3221225472 bytes/);
  assert.deepEqual(sizes, [3 * 2 ** 30, 3 * 2 ** 30]);
});

test('whatever a list says, a file gets no more bytes than its size', () => {
  const number = fc.oneof(fc.nat(20), fc.bigInt({ min: 0n, max: 10n ** 17n }));
  const map = fc.array(number, { maxLength: 8 }).map((numbers) => numbers.join(','));
  fc.assert(fc.property(map, fc.nat(40), fc.nat(30), (text, sizeBytes, stored) => {
    let left = 0;
    const take = (count: number): void => void (left -= count);
    const reader = new TarReader({ entry: ({ size }) => void (left = size), data: (bytes) => take(bytes.length), hole: take, end: () => assert.equal(left, 0) });
    try {
      reader.push(tar([{ name: 'p', type: 'x', data: record('GNU.sparse.size', String(sizeBytes)) + record('GNU.sparse.map', text) }, { name: 'a', data: 'x'.repeat(stored) }]));
    } catch (error) {
      assert(error instanceof HdError && error.code === 'LAYER_INVALID');
    }
    assert(left >= 0);
  }), { numRuns: 300 });
});

function* cut(bytes: Buffer, pieces: number): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += pieces) yield bytes.subarray(at, at + pieces);
}

function record(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length++;
  return `${length}${rest}`;
}
