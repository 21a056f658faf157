import assert from 'node:assert/strict';
import { gzipSync } from 'node:zlib';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { sys, toByteString } from '@hyperdocker/base';
import { Masker, findLeak } from './redact.ts';

const root = mkdtempSync(join(tmpdir(), 'hd-redact-'));
after(() => rmSync(root, { recursive: true, force: true }));
const VALUE = 'tok_4f1d7c+/ä?\\$.*';
const secrets = new Map([['token', Buffer.from(VALUE)]]);

function masked(chunks: readonly (string | Buffer)[], values: ReadonlyMap<string, Buffer> = secrets): string {
  const masker = new Masker(values);
  return chunks.map((chunk) => masker.push(Buffer.from(chunk))).join('') + masker.end();
}

test('a secret is masked as it is, in base64 at every place, and in the alphabet of URLs', () => {
  assert.equal(masked([`a ${VALUE} b${VALUE}`]), 'a *** b***');
  for (const before of ['', 'x', 'xy', 'xyz']) {
    for (const alphabet of ['base64', 'base64url'] as const) {
      const text = masked([Buffer.from(`${before}${VALUE}`).toString(alphabet)]);
      assert.match(text, /^.{0,4}\*\*\*.{0,4}$/, `${before} ${alphabet}`);
    }
  }
});

test('however the output is cut, nothing is left of it and nothing else is lost', () => {
  const text = `ä line\nPassword: ${VALUE}\nthe end: tok_4f1d7`;
  fc.assert(fc.property(fc.array(fc.nat(Buffer.byteLength(text)), { maxLength: 12 }), (cuts) => {
    const bytes = Buffer.from(text);
    const points = [0, ...cuts.sort((a, b) => a - b), bytes.length];
    const chunks = points.slice(1).map((end, index) => bytes.subarray(points[index], end));
    assert.equal(masked(chunks), 'ä line\nPassword: ***\nthe end: tok_4f1d7');
  }));
});

test('ordinary output is not held back', () => {
  const masker = new Masker(secrets);
  assert.equal(masker.push(Buffer.from('waiting for input: ')), 'waiting for input: ');
  assert.equal(masker.push(Buffer.from('to')), '', 'may be the beginning');
  assert.equal(masker.push(Buffer.from('day')), 'today');
});

test('each line of a secret of several lines is masked, but for short ones', () => {
  const key = new Map([['key', Buffer.from('-----BEGIN KEY-----\nMIIEvQIBADANBg\nab==\n')]]);
  assert.equal(masked(['a\n-----BEGIN KEY-----\nMIIEvQIBADANBg\nab==\nb\n'], key), 'a\n***\nb\n');
  assert.equal(masked(['> -----BEGIN KEY-----\n> MIIEvQIBADANBg\n> ab==\n'], key), '> ***\n> ***\n> ab==\n');
});

test('without secrets, output passes as it is, also where characters are cut', () => {
  const [first, second] = [Buffer.from('ä').subarray(0, 1), Buffer.from('ä').subarray(1)];
  assert.equal(masked([first, second], new Map()), 'ä');
});

let count = 0;
function leakIn(make: (dir: string) => void): ReturnType<typeof findLeak> {
  const dir = join(root, `upper-${count++}`);
  mkdirSync(join(dir, 'a/b'), { recursive: true });
  make(dir);
  return findLeak(dir, secrets);
}

test('a secret is found in contents, names, links and attributes', () => {
  const far = Buffer.alloc((1 << 20) - 5, 'x');
  const places: [what: string, make: (dir: string) => void, path: string][] = [
    ['a file', (dir) => writeFileSync(join(dir, 'a/b/.npmrc'), `//registry/:_authToken=${VALUE}\n`), 'a/b/.npmrc'],
    ['where two reads meet', (dir) => writeFileSync(join(dir, 'a/big'), Buffer.concat([far, Buffer.from(VALUE), far])), 'a/big'],
    ['base64', (dir) => writeFileSync(join(dir, 'auth'), Buffer.from(`user:${VALUE}`).toString('base64')), 'auth'],
    ['base64 in short lines', (dir) => writeFileSync(join(dir, 'auth'), Buffer.from(`user:${VALUE}`).toString('base64').replace(/.{5}/g, '$&\r\n')), 'auth'],
    ['a link', (dir) => symlinkSync(VALUE, join(dir, 'a/link')), 'a/link'],
    ['an attribute', (dir) => sys().setXattr(join(dir, 'a/b'), toByteString('trusted.note'), Buffer.from(VALUE)), 'a/b'],
  ];
  for (const [what, make, path] of places) assert.deepEqual(leakIn(make), { id: 'token', path }, what);
  // A name cannot hold a slash.
  const inName = findLeak(mkdtempWith('name-S3NT1NEL.txt'), new Map([['s', Buffer.from('S3NT1NEL\n')]]));
  assert.deepEqual(inName, { id: 's', path: 'name-***.txt' });
});

function mkdtempWith(name: string): string {
  const dir = mkdtempSync(join(root, 'names-'));
  writeFileSync(join(dir, name), '');
  return dir;
}

test('what is not found: nothing there, and what was made of it otherwise', () => {
  assert.equal(leakIn((dir) => writeFileSync(join(dir, 'a/f'), VALUE.slice(0, -1))), undefined);
  assert.equal(leakIn((dir) => writeFileSync(join(dir, 'a/f.gz'), gzipSync(VALUE.repeat(3)))), undefined);
  assert.equal(findLeak(join(root, 'not there'), new Map()), undefined);
});
