/**
 * `npm test [-- <path>...]`: every test, or those under the given paths. Works straight after cloning. Types and lint
 * are tests as well (packages/testkit/src/checks.test.ts), so the last lines are the runner's summary of everything.
 * Plain JavaScript, because it runs before the pinned Node is there.
 */
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { pinnedNode, root, run } from './node26.mjs';
import { ensureSystemPackages } from './system-packages.mjs';

const TEST_TIMEOUT_MS = 20 * 60 * 1000;

const setup = run('sh', [join(root, 'scripts/setup.sh'), 'packages']);
if (setup !== 0) process.exit(setup);
ensureSystemPackages();
installNpmTools();

const flags = process.argv.slice(2).filter((arg) => arg.startsWith('-'));
const paths = process.argv.slice(2).filter((arg) => !arg.startsWith('-'));
const absent = paths.filter((path) => !existsSync(path));
if (absent.length > 0) {
  console.error(`no such file or directory: ${absent.join(' ')}`);
  process.exit(1);
}
const files = paths.length === 0 ? allTests() : paths.flatMap((path) => testsUnder(resolve(path)));
if (files.length === 0) {
  console.error(`no tests under ${paths.join(' ')}`);
  process.exit(1);
}
const reporters = ['spec', join(root, 'scripts/closing-line.mjs')].flatMap((reporter) => [`--test-reporter=${reporter}`, '--test-reporter-destination=stdout']);
const { HD_TEST_SEED = '1' } = process.env;
const env = { ...process.env, HD_TEST_SEED: HD_TEST_SEED === 'random' ? String(Date.now() % 1_000_000) : HD_TEST_SEED };
if (env.HD_TEST_SEED !== '1') console.log(`HD_TEST_SEED=${env.HD_TEST_SEED} runs the same again`);
const args = ['--test', `--import=${join(root, 'scripts/test-seed.mjs')}`, ...reporters, '--test-concurrency=2', `--test-timeout=${TEST_TIMEOUT_MS}`, ...flags];
process.exitCode = run(pinnedNode(), [...args, ...files.map((file) => relative(root, file))], { cwd: root, env });

/** What only tests run, and no Debian package has. Without it they say that they were skipped, and why. */
function installNpmTools() {
  const dir = join(root, 'e2e/npm-tools');
  const [lock, installed] = ['package-lock.json', 'node_modules/.package-lock.json'].map((name) => packagesIn(join(dir, name)));
  if (lock === installed) return;
  const code = run('npm', ['--prefix', dir, 'ci', '--ignore-scripts', '--no-audit', '--no-fund']);
  if (code !== 0) console.error(`npm ci in e2e/npm-tools ended with ${code}`);
}

/** Names and versions, without what is for other platforms. */
function packagesIn(file) {
  if (!existsSync(file)) return undefined;
  const { packages } = JSON.parse(readFileSync(file, 'utf8'));
  return JSON.stringify(Object.entries(packages).filter(([path, { optional }]) => path !== '' && optional !== true).map(([path, { version }]) => [path, version]));
}

function allTests() {
  const dirs = [...readdirSync(join(root, 'packages')).map((name) => join('packages', name, 'src')), 'e2e'];
  return dirs.map((dir) => join(root, dir)).filter(existsSync).flatMap(testsUnder);
}

function testsUnder(path) {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.test.ts'))
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .filter((file) => !file.includes('/node_modules/'))
    .sort();
}
