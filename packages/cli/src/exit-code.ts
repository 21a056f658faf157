/** What `hd` exits with. `exec` and `shell` pass on the code of their command instead. */
export const EXIT = { ok: 0, failure: 1, usage: 2, lockStale: 3, notRunning: 4, timeout: 5, interrupted: 130 } as const;

export const EXIT_MEANINGS: [code: string, meaning: string][] = [
  ['0', 'ok'],
  ['1', 'failure'],
  ['2', 'wrong usage, or an hd.toml with errors'],
  ['3', 'hd.lock is out of date'],
  ['4', 'the environment is not running'],
  ['5', 'timeout'],
  ['130', 'Ctrl-C before it was up'],
];

const BY_CODE: Record<string, number> = {
  USAGE: EXIT.usage,
  NO_PROJECT: EXIT.usage,
  SPEC_INVALID: EXIT.usage,
  PROJECT_UNREADABLE: EXIT.usage,
  MANIFEST_MISSING: EXIT.usage,
  MANIFEST_INVALID: EXIT.usage,
  PROVIDER_UNSUPPORTED: EXIT.usage,
  LOCK_INVALID: EXIT.lockStale,
  LOCK_STALE: EXIT.lockStale,
  NO_SUCH_SERVICE: EXIT.usage,
  NOT_RUNNING: EXIT.notRunning,
  NOT_READY: EXIT.notRunning,
  TIMEOUT: EXIT.timeout,
  INTERRUPTED: EXIT.interrupted,
};

/** @param code of an HdError */
export function exitCodeOf(code: string): number {
  return BY_CODE[code] ?? EXIT.failure;
}
