/** A bug in this program, never bad input: those throw `HdError`. */
export class AssertionFailure extends Error {
  override readonly name = 'AssertionFailure';
}

export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionFailure(`bug: ${message}`);
}

/** The `default` of an exhaustive switch. */
export function unreachable(value: never): never {
  throw new AssertionFailure(`bug: unexpected value ${JSON.stringify(value)}`);
}
