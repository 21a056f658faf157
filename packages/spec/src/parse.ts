import { assert } from '@hyperdocker/base';
import { parse, TomlError } from 'smol-toml';
import { checkMeaning } from './check.ts';
import type { Diagnostic } from './diagnostic.ts';
import { locate, type Place } from './locate.ts';
import { lower } from './lower.ts';
import { Report } from './report.ts';
import { specSchema } from './schema.ts';
import { checkShape } from './shape.ts';
import type { EnvSpec } from './spec.ts';

export type ParseResult = { ok: true; spec: EnvSpec; warnings: Diagnostic[] } | { ok: false; diagnostics: Diagnostic[] };

/** The text of an hd.toml to a specification, or to everything that is wrong with it. Never throws for any text. */
export function parseSpec(text: string): ParseResult {
  const toml = parseToml(text);
  if (!toml.ok) return { ok: false, diagnostics: [toml.diagnostic] };
  const report = new Report(toml.root);
  const input = checkShape(specSchema, toml.document, report);
  checkMeaning(toml.document, toml.root, report);
  const diagnostics = report.sorted();
  if (diagnostics.some(({ severity }) => severity === 'error')) return { ok: false, diagnostics };
  assert(input !== undefined, 'a rejected shape has no diagnostic');
  return { ok: true, spec: lower(input, toml.root), warnings: diagnostics };
}

export type TomlResult = { ok: true; document: Record<string, unknown>; root: Place } | { ok: false; diagnostic: Diagnostic };

/** Any TOML, with the places of its values. */
export function parseToml(text: string): TomlResult {
  try {
    return { ok: true, document: parse(text), root: locate(text) };
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    return { ok: false, diagnostic: syntaxDiagnostic(error, text) };
  }
}

function syntaxDiagnostic(error: TomlError, text: string): Diagnostic {
  const [reason = error.message] = error.message.replace(/^Invalid TOML document: /, '').split('\n', 1);
  const hint = syntaxHint(reason, text.split(/\r?\n/)[error.line - 1] ?? '');
  const place = { line: error.line, column: error.column, length: 1 };
  return { severity: 'error', code: 'TOML_SYNTAX', message: `invalid TOML: ${reason}`, ...place, ...(hint === undefined ? {} : { hint }) };
}

function syntaxHint(reason: string, line: string): string | undefined {
  if (/^(<<<<<<<|=======|>>>>>>>)/.test(line)) return 'this looks like a merge conflict: keep one side and remove the markers';
  if (reason.includes('redefine')) return 'each key and each section may appear once; put the two together';
  return undefined;
}
