import { hasher } from '@hyperdocker/base';
import type { Files, StepResult } from './results.ts';
import { OUTPUT, differing } from './results.ts';

/** One clean build of one commit: what every step left, up to the first that failed. */
export type CleanBuild = readonly StepResult[];

/** Which steps a build would have had to run that knew the result of every step beforehand. */
export interface Oracle {
  /** By commit, then by step. Files and exit code alone: a step that only checks never has to run. */
  files: boolean[][];
  /** The same, where what a step prints is part of its result. */
  printed: boolean[][];
  /** By step: paths that differ between two clean builds of one commit. They are left out of all comparisons. */
  noise: string[][];
}

/**
 * A step has to run at a commit if it leaves there what it has left at no commit before, or fails.
 * @param builds one for each commit, the start first; @param twins second clean builds of some commits, by their number
 */
export function consult(steps: number, builds: readonly CleanBuild[], twins: ReadonlyMap<number, CleanBuild>): Oracle {
  const noise = Array.from({ length: steps }, (_, step) => [...new Set([...twins].flatMap(([commit, twin]) => differing(withOutput(builds[commit]?.[step]), withOutput(twin[step]))))].sort());
  return { files: news(builds, noise, false), printed: news(builds, noise, true), noise };
}

function news(builds: readonly CleanBuild[], noise: readonly (readonly string[])[], printed: boolean): boolean[][] {
  const known = noise.map(() => new Set<string>());
  return builds.map((build) => noise.map((_, step) => {
    const result = build[step];
    if (result === undefined) return step === build.length;
    const ignored = new Set(noise[step]);
    const files = [...(printed ? withOutput(result) : result.files)].filter(([path]) => !ignored.has(path)).sort(([a], [b]) => (a < b ? -1 : 1));
    const digest = hasher.hash(Buffer.from(JSON.stringify(files)));
    const isNew = known[step]?.has(digest) !== true;
    known[step]?.add(digest);
    return isNew;
  }));
}

function withOutput(result: StepResult | undefined): Files {
  return new Map([...(result?.files ?? []), [OUTPUT, result?.output ?? '']]);
}
