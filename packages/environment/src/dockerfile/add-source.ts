import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { Readable } from 'node:stream';
import type { BlobDigest, TreeDigest } from '@hyperdocker/base';
import { HdError, findProgram, toByteString, toText } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { lookupPath } from '@hyperdocker/cas';
import { importTar } from '@hyperdocker/oci';
import type { Home } from '../home.ts';
import { readJson, writeJson } from '../json-file.ts';
import { readContext } from './build-context.ts';
import { buildsDir } from './build-files.ts';
import type { CopyOptions } from './copy-tree.ts';
import { copyInto, extractInto } from './copy-tree.ts';
import type { SharedLease } from './shared-lease.ts';
import { followLinks, literal, lookUpIn, matchingPaths } from './tree-paths.ts';

const URL_PATTERN = /^https?:\/\//;
const GIT_PATTERN = /^(git@|git:\/\/|ssh:\/\/)|^https?:\/\/[^#]*\.git(#|\?|$)/;

export function isRemote(source: string): boolean {
  return URL_PATTERN.test(source) || GIT_PATTERN.test(source);
}

/** What ADD got from elsewhere. */
export type Remote =
  /** To be copied, by these names. */
  | { kind: 'files'; tree: TreeDigest; names: string[]; mode?: string }
  /** Of an archive that is to be unpacked. */
  | { kind: 'archive'; tree: TreeDigest };

export interface RemoteOptions { store: Store; home: Home; signal: AbortSignal; keepGitDir: boolean; unpack: boolean }

/**
 * @param checksum `sha256:…` @throws HdError ADD_FETCH, ADD_CHECKSUM, ADD_GIT
 */
export async function fetchRemote(options: RemoteOptions, source: string, checksum: string | undefined): Promise<Remote> {
  if (GIT_PATTERN.test(source)) return fetchGit(options, source, checksum);
  const { store } = options;
  const { digest, size, mtimeMs } = await fetchFile(options, source, checksum);
  if (options.unpack) {
    const archive = await readArchive(store, digest);
    if (archive !== undefined) return { kind: 'archive', tree: archive };
  }
  const name = basename(decodeURIComponent(new URL(source).pathname));
  if (name === '') throw new HdError('ADD_FETCH', `${source} names no file`, { hint: 'end the URL with a file name' });
  const meta = { uid: 0, gid: 0, mtimeNs: BigInt(mtimeMs) * 1_000_000n, xattrs: [], linkGroup: 0, links: 1 };
  return { kind: 'files', names: [`/${literal(name)}`], tree: store.putTree([{ kind: 'file', name: toByteString(name), mode: 0o600, digest, size, meta }]) };
}

/** ADD of files of a context: archives are unpacked, the rest is copied. @throws HdError COPY_FAILED */
export async function addSource(store: Store, add: { tree: TreeDigest; from: TreeDigest; source: string; destination: string; options: CopyOptions; lease: SharedLease }): Promise<TreeDigest> {
  const { from, source, destination, options, lease } = add;
  let { tree } = add;
  const paths = matchingPaths(store, from, source);
  for (const path of paths) {
    const entry = lookupPath(store, from, followLinks(lookUpIn(store, from), path));
    const inUse = [tree, from].map((digest) => ({ kind: 'tree' as const, digest }));
    const archive = entry?.kind === 'file' && isPacked(store, entry.digest) ? await lease.apart(inUse, () => readArchive(store, entry.digest)) : undefined;
    if (archive !== undefined) tree = extractInto(store, tree, archive, destination, options);
    else tree = copyInto(store, tree, from, [literal(toText(path))], destination, options);
  }
  return tree;
}

interface Fetched { digest: BlobDigest; size: number; mtimeMs: number }
interface KnownFetch extends Fetched { etag?: string; lastModified?: string; sha256: string }

/** Asks whether it is still the same where it has been here before; with a checksum not even that. */
async function fetchFile({ store, home, signal }: RemoteOptions, url: string, checksum: string | undefined): Promise<Fetched> {
  const file = join(buildsDir(home), 'fetched.json');
  const all = (readJson(file) ?? {}) as Record<string, KnownFetch>;
  const known = all[url];
  const isHere = known !== undefined && store.hasBlob(known.digest);
  if (isHere && checksum !== undefined && checksum === `sha256:${known.sha256}`) return known;
  const headers: Record<string, string> = {};
  if (isHere && known.etag !== undefined) headers['if-none-match'] = known.etag;
  else if (isHere && known.lastModified !== undefined) headers['if-modified-since'] = known.lastModified;
  const response = await request(url, headers, signal);
  if (response.status === 304 && isHere) return checked(known, url, checksum);
  if (!response.ok) throw new HdError('ADD_FETCH', `${url} cannot be fetched: ${response.status} ${response.statusText}`, { hint: 'check the URL' });
  using writer = store.blobWriter();
  const hash = createHash('sha256');
  for await (const chunk of Readable.fromWeb(response.body as never)) {
    writer.write(chunk as Buffer);
    hash.update(chunk as Buffer);
  }
  const put = writer.finish();
  const [etag, lastModified] = [response.headers.get('etag'), response.headers.get('last-modified')];
  const mtimeMs = lastModified === null ? 0 : Date.parse(lastModified) || 0;
  const fetched: KnownFetch = { ...put, mtimeMs, sha256: hash.digest('hex'), ...(etag === null ? {} : { etag }), ...(lastModified === null ? {} : { lastModified }) };
  checked(fetched, url, checksum);
  store.flush();
  writeJson(file, { ...all, [url]: fetched });
  return fetched;
}

async function request(url: string, headers: Record<string, string>, signal: AbortSignal): Promise<Response> {
  try {
    return await fetch(url, { headers, signal });
  } catch (cause) {
    signal.throwIfAborted();
    throw new HdError('ADD_FETCH', `${url} cannot be fetched`, { cause, hint: 'check the URL and the network' });
  }
}

function checked(fetched: KnownFetch, url: string, checksum: string | undefined): KnownFetch {
  if (checksum !== undefined && checksum !== `sha256:${fetched.sha256}`) throw new HdError('ADD_CHECKSUM', `${url} has sha256:${fetched.sha256}, not ${checksum}`, { hint: 'it has changed, or --checksum is wrong' });
  return fetched;
}

/** A clone by git, of one commit. */
function fetchGit({ store, home, keepGitDir }: RemoteOptions, source: string, checksum: string | undefined): Remote {
  if (findProgram('git', process.env['PATH']) === undefined) throw new HdError('ADD_GIT', `${source} needs git, which is not installed`, { hint: 'apt-get install git' });
  const [url = '', fragment = ''] = source.split('#');
  const [ref = '', subdirectory = ''] = fragment.split(':');
  const dir = mkdtempSync(join(home.tempDir, 'git-'));
  const git = (...args: string[]): { ok: boolean; out: string; err: string } => {
    const { status, stdout, stderr } = spawnSync('git', args, { cwd: dir, encoding: 'utf8', env: { ...process.env, GIT_TERMINAL_PROMPT: '0' } });
    return { ok: status === 0, out: (stdout ?? '').trim(), err: (stderr ?? '').trim() };
  };
  const must = (...args: string[]): string => {
    const { ok, out, err } = git(...args);
    if (!ok) throw new HdError('ADD_GIT', `${source} cannot be had: ${err.split('\n').at(-1) ?? ''}`, { hint: 'check the URL, the branch and the rights to it' });
    return out;
  };
  try {
    must('init', '--quiet');
    must('remote', 'add', 'origin', url);
    const wanted = ref === '' ? 'HEAD' : ref;
    if (!git('fetch', '--quiet', '--depth', '1', 'origin', wanted).ok) must('fetch', '--quiet', '--tags', 'origin', '+refs/heads/*:refs/remotes/origin/*');
    if (!git('checkout', '--quiet', 'FETCH_HEAD').ok || (/^[0-9a-f]{7,40}$/.test(ref) && !must('rev-parse', 'HEAD').startsWith(ref))) must('checkout', '--quiet', ref);
    const commit = must('rev-parse', 'HEAD');
    if (checksum !== undefined && !commit.startsWith(checksum)) throw new HdError('ADD_CHECKSUM', `${source} is at ${commit}, not ${checksum}`);
    if (!keepGitDir) rmSync(join(dir, '.git'), { recursive: true });
    const cacheFile = join(dir, '..', `${basename(dir)}.json`);
    const { tree } = readContext({ store, storeDir: home.storeDir, dir: join(dir, subdirectory), ignore: [], cacheFile });
    rmSync(cacheFile, { force: true });
    return { kind: 'files', tree, names: ['/'] };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

const PACKED: { bytes: number[]; program: string[] }[] = [
  { bytes: [0x1f, 0x8b], program: ['gzip', '-dc'] },
  { bytes: [0x42, 0x5a, 0x68], program: ['bzip2', '-dc'] },
  { bytes: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], program: ['xz', '-dc'] },
  { bytes: [0x28, 0xb5, 0x2f, 0xfd], program: ['zstd', '-dc'] },
];

function packing(head: Buffer): string[] | 'plain' | undefined {
  const found = PACKED.find(({ bytes }) => bytes.every((byte, at) => head[at] === byte));
  if (found !== undefined) return found.program;
  return head.subarray(257, 262).toString('latin1') === 'ustar' ? 'plain' : undefined;
}

function isPacked(store: Store, digest: BlobDigest): boolean {
  return packing(store.readBlob(digest, 0, 512)) !== undefined;
}

/** The files of a tar, packed or not; undefined for what is none. */
async function readArchive(store: Store, digest: BlobDigest): Promise<TreeDigest | undefined> {
  const how = packing(store.readBlob(digest, 0, 512));
  if (how === undefined) return undefined;
  try {
    if (how === 'plain') return await importTar(store, store.streamBlob(digest));
    return await importTar(store, unpacked(how, store.streamBlob(digest)));
  } catch (error) {
    // A packed file that is no archive is a file.
    if (error instanceof HdError && (error.code === 'LAYER_INVALID' || error.code === 'NO_ARCHIVE') && how !== 'plain') return undefined;
    throw error;
  }
}

async function* unpacked([program = '', ...args]: string[], chunks: Iterable<Buffer>): AsyncGenerator<Buffer> {
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'ignore'] });
  const ended = new Promise<number>((resolve, reject) => {
    child.once('error', (cause) => reject(new HdError('ADD_UNPACK', `${program} cannot be run`, { cause, hint: `apt-get install ${program === 'xz' ? 'xz-utils' : program}` })));
    child.once('close', (code) => resolve(code ?? 1));
  });
  ended.catch(() => {});
  // What reads may stop before the end: then nobody is left to write to.
  child.stdin.on('error', () => {});
  Readable.from(chunks).pipe(child.stdin);
  yield* child.stdout as AsyncIterable<Buffer>;
  if ((await ended) !== 0) throw new HdError('NO_ARCHIVE', `${program} cannot unpack it`);
}
