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
  return encoder.finish();
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
  /** Reasons why a run on another day might differ, for example that it had the network. */
  volatile: readonly string[];
}

export function encodeResult(result: ActionResult): Buffer {
  const encoder = new Encoder('hd.result/1').digest(result.delta).digest(result.log).uint(Math.round(result.durationMs));
  encoder.uint(result.caches.length);
  for (const { path, tree } of result.caches) encoder.text(path).digest(tree);
  encoder.uint(result.volatile.length);
  for (const reason of result.volatile) encoder.text(reason);
  return encoder.finish();
}

export function decodeResult(bytes: Uint8Array): ActionResult {
  const decoder = new Decoder(bytes, 'hd.result/1');
  const result = {
    delta: decoder.digest() as TreeDigest,
    log: decoder.digest() as BlobDigest,
    durationMs: decoder.uint(),
    caches: Array.from({ length: decoder.uint() }, () => ({ path: decoder.text(), tree: decoder.digest() as TreeDigest })),
    volatile: Array.from({ length: decoder.uint() }, () => decoder.text()),
  };
  decoder.end();
  return result;
}
