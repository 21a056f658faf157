import assert from 'node:assert/strict';
import { stripVTControlCharacters } from 'node:util';
import { test } from 'node:test';
import type { Diagnostic } from './diagnostic.ts';
import { parseSpec } from './parse.ts';
import { renderDiagnostic } from './render.ts';
import { editDistance, suggest } from '@hyperdocker/base';

const TEXT = '[environment]\nname = "a"\nbase = "b"\n[services.web]\ncommand = "x"\n\tprot = 3000\n';

test('shows the line, marks the place and says what to do', () => {
  assert.equal(
    renderDiagnostic(onlyError(TEXT), 'hd.toml', TEXT),
    ['hd.toml:6:2: error: unknown key "prot" in [services.web]', '6 | \tprot = 3000', '  | \t~~~~', '  = did you mean "port"?'].join('\n'),
  );
});

test('colour changes nothing but the colour', () => {
  const colored = renderDiagnostic(onlyError(TEXT), 'hd.toml', TEXT, { color: true });
  assert.notEqual(stripVTControlCharacters(colored), colored);
  assert.equal(stripVTControlCharacters(colored), renderDiagnostic(onlyError(TEXT), 'hd.toml', TEXT));
});

test('control characters of the file do not reach the terminal', () => {
  const text = 'a = "\u001b[2J\u009b"';
  assert.doesNotMatch(renderDiagnostic(onlyError(text), 'hd.toml', text), /[\u001b\u009b]/);
});

test('a long line is cut around the place', () => {
  const text = `${TEXT.split('\n').slice(0, 3).join('\n')}\n[build]\nsteps = ["${'x'.repeat(500)}", 1, "${'y'.repeat(500)}"]`;
  const [, excerpt = '', marks = ''] = renderDiagnostic(onlyError(text), 'hd.toml', text).split('\n');
  assert.ok(excerpt.length < 180);
  assert.equal(excerpt[marks.indexOf('~')], '1');
  assert.match(marks, /^ +\| +~$/);
});

test('edit distance counts a swap of neighbours as one', () => {
  assert.equal(editDistance('prot', 'port'), 1);
  assert.equal(editDistance('', 'abc'), 3);
  assert.equal(editDistance('kitten', 'sitting'), 3);
  assert.equal(editDistance('ca', 'abc'), 3);
});

test('suggests the nearest, and nothing that is far', () => {
  assert.equal(suggest('Steps', ['cache', 'steps']), 'steps');
  assert.equal(suggest('comand', ['command', 'cwd']), 'command');
  assert.equal(suggest('zzz', ['command', 'cwd']), undefined);
});

function onlyError(text: string): Diagnostic {
  const result = parseSpec(text);
  assert.ok(!result.ok);
  assert.equal(result.diagnostics.length, 1);
  const [diagnostic] = result.diagnostics;
  assert.ok(diagnostic !== undefined);
  return diagnostic;
}
