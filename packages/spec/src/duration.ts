const UNITS_MS = { ms: 1, s: 1000, m: 60_000 };

/** Far below the 24.8 days that timers hold. */
export const MAX_GRACE_MS = 24 * 60 * 60 * 1000;

/** `"500ms"`, `"5s"`, `"1.5m"` in whole milliseconds; undefined for anything else. */
export function durationMs(text: string): number | undefined {
  const [, amount, unit] = /^([0-9.]+)(ms|s|m)$/.exec(text) ?? [];
  if (amount === undefined || unit === undefined) return undefined;
  return Math.round(Number(amount) * UNITS_MS[unit as keyof typeof UNITS_MS]);
}
