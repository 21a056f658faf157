import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createFilter, matchesAny, type FilterOptions } from './filter.ts';

const included = (options: Partial<FilterOptions>, path: string, isDirectory = false): boolean =>
  createFilter({ include: [], exclude: [], ...options }).decide(path, isDirectory).included;

/** Each line: patterns → path → counts. */
const EXCLUDE_TABLE: [exclude: string[], path: string, counts: boolean][] = [
  [[], 'src/a.ts', true],
  [[], '.git', false],
  [[], '.git/config', false],
  [[], '.gitignore', true],
  [[], 'web/.git/config', false],
  [[], 'target', false],
  [[], 'crates/x/target/debug/x', false],
  [[], 'targets.ts', true],
  [[], 'src/target.ts', true],
  [[], 'node_modules/x/index.js', true],
  [[], 'node_modules/.cache/x', false],
  [[], 'packages/a/node_modules/.cache', false],
  [[], '.DS_Store', false],
  [[], 'a/.DS_Store', false],
  [['*.log'], 'a/b/c.log', false],
  [['*.log'], '.log', false],
  [['*.log'], 'c.log/inside', false],
  [['*.log'], 'c.logs', true],
  [['build/*.o'], 'build/x.o', false],
  [['build/*.o'], 'src/build/x.o', true],
  [['build/*.o'], 'build/deep/x.o', true],
  [['build/**/*.o'], 'build/deep/er/x.o', false],
  [['build/**/*.o'], 'build/x.o', false],
  [['/dist'], 'dist/x', false],
  [['/dist'], 'web/dist/x', true],
  [['./dist/'], 'web/dist/x', false],
  [['dist/'], 'dist', true],
  [['docs/**'], 'docs/a/b', false],
  [['{a,b}/tmp'], 'b/tmp/x', false],
  [['*.log', '!keep.log'], 'a/keep.log', true],
  [['!keep.log', '*.log'], 'keep.log', false],
  [['!target'], 'target/x', true],
  [['build', '!build/keep'], 'build/keep/x', true],
  [['build', '!build/keep'], 'build/other', false],
  [['!*.keep'], '.git/x.keep', false],
  [['sub dir/[x]*'], 'sub dir/x1', false],
  [['données'], 'a/données/x', false],
];

test('exclusions', () => {
  for (const [exclude, path, counts] of EXCLUDE_TABLE) assert.equal(included({ exclude }, path), counts, `${JSON.stringify(exclude)} on ${path}`);
  assert.equal(included({ exclude: ['dist/'] }, 'dist', true), false);
});

test('inclusions', () => {
  const include = ['src', 'package.json', 'web/public/', '*.md', 'lib/**/*.ts'];
  for (const path of ['src', 'src/a/b', 'package.json', 'web/public/x', 'a/b/c.md', 'lib/x.ts', 'lib/a/x.ts']) assert.equal(included({ include }, path, path === 'src'), true, path);
  for (const path of ['srcs', 'a/src/x', 'a/package.json', 'web/x', 'lib/x.js']) assert.equal(included({ include }, path), false, path);
  assert.equal(included({ include, exclude: ['src/b'] }, 'src/b/x'), false);
  assert.equal(included({ include: ['.'] }, 'anything'), true);
});

test('every decision has its rule', () => {
  const filter = createFilter({ include: ['src'], exclude: ['*.log', '!keep.log'] });
  const include = { origin: 'include', pattern: 'src' };
  assert.deepEqual(filter.decide('src/a.ts', false), { included: true, rule: 'include "src"', by: include });
  assert.deepEqual(filter.decide('src/a.log', false), { included: false, rule: 'exclude "*.log"', by: { origin: 'exclude', pattern: '*.log' } });
  assert.deepEqual(filter.decide('src/keep.log', false), { included: true, rule: 'exclude "!keep.log"', by: { origin: 'exclude', pattern: '!keep.log' } });
  assert.deepEqual(filter.decide('src/.git/x', false), { included: false, rule: 'default ".git"', by: { origin: 'default', pattern: '.git' } });
  assert.deepEqual(filter.decide('docs/x', false), { included: false, rule: 'not in include' });
  assert.deepEqual(createFilter({ include: [], exclude: [] }).decide('x', false), { included: true, rule: 'everything that is not excluded' });
});

test('a walk enters what may hold something, and nothing else', () => {
  const filter = createFilter({ include: ['src', 'lib/*/api/**/*.ts'], exclude: ['src/gen', '!src/gen/keep/this'] });
  const enters = ['', 'src', 'src/deep', 'src/gen', 'src/gen/keep', 'src/gen/keep/this/deep', 'lib', 'lib/x', 'lib/x/api/deep'];
  for (const directory of enters) assert.equal(filter.mayContain(directory), true, directory);
  for (const directory of ['docs', '.git', 'src/gen/other', 'lib/x/impl', 'src/.git']) assert.equal(filter.mayContain(directory), false, directory);
});

test('whatever counts is reached by a walk', () => {
  const name = fc.constantFrom('a', 'b', '.c', 'target', 'x.ts', 'é');
  const path = fc.array(name, { minLength: 1, maxLength: 4 }).map((names) => names.join('/'));
  const part = fc.oneof(name, fc.constantFrom('*', '**', '*.ts', '?', '{a,b}'));
  const glob = fc.tuple(fc.constantFrom('', '', '/'), fc.array(part, { minLength: 1, maxLength: 3 }), fc.constantFrom('', '', '/')).map(([start, parts, end]) => start + parts.join('/') + end);
  const exclude = fc.tuple(fc.constantFrom('', '', '!'), glob).map((parts) => parts.join(''));
  fc.assert(
    fc.property(fc.array(glob, { maxLength: 3 }), fc.array(exclude, { maxLength: 4 }), path, (include, excludes, text) => {
      const filter = createFilter({ include, exclude: excludes });
      if (!filter.decide(text, false).included) return;
      const names = text.split('/');
      for (let depth = 0; depth < names.length; depth++) assert.equal(filter.mayContain(names.slice(0, depth).join('/')), true, names.slice(0, depth).join('/'));
    }),
    { numRuns: 2_000 },
  );
});

test('globs of services', () => {
  assert.equal(matchesAny(['src/**/*.ts'], 'src/a/b.ts'), true);
  assert.equal(matchesAny(['src/**/*.ts'], 'src/b.ts'), true);
  assert.equal(matchesAny(['src/**/*.ts'], 'src/b.js'), false);
  assert.equal(matchesAny(['app.py'], 'app.py'), true);
  assert.equal(matchesAny(['app.py'], 'app.pyc'), false);
  assert.equal(matchesAny(['lib/**'], 'lib/a/.b'), true);
  assert.equal(matchesAny(['lib'], 'lib/a/b'), true);
  assert.equal(matchesAny(['lib/**', '!*.md'], 'lib/a.md'), false);
  assert.equal(matchesAny([], 'x'), false);
});

test('a pattern that names nothing is refused', () => {
  for (const text of ['', '/', '!', '!/']) assert.throws(() => createFilter({ include: [], exclude: [text] }), { code: 'PATTERN_INVALID' });
});

test('ignore files: after what exclude says, and what it takes back stays', () => {
  const ignoreFiles = [{ path: '.gitignore', text: '*.log\n/dist\n' }, { path: 'src/.gitignore', text: '!keep.log\n' }];
  const counts = (path: string, options: Partial<FilterOptions> = {}): boolean => included({ ignoreFiles, ...options }, path);
  assert.deepEqual(['a.log', 'src/keep.log', 'dist/x', 'src/dist/x', '.gitignore'].map((path) => counts(path)), [false, true, false, true, true]);
  assert.deepEqual(['a.log', 'dist/a.log', 'src/x'].map((path) => counts(path, { exclude: ['!dist', '/src/x', '!a.log'] })), [true, true, false]);
  assert.deepEqual(['src/keep.log', 'other'].map((path) => counts(path, { include: ['src'] })), [true, false]);
  const { decide, mayContain, key } = createFilter({ include: [], exclude: [], ignoreFiles });
  assert.deepEqual(decide('dist/x', false), { included: false, rule: '"/dist" in .gitignore:2', by: { origin: 'ignore-file', pattern: '/dist', file: '.gitignore', line: 2 } });
  assert.deepEqual([mayContain('dist'), mayContain('src')], [false, true]);
  assert.notEqual(key, createFilter({ include: [], exclude: [] }).key);
});
