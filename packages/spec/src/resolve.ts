import { assert } from '@hyperdocker/base';
import { stringify } from 'smol-toml';
import { parseToml } from './parse.ts';
import { Report } from './report.ts';
import type { SpecInput } from './schema.ts';
import { specSchema } from './schema.ts';
import { checkShape } from './shape.ts';

/** A text that `parseSpec` accepts, with every default written out: as a document, and as an hd.toml that means the same. */
export function resolveSpec(text: string): { document: SpecInput; toml: string } {
  const read = parseToml(text);
  assert(read.ok, 'it was accepted');
  const document = checkShape(specSchema, read.document, new Report(read.root));
  assert(document !== undefined, 'it was accepted');
  return { document, toml: stringify(document) };
}
