import type { Edit } from './edits.ts';
import type { Scenario } from './scenario.ts';

const scenario = (files: Record<string, string>, steps: string[], ...rounds: Scenario['rounds']): Scenario => ({
  workdir: '/workspace', user: '', steps, rounds, project: Object.entries(files).map(([path, content]): Edit => ({ kind: 'write', path, content })),
});
const write = (path: string, content: string): Edit => ({ kind: 'write', path, content });

/** Each was found to fool a build that remembers, or is known to. Random scenarios meet them, but not at every run. */
export const KNOWN_TRAPS: Readonly<Record<string, Scenario>> = {
  'a renamed directory takes along what nobody has read': scenario({ 'src/deep/x': 'one' }, ['mv src lib'], [write('src/deep/x', 'two')], [write('src/deep/new', '')], [{ kind: 'executable', path: 'src/deep/x', on: true }]),
  'so does one that was made of others': scenario({ 'a/x': 'one', 'b/y': 'two' }, ['mv a b/a; mv b c', 'mv c/a d'], [write('a/x', 'two')], [write('b/y', 'one')]),
  'hard links that change partners': scenario({ flag: '' }, ['echo same > a; cp a b; if [ -e flag ]; then ln a p; ln b q; else ln b p; ln a q; fi', 'if [ a -ef p ]; then echo linked > out; else echo not > out; fi'], [{ kind: 'remove', path: 'flag' }]),
  'a file where a program was looked for first': scenario({ 'b/tool': '#!/bin/sh\necho b' }, ['chmod +x b/tool; PATH=$PWD/a:$PWD/b:$PATH tool > out'], [{ kind: 'write', path: 'a/tool', content: '#!/bin/sh\necho a', executable: true }], [{ kind: 'remove', path: 'a' }]),
  'a list that gets shorter and longer': scenario({ 'd/a': '', 'd/b': '' }, ['ls d > out'], [{ kind: 'remove', path: 'd/b' }], [write('d/c', '')], [{ kind: 'mkdir', path: 'd/e' }], [{ kind: 'return', to: 0 }]),
  'a link that leads elsewhere': scenario({ a: 'one', b: 'two' }, ['ln -sfn a by-step; cat link by-step > out'], [{ kind: 'link', path: 'link', target: 'b' }], [{ kind: 'link', path: 'link', target: 'by-step' }]),
  'a file in place of a directory, and back': scenario({ 'd/x': 'x' }, ['cat d/x d 2> /dev/null > out; [ -d d ] && touch d/made'], [write('d', 'file')], [{ kind: 'return', to: 0 }]),
  'a step that writes what it has read before': scenario({ n: '1' }, ['read x < n; echo $((x + 1)) > n', 'read x < n; echo $((x + 1)) > n'], [write('n', '5\n')], [{ kind: 'return', to: 0 }]),
  'what was written before it is read is no input': scenario({ n: 'one' }, ['echo own > n; cat n > out'], [write('n', 'two')], [{ kind: 'executable', path: 'n', on: true }]),
  'a step that fails goes on failing, and then does not': scenario({ a: '' }, ['cat a > out', '[ ! -e broken ] || exit 3'], [write('broken', '')], [write('b', '')], [{ kind: 'remove', path: 'broken' }]),
};
