import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HdError } from '@hyperdocker/base';
import { formatReference, parseBase, parseReference, registryHost } from './index.ts';

const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}`;

for (const [text, canonical] of [
  ['nginx', 'docker.io/library/nginx:latest'],
  ['python:3.11-slim', 'docker.io/library/python:3.11-slim'],
  ['docker.io/nginx', 'docker.io/library/nginx:latest'],
  ['index.docker.io/a/b', 'docker.io/a/b:latest'],
  ['a/b/c', 'docker.io/a/b/c:latest'],
  ['ghcr.io/a/b:tag', 'ghcr.io/a/b:tag'],
  [`localhost:5000/app@${DIGEST}`, `localhost:5000/app@${DIGEST}`],
  [`localhost/app:1@${DIGEST}`, `localhost/app:1@${DIGEST}`],
  ['[::1]:5000/a', '[::1]:5000/a:latest'],
  ['my_app__x/y-z.w', 'docker.io/my_app__x/y-z.w:latest'],
] as const) {
  test(`reference ${text}`, () => {
    assert.equal(formatReference(parseReference(text)), canonical);
    assert.deepEqual(parseReference(canonical), parseReference(text));
  });
}

test('Docker Hub answers elsewhere', () => {
  assert.equal(registryHost(parseReference('nginx').registry), 'registry-1.docker.io');
  assert.equal(registryHost('ghcr.io'), 'ghcr.io');
});

for (const text of ['', 'Nginx', 'a:', 'a@sha256:12', `a@${DIGEST}@${DIGEST}`, 'a b', '/a', 'a/', 'a//b', 'a..b', '-a', 'x'.repeat(300), 'ab'.repeat(32), `a:${'t'.repeat(129)}`, 'a.b:99999999/x']) {
  test(`no reference: ${JSON.stringify(text.slice(0, 40))}`, () => {
    assert.throws(() => parseReference(text), (error: unknown) => error instanceof HdError && error.code === 'IMAGE_REFERENCE');
  });
}

test('kinds of base', () => {
  assert.deepEqual(parseBase('scratch'), { kind: 'scratch' });
  assert.deepEqual(parseBase('apt://bookworm'), { kind: 'apt', suite: 'bookworm', include: [] });
  assert.deepEqual(parseBase('apt://bookworm?include=python3,git&include=g%2B%2B&variant=minbase&components=main,contrib'), {
    kind: 'apt', suite: 'bookworm', include: ['python3', 'git', 'g++'], variant: 'minbase', components: ['main', 'contrib'],
  });
  assert.deepEqual(parseBase('oci:./image'), { kind: 'oci-dir', path: './image' });
  assert.deepEqual(parseBase('oci:/a:b/image:v1'), { kind: 'oci-dir', path: '/a:b/image', ref: 'v1' });
  assert.deepEqual(parseBase('docker-archive:a.tar'), { kind: 'docker-archive', path: 'a.tar' });
  assert.deepEqual(parseBase('nginx'), { kind: 'registry', reference: parseReference('nginx') });
});

for (const text of ['docker://nginx', 'https://ghcr.io/a', 'apt://', 'apt://bookworm?packages=a', 'apt://bookworm?include=a;rm', 'apt://bookworm?include=--x', 'oci:', 'docker-archive:', 'oci:x:']) {
  test(`no base: ${text}`, () => {
    assert.throws(() => parseBase(text), (error: unknown) => error instanceof HdError && error.code === 'IMAGE_REFERENCE');
  });
}
