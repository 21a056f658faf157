import type { LimitsSpec } from './spec.ts';

const UNITS = ['', 'K', 'M', 'G', 'T'];

/** `"512MB"`, `"1.5GiB"`, `"64M"`, units of 1024, in bytes; undefined for anything else. */
export function sizeBytes(text: string): number | undefined {
  const [, number = '', unit = ''] = /^(\d+(?:\.\d+)?) ?([KMGT]?)i?B?$/i.exec(text) ?? [];
  return number === '' ? undefined : Math.floor(Number(number) * 1024 ** UNITS.indexOf(unit.toUpperCase()));
}

/** Below, nothing starts. */
export const MIN_MEMORY_BYTES = 4 * 1024 * 1024;

interface LimitsInput {
  memory?: string | undefined;
  cpus?: number | undefined;
  pids?: number | undefined;
}

/** Of a checked document. */
export function lowerLimits({ memory, cpus, pids }: LimitsInput): LimitsSpec {
  const memoryBytes = memory === undefined ? undefined : sizeBytes(memory);
  return {
    ...(memoryBytes === undefined ? {} : { memoryBytes }),
    ...(cpus === undefined ? {} : { cpus }),
    ...(pids === undefined ? {} : { pids }),
  };
}
