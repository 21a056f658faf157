import assert from 'node:assert/strict';
import { test } from 'node:test';
import { variablesNotPassed } from './variables.ts';

const HOST = { TOKEN: 't', CI: '1', HOME: '/home/me', LANG: 'de_DE', DIR: '/d' };

function named(command: string, passed: Record<string, string> = {}): string[] {
  return variablesNotPassed(command, passed, HOST);
}

test('what a command speaks of and the host has', () => {
  assert.deepEqual(named('curl -H "Authorization: $TOKEN" && test -n "${CI:-}" && echo ${#DIR} $TOKEN'), ['CI', 'DIR', 'TOKEN']);
  assert.deepEqual(named("sh -c 'echo $TOKEN'"), ['TOKEN'], 'a shell inside reads it');
});

test('not what it is given, what nobody has, what is no variable', () => {
  assert.deepEqual(named('echo $TOKEN $LANG', { TOKEN: 'x', LANG: 'C' }), []);
  assert.deepEqual(named('echo $NOBODY_HAS_THIS TOKEN $1 $? $$ \\$TOKEN'), []);
  assert.deepEqual(named('cd $HOME && pwd'), [], 'each side has its own');
});

test('not what it sets itself', () => {
  for (const command of ['TOKEN=$(cat t); echo $TOKEN', 'export TOKEN=1 && echo $TOKEN', 'for DIR in a b; do echo $DIR; done', 'while read -r CI DIR; do echo $DIR; done', '(DIR=/x; ls "$DIR")']) {
    assert.deepEqual(named(command), [], command);
  }
  assert.deepEqual(named('MY_TOKEN=1; echo $TOKEN'), ['TOKEN']);
});
