/** What is written down of the API and of JSON output, against the code that it speaks of. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { checkout } from '@hyperdocker/testkit';
import { UNDOCUMENTED } from './api-schemas.ts';
import { EVENTS_PATH, ROUTES } from './calls.ts';
import { DOCUMENTS } from './documents.ts';
import { publishedSchemas } from './published.ts';

const read = (path: string): string => readFileSync(join(checkout, path), 'utf8');

test('the schemas of the repository are those of the code: `npm run schema` writes them', () => {
  const published = publishedSchemas();
  for (const [path, schema] of published) assert.equal(read(path), `${JSON.stringify(schema, null, 2)}\n`, path);
  assert.deepEqual(globSync('schema/json/*', { cwd: checkout }).sort(), [...published.keys()].filter((path) => path.startsWith('schema/json/')).sort());
  assert.deepEqual(UNDOCUMENTED, []);
});

test('the supervisor answers the calls that are described, and no others', () => {
  const served = [...read('packages/environment/src/supervisor-main.ts').matchAll(/case '((?:GET|POST) \/v1\/[a-z]+)':/g)].map((match) => match[1]);
  const described = [`GET ${EVENTS_PATH}`, ...Object.values(ROUTES).map(({ method, path }) => `${method} ${path}`)];
  assert.deepEqual(served.sort(), described.toSorted());
  const openApi = publishedSchemas().get('docs/format/supervisor-api.openapi.json') as { openapi: string; paths: Record<string, Record<string, { operationId: string; responses: Record<string, unknown> }>> };
  const operations = Object.entries(openApi.paths).flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`));
  assert.deepEqual(operations.sort(), described.toSorted());
  assert.equal(openApi.openapi, '3.1.0');
  for (const operation of Object.values(openApi.paths).flatMap((methods) => Object.values(methods))) assert.deepEqual(Object.keys(operation.responses), ['200', 'default'], operation.operationId);
  for (const path of Object.keys(openApi.paths)) assert.match(read('docs/format/state.md'), new RegExp(`\`(?:GET|POST) ${path}[\`? ]`), path);
});

test('every schema has the name of its document', () => {
  for (const [name, schema] of Object.entries(DOCUMENTS)) {
    for (const form of 'options' in schema ? schema.options : [schema]) assert.deepEqual([...form.shape.schema.values], [name]);
  }
});
