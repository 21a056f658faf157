import { rmSync } from 'node:fs';
import type { TreeDigest } from '@hyperdocker/base';
import { processStartTime } from '@hyperdocker/base';
import type { EnvPaths } from './home.ts';
import { readJson, writeJson } from './json-file.ts';

/** What another supervisor must know of a mounted root to go on with it: docs/format/state.md. */
export interface LiveRecord {
  version: 1;
  /** The process that serves it, and in whose mount namespace it is. */
  host: { pid: number; startTime: string };
  /** What it was mounted with. */
  tree: TreeDigest;
  /** What it has been brought to since. */
  applied: TreeDigest;
  /** What it is being brought to. */
  applying?: TreeDigest;
  overlay: 'disk' | 'memory';
  /** Digest of the specification that it was made for. */
  spec: string;
  /** The OCI runtime that its containers were made with. */
  runtime: string;
  /** Whether files are watched. */
  watch: boolean;
  profiles: string[];
}

export function writeLiveRecord({ liveRecord }: EnvPaths, record: LiveRecord): void {
  writeJson(liveRecord, record);
}

export function removeLiveRecord({ liveRecord }: EnvPaths): void {
  rmSync(liveRecord, { force: true });
}

/** Undefined: nothing is mounted, or by a version that this one cannot read. */
export function readLiveRecord({ liveRecord }: EnvPaths): LiveRecord | undefined {
  const record = readJson(liveRecord) as LiveRecord | undefined;
  return record?.version === 1 ? record : undefined;
}

/** A mounted root, as long as the process that serves it lives. Where there is no supervisor, it is left to whoever adopts it. */
export function servedRoot(paths: EnvPaths): LiveRecord | undefined {
  const record = readLiveRecord(paths);
  return record !== undefined && processStartTime(record.host.pid) === record.host.startTime ? record : undefined;
}
