import assert from 'node:assert/strict';
import { HdError, describeError } from '@hyperdocker/base';
import { tellDisk } from '../faulty-disk/faulty-disk.ts';
import { readStore } from './check-store.ts';
import { STEPS, Session, WAYS } from './workload.ts';
import type { Way } from './workload.ts';

/**
 * Lives the life of a store once for each fault, each in a directory of its own on the faulty disk: `<disk> <host dir> <way> <fault>...`, a fault as in `EIO@17`. A step that fails is
 * run again on the mended disk. A process that ends, so that what it leaves is nobody's any more.
 */
export interface LifeReport {
  /** Its directory on the disk, and its mark in the disk's log. */
  name: string;
  problems: string[];
}

const [disk, hostDir, way, ...names] = process.argv.slice(2) as [string, string, Way, ...string[]];
for (const name of names) {
  const [kind, at] = name.split('@');
  tellDisk(disk, `arm ${kind} ${at}`);
  const session = new Session(`${disk}/${name}`, hostDir, WAYS[way]);
  const problems: string[] = [];
  for (const { name: stepName, run } of STEPS) {
    problems.push(...live(stepName, session, () => run(session)));
  }
  tellDisk(disk, 'repair');
  tellDisk(disk, `mark ${name}`);
  process.send?.({ name, problems } satisfies LifeReport);
}
process.disconnect?.();

function live(name: string, session: Session, run: () => void): string[] {
  const problems: string[] = [];
  try {
    run();
  } catch (error) {
    if (!(error instanceof HdError) || error.code !== 'STORE_WRITE') problems.push(`step ${name} gives no clear error: ${sourceOf(error)}`);
    problems.push(...attempt(`step ${name} failed, and then what is there cannot be read`, () => session.isOpen && readAllRefs(session)));
    tellDisk(disk, 'repair');
    problems.push(...attempt(`step ${name} fails again on the mended disk`, run));
  }
  return problems;
}

/** A collection may have dropped the refs that it was told to drop, and failed after that. */
function readAllRefs({ store, options, expectation, dropping }: Session): void {
  const targets = new Map(store.listRefs().map(({ name, ref }) => [name, ref.target]));
  readStore(store, options, [...targets.values()]);
  for (const name of Object.keys(expectation.refs)) if (name !== dropping) assert(targets.has(name), `ref ${name} is gone`);
}

function attempt(what: string, run: () => void): string[] {
  try {
    run();
    return [];
  } catch (error) {
    return [`${what}: ${sourceOf(error)}`];
  }
}

/** The message, and where it came from. */
function sourceOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? `${String(error.code)}: ` : '';
  const frames = error instanceof Error ? (error.stack ?? '').split('\n').filter((line) => line.includes('/cas/src/')) : [];
  return `${code}${describeError(error)}${frames.slice(0, 3).map((line) => ` <${line.replace(/^.*\/(.*?):(\d+):\d+\)?$/, '$1:$2')}>`).join('')}`;
}
