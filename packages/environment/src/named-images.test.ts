import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HdError, toByteString } from '@hyperdocker/base';
import type { TreeDigest } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { emptyTree, openMemoryStore } from '@hyperdocker/cas';
import { findImage } from './images.ts';
import { findListed, getNamedImage, listImages, putNamedImage, removeImage } from './named-images.ts';
import { HOST_PLATFORM } from './platform.ts';

const document = { os: 'linux', architecture: 'amd64', config: { Env: ['A=1'], Cmd: ['sh'], Healthcheck: { Test: ['NONE'] } } };

function treeOf(store: Store, text: string): TreeDigest {
  return store.putTree([{ name: toByteString('a'), kind: 'file', mode: 0o644, digest: store.putBlob(Buffer.from(text)), size: text.length }]);
}

function failsWith(code: string): (error: unknown) => boolean {
  return (error) => error instanceof HdError && error.code === code;
}

test('a name means an image, also as a base; a new one takes the name', () => {
  const store = openMemoryStore();
  const tree = treeOf(store, '1');
  putNamedImage(store, 'app:1', { tree, document, source: 'Dockerfile' });
  const found = getNamedImage(store, 'docker.io/library/app:1');
  assert.deepEqual([found?.name, found?.tree, found?.config.env, found?.document], ['app:1', tree, { A: '1' }, document]);
  assert.equal(findImage('app:1', { store, platform: HOST_PLATFORM, projectDir: '/' })?.tree, tree);
  assert.equal(getNamedImage(store, 'app'), undefined);
  assert.equal(getNamedImage(store, 'app:1', 'linux/other'), undefined);
  const other = treeOf(store, '2');
  putNamedImage(store, 'app:1', { tree: other, document, source: 'Dockerfile' });
  assert.deepEqual(listImages(store).map((image) => [image.name, image.tree]), [['app:1', other]]);
});

test('images are found by name and by digits, and removed', () => {
  const store = openMemoryStore();
  for (const [name, tree] of [['b', treeOf(store, 'b')], ['a', emptyTree(store)], ['host.example/a:2', emptyTree(store)]] as const) putNamedImage(store, name, { tree, document, source: 'x' });
  const images = listImages(store);
  assert.deepEqual(images.map(({ name }) => name), ['a:latest', 'b:latest', 'host.example/a:2']);
  const [first] = images;
  assert(first !== undefined);
  assert.equal(findListed(images, 'a').key, first.key);
  assert.equal(findListed(images, 'b:latest').name, 'b:latest');
  assert.equal(findListed(images, emptyTree(store).slice(0, 12)).tree, emptyTree(store));
  assert.throws(() => findListed(images, 'absent'), failsWith('IMAGE_UNKNOWN'));
  assert.throws(() => findListed(images, 'Not a name'), failsWith('IMAGE_UNKNOWN'));
  removeImage(store, first.key);
  assert.deepEqual(listImages(store).map(({ name }) => name), ['b:latest', 'host.example/a:2']);
});

test('a collection leaves what a name means, and takes it when the name is gone', () => {
  const store = openMemoryStore();
  const { key, tree } = putNamedImage(store, 'app', { tree: treeOf(store, 'kept'), document, source: 'x' });
  store.gc();
  assert(store.hasTree(tree));
  removeImage(store, key);
  store.gc();
  assert(!store.hasTree(tree));
});

test('a record of the first version has the name of its source', () => {
  const store = openMemoryStore();
  const tree = emptyTree(store);
  const config = { env: {}, workdir: '/srv', user: '', entrypoint: [], cmd: ['sh'], exposedPorts: [], volumes: [], labels: {}, stopSignal: '' };
  store.setRef('image/0/tree', { kind: 'tree', digest: tree });
  store.setRef('image/0/image', { kind: 'blob', digest: store.putBlob(Buffer.from(JSON.stringify({ tree, source: 'docker.io/library/old:1', resolved: 'sha256:0', config }))) });
  const [image] = listImages(store);
  assert.deepEqual([image?.name, image?.platform, image?.document['config']], ['old:1', HOST_PLATFORM, { Cmd: ['sh'], WorkingDir: '/srv' }]);
});
