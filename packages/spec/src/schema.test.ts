import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { specJsonSchema, SCHEMA_URL } from './schema.ts';

const read = (path: string) => readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8');

test('the committed JSON Schema is the one that the code makes', () => {
  assert.equal(read('schema/hd.schema.json'), `${JSON.stringify(specJsonSchema(), null, 2)}\n`, 'run `npm run schema`');
  assert.equal(specJsonSchema()['$id'], SCHEMA_URL);
});

test('the reference has a row for every key, with its default', () => {
  const rows = tableRows(read('docs/configuration.md'));
  for (const { section, key, default: value } of keys(specJsonSchema())) {
    const row = rows.get(`${section} ${key}`);
    assert.ok(row !== undefined, `docs/configuration.md has no row for \`${key}\` under ${section}`);
    if (value !== undefined) assert.ok(row.includes(`\`${JSON.stringify(value)}\``), `the row of \`${key}\` under ${section} lacks its default ${JSON.stringify(value)}`);
  }
});

test('the reference has no row for a key that is not there', () => {
  const known = new Set(keys(specJsonSchema()).map(({ section, key }) => `${section} ${key}`));
  for (const name of tableRows(read('docs/configuration.md')).keys()) assert.ok(known.has(name), `unknown: ${name}`);
});

interface Key {
  section: string;
  key: string;
  default?: unknown;
}

interface JsonSchema {
  properties?: Record<string, JsonSchema>;
  additionalProperties?: JsonSchema | boolean;
  items?: JsonSchema;
  anyOf?: JsonSchema[];
  default?: unknown;
}

/** Every key of every section. Tables with names of the user's choice are `<name>`. */
function keys(schema: JsonSchema, path: string[] = []): Key[] {
  const { properties, additionalProperties: open } = schema;
  if (typeof open === 'object') return keys(open, [...path, '<name>']);
  return Object.entries(properties ?? {}).flatMap(([key, value]) => [
    ...(path.length === 0 ? [] : [{ section: `[${path.join('.')}]`, key, default: value.default }]),
    ...keys(value, [...path, key]),
    // Tables in a list, as `[[build.steps]]`.
    ...(value.items?.anyOf ?? []).flatMap((item) => keys(item, [...path, key])).map((found) => ({ ...found, section: found.section.startsWith('[[') ? found.section : `[${found.section}]` })),
  ]);
}

/** `[build] steps` → the table row that begins with `steps`, under the heading that names `[build]`. */
function tableRows(markdown: string): Map<string, string> {
  const rows = new Map<string, string>();
  let section = '';
  for (const line of markdown.split('\n')) {
    section = /^#+ .*`(\[[^`]+\])`/.exec(line)?.[1] ?? (line.startsWith('## ') ? '' : section);
    const key = /^\| `([\w]+)` \|/.exec(line)?.[1];
    if (key !== undefined && section !== '') rows.set(`${section} ${key}`, line);
  }
  return rows;
}
