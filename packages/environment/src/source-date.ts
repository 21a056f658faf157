/** When images that are made say they were made: `SOURCE_DATE_EPOCH`, else the epoch itself. Milliseconds. https://reproducible-builds.org/specs/source-date-epoch/ */
export function sourceDateMs(env: NodeJS.ProcessEnv): number {
  const seconds = Number(env['SOURCE_DATE_EPOCH'] ?? 0);
  return Number.isSafeInteger(seconds) && seconds >= 0 ? seconds * 1000 : 0;
}
