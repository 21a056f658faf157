import { assert } from '@hyperdocker/base';
import { stringify } from 'smol-toml';
import type { Place } from './locate.ts';
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

/** The 1-based line of a value in the text of an hd.toml, such as `['files', 'exclude', '0']`. Undefined: it says nothing of it. */
export function lineOf(text: string, path: readonly string[]): number | undefined {
  const read = parseToml(text);
  if (!read.ok) return undefined;
  let place: Place | undefined = read.root;
  for (const name of path) place = place?.children.get(name);
  return (place?.value ?? place?.key)?.line;
}
