import type { ActionDefinition } from './action.ts';
import type { AskedMask, PathSet } from './facts.ts';
import { Asked } from './facts.ts';

/** One part of a definition that is not what it was. Lists are joined by spaces; `name` is that of a variable. */
export interface DefinitionChange {
  part: 'command' | 'workdir' | 'user' | 'platform' | 'network' | 'cache' | 'inputs' | 'outputs' | 'secrets' | 'variable';
  name?: string;
  before?: string;
  after?: string;
}

/** In what two definitions differ. Empty: they are one. */
export function compareDefinitions(before: ActionDefinition, after: ActionDefinition): DefinitionChange[] {
  const parts = (definition: ActionDefinition): [DefinitionChange['part'], string][] => [
    ['command', definition.command],
    ['workdir', definition.workdir],
    ['user', definition.user],
    ['platform', definition.platform],
    ['network', definition.network ? 'yes' : 'no'],
    ['cache', [...definition.cacheDirs].sort().join(' ')],
    ['inputs', definition.inputs?.join(' ') ?? ''],
    ['outputs', [...(definition.outputs ?? [])].sort().join(' ')],
    ['secrets', (definition.secrets ?? []).map(({ id, file, env }) => `${id}:${file}${env === undefined ? '' : `:${env}`}`).sort().join(' ')],
  ];
  const now = new Map(parts(after));
  const changes = parts(before).flatMap(([part, old]): DefinitionChange[] => (old === now.get(part) ? [] : [{ part, before: old, after: now.get(part) ?? '' }]));
  const names = [...new Set([...Object.keys(before.env), ...Object.keys(after.env)])].sort();
  for (const name of names) {
    const [old, value] = [before.env[name], after.env[name]];
    if (old !== value) changes.push({ part: 'variable', name, ...(old === undefined ? {} : { before: old }), ...(value === undefined ? {} : { after: value }) });
  }
  return changes;
}

/** How many paths a step asked what of. */
export interface FactCounts { paths: number; content: number; listing: number; target: number; xattrs: number; stat: number }

export function countFacts(paths: PathSet): FactCounts {
  const counts: FactCounts = { paths: paths.size, content: 0, listing: 0, target: 0, xattrs: 0, stat: 0 };
  for (const mask of paths.values()) for (const [name, bit] of ASKED) if (mask & bit) counts[name]++;
  return counts;
}

const ASKED = Object.entries(Asked) as [keyof typeof Asked, AskedMask][];

/** The question that tells most, in words that a path follows. */
export function askedWords(mask: AskedMask): string {
  return WORDS.find(([bit]) => mask & bit)?.[1] ?? 'what it looked at';
}

const WORDS: [mask: AskedMask, words: string][] = [
  [Asked.content, 'the content of'], [Asked.listing, 'the list of'], [Asked.target, 'the link'], [Asked.stat, 'the presence of'], [Asked.xattrs, 'the attributes of'],
];
