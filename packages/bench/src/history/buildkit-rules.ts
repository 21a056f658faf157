import { hasher } from '@hyperdocker/base';
import type { Project } from './project.ts';

/** Files of a commit: path → mode and content. */
export type Snapshot = ReadonlyMap<string, string>;

/**
 * Which RUN instructions BuildKit runs at each commit, the start first: those of which it has not seen before the commands and the copied files down to them.
 * For machines without Docker, and to check the count where there is one.
 * @param copies for each step what is copied just before it, as arguments of COPY instructions
 */
export function predictRuns(copies: Project['steps'][number]['copies'][], snapshots: readonly Snapshot[]): boolean[][] {
  const seen = new Set<string>();
  return snapshots.map((files) => {
    let layers = '';
    return copies.map((instructions, step) => {
      for (const instruction of instructions) layers = hasher.hash(Buffer.from(layers + JSON.stringify(copied(instruction, files))));
      const key = `${step} ${layers}`;
      const isNew = !seen.has(key);
      seen.add(key);
      return isNew;
    });
  });
}

/** The instruction's last word says where to; the others are names, directories or patterns. */
function copied(instruction: string, files: Snapshot): [string, string][] {
  const sources = instruction.split(' ').slice(0, -1).map(toPattern);
  return [...files].filter(([path]) => sources.some((pattern) => pattern.test(path)));
}

/** Of a name, of a pattern in which `*` stands for all but slashes, or of `.`: it, and all below it. */
function toPattern(source: string): RegExp {
  if (source === '.') return /^/;
  return new RegExp(`^${source.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '[^/]*')}(/|$)`);
}
