export * from './spec.ts';
export type { Diagnostic, DiagnosticCode } from './diagnostic.ts';
export { parseSpec, type ParseResult } from './parse.ts';
export { lineOf, resolveSpec } from './resolve.ts';
export { serviceOrder } from './services.ts';
export { SCHEMA_URL, specJsonSchema } from './schema.ts';
export { renderDiagnostic } from './render.ts';
export { initTemplate, type ProjectKind } from './init-template.ts';
export { parseLock, writeLock, type LockedPackage, type LockFile } from './lock.ts';
