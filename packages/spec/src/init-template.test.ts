import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { initTemplate, type ProjectKind } from './init-template.ts';
import { parseSpec } from './parse.ts';
import { SCHEMA_URL } from './schema.ts';

const kinds: ProjectKind[] = ['python', 'node', 'go', 'rust', 'c', 'generic'];

for (const kind of kinds) {
  test(`the ${kind} template parses without a warning, also with its comments taken off`, () => {
    const text = initTemplate({ name: 'my-app', kind });
    assert.equal(text.split('\n', 1)[0], `#:schema ${SCHEMA_URL}`);
    const result = parseSpec(text);
    assert.ok(result.ok);
    assert.deepEqual(result.warnings, []);
    assert.equal(result.spec.environment.name, 'my-app');
    assert.match(result.spec.environment.base, /^apt:\/\/bookworm\?include=/);

    const uncommented = parseSpec(text.replace(/^# (?=\[|\w+ = )/gm, ''));
    assert.ok(uncommented.ok, JSON.stringify(uncommented));
    assert.equal(uncommented.spec.services.length, 1);
  });
}

test('any name of a directory gives a template that parses', () => {
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (name) => assert.ok(parseSpec(initTemplate({ name })).ok)));
});
