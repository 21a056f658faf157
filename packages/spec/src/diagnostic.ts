/** A finding about a text, with the place that it is about. */
export interface Diagnostic {
  severity: 'error' | 'warning';
  code: DiagnosticCode;
  message: string;
  /** 1-based. */
  line: number;
  /** 1-based, in UTF-16 code units as editors count. */
  column: number;
  /** In UTF-16 code units, within one line; at least 1. */
  length: number;
  hint?: string;
}

export type DiagnosticCode =
  | 'TOML_SYNTAX'
  | 'UNKNOWN_KEY'
  | 'UNKNOWN_SECTION'
  | 'UNKNOWN_PROVIDER'
  | 'MISSING_KEY'
  | 'WRONG_TYPE'
  | 'INVALID_VALUE'
  | 'INVALID_NAME'
  | 'INVALID_PATH'
  | 'PORT_CONFLICT'
  | 'UNKNOWN_SERVICE'
  | 'UNKNOWN_SECRET'
  | 'UNKNOWN_VOLUME'
  | 'DEPENDENCY_CYCLE'
  | 'DUPLICATE_VALUE'
  | 'NEVER_MATCHES'
  | 'NO_EFFECT';
