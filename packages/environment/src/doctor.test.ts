import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { test } from 'node:test';
import { HdError } from '@hyperdocker/base';
import { doctor } from './doctor.ts';
import { openHome } from './home.ts';
import { ensureSystemPackages, missingPackages } from './system-packages.ts';

function scratch(context: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'hd-doctor-'));
  context.after(() => rmSync(dir, { recursive: true }));
  return dir;
}

/** A directory of programs that do nothing. */
function programs(dir: string, ...names: string[]): string {
  const bin = join(dir, 'bin');
  mkdirSync(bin, { recursive: true });
  for (const name of names) {
    writeFileSync(join(bin, name), '#!/bin/sh\n');
    chmodSync(join(bin, name), 0o755);
  }
  return bin;
}

async function refusal(options: Parameters<typeof ensureSystemPackages>[0]): Promise<HdError> {
  try {
    await ensureSystemPackages(options);
  } catch (error) {
    assert(error instanceof HdError);
    return error;
  }
  assert.fail('nothing was missing');
}

test('every check says something, and leaves nothing behind', async (context) => {
  const home = openHome({ HD_HOME: scratch(context) });
  const { checks } = await doctor(home);
  assert.equal(new Set(checks.map(({ id }) => id)).size, checks.length);
  for (const { id, title, detail, status, fix } of checks) {
    assert(title !== '' && detail !== '', id);
    assert(status !== 'fail' || fix !== undefined, `${id} fails without saying what to do`);
  }
  assert.deepEqual(readdirSync(home.tempDir), []);
});

test('what the environment says is noticed', async (context) => {
  const dir = scratch(context);
  const bin = programs(dir, 'hexdump');
  symlinkSync('hexdump', join(bin, 'hd'));
  const { checks } = await doctor(openHome({ HD_HOME: dir }), { env: { PATH: bin, HD_FUSE: 'off', https_proxy: 'http://127.0.0.1:3128' } });
  const find = (id: string) => checks.find((check) => check.id === id);
  assert.equal(find('name')?.status, 'warn');
  assert.match(find('fuse')?.detail ?? '', /HD_FUSE=off/);
  assert.match(find('network')?.detail ?? '', /https_proxy passed into steps/);
  assert.equal(find('runtime')?.status, 'fail');
  assert.equal(find('mmdebstrap')?.status, 'warn');
});

test('missing programs are named by their packages; fuse3 comes only with others', (context) => {
  const dir = scratch(context);
  const all = programs(join(dir, 'all'), 'crun', 'unshare', 'nsenter', 'mount', 'mmdebstrap');
  assert.deepEqual(missingPackages({ runtime: true, mmdebstrap: true }, { PATH: all }), []);
  const few = programs(join(dir, 'few'), 'unshare', 'nsenter', 'mount');
  assert.deepEqual(missingPackages({ runtime: true, mmdebstrap: true }, { PATH: few }), ['runc', 'mmdebstrap', 'fuse3']);
  assert.deepEqual(missingPackages({ runtime: false, mmdebstrap: false }, { PATH: few }), []);
  assert.deepEqual(missingPackages({ runtime: true, mmdebstrap: false }, { PATH: few, HD_RUNTIME: '/opt/runc' }), []);
});

test('where nothing may be installed, the error has the command; without root, it says so first', async (context) => {
  const PATH = programs(scratch(context), 'unshare', 'nsenter', 'mount', 'apt-get', 'fusermount3');
  const options = { needs: { runtime: true, mmdebstrap: true }, allowInstall: false, onMessage: () => assert.fail('it installs'), env: { PATH, HD_FUSE: 'off' } };
  const missing = await refusal({ ...options, uid: 0 });
  assert.equal(missing.code, 'MISSING_PACKAGES');
  assert.match(missing.hint ?? '', /apt-get install -y --no-install-recommends runc mmdebstrap$/);
  assert.equal((await refusal({ ...options, uid: 1000 })).code, 'NO_USER_NAMESPACE');
});
