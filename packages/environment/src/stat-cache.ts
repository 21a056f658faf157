import { closeSync, fstatSync, openSync, readFileSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import type { BlobDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import { assert, joinBytes, toByteString, toText } from '@hyperdocker/base';
import type { Known, KnownDir } from './known-files.ts';
import { newDir, outdate, pathOf } from './known-files.ts';

/**
 * What is known of a project's files, on disk: docs/format/state.md. A cache: what is not there, of another version or damaged counts as nothing known,
 * and it is never synced.
 *
 * One section holds everything, in the order of the walk; those appended to it hold the directories that changed since, each without what is below it, so
 * that an edit writes one directory.
 */
const MAGIC = Buffer.from('hd.stat/1\0\0\0\0\0\0\0', 'latin1');
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
    this.#text(dir.names.join('/'));
    for (const node of dir.nodes) this.#node(node);
    this.#byte(END);
  }

  finish(): Buffer {
    this.#byte(END);
    const section = this.#buffer.subarray(0, this.#length);
    section.writeBigUInt64LE(BigInt(this.#length - SECTION_HEAD_BYTES), 0);
    section.writeUInt32LE(crc32(section.subarray(SECTION_HEAD_BYTES)), 8);
    return section;
  }

  #node(node: Known): void {
    assert(node.kind !== 'unread', 'what is kept has been read');
    if (node.kind === 'dir') this.#byte(DIR | (node.included ? FLAG : 0));
    else if (node.kind === 'left-out') this.#byte(LEFT_OUT | (LEFT_OUT_FORMS.indexOf(node.what) << LEFT_OUT_SHIFT));
    else {
      this.#byte((node.kind === 'file' ? FILE | (node.executable ? EXECUTABLE : 0) : LINK) | (node.trusted ? FLAG : 0));
      this.#double(node.ino);
      this.#double(node.mtimeMs);
      this.#double(node.ctimeMs);
      if (node.kind === 'link') this.#text(node.target);
      else {
        this.#double(node.size);
        this.#reserve(8);
        this.#length = this.#buffer.writeBigInt64LE(node.shownMtimeNs, this.#length);
        this.#digest(node.digest);
      }
    }
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

  #text(value: string): void {
    this.#reserve(4 + value.length);
    this.#length = this.#buffer.writeUInt32LE(value.length, this.#length);
    this.#length += this.#buffer.write(value, this.#length, 'latin1');
  }

  #reserve(extra: number): void {
    if (this.#length + extra <= this.#buffer.length) return;
    const grown = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#length + extra));
    this.#buffer.copy(grown, 0, 0, this.#length);
    this.#buffer = grown;
  }
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
    const dirs = new Map<ByteString, KnownDir>();
    const root = before?.root ?? newDir(undefined, true);
    for (let head = this.#byte(); head !== END; head = this.#byte()) {
      const path = this.#text();
      const dir = path === '' ? root : (dirs.get(path) ?? findDir(root, path));
      assert(dir !== undefined, 'a directory comes after the one that it is in');
      this.#directory(path, dir, dirs);
      // What is above it is not told anew.
      if (before !== undefined && dir.parent !== undefined) outdate(dir.parent);
    }
    return { root, view, source, projected };
  }

  #directory(path: ByteString, dir: KnownDir, dirs: Map<ByteString, KnownDir>): void {
    const empty = this.#byte() === 1;
    dir.trees = { empty, source: this.#digest() as TreeDigest, projected: this.#digest() as TreeDigest, files: this.#double(), bytes: this.#double() };
    const joined = this.#text();
    const present = new Map(dir.names.map((name, index) => [name, dir.nodes[index]]));
    dir.names = joined === '' ? [] : (joined.split('/') as ByteString[]);
    dir.nodes = [];
    for (let head = this.#byte(); head !== END; head = this.#byte()) {
      const name = dir.names[dir.nodes.length];
      assert(name !== undefined, 'a name for each node');
      const node = this.#node(head, dir, present.get(name));
      dir.nodes.push(node);
      if (node.kind === 'dir') dirs.set(joinBytes(path, name), node);
    }
    assert(dir.nodes.length === dir.names.length, 'a node for each name');
  }

  #node(head: number, parent: KnownDir, present: Known | undefined): Known {
    const kind = head & KIND_MASK;
    const flag = (head & FLAG) !== 0;
    if (kind === LEFT_OUT) return { kind: 'left-out', what: LEFT_OUT_FORMS[head >> LEFT_OUT_SHIFT] ?? 'special' };
    if (kind === DIR) {
      const dir = present?.kind === 'dir' ? present : newDir(parent, flag);
      dir.included = flag;
      return dir;
    }
    const ino = this.#double();
    const mtimeMs = this.#double();
    const ctimeMs = this.#double();
    if (kind === LINK) return { kind: 'link', ino, mtimeMs, ctimeMs, trusted: flag, target: this.#text() };
    const size = this.#double();
    const shownMtimeNs = this.#buffer.readBigInt64LE(this.#offset);
    this.#offset += 8;
    return { kind: 'file', ino, mtimeMs, ctimeMs, executable: (head & EXECUTABLE) !== 0, size, digest: this.#digest() as BlobDigest, shownMtimeNs, trusted: flag };
  }

  #byte(): number {
    return this.#buffer.readUInt8(this.#offset++);
  }

  #double(): number {
    this.#offset += 8;
    return this.#buffer.readDoubleLE(this.#offset - 8);
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

function findDir(root: KnownDir, path: ByteString): KnownDir | undefined {
  let dir = root;
  for (const name of path.split('/')) {
    const node = dir.nodes[dir.names.indexOf(name as ByteString)];
    if (node?.kind !== 'dir') return undefined;
    dir = node;
  }
  return dir;
}
