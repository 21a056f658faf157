import type { Diagnostic, DiagnosticCode } from './diagnostic.ts';
import type { Place, Span } from './locate.ts';

export type Path = readonly (string | number)[];

/** What a diagnostic is about: a value, or the key that names it. */
export interface Finding {
  severity?: Diagnostic['severity'];
  code: DiagnosticCode;
  message: string;
  hint?: string | undefined;
  path: Path;
  at?: 'key' | 'value';
}

/** Collects diagnostics about one document. */
export class Report {
  readonly diagnostics: Diagnostic[] = [];
  readonly #root: Place;

  constructor(root: Place) {
    this.#root = root;
  }

  add({ severity = 'error', code, message, hint, path, at = 'value' }: Finding): void {
    this.diagnostics.push({ severity, code, message, ...this.#span(path, at), ...(hint === undefined ? {} : { hint }) });
  }

  /** In the order of the text. */
  sorted(): Diagnostic[] {
    return this.diagnostics.toSorted((a, b) => a.line - b.line || a.column - b.column);
  }

  /** The place of `path`, or of the nearest thing around it that the text has. */
  #span(path: Path, at: 'key' | 'value'): Span {
    let place = this.#root;
    let span: Span = { line: 1, column: 1, length: 1 };
    for (const [index, part] of path.entries()) {
      const child = place.children.get(String(part));
      if (child === undefined) break;
      place = child;
      const isTarget = index === path.length - 1;
      span = (isTarget && at === 'value' ? (place.value ?? place.key) : (place.key ?? place.value)) ?? span;
    }
    return span;
  }
}

/** A path for people: `"port" in [services.web]`, `item 2 of "steps" in [build]`, `[environment]`. */
export function describePath(path: Path): string {
  const last = path.at(-1);
  if (last === undefined) return 'the file';
  const parent = path.slice(0, -1);
  if (typeof last === 'number') return `item ${last + 1} of ${describePath(parent)}`;
  return parent.length === 0 ? JSON.stringify(last) : `${JSON.stringify(last)} in ${header(parent)}`;
}

/** `[services.web]`, as TOML would write it. */
export function header(path: Path): string {
  const parts = path.filter((part) => typeof part === 'string');
  return `[${parts.map((part) => (/^[\w-]+$/.test(part) ? part : JSON.stringify(part))).join('.')}]`;
}

/** `valueAt({ a: [1] }, ['a', 0])` is 1; undefined where the path leads nowhere. */
export function valueAt(document: unknown, path: Path): unknown {
  let value = document;
  for (const part of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined;
    value = (value as Record<string | number, unknown>)[part];
  }
  return value;
}

export function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}
