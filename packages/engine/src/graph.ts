import type { ActionDigest, NodeDigest, TreeDigest } from '@hyperdocker/base';
import { Decoder, Encoder, HdError, assert, toText, unreachable } from '@hyperdocker/base';
import type { FileEntry, DirEntry, RefTarget, Store } from '@hyperdocker/cas';
import type { ActionDefinition } from './action.ts';
import { RESULT_DOMAINS, decodeResult, encodeDefinition } from './action.ts';

/**
 * The graph of an environment. Five kinds of node: `Env`, the root; `Package`, something resolved from outside; `BuildStep`,
 * the definition of a command; and `Dir` and `File`, which are the trees and blobs of the store seen as nodes. Each is stored
 * under its own digest, so the whole graph can be read again from the root. A root depends on inputs alone: never on
 * times, owners, host paths, or on what a step happened to print or write.
 */
export interface PackageNode {
  kind: 'Package';
  provider: string;
  name: string;
  version: string;
  /** Digest of what was resolved: an image's tree, or a lock entry. */
  artifact: string;
}
export interface BuildStepNode { kind: 'BuildStep'; command: string; definition: ActionDigest }
export interface EnvNode { kind: 'Env'; name: string; children: readonly EnvChild[] }
export type EnvChild =
  | { kind: 'Package'; digest: NodeDigest }
  | { kind: 'Dir'; digest: TreeDigest }
  | { kind: 'BuildStep'; digest: NodeDigest };

const CHILD_KINDS = ['Package', 'Dir', 'BuildStep'] as const;

export interface EnvInput {
  name: string;
  /** The base first, then the rest in a fixed order. */
  packages: readonly Omit<PackageNode, 'kind'>[];
  /** The project's files, as a source tree. */
  files: TreeDigest;
  steps: readonly ActionDefinition[];
}

/** Stores the nodes of an environment and returns its root. Nodes that exist already are not written again. */
export function putEnv(store: Store, input: EnvInput): NodeDigest {
  const children: EnvChild[] = [
    ...input.packages.map((node) => ({ kind: 'Package' as const, digest: store.putNode(encodePackage(node)) })),
    { kind: 'Dir', digest: input.files },
    ...input.steps.map((step) => ({ kind: 'BuildStep' as const, digest: store.putNode(encodeDefinition(step)) })),
  ];
  const encoder = new Encoder('hd.env/1').text(input.name).uint(children.length);
  for (const child of children) encoder.uint(CHILD_KINDS.indexOf(child.kind)).digest(child.digest);
  return store.putNode(encoder.finish());
}

function encodePackage(node: Omit<PackageNode, 'kind'>): Buffer {
  return new Encoder('hd.package/1').text(node.provider).text(node.name).text(node.version).digest(node.artifact).finish();
}

export function getEnv(store: Store, root: NodeDigest): EnvNode {
  return decodeEnv(store.getNode(root));
}

function decodeEnv(bytes: Uint8Array): EnvNode {
  const decoder = new Decoder(bytes, 'hd.env/1');
  const name = decoder.text();
  const children = Array.from({ length: decoder.uint() }, (): EnvChild => {
    const kind = CHILD_KINDS[decoder.uint()];
    if (kind === undefined) throw new HdError('CORRUPT_OBJECT', 'an Env node has a child of unknown kind');
    return { kind, digest: decoder.digest() } as EnvChild;
  });
  decoder.end();
  return { kind: 'Env', name, children };
}

export function getPackage(store: Store, digest: NodeDigest): PackageNode {
  const decoder = new Decoder(store.getNode(digest), 'hd.package/1');
  const node: PackageNode = { kind: 'Package', provider: decoder.text(), name: decoder.text(), version: decoder.text(), artifact: decoder.digest() };
  decoder.end();
  return node;
}

export function getBuildStep(store: Store, digest: NodeDigest): BuildStepNode {
  return { kind: 'BuildStep', command: new Decoder(store.getNode(digest), 'hd.action/1').text(), definition: digest as string as ActionDigest };
}

/** A node with what lies below it, and how it compares with another root. */
export interface GraphView {
  label: string;
  kind: 'Env' | 'Package' | 'BuildStep' | 'Dir' | 'File';
  digest: string;
  status: 'ok' | 'new' | 'changed' | 'removed';
  children: GraphView[];
}

/** The graph below `root`, marked by what differs from `before`; without one, all is `ok`. */
export function viewGraph(store: Store, root: NodeDigest, before?: NodeDigest): GraphView {
  const [now, old] = [getEnv(store, root), before === undefined ? undefined : getEnv(store, before)];
  const gone = byKey(store, old?.children ?? []);
  const children = [...byKey(store, now.children)].map(([key, child]): GraphView => {
    const previous = gone.get(key)?.digest;
    gone.delete(key);
    if (child.kind === 'Dir') return viewDir(store, '.', child.digest, old === undefined ? child.digest : (previous as TreeDigest | undefined));
    const status = old === undefined ? 'ok' : previous === undefined ? 'new' : previous === child.digest ? 'ok' : 'changed';
    return { label: labelOf(store, child), kind: child.kind, digest: child.digest, status, children: [] };
  });
  const removed = [...gone.values()].map((child): GraphView => ({ label: labelOf(store, child), kind: child.kind, digest: child.digest, status: 'removed', children: [] }));
  const status = old === undefined || root === before ? 'ok' : 'changed';
  return { label: `Env(${now.name})`, kind: 'Env', digest: root, status, children: [...children, ...removed] };
}

/** The same graph with only the nodes that differ, and those above them. */
export function withoutUnchanged(view: GraphView): GraphView {
  return { ...view, children: view.children.filter(({ status }) => status !== 'ok').map(withoutUnchanged) };
}

/** The project's files in a root, as a source tree. */
export function filesOf(store: Store, root: NodeDigest): TreeDigest {
  const files = getEnv(store, root).children.find(({ kind }) => kind === 'Dir');
  assert(files !== undefined, 'an Env node has the tree of its files');
  return files.digest as TreeDigest;
}

/** Children by what identifies them from one root to the next. Of several steps with one command, the first is paired with the first. */
function byKey(store: Store, children: readonly EnvChild[]): Map<string, EnvChild> {
  const keyed = new Map<string, EnvChild>();
  for (const child of children) {
    const key = keyOf(store, child);
    let nth = 0;
    while (keyed.has(`${nth} ${key}`)) nth++;
    keyed.set(`${nth} ${key}`, child);
  }
  return keyed;
}

function keyOf(store: Store, child: EnvChild): string {
  if (child.kind !== 'Package') return labelOf(store, child);
  const node = getPackage(store, child.digest);
  return `${node.provider}/${node.name}`;
}

function labelOf(store: Store, child: EnvChild): string {
  switch (child.kind) {
    case 'Dir':
      return 'Dir(.)';
    case 'Package': {
      const node = getPackage(store, child.digest);
      return `Pkg(${node.provider}/${node.name} ${node.version})`;
    }
    case 'BuildStep':
      return `Build(${getBuildStep(store, child.digest).command})`;
    default:
      return unreachable(child);
  }
}

/** `before`: the same digest for "all unchanged", undefined for "all new". */
function viewDir(store: Store, name: string, now: TreeDigest, before: TreeDigest | undefined): GraphView {
  const old = new Map((before === undefined ? [] : store.getTree(before)).map((entry) => [entry.name, entry]));
  const children: GraphView[] = [];
  for (const entry of store.getTree(now)) {
    const previous = old.get(entry.name);
    old.delete(entry.name);
    const label = toText(entry.name);
    if (entry.kind === 'dir') {
      children.push(viewDir(store, label, entry.digest, previous?.kind === 'dir' ? previous.digest : undefined));
    } else {
      const status = previous === undefined ? 'new' : entryIdentity(previous) === entryIdentity(entry) ? 'ok' : 'changed';
      children.push({ label, kind: 'File', digest: entry.kind === 'file' ? entry.digest : '', status, children: [] });
    }
  }
  for (const gone of old.values()) {
    const label = toText(gone.name);
    children.push({ label: gone.kind === 'dir' ? `Dir(${label})` : label, kind: gone.kind === 'dir' ? 'Dir' : 'File', digest: 'digest' in gone ? gone.digest : '', status: 'removed', children: [] });
  }
  const status = before === undefined ? 'new' : before === now ? 'ok' : 'changed';
  return { label: `Dir(${name})`, kind: 'Dir', digest: now, status, children };
}

function entryIdentity(entry: FileEntry | DirEntry | { kind: string; mode: number; target?: string }): string {
  return `${entry.kind} ${entry.mode} ${'digest' in entry ? entry.digest : ''} ${'target' in entry ? entry.target : ''}`;
}

/** What a node of any kind refers to: given to the store, which marks by it. */
export function nodeLinks(encoded: Uint8Array): RefTarget[] {
  const domain = Decoder.domainOf(encoded);
  if (domain === 'hd.env/1') {
    return decodeEnv(encoded).children.map((child) => ({ kind: child.kind === 'Dir' ? 'tree' : 'node', digest: child.digest }));
  }
  if (RESULT_DOMAINS.includes(domain)) {
    const result = decodeResult(encoded);
    return [{ kind: 'tree', digest: result.delta }, { kind: 'blob', digest: result.log }, ...result.caches.map(({ tree }) => ({ kind: 'tree' as const, digest: tree }))];
  }
  return [];
}
