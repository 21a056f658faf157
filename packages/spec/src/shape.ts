import * as z from 'zod';
import { describePath, header, isTable, valueAt, type Path, type Report } from './report.ts';
import { ruleOf } from './rules.ts';
import { suggest } from '@hyperdocker/base';

type Issue = z.core.$ZodIssue;

/** Adds to `report` everything about `document` that `schema` rejects. */
export function checkShape<T>(schema: z.ZodType<T>, document: unknown, report: Report): T | undefined {
  const result = schema.safeParse(document);
  if (result.success) return result.data;
  new ShapeReporter(schema, document, report).addAll(result.error.issues, []);
  return undefined;
}

/** Puts zod's issues into the words of TOML. */
class ShapeReporter {
  readonly #schema: z.ZodType;
  readonly #document: unknown;
  readonly #report: Report;

  constructor(schema: z.ZodType, document: unknown, report: Report) {
    this.#schema = schema;
    this.#document = document;
    this.#report = report;
  }

  addAll(issues: readonly Issue[], base: Path): void {
    for (const issue of issues) this.#add(issue, [...base, ...(issue.path as Path)]);
  }

  #add(issue: Issue, path: Path): void {
    switch (issue.code) {
      case 'unrecognized_keys':
        for (const key of issue.keys) this.#unknownKey([...path, key]);
        return;
      case 'invalid_type':
        this.#wrongType(path, [issue.expected]);
        return;
      case 'invalid_union':
        this.#union(issue.errors, path);
        return;
      case 'invalid_key':
        for (const inner of issue.issues) this.#form(inner, path, 'key');
        return;
      default:
        this.#form(issue, path, 'value');
    }
  }

  #unknownKey(path: Path): void {
    const key = String(path.at(-1));
    const section = path.slice(0, -1);
    const known = keysAt(this.#jsonSchema(), section);
    const guess = suggest(key, known);
    const hint = guess === undefined ? (this.#sectionsWith(key) ?? listHint(known)) : `did you mean ${JSON.stringify(guess)}?`;
    const finding = { path, hint, at: 'key' } as const;
    if (section.length === 0) {
      const what = isTable(valueAt(this.#document, path)) ? `section ${header(path)}` : `key ${JSON.stringify(key)} at the top level`;
      this.#report.add({ ...finding, code: 'UNKNOWN_SECTION', message: `unknown ${what}` });
    } else if (section.length === 1 && section[0] === 'dependencies') {
      this.#report.add({ ...finding, code: 'UNKNOWN_PROVIDER', message: `unknown provider ${describePath(path)}` });
    } else {
      this.#report.add({ ...finding, code: 'UNKNOWN_KEY', message: `unknown key ${describePath(path)}` });
    }
  }

  #wrongType(path: Path, expected: string[]): void {
    const value = valueAt(this.#document, path);
    if (value === undefined) {
      const what = isTableSchema(schemaAt(this.#jsonSchema(), path)) ? `section ${header(path)}` : `key ${describePath(path)}`;
      this.#report.add({ code: 'MISSING_KEY', message: `missing ${what}`, path, at: 'key' });
      return;
    }
    const message = `${describePath(path)} must be ${expected.map(typeName).join(' or ')}, not ${tomlType(value)}`;
    this.#report.add({ code: 'WRONG_TYPE', message, hint: rewrite(value, expected), path });
  }

  /** Reports the branch whose type fits, or else all the types that would. */
  #union(branches: readonly (readonly Issue[])[], path: Path): void {
    const mismatch = (issues: readonly Issue[]) => issues.find((issue) => issue.code === 'invalid_type' && issue.path.length === 0);
    const fitting = branches.find((issues) => mismatch(issues) === undefined);
    if (fitting !== undefined) this.addAll(fitting, path);
    else this.#wrongType(path, branches.flatMap((issues) => mismatch(issues)?.code === 'invalid_type' ? [expectedOf(mismatch(issues))] : []));
  }

  #form(issue: Issue, path: Path, at: 'key' | 'value'): void {
    const rule = issue.code === 'invalid_format' ? ruleOf(issue.pattern ?? '') : undefined;
    const subject = at === 'key' ? `the name ${JSON.stringify(String(path.at(-1)))} in ${header(path.slice(0, -1))}` : describePath(path);
    if (rule !== undefined) {
      this.#report.add({ code: rule.code, message: `${subject} must ${rule.must}`, hint: rule.hint, path, at });
    } else {
      this.#report.add({ code: 'INVALID_VALUE', message: `${subject} must be ${this.#allowed(issue)}`, hint: this.#choiceHint(issue, path), path, at });
    }
  }

  #allowed(issue: Issue): string {
    if (issue.code === 'invalid_value') return `one of ${issue.values.map((value) => JSON.stringify(value)).join(', ')}`;
    if (issue.code === 'too_small') return `at least ${issue.minimum}`;
    if (issue.code === 'too_big') return `at most ${issue.maximum}`;
    return issue.message;
  }

  #choiceHint(issue: Issue, path: Path): string | undefined {
    const value = valueAt(this.#document, path);
    if (issue.code !== 'invalid_value' || typeof value !== 'string') return undefined;
    const guess = suggest(value, issue.values.map(String));
    return guess === undefined ? undefined : `did you mean ${JSON.stringify(guess)}?`;
  }

  /** Where a key belongs that stands in the wrong section. */
  #sectionsWith(key: string): string | undefined {
    const sections = Object.entries(this.#jsonSchema().properties ?? {});
    const homes = sections.flatMap(([name, section]) => {
      if (section.properties?.[key] !== undefined) return [`[${name}]`];
      return isTableSchema(section.additionalProperties) && section.additionalProperties.properties?.[key] ? [`[${name}.<name>]`] : [];
    });
    return homes.length === 0 ? undefined : `${JSON.stringify(key)} belongs in ${homes.join(' or ')}`;
  }

  /** Made only when something is wrong. */
  #jsonSchema(): JsonSchema {
    return (this.#made ??= z.toJSONSchema(this.#schema, { io: 'input' }) as JsonSchema);
  }
  #made: JsonSchema | undefined;
}

interface JsonSchema {
  type?: string;
  properties?: Record<string, JsonSchema>;
  additionalProperties?: JsonSchema | boolean;
  items?: JsonSchema;
  anyOf?: JsonSchema[];
}

function schemaAt(schema: JsonSchema, path: Path): JsonSchema | undefined {
  let current: JsonSchema | undefined = schema;
  for (const part of path) {
    // Within unions, only tables and lists have anything below them, and no union has two of either.
    const branches: JsonSchema[] = current?.anyOf ?? (current === undefined ? [] : [current]);
    current = typeof part === 'number' ? branches.find((branch) => branch.items)?.items : childOf(branches, part);
  }
  return current;
}

function childOf(branches: JsonSchema[], key: string): JsonSchema | undefined {
  const table = branches.find((branch) => branch.type === 'object');
  const open = table?.additionalProperties;
  return table?.properties?.[key] ?? (typeof open === 'object' ? open : undefined);
}

function keysAt(schema: JsonSchema, path: Path): string[] {
  const at = schemaAt(schema, path);
  const table = (at?.anyOf ?? [at]).find((branch) => branch?.type === 'object');
  return Object.keys(table?.properties ?? {});
}

function isTableSchema(schema: JsonSchema | boolean | undefined): schema is JsonSchema {
  return typeof schema === 'object' && schema.type === 'object';
}

function listHint(known: string[]): string | undefined {
  return known.length === 0 ? undefined : `known here: ${known.join(', ')}`;
}

function expectedOf(issue: Issue | undefined): string {
  return issue?.code === 'invalid_type' ? issue.expected : 'something else';
}

function typeName(expected: string): string {
  const names: Record<string, string> = {
    string: 'a string',
    array: 'a list',
    object: 'a table',
    record: 'a table',
    boolean: 'true or false',
    int: 'an integer',
    number: 'a number',
  };
  return names[expected] ?? expected;
}

function tomlType(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (value instanceof Date) return 'a date';
  if (typeof value === 'number') return Number.isInteger(value) ? 'an integer' : 'a float';
  return typeName(typeof value);
}

/** The same value in the form that was expected, where that is plain. */
function rewrite(value: unknown, expected: string[]): string | undefined {
  let better: unknown;
  if (typeof value === 'string' && expected.includes('array')) better = [value];
  else if (typeof value === 'number' && expected.includes('string')) better = String(value);
  else if (typeof value === 'string' && expected.includes('int') && /^\d{1,15}$/.test(value)) better = Number(value);
  else if (Array.isArray(value) && value.length === 1 && typeof value[0] === 'string' && expected.includes('string')) better = value[0];
  return better === undefined ? undefined : `write ${JSON.stringify(better)}`;
}
