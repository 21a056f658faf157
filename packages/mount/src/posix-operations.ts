import type { Stats } from 'node:fs';
import {
  chmodSync, chownSync, closeSync, constants, existsSync, fstatSync, ftruncateSync, linkSync, lstatSync, mkdirSync, openSync, opendirSync, readFileSync, readSync, readdirSync, readlinkSync,
  renameSync, rmSync, rmdirSync, statSync, symlinkSync, truncateSync, unlinkSync, utimesSync, writeFileSync, writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { ByteString } from '@hyperdocker/base';
import { HdError, sys, toByteString } from '@hyperdocker/base';
import type { Meta, TreeBuilder } from '@hyperdocker/cas';

/** Puts a file with this text at a path. */
type AddFile = (path: ByteString, text: string, mode: number, meta?: Partial<Meta>) => void;

/** What each operation finds, in a directory of its own: all of it in the tree below, nothing in the writable layer. */
export function addOperationSites(tree: TreeBuilder, file: AddFile): void {
  for (const name of Object.keys(OPERATIONS)) {
    const at = (path: string): ByteString => toByteString(`${siteOf(name)}/${path}`);
    file(at('f'), 'content of f', 0o644);
    file(at('g'), 'content of g', 0o600, { uid: 1000, gid: 1000 });
    file(at('run'), '#!/bin/sh\n', 0o4755);
    file(at('d/x'), 'x', 0o644);
    file(at('d/sub/y'), 'y', 0o644);
    file(at('full/in'), 'in', 0o644);
    for (const path of ['hard', 'd/hard']) file(at(path), 'linked', 0o644, { linkGroup: 1 + Object.keys(OPERATIONS).indexOf(name), links: 2 });
    tree.set(at('empty'), { kind: 'dir', mode: 0o755 });
    tree.set(at('sticky'), { kind: 'dir', mode: 0o1777 });
    file(at('sticky/theirs'), 'theirs', 0o644, { uid: 1000, gid: 1000 });
    tree.set(at('setgid'), { kind: 'dir', mode: 0o2775, meta: { uid: 0, gid: 1000, mtimeNs: 1n, xattrs: [], linkGroup: 0, links: 1 } });
    tree.set(at('closed'), { kind: 'dir', mode: 0o700 });
    file(at('closed/in'), 'in', 0o644);
    tree.set(at('link'), { kind: 'symlink', mode: 0o777, target: toByteString('f') });
    tree.set(at('loop'), { kind: 'symlink', mode: 0o777, target: toByteString('loop') });
    tree.set(at('dirlink'), { kind: 'symlink', mode: 0o777, target: toByteString('d') });
    tree.set(at('nowhere'), { kind: 'symlink', mode: 0o777, target: toByteString('not/there') });
    tree.set(at('fifo'), { kind: 'fifo', mode: 0o644 });
    tree.set(at('null'), { kind: 'char', mode: 0o666, major: 1, minor: 3 });
  }
}

/** What came of each operation below `dir`, in words: its result or its error, and what is there afterwards. */
export function runOperations(dir: string): Record<string, string> {
  return Object.fromEntries(Object.entries(OPERATIONS).map(([name, operation]) => {
    const site = join(dir, siteOf(name));
    return [name, attempt(() => operation((path) => join(site, path)))];
  }));
}

type Operation = (at: (path: string) => string) => unknown;

const LONG = 'n'.repeat(256);
const OTHER = 1000;

/** Each looks at its own directory alone. What it returns is compared, and so is its error. */
const OPERATIONS: Readonly<Record<string, Operation>> = {
  'chmod of a file': (at) => [chmodSync(at('f'), 0o640), facts(at('f'))],
  'chmod of a directory': (at) => [chmodSync(at('d'), 0o700), facts(at('d')), readdirSync(at('d')).sort()],
  'chmod through a link': (at) => [chmodSync(at('link'), 0o600), facts(at('f'))],
  'chmod by another': (at) => as(OTHER, () => [attempt(() => chmodSync(at('f'), 0o777)), attempt(() => chmodSync(at('g'), 0o640)), facts(at('g'))]),
  'chown clears set-uid': (at) => [chownSync(at('run'), 1000, 1000), facts(at('run'))],
  'chown by another': (at) => as(OTHER, () => [attempt(() => chownSync(at('g'), 0, 0)), attempt(() => chownSync(at('g'), OTHER, OTHER))]),
  'a write by another clears set-uid': (at) => [chmodSync(at('run'), 0o4777), as(OTHER, () => writeFileSync(at('run'), 'x', { flag: 'a' })), facts(at('run'))],
  'truncate shorter, longer': (at) => [truncateSync(at('f'), 3), readFileSync(at('f'), 'latin1'), truncateSync(at('f'), 6), readFileSync(at('f'), 'hex')],
  'truncate of a directory': (at) => truncateSync(at('d'), 0),
  'ftruncate of what was opened for reading': (at) => withFd(at('f'), 'r', (fd) => ftruncateSync(fd, 0)),
  'append': (at) => [writeFileSync(at('f'), '!', { flag: 'a' }), readFileSync(at('f'), 'latin1')],
  'a write beyond the end leaves zeros': (at) => [withFd(at('f'), 'r+', (fd) => writeSync(fd, 'end', 20)), readFileSync(at('f'), 'hex')],
  'what was opened before it is written': (at) => withFd(at('f'), 'r', (before) => [writeFileSync(at('f'), 'new'), statSync(at('f')).size, fstatSync(before).size >= 3]),
  'an unlinked file goes on for who has it open': (at) => withFd(at('f'), 'r', (fd) => [unlinkSync(at('f')), existsSync(at('f')), readAll(fd)]),
  'unlink of a directory': (at) => attempt(() => unlinkSync(at('d'))),
  'unlink of one of two names': (at) => [unlinkSync(at('hard')), readFileSync(at('d/hard'), 'latin1')],
  'unlink and make again': (at) => [unlinkSync(at('f')), writeFileSync(at('f'), 'again'), facts(at('f')), readdirSync(at('.')).length],
  'unlink in a directory that is another\'s': (at) => as(OTHER, () => [attempt(() => unlinkSync(at('f'))), attempt(() => unlinkSync(at('closed/in')))]),
  'unlink in a sticky directory': (at) => [chmodSync(at('.'), 0o755), as(1001, () => attempt(() => unlinkSync(at('sticky/theirs')))), as(OTHER, () => attempt(() => unlinkSync(at('sticky/theirs'))))],
  'rmdir': (at) => [attempt(() => rmdirSync(at('full'))), rmdirSync(at('empty')), existsSync(at('empty')), attempt(() => rmdirSync(at('f'))), attempt(() => rmdirSync(at('dirlink')))],
  'rmdir of what was emptied': (at) => [unlinkSync(at('full/in')), rmdirSync(at('full')), existsSync(at('full')), mkdirSync(at('full')), readdirSync(at('full'))],
  'mkdir': (at) => [attempt(() => mkdirSync(at('d'))), attempt(() => mkdirSync(at('f'))), attempt(() => mkdirSync(at('nowhere'))), attempt(() => mkdirSync(at('not/there'))), attempt(() => mkdirSync(at('f/x'))), attempt(() => mkdirSync(at(LONG))), mkdirSync(at('n'.repeat(255)))],
  'in a set-gid directory': (at) => [writeFileSync(at('setgid/f'), ''), mkdirSync(at('setgid/d')), facts(at('setgid/f')), facts(at('setgid/d'))],
  'rename of a file': (at) => [renameSync(at('f'), at('moved')), existsSync(at('f')), readFileSync(at('moved'), 'latin1')],
  'rename over a file': (at) => [renameSync(at('f'), at('d/x')), readFileSync(at('d/x'), 'latin1'), readdirSync(at('d')).sort()],
  'rename over what is open': (at) => withFd(at('d/x'), 'r', (fd) => [renameSync(at('f'), at('d/x')), readAll(fd)]),
  'rename of a directory': (at) => [renameSync(at('d'), at('moved')), existsSync(at('d')), readFileSync(at('moved/sub/y'), 'latin1'), readdirSync(at('moved')).sort()],
  'rename of a directory, and back': (at) => [renameSync(at('d'), at('moved')), renameSync(at('moved'), at('d')), readFileSync(at('d/sub/y'), 'latin1')],
  'rename of a directory into one that is new': (at) => [mkdirSync(at('new')), renameSync(at('d'), at('new/d')), writeFileSync(at('new/d/z'), 'z'), readdirSync(at('new/d')).sort(), unlinkSync(at('new/d/x')), readdirSync(at('new/d')).sort()],
  'rename over an empty directory': (at) => [renameSync(at('d'), at('empty')), readdirSync(at('empty')).sort()],
  'rename over a full directory': (at) => [attempt(() => renameSync(at('d'), at('full'))), readdirSync(at('full'))],
  'rename over another kind': (at) => [attempt(() => renameSync(at('f'), at('d'))), attempt(() => renameSync(at('d'), at('f')))],
  'rename below itself': (at) => attempt(() => renameSync(at('d'), at('d/sub/d'))),
  'rename of one name of an inode to the other': (at) => [renameSync(at('hard'), at('d/hard')), readFileSync(at('d/hard'), 'latin1')],
  'rename of a link': (at) => [renameSync(at('link'), at('d/x')), readlinkSync(at('d/x'))],
  'rename of what is not there': (at) => [attempt(() => renameSync(at('none'), at('x'))), attempt(() => renameSync(at('f'), at('none/x'))), attempt(() => renameSync(at('f'), at(LONG)))],
  'link': (at) => [linkSync(at('f'), at('second')), writeFileSync(at('second'), 'both'), readFileSync(at('f'), 'latin1'), same(at('f'), at('second'))],
  'link of what cannot be linked': (at) => [attempt(() => linkSync(at('d'), at('second'))), attempt(() => linkSync(at('f'), at('g'))), attempt(() => linkSync(at('none'), at('x')))],
  'link of a link': (at) => [linkSync(at('link'), at('second')), readlinkSync(at('second'))],
  'two names of one inode': (at) => [same(at('hard'), at('d/hard')), readFileSync(at('hard'), 'latin1')],
  'symlink': (at) => [symlinkSync('a'.repeat(4095), at('long')), readlinkSync(at('long')).length, attempt(() => symlinkSync('x', at('f'))), attempt(() => symlinkSync('a'.repeat(4096), at('longer')))],
  'following links': (at) => [readFileSync(at('link'), 'latin1'), attempt(() => readFileSync(at('loop'))), attempt(() => readFileSync(at('nowhere'))), readFileSync(at('dirlink/x'), 'latin1'), attempt(() => readlinkSync(at('f')))],
  'open: exclusive': (at) => [attempt(() => withFd(at('f'), 'wx', () => 0)), attempt(() => withFd(at('nowhere'), 'wx', () => 0)), withFd(at('fresh'), 'wx', () => 'made')],
  'open: not following, only a directory': (at) => [attempt(() => withFd(at('link'), constants.O_RDONLY | constants.O_NOFOLLOW, () => 0)), attempt(() => withFd(at('f'), constants.O_RDONLY | constants.O_DIRECTORY, () => 0)), attempt(() => withFd(at('d'), 'w', () => 0))],
  'open: truncating': (at) => [withFd(at('f'), 'w', (fd) => fstatSync(fd).size), facts(at('f'))],
  'open by another': (at) => as(OTHER, () => [attempt(() => readFileSync(at('closed/in'))), attempt(() => writeFileSync(at('f'), '')), readFileSync(at('g'), 'latin1'), attempt(() => readdirSync(at('closed')))]),
  'open through a file': (at) => attempt(() => readFileSync(at('f/x'))),
  'a name that is too long': (at) => [attempt(() => readFileSync(at(LONG))), attempt(() => writeFileSync(at(LONG), ''))],
  'reading at the end, and beyond': (at) => withFd(at('f'), 'r', (fd) => [12, 13, 1 << 20].map((from) => readSync(fd, Buffer.alloc(10), 0, 10, from))),
  'reading a directory': (at) => attempt(() => readFileSync(at('d'))),
  'a listing while it is emptied': (at) => {
    const open = opendirSync(at('d'));
    const first = open.readSync() !== null;
    rmSync(at('d/x'));
    let left = 0;
    while (open.readSync() !== null) left++;
    open.closeSync();
    return [first, left >= 1, readdirSync(at('d')).sort()];
  },
  'times': (at) => [utimesSync(at('f'), 1, 2), statSync(at('f')).mtimeMs, utimesSync(at('d'), 3, 4), statSync(at('d')).mtimeMs, as(OTHER, () => attempt(() => utimesSync(at('f'), 1, 1)))],
  'a write changes the time, a read does not': (at) => {
    const before = statSync(at('f')).mtimeMs;
    readFileSync(at('f'));
    const read = statSync(at('f')).mtimeMs === before;
    writeFileSync(at('f'), 'x', { flag: 'a' });
    return [read, statSync(at('f')).mtimeMs > before];
  },
  'attributes': (at) => [sys().setXattr(at('f'), toByteString('user.a'), Buffer.from('1')), sys().getXattr(at('f'), toByteString('user.a'))?.toString(), sys().getXattr(at('f'), toByteString('user.b')) === undefined, sys().listXattrs(at('f'))],
  'attributes of a directory': (at) => [sys().setXattr(at('d'), toByteString('user.a'), Buffer.from('1')), sys().listXattrs(at('d')), readdirSync(at('d')).sort()],
  'capabilities go with a write': (at) => [sys().setXattr(at('run'), toByteString('security.capability'), Buffer.from('0100000200040000000000000000000000000000', 'hex')), writeFileSync(at('run'), 'x', { flag: 'a' }), sys().getXattr(at('run'), toByteString('security.capability')) === undefined],
  'devices and pipes': (at) => [facts(at('fifo')), facts(at('null')), writeFileSync(at('null'), 'x'), readFileSync(at('null'), 'latin1'), renameSync(at('fifo'), at('moved')), facts(at('moved')), sys().makeNode(at('zero'), 0o020666, 1, 5), facts(at('zero'))],
  'a copy of everything': (at) => [renameSync(at('d'), at('d2')), readdirSync(at('.')).sort()],
  'removing everything': (at) => [readdirSync(at('.')).forEach((name) => rmSync(at(name), { recursive: true })), readdirSync(at('.')), rmdirSync(at('.'))],
};

function siteOf(name: string): string {
  return `op-${Object.keys(OPERATIONS).indexOf(name)}`;
}

/** A result as words, or the name of the error. */
function attempt(run: () => unknown): string {
  try {
    return JSON.stringify(run(), (_, value: unknown) => value ?? null) ?? 'null';
  } catch (error) {
    if (error instanceof HdError) return `errno ${String(error.details?.['errno'])}`;
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  }
}

/** Link counts are left out: overlays count by layer. */
function facts(path: string): string {
  const { mode, uid, gid, size, rdev }: Stats = lstatSync(path);
  return `${mode.toString(8)} ${uid}:${gid}${lstatSync(path).isDirectory() ? '' : ` ${size}`} ${rdev}`;
}

function same(a: string, b: string): boolean {
  return lstatSync(a).ino === lstatSync(b).ino;
}

function withFd<T>(path: string, flags: string | number, use: (fd: number) => T): T {
  const fd = openSync(path, flags);
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

function readAll(fd: number): string {
  return readFileSync(fd, 'latin1');
}

/** What follows is allowed to this user only. */
function as<T>(uid: number, run: () => T): T {
  process.setegid?.(uid);
  process.seteuid?.(uid);
  try {
    return run();
  } finally {
    process.seteuid?.(0);
    process.setegid?.(0);
  }
}
