import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { HdError } from '@hyperdocker/base';
import { openMemoryStore } from '@hyperdocker/cas';
import { loadImage } from '@hyperdocker/oci';
import { openHome } from './home.ts';
import { imagesHere, importImages } from './image-transfer.ts';

const world = mkdtempSync(join(tmpdir(), 'hd-import-test-'));
after(() => rmSync(world, { recursive: true }));

/** What `docker save` writes of several images: one list, configurations and layers that they share. */
function saved(name: string, images: { tags: string[] | null; layers: string[] }[]): string {
  const dir = join(world, name);
  mkdirSync(dir);
  const list = images.map(({ tags, layers }, nth) => {
    const diffIds = layers.map((text) => {
      const layer = join(dir, text);
      mkdirSync(layer, { recursive: true });
      writeFileSync(join(layer, `file-${text}`), text);
      execFileSync('tar', ['-C', layer, '--sort=name', '--mtime=@0', '-cf', `${layer}.tar`, `file-${text}`]);
      return `sha256:${createHash('sha256').update(readFileSync(`${layer}.tar`)).digest('hex')}`;
    });
    const config = { os: 'linux', architecture: process.arch === 'x64' ? 'amd64' : process.arch, config: { Env: [`NTH=${nth}`] }, rootfs: { type: 'layers', diff_ids: diffIds } };
    writeFileSync(join(dir, `${nth}.json`), JSON.stringify(config));
    return { Config: `${nth}.json`, RepoTags: tags, Layers: layers.map((text) => `${text}.tar`) };
  });
  writeFileSync(join(dir, 'manifest.json'), JSON.stringify(list));
  execFileSync('tar', ['-C', dir, '-cf', `${dir}.tar`, 'manifest.json', ...images.map((_, nth) => `${nth}.json`), ...new Set(images.flatMap(({ layers }) => layers.map((text) => `${text}.tar`)))]);
  return `${dir}.tar`;
}

function failsWith(code: string, message: RegExp) {
  return (error: unknown): boolean => error instanceof HdError && error.code === code && message.test(`${error.message} ${error.hint ?? ''}`);
}

test('of an archive with several images all are taken, under all their names, or the one that is asked for', async () => {
  const file = saved('three', [{ tags: ['app:1', 'app:latest'], layers: ['base', 'one'] }, { tags: ['registry.example/other:2'], layers: ['base', 'two'] }, { tags: null, layers: ['base'] }]);
  const home = openHome({ HD_HOME: join(world, 'home') });
  const images = await importImages(home, file, { createdMs: 0 });
  assert.deepEqual(images.map(({ name }) => name), ['app:1', 'app:latest', 'registry.example/other:2'], 'the one without a name is left out');
  const here = imagesHere(home);
  assert.deepEqual(here.map(({ name, config }) => [name, config.env['NTH']]), [['app:1', '0'], ['app:latest', '0'], ['registry.example/other:2', '1']]);
  assert.equal(new Set(here.map(({ tree }) => tree)).size, 2);
  const other = openHome({ HD_HOME: join(world, 'other') });
  assert.deepEqual((await importImages(other, file, { createdMs: 0, name: 'app' })).map(({ name }) => name), ['app:latest']);
  assert.deepEqual(imagesHere(other).map(({ name }) => name), ['app:latest']);
  await assert.rejects(importImages(other, file, { createdMs: 0, name: 'app:3' }), failsWith('IMAGE_NOT_FOUND', /none is called app:3 there are: app:1, app:latest, registry.example\/other:2/));
});

test('an only image gets the name that it is given; images without any name are nothing to call by', async () => {
  const home = openHome({ HD_HOME: join(world, 'single') });
  const one = saved('one', [{ tags: ['app:1'], layers: ['base'] }]);
  assert.deepEqual((await importImages(home, one, { createdMs: 0, name: 'mine:7' })).map(({ name }) => name), ['mine:7']);
  assert.deepEqual(imagesHere(home).map(({ name }) => name), ['mine:7']);
  const nameless = saved('nameless', [{ tags: null, layers: ['base'] }, { tags: [], layers: ['two'] }]);
  await assert.rejects(importImages(home, nameless, { createdMs: 0 }), failsWith('IMAGE_NAMELESS', /nameless.tar/));
});

test('as the base of an environment an archive has to hold one image', async () => {
  const file = saved('two', [{ tags: ['a:1'], layers: ['base'] }, { tags: ['b:1'], layers: ['two'] }]);
  await assert.rejects(loadImage(openMemoryStore(), { kind: 'docker-archive', path: file }), failsWith('IMAGE_INVALID', /it holds 2 images: a:1, b:1 import it with `hd image import`/));
});
