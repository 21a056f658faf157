import { closeSync, fstatSync, openSync, readFileSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import type { BlobDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import { assert, joinBytes, toByteString, toText, unreachable } from '@hyperdocker/base';
import type { DirTrees, Glimpse, Known, KnownFile, KnownLink, LeftOut, PackedEntries } from './known-files.ts';
import { KnownDir, outdate, pathOf } from './known-files.ts';

/**
 * What is known of a project's files, on disk: docs/format/state.md. A cache: what is not there, of another version or damaged counts as nothing known,
 * and it is never synced.
 *
 * One section holds everything, in the order of the walk; those appended to it hold the directories that changed since, each without what is below it, so
 * that an edit writes one directory. Of a directory, what an `lstat` is compared with lies in columns, and is compared there.
 */
const MAGIC = Buffer.from('hd.stat/2\0\0\0\0\0\0\0', 'latin1');
const SECTION_HEAD_BYTES = 12;
/** Appended sections may grow to this part of the whole before it is written anew. */
const MAX_APPENDED = 0.5;
const MIN_APPENDED_BYTES = 256 << 10;

const END = 0;
const FILE = 1;
const LINK = 2;
const DIR = 3;
const LEFT_OUT = 4;
const KIND_MASK = 7;
/** `trusted` of a file or link, `included` of a directory. */
const FLAG = 8;
const EXECUTABLE = 16;
const LEFT_OUT_FORMS = ['directory', 'file', 'special'] as const;
const LEFT_OUT_SHIFT = 3;
const COLUMNS = 4;
const NO_COLUMNS = Array<number>(COLUMNS).fill(0);
/** Count, bytes after the columns, bytes of the names. */
const ENTRIES_HEAD_BYTES = 12;
/** Empty or not, both digests, files, bytes. */
const TREES_BYTES = 1 + 32 + 32 + 8 + 8;
/** Time shown and digest. */
const FILE_REST_BYTES = 8 + 32;

export interface StoredFiles {
  root: KnownDir;
  /** What the choice of files and the trees were made with: filter and owner. */
  view: string;
  /** Of the whole project, as of the last write. */
  source: TreeDigest;
  projected: TreeDigest;
}

export class StatCache {
  readonly #path: string;
  /** Of the file as this object left it. */
  #ino = 0;
  #wholeBytes = 0;
  #lengthBytes = 0;

  constructor(path: string) {
    this.#path = path;
  }

  /** Undefined: nothing is known. */
  load(): StoredFiles | undefined {
    let bytes: Buffer;
    try {
      bytes = readFileSync(this.#path);
    } catch {
      return undefined;
    }
    if (bytes.length < MAGIC.length || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) return undefined;
    let offset = MAGIC.length;
    let loaded: StoredFiles | undefined;
    for (;;) {
      const payload = readSection(bytes, offset);
      if (payload === undefined) break;
      loaded = new SectionReader(payload).apply(loaded);
      offset += SECTION_HEAD_BYTES + payload.length;
      if (this.#wholeBytes === 0) this.#wholeBytes = offset;
    }
    // After a torn end nothing can be appended: the next write is a whole one.
    if (loaded !== undefined && offset === bytes.length) this.#remember();
    return loaded;
  }

  /** Writes everything anew. */
  save(files: StoredFiles): void {
    const writer = new SectionWriter(files);
    const visit = (dir: KnownDir, path: ByteString): void => {
      writer.directory(path, dir);
      for (const [index, node] of dir.nodes.entries()) if (node.kind === 'dir') visit(node, joinBytes(path, dir.names[index] ?? ('' as ByteString)));
    };
    visit(files.root, '' as ByteString);
    const temp = `${this.#path}.${process.pid}.new`;
    try {
      writeFileSync(temp, Buffer.concat([MAGIC, writer.finish()]), { mode: 0o600 });
      renameSync(temp, this.#path);
    } catch (error) {
      rmSync(temp, { force: true });
      throw error;
    }
    this.#remember();
    this.#wholeBytes = this.#lengthBytes;
  }

  /** Writes the directories whose entries changed; everything where little else is there. */
  append(changed: Iterable<KnownDir>, files: StoredFiles): void {
    const section = this.#lengthBytes === 0 ? undefined : changedSection(changed, files);
    const limitBytes = Math.max(MIN_APPENDED_BYTES, this.#wholeBytes * MAX_APPENDED);
    if (section === undefined || this.#lengthBytes + section.length - this.#wholeBytes > limitBytes || !this.#tryAppend(section)) this.save(files);
  }

  /** False where the file is not the one that this object knows. */
  #tryAppend(section: Buffer): boolean {
    let fd: number;
    try {
      fd = openSync(this.#path, 'r+');
    } catch {
      return false;
    }
    try {
      const { ino, size } = fstatSync(fd);
      if (ino !== this.#ino || size !== this.#lengthBytes) return false;
      this.#lengthBytes += writeSync(fd, section, 0, section.length, size);
      return true;
    } finally {
      closeSync(fd);
    }
  }

  #remember(): void {
    const fd = openSync(this.#path, 'r');
    const { ino, size } = fstatSync(fd);
    closeSync(fd);
    this.#ino = ino;
    this.#lengthBytes = size;
  }
}

/** Parents before what is in them. */
function changedSection(changed: Iterable<KnownDir>, files: StoredFiles): Buffer {
  const writer = new SectionWriter(files);
  const dirs = [...changed].map((dir) => ({ dir, path: pathOf(dir, files.root) })).sort((a, b) => (a.path?.length ?? 0) - (b.path?.length ?? 0));
  for (const { dir, path } of dirs) if (path !== undefined) writer.directory(path, dir);
  return writer.finish();
}

/** The payload of the section at `offset`, or undefined: none, or a damaged one. */
function readSection(bytes: Buffer, offset: number): Buffer | undefined {
  if (offset + SECTION_HEAD_BYTES > bytes.length) return undefined;
  const length = Number(bytes.readBigUInt64LE(offset));
  const payload = bytes.subarray(offset + SECTION_HEAD_BYTES, offset + SECTION_HEAD_BYTES + length);
  return payload.length === length && crc32(payload) === bytes.readUInt32LE(offset + 8) ? payload : undefined;
}

class SectionWriter {
  #buffer = Buffer.allocUnsafe(64 << 10);
  #length = SECTION_HEAD_BYTES;

  constructor({ view, source, projected }: StoredFiles) {
    this.#text(toByteString(view));
    this.#digest(source);
    this.#digest(projected);
  }

  directory(path: ByteString, dir: KnownDir): void {
    this.#byte(DIR | (dir.included ? FLAG : 0));
    this.#text(path);
    const { trees } = dir;
    assert(trees !== undefined, 'what is kept has its trees in the store');
    this.#byte(trees.empty ? 1 : 0);
    this.#digest(trees.source);
    this.#digest(trees.projected);
    this.#double(trees.files);
    this.#double(trees.bytes);
    const names = dir.names.join('/');
    this.#uint(dir.nodes.length);
    this.#uint(restBytes(dir.nodes));
    this.#uint(names.length);
    this.#latin1(names);
    for (const node of dir.nodes) this.#byte(headOf(node));
    for (const node of dir.nodes) for (const value of columnsOf(node)) this.#double(value);
    for (const node of dir.nodes) {
      if (node.kind === 'link') this.#text(node.target);
      else if (node.kind === 'file') {
        this.#reserve(8);
        this.#length = this.#buffer.writeBigInt64LE(node.shownMtimeNs, this.#length);
        this.#digest(node.digest);
      }
    }
  }

  finish(): Buffer {
    this.#byte(END);
    const section = this.#buffer.subarray(0, this.#length);
    section.writeBigUInt64LE(BigInt(this.#length - SECTION_HEAD_BYTES), 0);
    section.writeUInt32LE(crc32(section.subarray(SECTION_HEAD_BYTES)), 8);
    return section;
  }

  #byte(value: number): void {
    this.#reserve(1);
    this.#buffer[this.#length++] = value;
  }

  #double(value: number): void {
    this.#reserve(8);
    this.#length = this.#buffer.writeDoubleLE(value, this.#length);
  }

  #digest(hex: string): void {
    this.#reserve(32);
    this.#length += this.#buffer.write(hex, this.#length, 'hex');
  }

  #uint(value: number): void {
    this.#reserve(4);
    this.#length = this.#buffer.writeUInt32LE(value, this.#length);
  }

  #text(value: string): void {
    this.#uint(value.length);
    this.#latin1(value);
  }

  #latin1(value: string): void {
    this.#reserve(value.length);
    this.#length += this.#buffer.write(value, this.#length, 'latin1');
  }

  #reserve(extra: number): void {
    if (this.#length + extra <= this.#buffer.length) return;
    const grown = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#length + extra));
    this.#buffer.copy(grown, 0, 0, this.#length);
    this.#buffer = grown;
  }
}

function headOf(node: Known): number {
  switch (node.kind) {
    case 'dir':
      return DIR | (node.included ? FLAG : 0);
    case 'left-out':
      return LEFT_OUT | (LEFT_OUT_FORMS.indexOf(node.what) << LEFT_OUT_SHIFT);
    case 'file':
      return FILE | (node.executable ? EXECUTABLE : 0) | (node.trusted ? FLAG : 0);
    case 'link':
      return LINK | (node.trusted ? FLAG : 0);
    default:
      assert(node.kind !== 'unread', 'what is kept has been read');
      return unreachable(node);
  }
}

/** `ino`, `mtimeMs`, `ctimeMs` and size. */
function columnsOf(node: Known): readonly number[] {
  if (node.kind !== 'file' && node.kind !== 'link') return NO_COLUMNS;
  return [node.ino, node.mtimeMs, node.ctimeMs, node.kind === 'file' ? node.size : 0];
}

/** Of what comes after the columns. */
function restBytes(nodes: readonly Known[]): number {
  return nodes.reduce((sum, node) => sum + (node.kind === 'file' ? FILE_REST_BYTES : node.kind === 'link' ? 4 + node.target.length : 0), 0);
}

/** Of a payload whose checksum is right: what is in it was written above. */
class SectionReader {
  readonly #buffer: Buffer;
  #offset = 0;

  constructor(payload: Buffer) {
    this.#buffer = payload;
  }

  apply(before: StoredFiles | undefined): StoredFiles {
    const view = toText(this.#text());
    const source = this.#digest() as TreeDigest;
    const projected = this.#digest() as TreeDigest;
    const root = before?.root ?? new KnownDir(undefined, true);
    if (before === undefined) this.#tree(root);
    else this.#changes(root);
    return { root, view, source, projected };
  }

  /** As `save` has walked. */
  #tree(dir: KnownDir): void {
    assert((this.#byte() & KIND_MASK) === DIR, 'as many directories as there are in directories');
    this.#offset += 4 + this.#buffer.readUInt32LE(this.#offset);
    for (const child of this.#directory(dir, (included) => new KnownDir(dir, included))) this.#tree(child);
  }

  #changes(root: KnownDir): void {
    for (let head = this.#byte(); head !== END; head = this.#byte()) {
      const dir = findDir(root, this.#text());
      assert(dir !== undefined, 'a directory comes after the one that it is in');
      // What is above it is not told anew.
      if (dir.parent !== undefined) outdate(dir.parent);
      const present = new Map(dir.names.map((name, index) => [name, dir.glimpse(index)]));
      this.#directory(dir, (included, name) => {
        const child = present.get(name());
        if (child?.kind !== 'dir') return new KnownDir(dir, included);
        child.included = included;
        return child;
      });
    }
  }

  /** Returns the directories in it. */
  #directory(dir: KnownDir, child: ChildOf): Iterable<KnownDir> {
    dir.trees = new StoredTrees(this.#buffer, this.#offset);
    this.#offset += TREES_BYTES;
    const entries = new PackedDirectory(this.#buffer, this.#offset, child);
    dir.pack(entries);
    this.#offset = entries.end;
    return entries.dirs;
  }

  #byte(): number {
    return this.#buffer.readUInt8(this.#offset++);
  }

  #digest(): string {
    this.#offset += 32;
    return this.#buffer.toString('hex', this.#offset - 32, this.#offset);
  }

  #text(): ByteString {
    const length = this.#buffer.readUInt32LE(this.#offset);
    this.#offset += 4 + length;
    return this.#buffer.toString('latin1', this.#offset - length, this.#offset) as ByteString;
  }
}

/** Of most directories, nobody asks. */
class StoredTrees implements DirTrees {
  readonly #buffer: Buffer;
  readonly #offset: number;

  constructor(buffer: Buffer, offset: number) {
    this.#buffer = buffer;
    this.#offset = offset;
  }

  get empty(): boolean {
    return this.#buffer[this.#offset] === 1;
  }

  get source(): TreeDigest {
    return this.#buffer.toString('hex', this.#offset + 1, this.#offset + 33) as TreeDigest;
  }

  get projected(): TreeDigest {
    return this.#buffer.toString('hex', this.#offset + 33, this.#offset + 65) as TreeDigest;
  }

  get files(): number {
    return this.#buffer.readDoubleLE(this.#offset + 65);
  }

  get bytes(): number {
    return this.#buffer.readDoubleLE(this.#offset + 73);
  }
}

type ChildOf = (included: boolean, name: () => ByteString) => KnownDir;

/** The entries of one directory, where they lie. */
class PackedDirectory implements PackedEntries {
  readonly end: number;
  readonly #buffer: Buffer;
  readonly #names: number;
  readonly #heads: number;
  readonly #columns: DataView;
  readonly #rest: number;
  /** By their indices. */
  readonly #dirs = new Map<number, KnownDir>();

  /** @param offset of the entries in `buffer` */
  constructor(buffer: Buffer, offset: number, child: ChildOf) {
    const length = buffer.readUInt32LE(offset);
    const restBytes = buffer.readUInt32LE(offset + 4);
    this.#buffer = buffer;
    this.#names = offset + ENTRIES_HEAD_BYTES;
    this.#heads = this.#names + buffer.readUInt32LE(offset + 8);
    const columns = this.#heads + length;
    this.#rest = columns + length * COLUMNS * 8;
    this.#columns = new DataView(buffer.buffer, buffer.byteOffset + columns, this.#rest - columns);
    this.end = this.#rest + restBytes;
    let names: ByteString[] | undefined;
    for (let index = 0; index < length; index++) {
      const head = this.#head(index);
      if ((head & KIND_MASK) === DIR) this.#dirs.set(index, child((head & FLAG) !== 0, () => (names ??= this.names)[index] ?? ('' as ByteString)));
    }
  }

  get dirs(): Iterable<KnownDir> {
    return this.#dirs.values();
  }

  get names(): ByteString[] {
    const joined = this.#joinedNames();
    return joined === '' ? [] : (joined.split('/') as ByteString[]);
  }

  hasNames(names: readonly ByteString[]): boolean {
    return names.join('/') === this.#joinedNames();
  }

  glimpse(index: number): Glimpse {
    const head = this.#head(index);
    const kind = head & KIND_MASK;
    if (kind !== FILE && kind !== LINK) return this.#other(index, head);
    const glimpse = kind === FILE ? FILE_GLIMPSE : LINK_GLIMPSE;
    glimpse.ino = this.#column(index, 0);
    glimpse.mtimeMs = this.#column(index, 1);
    glimpse.ctimeMs = this.#column(index, 2);
    glimpse.trusted = (head & FLAG) !== 0;
    if (glimpse.kind === 'file') {
      glimpse.size = this.#column(index, 3);
      glimpse.executable = (head & EXECUTABLE) !== 0;
    }
    return glimpse;
  }

  unpack(): Known[] {
    let offset = this.#rest;
    return this.names.map((_, index): Known => {
      const head = this.#head(index);
      const kind = head & KIND_MASK;
      if (kind !== FILE && kind !== LINK) return this.#other(index, head);
      const seen = { ino: this.#column(index, 0), mtimeMs: this.#column(index, 1), ctimeMs: this.#column(index, 2), trusted: (head & FLAG) !== 0 };
      const start = offset;
      if (kind === FILE) {
        offset += FILE_REST_BYTES;
        const digest = this.#buffer.toString('hex', start + 8, offset) as BlobDigest;
        return { kind: 'file', ...seen, executable: (head & EXECUTABLE) !== 0, size: this.#column(index, 3), shownMtimeNs: this.#buffer.readBigInt64LE(start), digest };
      }
      offset += 4 + this.#buffer.readUInt32LE(start);
      return { kind: 'link', ...seen, target: this.#buffer.toString('latin1', start + 4, offset) as ByteString };
    });
  }

  #joinedNames(): string {
    return this.#buffer.toString('latin1', this.#names, this.#heads);
  }

  #other(index: number, head: number): KnownDir | LeftOut {
    if ((head & KIND_MASK) === LEFT_OUT) return { kind: 'left-out', what: LEFT_OUT_FORMS[head >> LEFT_OUT_SHIFT] ?? 'special' };
    const dir = this.#dirs.get(index);
    assert(dir !== undefined, 'the constructor has seen every directory');
    return dir;
  }

  #head(index: number): number {
    return this.#buffer[this.#heads + index] ?? END;
  }

  #column(index: number, column: number): number {
    return this.#columns.getFloat64((index * COLUMNS + column) * 8, true);
  }
}

/** For all: 14,700 objects a walk were a fifth of its time. */
const FILE_GLIMPSE: Omit<KnownFile, 'digest' | 'shownMtimeNs'> = { kind: 'file', ino: 0, mtimeMs: 0, ctimeMs: 0, executable: false, size: 0, trusted: false };
const LINK_GLIMPSE: Omit<KnownLink, 'target'> = { kind: 'link', ino: 0, mtimeMs: 0, ctimeMs: 0, trusted: false };

function findDir(root: KnownDir, path: ByteString): KnownDir | undefined {
  let dir = root;
  for (const name of path === '' ? [] : path.split('/')) {
    const node = dir.nodes[dir.names.indexOf(name as ByteString)];
    if (node?.kind !== 'dir') return undefined;
    dir = node;
  }
  return dir;
}
