// Writes what is generated of schemas: that of hd.toml from packages/spec, those of what hd says from packages/client.
import { mkdirSync, writeFileSync } from 'node:fs';
import { specJsonSchema } from '@hyperdocker/spec';
import { publishedSchemas } from '../packages/client/src/published.ts';

const root = new URL('../', import.meta.url);
for (const [path, schema] of [['schema/hd.schema.json', specJsonSchema()] as const, ...publishedSchemas()]) {
  const target = new URL(path, root);
  mkdirSync(new URL('.', target), { recursive: true });
  writeFileSync(target, `${JSON.stringify(schema, null, 2)}\n`);
}
