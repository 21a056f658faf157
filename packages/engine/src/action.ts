import type { ActionDigest, BlobDigest, TreeDigest } from '@hyperdocker/base';
import { Decoder, Encoder, hasher } from '@hyperdocker/base';

/**
 * What a build step is, before anything is known of what it reads. Its digest is the definition key. Every field is here
 * because the command could observe it; what is not here (hostname, host paths, other variables) is not given to it.
 */
export interface ActionDefinition {
  /** As given to `/bin/sh -c`. */
  command: string;
  workdir: string;
  /** All variables that the command gets, with their values. Sorted by name when encoded. */
  env: Record<string, string>;
  /** `uid:gid:gid,…` in numbers. */
  user: string;
  /** For example `linux/amd64`. */
  platform: string;
  network: boolean;
  /** Absolute paths of directories that start as the last run left them. */
  cacheDirs: readonly string[];
  /**
   * Undefined when the step is traced. Without a tracer the step depends on everything: then this is the digest of its
   * whole input tree.
   */
  untracedInput?: TreeDigest;
  /** Globs: of the project's files, those that match are in its tree. Undefined: all. */
  inputs?: readonly string[];
  /** Absolute paths: what it writes elsewhere is dropped. Undefined: nothing is. */
  outputs?: readonly string[];
  /** Which secrets it gets and where. Never their values. */
  secrets?: readonly SecretUse[];
  /** What is run instead of `/bin/sh -c command`: the command is for people then. */
  args?: readonly string[];
  /** Mounts that it gets, each in a canonical text. What they hold is no part of it. */
  mounts?: readonly string[];
  /** All rights of root. */
  privileged?: boolean;
}

export interface SecretUse {
  id: string;
  /** Absolute path. */
  file: string;
  /** The variable that holds it as well. */
  env?: string;
  /** Whose file it is; in no key, where the definition's `mounts` say it. Default: the step's user, 0400. */
  access?: { mode: number; uid: number; gid: number };
}

export function encodeDefinition(definition: ActionDefinition): Buffer {
  const env = Object.entries(definition.env).sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const encoder = new Encoder('hd.action/1').text(definition.command).text(definition.workdir).text(definition.user).text(definition.platform);
  encoder.uint(definition.network ? 1 : 0).uint(env.length);
  for (const [name, value] of env) encoder.text(name).text(value);
  encoder.uint(definition.cacheDirs.length);
  for (const dir of [...definition.cacheDirs].sort()) encoder.text(dir);
  if (definition.untracedInput === undefined) encoder.uint(0);
  else encoder.uint(1).digest(definition.untracedInput);
  encodeDeclarations(encoder, definition);
  encodeForm(encoder, definition);
  return encoder.finish();
}

/** Nothing at all where nothing is declared. */
function encodeDeclarations(encoder: Encoder, definition: ActionDefinition): void {
  const { inputs, outputs, secrets = [] } = definition;
  if (inputs === undefined && outputs === undefined && secrets.length === 0 && !hasForm(definition)) return;
  // Of patterns the last that matches decides: their order counts.
  encodeList(encoder, inputs);
  encodeList(encoder, outputs === undefined ? undefined : [...outputs].sort());
  encoder.uint(secrets.length);
  for (const { id, file, env } of [...secrets].sort((a, b) => (a.id < b.id ? -1 : 1))) {
    encoder.text(id).text(file);
    encodeList(encoder, env === undefined ? undefined : [env]);
  }
}

/** After the declarations, and only where there is something to say. */
function encodeForm(encoder: Encoder, definition: ActionDefinition): void {
  if (!hasForm(definition)) return;
  encodeList(encoder, definition.args);
  encodeList(encoder, definition.mounts);
  encoder.uint(definition.privileged === true ? 1 : 0);
}

function hasForm({ args, mounts = [], privileged = false }: ActionDefinition): boolean {
  return args !== undefined || mounts.length > 0 || privileged;
}

/** Zero for "not there", else one more than the count. */
function encodeList(encoder: Encoder, list: readonly string[] | undefined): void {
  encoder.uint(list === undefined ? 0 : list.length + 1);
  for (const item of list ?? []) encoder.text(item);
}

export function definitionKey(definition: ActionDefinition): ActionDigest {
  return hasher.hash(encodeDefinition(definition)) as ActionDigest;
}

/** What a successful run left. Failed runs are never kept. */
export interface ActionResult {
  /** What the step wrote, as a delta over its input tree. */
  delta: TreeDigest;
  /** Standard output and error as they came. */
  log: BlobDigest;
  durationMs: number;
  /** What each cache directory held at the end, by absolute path. */
  caches: readonly { path: string; tree: TreeDigest }[];
  /** Reasons why a run on another day might differ, for example that it could use the network. */
  volatile: readonly string[];
  /** Variables of the host that the command speaks of and was not given, by name. No part of any key: for explanations. */
  notPassed: readonly string[];
}

const RESULT = 'hd.result/2';
/** Without `notPassed`. */
const RESULT_1 = 'hd.result/1';
export const RESULT_DOMAINS: readonly string[] = [RESULT_1, RESULT];

export function encodeResult(result: ActionResult): Buffer {
  const encoder = new Encoder(RESULT).digest(result.delta).digest(result.log).uint(Math.round(result.durationMs));
  encoder.uint(result.caches.length);
  for (const { path, tree } of result.caches) encoder.text(path).digest(tree);
  encoder.uint(result.volatile.length);
  for (const reason of result.volatile) encoder.text(reason);
  encoder.uint(result.notPassed.length);
  for (const name of result.notPassed) encoder.text(name);
  return encoder.finish();
}

export function decodeResult(bytes: Uint8Array): ActionResult {
  const isFirst = Decoder.domainOf(bytes) === RESULT_1;
  const decoder = new Decoder(bytes, isFirst ? RESULT_1 : RESULT);
  const result = {
    delta: decoder.digest() as TreeDigest,
    log: decoder.digest() as BlobDigest,
    durationMs: decoder.uint(),
    caches: Array.from({ length: decoder.uint() }, () => ({ path: decoder.text(), tree: decoder.digest() as TreeDigest })),
    volatile: Array.from({ length: decoder.uint() }, () => decoder.text()),
    notPassed: isFirst ? [] : Array.from({ length: decoder.uint() }, () => decoder.text()),
  };
  decoder.end();
  return result;
}
