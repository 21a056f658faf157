import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { findRuntime, probeRuntimes } from './runtime.ts';

function withDirectory(body: (dir: string) => void): void {
  const dir = mkdtempSync(join(tmpdir(), 'hd-runtime-'));
  try {
    body(dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

const script = (dir: string, name: string, text: string): void => writeFileSync(join(dir, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });

test('the first known runtime on PATH is found, or the configured one', () =>
  withDirectory((dir) => {
    assert.throws(() => findRuntime({ searchPath: dir }), { code: 'RUNTIME_NOT_FOUND' });
    script(dir, 'youki', 'exit 1');
    script(dir, 'mine', 'exit 1');
    assert.equal(findRuntime({ searchPath: `/absent:${dir}` }), join(dir, 'youki'));
    script(dir, 'runc', 'exit 1');
    assert.equal(findRuntime({ searchPath: dir }), join(dir, 'runc'));
    assert.equal(findRuntime({ searchPath: dir, configured: 'mine' }), join(dir, 'mine'));
    assert.equal(findRuntime({ searchPath: '', configured: join(dir, 'mine') }), join(dir, 'mine'));
    assert.throws(() => findRuntime({ searchPath: dir, configured: 'other' }), { code: 'RUNTIME_NOT_FOUND' });
  }));

test('a runtime that refuses is reported with its reason', () =>
  withDirectory((dir) => {
    script(dir, 'crun', '[ "$1" = --version ] && { echo "crun version 1.8"; exit; }\necho "cgroups in hybrid mode not supported" >&2\nexit 1');
    assert.deepEqual(probeRuntimes({ searchPath: dir }), [
      { name: 'crun', path: join(dir, 'crun'), version: '1.8', works: false, problem: 'cgroups in hybrid mode not supported' },
    ]);
  }));
