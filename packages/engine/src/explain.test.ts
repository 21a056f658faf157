import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ActionDefinition } from './action.ts';
import { askedWords, compareDefinitions, countFacts } from './explain.ts';
import { Asked } from './facts.ts';
import { at } from './tree-fixture.ts';

const BASE: ActionDefinition = { command: 'make', workdir: '/w', env: { A: '1', B: '2' }, user: '0:0:', platform: 'linux/amd64', network: true, cacheDirs: ['/x', '/y'] };

test('each part of a definition that differs is named, with what it was and is', () => {
  assert.deepEqual(compareDefinitions(BASE, { ...BASE }), []);
  assert.deepEqual(compareDefinitions(BASE, { ...BASE, cacheDirs: ['/y', '/x'] }), [], 'their order is no difference');
  const cases: [Partial<ActionDefinition>, string, string, string][] = [
    [{ command: 'make all' }, 'command', 'make', 'make all'],
    [{ workdir: '/v' }, 'workdir', '/w', '/v'],
    [{ user: '1000:1000:' }, 'user', '0:0:', '1000:1000:'],
    [{ platform: 'linux/arm64' }, 'platform', 'linux/amd64', 'linux/arm64'],
    [{ network: false }, 'network', 'yes', 'no'],
    [{ cacheDirs: ['/x'] }, 'cache', '/x /y', '/x'],
    [{ inputs: ['src', '!*.md'] }, 'inputs', '', 'src !*.md'],
    [{ outputs: ['/w/b', '/w/a'] }, 'outputs', '', '/w/a /w/b'],
    [{ secrets: [{ id: 'npm', file: '/run/secrets/npm', env: 'NPM' }] }, 'secrets', '', 'npm:/run/secrets/npm:NPM'],
  ];
  for (const [change, part, before, after] of cases) assert.deepEqual(compareDefinitions(BASE, { ...BASE, ...change }), [{ part, before, after }]);
});

test('variables by their names: changed, new, gone', () => {
  assert.deepEqual(compareDefinitions(BASE, { ...BASE, env: { B: '3', C: '4' } }), [
    { part: 'variable', name: 'A', before: '1' },
    { part: 'variable', name: 'B', before: '2', after: '3' },
    { part: 'variable', name: 'C', after: '4' },
  ]);
});

test('facts are counted by what was asked, and told by the question that says most', () => {
  const paths = new Map([[at('a'), Asked.stat], [at('b'), Asked.stat | Asked.content], [at('d'), Asked.listing | Asked.xattrs], [at('l'), Asked.target]]);
  assert.deepEqual(countFacts(paths), { paths: 4, stat: 2, listing: 1, content: 1, target: 1, xattrs: 1 });
  assert.deepEqual([...paths.values(), 0].map(askedWords), ['the presence of', 'the content of', 'the list of', 'the link', 'what it looked at']);
});
