import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { SecretSpec } from '@hyperdocker/spec';
import { createFilter } from '@hyperdocker/watch';
import { readSecrets, secretExclusions, withSecretVariables } from './secrets.ts';

const root = mkdtempSync(join(tmpdir(), 'hd-secrets-'));
after(() => rmSync(root, { recursive: true, force: true }));
const projectDir = join(root, 'project');
mkdirSync(join(projectDir, 'conf'), { recursive: true });
writeFileSync(join(root, 'netrc'), 'machine example\n');
writeFileSync(join(projectDir, 'conf/key[1].pem'), 'in the project\n');
const host = { env: { TOKEN: 'from-the-host', SHORT: 'abc', EMPTY: '', HOME: root }, projectDir };

const variable = (id: string, name: string): SecretSpec => ({ id, kind: 'env', variable: name });
const file = (id: string, path: string): SecretSpec => ({ id, kind: 'file', file: path });

function read(spec: SecretSpec): string | undefined {
  return readSecrets([spec], [{ id: spec.id, file: '/x' }], host).get(spec.id)?.toString();
}

test('from variables and files, absolute, relative and at home', () => {
  assert.equal(read(variable('t', 'TOKEN')), 'from-the-host');
  assert.equal(read(file('n', '~/netrc')), 'machine example\n');
  assert.equal(read(file('n', join(root, 'netrc'))), 'machine example\n');
  assert.equal(read(file('k', 'conf/key[1].pem')), 'in the project\n');
});

test('a source that is missing, empty or too short is an error that names it; one that nobody uses is not', () => {
  assert.throws(() => read(variable('t', 'ABSENT')), { code: 'SECRET_MISSING', message: /secret t comes from the variable ABSENT, which is not set/ });
  assert.throws(() => read(variable('t', 'EMPTY')), { code: 'SECRET_MISSING' });
  assert.throws(() => read(file('n', '~/absent')), { code: 'SECRET_MISSING', message: /absent, which is not there/ });
  assert.throws(() => read(file('n', '~')), { code: 'SECRET_MISSING' });
  assert.throws(() => read(variable('t', 'SHORT')), { code: 'SECRET_TOO_SHORT' });
  assert.deepEqual([...readSecrets([variable('t', 'ABSENT')], [], host)], []);
});

test('a file inside the project is no part of the project', () => {
  symlinkSync(join(projectDir, 'conf/key[1].pem'), join(root, 'link.pem'));
  const patterns = secretExclusions([file('k', 'conf/key[1].pem'), file('n', '~/netrc'), file('l', '~/link.pem'), variable('t', 'TOKEN')], host);
  const filter = createFilter({ include: [], exclude: ['!conf/*', ...patterns] });
  assert.equal(filter.decide('conf/key[1].pem', false).included, false);
  assert.equal(filter.decide('conf/key1.pem', false).included, true);
  assert.equal(patterns.length, 1);
});

test('the shell that reads them into variables: bytes as they are, without the last line end, and without a trace of itself', () => {
  const [one, two] = [join(root, 'one'), join(root, 'two')];
  writeFileSync(one, ` a b  'c' "d" $e \\f *\n`);
  writeFileSync(two, 'first\n\nthird');
  const args = withSecretVariables('printf "%s|%s|" "$ONE" "$TWO"; env | grep -c hd_', [{ id: 'one', file: one, env: 'ONE' }, { id: 'two', file: two, env: 'TWO' }, { id: 'three', file: '/no variable' }]);
  const run = spawnSync(args[0] ?? '', args.slice(1), { encoding: 'utf8', env: { PATH: process.env['PATH'] } });
  assert.equal(run.stdout, ` a b  'c' "d" $e \\f *|first\n\nthird|0\n`);
  assert.deepEqual(withSecretVariables('make', [{ id: 'one', file: one }]), ['/bin/sh', '-c', 'make']);
  const missing = withSecretVariables('echo ran', [{ id: 'x', file: join(root, 'absent'), env: 'X' }]);
  assert.equal(spawnSync(missing[0] ?? '', missing.slice(1), { encoding: 'utf8' }).stdout, '');
});
