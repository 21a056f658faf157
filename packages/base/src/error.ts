/**
 * What went wrong outside this program: bad input, a missing tool, a full disk, a corrupt object.
 * `code` is stable and may be matched on; `message` says what happened; `hint` says what to do next.
 */
export class HdError extends Error {
  override readonly name = 'HdError';
  readonly code: string;
  readonly hint: string | undefined;
  /** Extra facts for machines. Must survive JSON. */
  readonly details: Record<string, unknown> | undefined;

  constructor(code: string, message: string, options: { hint?: string | undefined; cause?: unknown; details?: Record<string, unknown> } = {}) {
    super(redact(message), options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint === undefined ? undefined : redact(options.hint);
    this.details = options.details;
  }

  toJSON(): HdErrorJson {
    return {
      code: this.code,
      message: this.message,
      ...(this.hint === undefined ? {} : { hint: this.hint }),
      ...(this.details === undefined ? {} : { details: this.details }),
    };
  }

  static fromJSON(json: HdErrorJson): HdError {
    return new HdError(json.code, json.message, { hint: json.hint, ...(json.details === undefined ? {} : { details: json.details }) });
  }
}

export interface HdErrorJson {
  code: string;
  message: string;
  hint?: string;
  details?: Record<string, unknown>;
}

/** Credentials in URLs and terminal control characters never reach a message. */
function redact(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return text.replace(/(\w+:\/\/)[^/\s@]+@/g, '$1').replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, '?');
}

/** The message of anything thrown, with the messages of its causes. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? error.message : `${error.message} (${describeError(error.cause)})`;
}

/** Does `error` carry this errno, such as `ENOENT`? */
export function isErrno(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}
