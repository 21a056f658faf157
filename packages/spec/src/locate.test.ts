import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { stringify } from 'smol-toml';
import { parseTOML, type AST } from 'toml-eslint-parser';
import { locate, type Place } from './locate.ts';

test('places keys and values as toml-eslint-parser does', () => {
  for (const text of documents) assert.deepEqual(flatten(locate(text)), oracle(text), text);
});

test('the same for any document', () => {
  const key = fc.oneof(fc.constantFrom('a', 'b', 'c'), fc.string({ unit: 'binary', minLength: 1 }).filter((name) => name.isWellFormed()));
  const { table } = fc.letrec<{ value: unknown; table: Record<string, unknown> }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 3 },
      fc.string({ unit: 'binary' }),
      fc.integer(),
      fc.boolean(),
      fc.array(fc.integer()),
      fc.array(fc.string({ unit: 'grapheme' })),
      tie('table'),
      fc.array(tie('table'), { maxLength: 3 }),
    ),
    table: fc.dictionary(key, tie('value'), { maxKeys: 4, noNullPrototype: true }),
  }));
  fc.assert(
    fc.property(table, (document) => {
      const text = stringify(document);
      assert.deepEqual(flatten(locate(text)), oracle(text), text);
    }),
    { numRuns: 500 },
  );
});

const documents = [
  '',
  '# only a comment',
  'a = 1 # one\nb.c.d = 2\n b . "e f" = 3\n',
  'a = [ # list\n  1, # one\n  "x,]#", \'y]\',\n  [2, [3]], ]\nb = 1\n',
  'a = """\none \\""" two"""""\nb = \'\'\'\n#x\n\'\'\'\'\'\nc = "\\"" # "\n',
  'a = { b = 1, c = { d.e = [1, 2] }, "f\\u0041" = 3 }\n[x."y.z".w]\nq = 1979-05-27 07:32:00Z # when\n',
  '[[a]]\nb = 1\n[a.c]\nd = 1\n[[a.e]]\nf = 1\n[[a.e]]\nf = 2\n[[a]]\nb = 2\n[a.c]\nd = 2\n',
  '[ a . b ]\r\nc = 1\r\n[a]\r\nd = """x\r\ny"""\r\n',
  'a = [[], {}, "", -inf]\nb = { }\n',
];

/** `a.0.b` → `key@line:column+length value@…` */
function flatten(root: Place): Record<string, string> {
  const flat: Record<string, string> = {};
  const visit = (place: Place, path: string[]) => {
    // Keys of array elements are borrowed from their header.
    if (place.value !== undefined) flat[JSON.stringify(path)] = `${place.value.line}:${place.value.column}+${place.value.length}`;
    for (const [name, child] of place.children) visit(child, [...path, name]);
  };
  visit(root, []);
  return flat;
}

function oracle(text: string): Record<string, string> {
  const flat: Record<string, string> = {};
  const lines = text.split(/\r?\n/);
  const add = (path: string[], { start, end }: AST.SourceLocation) => {
    const last = end.line === start.line ? end.column : (lines[start.line - 1] ?? '').length;
    flat[JSON.stringify(path)] = `${start.line}:${start.column + 1}+${Math.max(1, last - start.column)}`;
  };
  const value = (node: AST.TOMLContentNode, path: string[]) => {
    add(path, node.loc);
    if (node.type === 'TOMLArray') node.elements.forEach((element, index) => value(element, [...path, String(index)]));
    if (node.type === 'TOMLInlineTable') for (const pair of node.body) keyValue(pair, path);
  };
  const keyValue = (node: AST.TOMLKeyValue, path: string[]) => {
    value(node.value, [...path, ...node.key.keys.map((key) => (key.type === 'TOMLBare' ? key.name : key.value))]);
  };
  for (const node of parseTOML(text, { tomlVersion: 'next' }).body[0].body) {
    if (node.type === 'TOMLKeyValue') keyValue(node, []);
    else for (const pair of node.body) keyValue(pair, node.resolvedKey.map(String));
  }
  return flat;
}
