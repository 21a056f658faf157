/**
 * Rules about the tree that neither compiler nor linter knows: which way imports point, what may stand in a file that
 * others will read, what must be written down.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { checkout } from './index.ts';

/** Imports go from a higher floor to a lower one, never sideways. */
const FLOORS = [
  ['base'],
  ['cas', 'spec', 'watch', 'sandbox'],
  ['engine', 'oci', 'frontend'],
  ['mount'],
  ['environment'],
  ['demo'],
  ['cli', 'client', 'bench'],
];
/** Stands beside the house: any test may use it, and it may use these. */
const TESTKIT_USES = ['base', 'cas'];

interface Manifest {
  name: string;
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}

const tracked = trackedFiles();
const packages = FLOORS.flat().concat('testkit');

test('every package has its floor', () => {
  const found = tracked.filter((path) => /^packages\/[^/]+\/package\.json$/.test(path)).map((path) => dirname(path).slice('packages/'.length));
  assert.deepEqual(found.sort(), packages.toSorted());
});

test('package dependencies point down', () => {
  const wrong = packages.flatMap((name) => internalDependencies(name).filter((other) => !mayUse(name, other)).map((other) => `${name} → ${other}`));
  assert.deepEqual(wrong, []);
});

test('project references are the dependencies, and testkit for tests', () => {
  for (const name of packages) {
    const { references = [] } = readJson<{ references?: { path: string }[] }>(`packages/${name}/tsconfig.json`);
    const referenced = references.map(({ path }) => path.replace('../', '')).filter((other) => other !== 'testkit');
    assert.deepEqual(referenced.sort(), internalDependencies(name).sort(), `packages/${name}/tsconfig.json against its package.json`);
  }
});

test('imports name a dependency, or a file of the same package with its extension', () => {
  const problems: string[] = [];
  for (const path of sources()) {
    const owner = /^packages\/([^/]+)\//.exec(path)?.[1];
    for (const { specifier, line } of imports(path)) {
      const problem = importProblem(path, owner, specifier);
      if (problem !== undefined) problems.push(`${path}:${line}: ${specifier}: ${problem}`);
    }
  }
  assert.deepEqual(problems, []);
});

test('files are found by URL literals, which the bundler can follow', () => {
  const allowed = /new URL\(\s*(['"])\.[^'"]*\1,\s*import\.meta\.url\s*\)|createRequire\(import\.meta\.url\)|import\.meta\.main/g;
  assert.deepEqual(
    findLines(sources().filter((path) => /^packages\/(?!testkit|bench)/.test(path) && !path.endsWith('.test.ts')), /import\.meta\.(?!main\b)/, (line) => line.replace(allowed, '')),
    [],
  );
});

test('no paths of one machine and no package registries', () => {
  const texts = tracked.filter((path) => !/\.(?:png|gif|svg|bin|tar|gz|zst)$/.test(path) && path !== '.gitignore');
  const machine = /(?<![\w.$}*-])\/(?:farm\/|Users\/\w+|tmp\/[a-z]+\/)/;
  const registry = /\b(?:registry\.(?:npmjs\.org|yarnpkg\.com)|files\.pythonhosted\.org|pypi\.org\/simple|[\w-]+\.pkg\.dev)\b/;
  const here = [checkout, homedir()].filter((path) => path.split('/').length > 2).map((path) => new RegExp(`(?<![\\w.])${path.replace(/[^\w/]/g, String.raw`\$&`)}\\b`));
  for (const pattern of [machine, registry, ...here]) assert.deepEqual(findLines(texts, pattern), []);
});

test('every skipped test says why, and none runs alone', () => {
  const pattern = /\b(?:test|it|describe|suite)\.(?:only|skip|todo)\(|\b(?:only|skip|todo):\s*true\b|\bt\.(?:skip|todo)\(\)/;
  assert.deepEqual(findLines(sources().filter((path) => path.endsWith('.test.ts') && !path.endsWith('/tidy.test.ts')), pattern), []);
});

test('every dependency is accounted for in docs/dependencies.md', () => {
  const listed = new Set([...readFileSync(join(checkout, 'docs/dependencies.md'), 'utf8').matchAll(/^\| `([^`]+)`/gm)].map((match) => match[1]));
  const used = new Set(['package.json', 'e2e/npm-tools/package.json', ...packages.map((name) => `packages/${name}/package.json`)].flatMap((path) => external(readJson(path))));
  assert.deepEqual([...used].filter((name) => !listed.has(name)).sort(), [], 'used, not listed');
  assert.deepEqual([...listed].filter((name) => name !== undefined && !used.has(name)).sort(), [], 'listed, not used');
});

/** Tracked, or new and not ignored: what a commit would hold. Paths relative to the checkout. */
function trackedFiles(): string[] {
  const list = execFileSync('git', ['-c', `safe.directory=${checkout}`, 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: checkout, encoding: 'utf8' });
  return list.split('\0').filter((path) => path !== '' && existsSync(join(checkout, path)));
}

function sources(): string[] {
  return tracked.filter((path) => /^(?:packages|e2e)\/.*\.ts$/.test(path));
}

function mayUse(name: string, other: string): boolean {
  if (name === 'testkit') return TESTKIT_USES.includes(other);
  return floor(other) >= 0 && floor(other) < floor(name);
}

function floor(name: string): number {
  return FLOORS.findIndex((names) => names.includes(name));
}

function importProblem(path: string, owner: string | undefined, specifier: string): string | undefined {
  const isTest = path.endsWith('.test.ts') || owner === undefined;
  if (specifier.startsWith('.')) {
    if (!/\.(?:ts|mjs|json)$/.test(specifier)) return 'no extension';
    const target = join(dirname(path), specifier);
    return owner === undefined || isTest || target.startsWith(`packages/${owner}/src/`) ? undefined : 'leaves the package';
  }
  const other = /^@hyperdocker\/([^/]+)(\/.*)?$/.exec(specifier);
  if (other?.[1] !== undefined) {
    if (other[2] !== undefined) return 'reaches past the index';
    if (other[1] === 'testkit') return isTest ? undefined : 'testkit outside a test';
    return owner === undefined || owner === other[1] || internalDependencies(owner).includes(other[1]) ? undefined : 'not a dependency of the package';
  }
  if (specifier.startsWith('node:') || owner === undefined) return undefined;
  const name = specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
  const manifests = [readJson<Manifest>(`packages/${owner}/package.json`), ...(isTest ? [readJson<Manifest>('package.json')] : [])];
  return manifests.some((manifest) => external(manifest).includes(name)) ? undefined : 'not a dependency of the package';
}

function imports(path: string): { specifier: string; line: number }[] {
  const text = readFileSync(join(checkout, path), 'utf8');
  const pattern = /^(?:import|export)\b[^;'"`]*?\bfrom\s*['"]([^'"]+)['"]|^import\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]\s*\)/gm;
  return [...text.matchAll(pattern)].map((match) => ({
    specifier: match[1] ?? match[2] ?? match[3] ?? '',
    line: text.slice(0, match.index).split('\n').length,
  }));
}

function internalDependencies(name: string): string[] {
  const manifest = readJson<Manifest>(`packages/${name}/package.json`);
  return Object.keys({ ...manifest.dependencies, ...manifest.devDependencies })
    .filter((other) => other.startsWith('@hyperdocker/') && other !== '@hyperdocker/testkit')
    .map((other) => other.slice('@hyperdocker/'.length));
}

function external(manifest: Manifest): string[] {
  const all = { ...manifest.dependencies, ...manifest.devDependencies, ...manifest.optionalDependencies };
  return Object.keys(all).filter((name) => !name.startsWith('@hyperdocker/'));
}

function findLines(paths: readonly string[], pattern: RegExp, prepare = (line: string) => line): string[] {
  return paths.flatMap((path) =>
    readFileSync(join(checkout, path), 'utf8')
      .split('\n')
      .flatMap((line, index) => (pattern.test(prepare(line)) ? [`${path}:${index + 1}: ${line.trim()}`] : [])),
  );
}

function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(join(checkout, path), 'utf8')) as T;
}
