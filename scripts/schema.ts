// Writes schema/hd.schema.json anew from the schema in packages/spec.
import { writeFileSync } from 'node:fs';
import { specJsonSchema } from '@hyperdocker/spec';

const target = new URL('../schema/hd.schema.json', import.meta.url);
writeFileSync(target, `${JSON.stringify(specJsonSchema(), null, 2)}\n`);
