import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { createFilter } from '@hyperdocker/watch';
import { dependencyFile, projectFiles, servedTexts, withMark, withRemark } from './subject.ts';

function project(files: Record<string, string>): { dir: string } & Disposable {
  const dir = mkdtempSync(join(tmpdir(), 'hd-subject-'));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, path)), { recursive: true });
    writeFileSync(join(dir, path), text);
  }
  return { dir, [Symbol.dispose]: () => rmSync(dir, { recursive: true }) };
}

test('what the page shows is looked for in what the service watches first', () => {
  using made = project({
    'src/app.js': 'send("Welcome, friend");', 'src/title.js': 'exports.title = "Shop"; // the Shop', 'page.html': '<h1>Welcome, friend</h1> A very long sentence that stands here.', 'node_modules/x/i.js': 'Welcome, friend', 'README.md': 'Welcome, friend',
  });
  const files = projectFiles(made.dir, createFilter({ include: [], exclude: ['node_modules'] }));
  assert.deepEqual(files, ['README.md', 'page.html', 'src/app.js', 'src/title.js']);
  const page = '<title>Shop</title><h1>Welcome, friend</h1><p>A very long sentence that stands here.</p>';
  const found = servedTexts(made.dir, files, { watch: ['src/**', '*.html'] }, page);
  assert.deepEqual(found.map(({ file, phrase }) => [file, phrase]), [['src/app.js', 'Welcome, friend'], ['page.html', 'A very long sentence that stands here.']]);
  const [first] = found;
  assert(first !== undefined);
  assert.equal(withMark(first, 'edit-1.'), 'send("Welcome, friend edit-1.");');
});

test('JSON that is served is searched by its texts, not by its names alone', () => {
  using made = project({ 'server.js': 'reply({ message: "all is well" })' });
  assert.deepEqual(servedTexts(made.dir, ['server.js'], { watch: [] }, '{"message":"all is well"}').map(({ phrase }) => phrase), ['all is well']);
});

test('a file that speaks of dependencies is edited rather than another that a step reads', () => {
  using made = project({ 'Makefile': 'all:\n', 'web/package.json': '{}', 'src/main.c': 'int x;' });
  const reads = ['Makefile', 'src/main.c', 'web/package.json'];
  assert.equal(dependencyFile(made.dir, reads, 'src/main.c')?.file, 'web/package.json');
  assert.equal(dependencyFile(made.dir, ['src/main.c'], 'other')?.file, 'src/main.c');
  assert.equal(dependencyFile(made.dir, ['src/main.c'], 'src/main.c'), undefined);
});

test('a remark changes a file and not what it means', () => {
  assert.equal(withRemark({ file: 'requirements.txt', text: 'flask' }, 'm1'), 'flask\n# m1\n');
  assert.equal(withRemark({ file: 'go.mod', text: 'module x\n' }, 'm1'), 'module x\n// m1\n');
  const json = (mark: string): string => withRemark({ file: 'package.json', text: '{"a":1}\n' }, mark);
  assert.deepEqual(JSON.parse(json('m1')), { a: 1 });
  assert.notEqual(json('m1'), json('m2'));
});
