/** Against git itself. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { IgnoreRules, readIgnoreFiles, type IgnoreFile } from './ignore-files.ts';

const ENV = { ...process.env, GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_SYSTEM: '/dev/null', HOME: '/nonexistent' };
const noGit = spawnSync('git', ['--version']).status === 0 ? false : 'no git on this machine';

/** A repository with these ignore files and these paths; a path that ends in `/` is a directory. */
function withRepository<T>(files: readonly IgnoreFile[], paths: readonly string[], body: (root: string) => T): T {
  const root = mkdtempSync(join(tmpdir(), 'hd-ignore-'));
  try {
    execFileSync('git', ['init', '-q', root], { env: ENV });
    for (const path of paths) {
      mkdirSync(join(root, path.endsWith('/') ? path : dirname(path)), { recursive: true });
      if (!path.endsWith('/')) writeFileSync(join(root, path), '');
    }
    for (const { path, text } of files) {
      mkdirSync(join(root, dirname(path)), { recursive: true });
      writeFileSync(join(root, path), text);
    }
    return body(root);
  } finally {
    rmSync(root, { recursive: true });
  }
}

/** What git says: path → the rule that decides, as file:line:pattern; nothing where there is none. */
function askGit(root: string, paths: readonly string[]): Map<string, string> {
  const { stdout } = spawnSync('git', ['check-ignore', '--no-index', '--verbose', '--non-matching', '--stdin', '-z'], { cwd: root, env: ENV, input: paths.map((path) => `${path.replace(/\/$/, '')}\0`).join('') });
  const fields = stdout.toString().split('\0');
  return new Map(paths.map((path, index) => {
    const [file, line, pattern] = fields.slice(index * 4, index * 4 + 3);
    return [path, file === '' ? '' : `${file}:${line}:${pattern}`];
  }));
}

function compare(files: readonly IgnoreFile[], paths: readonly string[]): void {
  withRepository(files, paths, (root) => {
    const expected = askGit(root, paths);
    const rules = new IgnoreRules(readIgnoreFiles(root, ['.gitignore'], (directory) => directory !== '.git'));
    const actual = new Map(paths.map((path) => {
      const verdict = rules.decide(path.replace(/\/$/, ''), path.endsWith('/'));
      return [path, verdict === undefined ? '' : `${verdict.file}:${verdict.line}:${verdict.pattern}`];
    }));
    assert.deepEqual(actual, expected, JSON.stringify(files));
  });
}

const PATHS = [
  'a', 'b.log', 'c d', '#x', '!x', 'target/', 'target/deep/x', 'src/', 'src/a', 'src/a.log', 'src/keep.log', 'src/build/', 'src/build/o', 'src/build/keep', 'build/', 'build/keep', 'build/x/keep',
  'docs/x/y/z.html', 'docs/z.html', 'foo/bar', 'x/foo/bar', '[b]', 'b', 'é', 'spaced ', 'star*', 'a-b', 'Z9', 'sub/.env', 'sub/deep/.env',
];

test('gitignore(5), rule by rule', { skip: noGit }, () => {
  const root = [
    '# a comment', '', '*.log', '!keep.log', 'target/', '/build', 'src/build', '!src/build/keep', 'docs/**/z.html', '**/foo', 'foo/**', '\\#x', '\\!x', '[[]b]', '[é-ü]', 'spaced\\ ', 'trailing   ', 'star\\*', '?-[!a]', '[[:upper:]][0-9]', 'a/', '\uFEFFa',
  ].join('\n');
  compare([{ path: '.gitignore', text: root }, { path: 'sub/.gitignore', text: '.env\r\n!/deep/.env\r\n' }, { path: 'target/.gitignore', text: '!deep' }], PATHS);
});

test('whatever is written, git and we say the same', { skip: noGit }, () => {
  const segment = fc.array(fc.constantFrom('a', 'b', '.', '*', '?', '[ab]', '[!a]', '[a-', ']', '\\', '\\*', 'é', ' '), { minLength: 1, maxLength: 4 }).map((parts) => parts.join(''))
    // What git makes of a double star that is not alone between slashes differs between its versions.
    .filter((text) => !text.includes('**'));
  const glob = fc.array(fc.oneof({ weight: 4, arbitrary: segment }, { weight: 1, arbitrary: fc.constant('**') }), { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/'));
  const line = fc.tuple(fc.constantFrom('', '', '!', '/', '!/'), glob, fc.constantFrom('', '', '/', ' ')).map((parts) => parts.join(''));
  const file = (path: string): fc.Arbitrary<IgnoreFile> => fc.array(line, { maxLength: 5 }).map((lines) => ({ path, text: `${lines.join('\n')}\n` }));
  const name = fc.constantFrom('a', 'b', 'ab', 'a.b', 'é', 'a*', 'a ');
  const paths = fc.uniqueArray(fc.array(name, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/')), { minLength: 1, maxLength: 12 }).map((all) => {
    // A path below another one makes that a directory.
    const isDirectory = (path: string): boolean => all.some((other) => other.startsWith(`${path}/`));
    return all.map((path) => (isDirectory(path) ? `${path}/` : path));
  });
  fc.assert(fc.property(file('.gitignore'), file('dir/.gitignore'), paths, (root, nested, found) => {
    compare([root, nested], [...found, ...found.map((path) => `dir/${path}`)]);
  }), { numRuns: 60 });
});

test('many stars take no time', () => {
  const rules = new IgnoreRules([{ path: '.gitignore', text: `${'a*'.repeat(30)}b\n${'**/a/'.repeat(20)}b` }]);
  assert.equal(rules.decide('a'.repeat(200), false), undefined);
  assert.equal(rules.decide(`${'a/'.repeat(60)}c`, false), undefined);
});
