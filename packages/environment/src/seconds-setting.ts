import { HdError } from '@hyperdocker/base';

const MAX_SECONDS = 86_400;

/** A number of seconds from the environment variables, in milliseconds. @throws HdError SETTING_INVALID */
export function secondsSetting(env: NodeJS.ProcessEnv, name: string, defaultSeconds: number): number {
  const text = env[name];
  const seconds = text === undefined || text === '' ? defaultSeconds : Number(text);
  if (!(seconds >= 0 && seconds <= MAX_SECONDS)) throw new HdError('SETTING_INVALID', `${name}=${text} is no number of seconds from 0 to ${MAX_SECONDS}`);
  return seconds * 1_000;
}
