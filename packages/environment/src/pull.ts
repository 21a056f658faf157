import { closeSync, constants, fchmodSync, fstatSync, fsyncSync, lstatSync, openSync, renameSync, rmSync, statSync, symlinkSync, lchownSync } from 'node:fs';
import { posix } from 'node:path';
import type { BlobDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import { fromBuffer, inUserNamespace, joinBytes, sys, toText, writeAll } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { lookupPath } from '@hyperdocker/cas';
import type { PulledFile } from './api.ts';
import { keepVersion } from './clashes.ts';
import { readJson, writeJson } from './json-file.ts';
import { OpenDir, chownIfOther } from './open-dir.ts';
import type { Owner } from './open-dir.ts';
import type { Version } from './version-at.ts';
import { ABSENT, digestOf, openFile, versionAt, versionOf, versionText } from './version-at.ts';

/** Where files come from and go to. */
export interface PullPlaces {
  store: Store;
  projectDir: string;
  /** The project inside, by its path on the host. */
  insideDir: string;
  clashesDir: string;
  /** What both sides agreed on last, where no tree tells: docs/format/state.md. */
  recordFile: string;
}

/** What the environment was given. */
export interface Given {
  /** The project's files. */
  source: TreeDigest;
  /** The live root, and where in it the project lies. */
  applied: TreeDigest;
  workdir: ByteString;
}

export interface PullOptions {
  /** Only say what would be done. */
  dryRun?: boolean;
  /** Where both sides have changed, the one inside goes to the host, and the host's is kept aside. */
  overwrite?: boolean;
  /** By name: then what the host has not is written there, also where it has been removed. */
  asked?: boolean;
}

type Decision = 'nothing' | 'write' | 'clash';

/** What was given, and what has become of it on either side. What is gone inside stays on the host. */
export function decide(given: Version, host: Version, inside: Version): Decision {
  if (inside.kind === 'absent' || inside.kind === 'other') return 'nothing';
  const [givenText, hostText, insideText] = [versionText(given), versionText(host), versionText(inside)];
  if (insideText === hostText || insideText === givenText) return 'nothing';
  return hostText === givenText ? 'write' : 'clash';
}

/** How often a file is looked at again that changes while it is compared. */
const ATTEMPTS = 3;
const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/** Brings files of the running environment to the project on the host: each whole or not at all, never through a link, and never by removing anything. */
export class Puller {
  readonly #places: PullPlaces;
  readonly #agreed: Map<string, string>;

  constructor(places: PullPlaces) {
    this.#places = places;
    this.#agreed = readAgreed(places.recordFile);
  }

  /** @param paths relative to the project. Of those that need nothing, nothing is said */
  pull(given: Given, paths: Iterable<ByteString>, options: PullOptions = {}): PulledFile[] {
    const before = JSON.stringify([...this.#agreed]);
    const files = [...paths].flatMap((path) => this.#one(given, path, options) ?? []);
    if (JSON.stringify([...this.#agreed]) !== before) writeJson(this.#places.recordFile, { version: 1, paths: Object.fromEntries(this.#agreed) } satisfies PullRecord);
    return files;
  }

  #one(given: Given, path: ByteString, options: PullOptions): PulledFile | undefined {
    for (let attempt = 1; ; attempt++) {
      const outcome = this.#try(given, path, options);
      if (outcome !== 'moved') return outcome;
      if (attempt === ATTEMPTS) return { path: toText(path), outcome: 'refused', reason: 'it does not keep still' };
    }
  }

  #try(given: Given, path: ByteString, options: PullOptions): PulledFile | undefined | 'moved' {
    const { projectDir, insideDir } = this.#places;
    const name = fileName(path);
    using from = OpenDir.parentOf(insideDir, path);
    if (from === undefined) return undefined;
    const inside = versionAt(from, name);
    using to = OpenDir.parentOf(projectDir, path);
    const host = to === undefined ? ABSENT : versionAt(to, name);
    // What was given has no say where nothing can be lost.
    const decision = decide(options.asked === true && host.kind === 'absent' ? ABSENT : this.#given(given, path), host, inside);
    const file = { path: toText(path), host: versionText(host) ?? null, inside: versionText(inside) ?? null };
    if (decision === 'nothing') {
      if (this.#agreed.has(path) && versionText(host) === versionText(inside)) this.#agree(path, inside);
      return undefined;
    }
    if (inside.kind === 'link' && leadsOut(path, inside.target)) return { ...file, outcome: 'refused', reason: 'a link that leads out of the project' };
    if (host.kind === 'other') return { ...file, outcome: 'refused', reason: 'the host has no file there, but something else' };
    if (decision === 'clash' && options.overwrite !== true) return { ...file, outcome: 'clash', ...this.#keep(path, inside, from, options) };
    const change = host.kind === 'absent' ? 'added' : 'changed';
    const kept = decision === 'clash' && to !== undefined ? this.#keep(path, host, to, options) : {};
    if (options.dryRun === true) return { ...file, outcome: 'written', change };
    const written = this.#write(path, from, inside, host);
    if (written !== 'written') return written === 'moved' ? 'moved' : { ...file, outcome: 'refused', reason: written };
    this.#agree(path, inside);
    return { ...file, outcome: 'written', change, ...kept };
  }

  /** What both sides had in common last: what was given, unless a step has laid something over it; then what was brought out. */
  #given({ source, applied, workdir }: Given, path: ByteString): Version {
    const { store } = this.#places;
    const fromHost = versionOf(lookupPath(store, source, path));
    const shown = versionOf(lookupPath(store, applied, joinBytes(workdir, path)));
    const agreed = this.#agreed.get(path);
    if (agreed === undefined || (fromHost.kind !== 'absent' && versionText(fromHost) === versionText(shown))) return fromHost;
    return parseVersion(agreed);
  }

  #agree(path: ByteString, version: Version): void {
    const text = versionText(version);
    if (text !== undefined) this.#agreed.set(path, text);
  }

  #keep(path: ByteString, version: Version, dir: OpenDir, { dryRun = false }: PullOptions): { keptAt?: string } {
    return version.kind !== 'file' || dryRun ? {} : { keptAt: keepVersion(this.#places.clashesDir, path, version.digest, dir.at(fileName(path))) };
  }

  /** Beside the file first, then in its place. `moved`: one of the sides has changed meanwhile. */
  #write(path: ByteString, from: OpenDir, inside: Version, host: Version): 'written' | 'moved' | string {
    const { projectDir } = this.#places;
    const owner = ownerOf(projectDir);
    using to = OpenDir.parentOf(projectDir, path, owner);
    if (to === undefined) return 'on the host, a directory on the way is no directory';
    const name = fileName(path);
    const fresh = `.hd-pull-${process.pid}` as ByteString;
    rmSync(to.at(fresh), { force: true });
    try {
      const made = inside.kind === 'link' ? makeLink(to, fresh, inside.target, owner) : inside.kind === 'file' && copyFile(from, to, { name, fresh, digest: inside.digest, owner });
      if (!made || versionText(versionAt(to, name)) !== versionText(host)) return 'moved';
      renameSync(to.at(fresh), to.at(name));
      return 'written';
    } finally {
      rmSync(to.at(fresh), { force: true });
    }
  }
}

function makeLink(to: OpenDir, fresh: ByteString, target: ByteString, { uid, gid }: Owner): boolean {
  symlinkSync(Buffer.from(target, 'latin1'), to.at(fresh));
  const made = lstatSync(to.at(fresh));
  if (made.uid !== uid || made.gid !== gid) lchownSync(to.at(fresh), uid, gid);
  return true;
}

/** With the time of the one inside: tools there that go by times shall not take it for new when it comes back. False: it is not what it was. */
function copyFile(from: OpenDir, to: OpenDir, { name, fresh, digest, owner }: { name: ByteString; fresh: ByteString; digest: BlobDigest; owner: Owner }): boolean {
  using source = openFile(from, name);
  if (source === undefined) return false;
  const before = to.stat(name);
  const stats = fstatSync(source.fd, { bigint: true });
  const fd = openSync(to.at(fresh), NEW_FILE, 0o600);
  try {
    const copied = digestOf(source.fd, (bytes) => writeAll(fd, bytes));
    chownIfOther(fd, before === undefined || inUserNamespace() ? owner : { uid: Number(before.uid), gid: Number(before.gid) });
    fchmodSync(fd, before === undefined ? Number(stats.mode) & 0o777 : withExec(Number(before.mode), Number(stats.mode)));
    sys().setTimes(to.at(fresh), stats.atimeNs, stats.mtimeNs);
    fsyncSync(fd);
    return copied === digest;
  } finally {
    closeSync(fd);
  }
}

/** Who may read a file on the host stays the host's business. */
function withExec(hostMode: number, insideMode: number): number {
  const rest = hostMode & 0o666;
  return (insideMode & 0o111) === 0 ? rest : rest | ((rest & 0o444) >> 2);
}

/** As root too, a project's files are those of whoever has the project. An ordinary user makes files of his own, and can give them to nobody. */
function ownerOf(projectDir: string): Owner {
  if (inUserNamespace()) return { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  const { uid, gid } = statSync(projectDir);
  return { uid, gid };
}

function leadsOut(path: ByteString, target: ByteString): boolean {
  if (target.startsWith('/')) return true;
  const end = posix.normalize(posix.join(posix.dirname(path), target));
  return end === '..' || end.startsWith('../');
}

function fileName(path: ByteString): ByteString {
  return path.slice(path.lastIndexOf('/') + 1) as ByteString;
}

interface PullRecord { version: 1; paths: Record<string, string> }

function readAgreed(file: string): Map<string, string> {
  const record = readJson(file) as Partial<PullRecord> | undefined;
  return new Map(record?.version === 1 && typeof record.paths === 'object' ? Object.entries(record.paths) : []);
}

function parseVersion(text: string): Version {
  if (text.startsWith('link to ')) return { kind: 'link', target: fromBuffer(Buffer.from(text.slice('link to '.length))) };
  const [digest = '', executable] = text.split(' ');
  return { kind: 'file', digest: digest as BlobDigest, executable: executable !== undefined };
}
