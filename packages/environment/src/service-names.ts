import { HdError } from '@hyperdocker/base';

/** @throws HdError NO_SUCH_SERVICE where one of the names is none of them */
export function requireServices(known: readonly string[], names: readonly string[]): void {
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new HdError('NO_SUCH_SERVICE', `there is no service ${unknown}`, { hint: `services: ${known.join(', ') || 'none'}` });
}
