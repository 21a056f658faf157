import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { checkout } from './index.ts';

for (const [name, command] of [
  ['types', ['tsc', '--build', '--pretty', 'false']],
  ['lint', ['oxlint', '--quiet']],
] as const) {
  test(name, () => {
    const [program, ...args] = command;
    const binary = join(checkout, 'node_modules/.bin', program);
    assert(existsSync(binary), `${program} is not installed: run npm ci`);
    // Both are small scripts that start the native program: by the Node that runs this, not by one on PATH.
    const { status, stdout, stderr } = spawnSync(process.execPath, [binary, ...args], { cwd: checkout, encoding: 'utf8' });
    assert.equal(status, 0, `${stdout}${stderr}`);
  });
}
