import { assert } from '@hyperdocker/base';

/** Of some samples: how far they spread, and their middle. Medians, because one disturbed round must not move the result. */
export interface Summary { min: number; median: number; max: number }

/** At least one sample. */
export function summarize(samples: readonly number[]): Summary {
  assert(samples.length > 0, 'no samples');
  const sorted = samples.toSorted((a, b) => a - b);
  const at = (index: number): number => sorted[index] ?? Number.NaN;
  const middle = (sorted.length - 1) / 2;
  return { min: at(0), median: (at(Math.floor(middle)) + at(Math.ceil(middle))) / 2, max: at(sorted.length - 1) };
}

/**
 * How many times `reference` goes into `samples`. The middle is the ratio of the two medians; the spread is that of the
 * rounds, each side against the other's sample of the same round, since both had the same noise then.
 */
export function ratio(samples: readonly number[], reference: readonly number[]): Summary {
  assert(samples.length === reference.length, 'sides with different numbers of rounds');
  const rounds = summarize(samples.map((sample, round) => sample / (reference[round] ?? Number.NaN)));
  return { ...rounds, median: summarize(samples).median / summarize(reference).median };
}

/** Milliseconds with as many digits as mean something. */
export function formatMs(ms: number): string {
  if (ms >= 9_950) return `${(ms / 1_000).toFixed(1)} s`;
  if (ms >= 995) return `${(ms / 1_000).toFixed(2)} s`;
  return ms >= 9.95 ? `${ms.toFixed(0)} ms` : `${ms.toFixed(1)} ms`;
}

/** `2.4 (2.1–2.9)` */
export function formatRatio({ min, median, max }: Summary): string {
  const digits = (value: number): string => (value >= 9.95 ? value.toFixed(0) : value >= 0.995 ? value.toFixed(1) : value.toFixed(2));
  return `${digits(median)} (${digits(min)}–${digits(max)})`;
}
