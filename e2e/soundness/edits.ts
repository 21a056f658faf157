import { chmodSync, lstatSync, mkdirSync, readFileSync, readdirSync, readlinkSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { fromBuffer, hostPath, isErrno, joinBytes, unreachable } from '@hyperdocker/base';
import type { ByteString } from '@hyperdocker/base';
import type { Names } from './names.ts';
import { LINK_TARGETS, TOOLS, WORDS, bytes, inProject } from './names.ts';
import type { Random } from './random.ts';

/** What happens to a project on the host. Plain data: a failing case can be printed, shortened and done again. Paths are bytes (`ByteString`). */
export type Edit =
  /** Replaces whatever is in the way. */
  | { kind: 'write'; path: string; content: string; executable?: boolean }
  | { kind: 'append'; path: string; content: string }
  | { kind: 'same-content'; path: string }
  | { kind: 'touch'; path: string }
  | { kind: 'executable'; path: string; on: boolean }
  | { kind: 'mkdir'; path: string }
  | { kind: 'link'; path: string; target: string }
  | { kind: 'remove'; path: string }
  | { kind: 'rename'; from: string; to: string };

/** Never fails for what is in the way or missing: where an edit before it was left out, it does what is left to do. */
export function applyEdit(project: string, edit: Edit): void {
  try {
    apply(project, edit);
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTDIR', 'EISDIR', 'EEXIST', 'ENOTEMPTY', 'EINVAL', 'ELOOP')) throw error;
  }
}

function apply(project: string, edit: Edit): void {
  const host = (path: string): string | Buffer => hostPath(project, bytes(path));
  const clear = (path: string): void => {
    for (let parent = posix.dirname(path); parent !== '.'; parent = posix.dirname(parent)) {
      if (!isDirectory(host(parent))) rmSync(host(parent), { force: true });
    }
    if (path.includes('/')) mkdirSync(host(posix.dirname(path)), { recursive: true });
  };
  switch (edit.kind) {
    case 'write':
      clear(edit.path);
      rmSync(host(edit.path), { recursive: true, force: true });
      writeFileSync(host(edit.path), edit.content);
      chmodSync(host(edit.path), edit.executable === true ? 0o755 : 0o644);
      return;
    case 'append':
      if (isFile(host(edit.path))) writeFileSync(host(edit.path), edit.content, { flag: 'a' });
      return;
    case 'same-content':
      if (isFile(host(edit.path))) writeFileSync(host(edit.path), readFileSync(host(edit.path)));
      return;
    case 'touch':
      if (isFile(host(edit.path))) utimesSync(host(edit.path), new Date(), new Date());
      return;
    case 'executable':
      if (isFile(host(edit.path))) chmodSync(host(edit.path), edit.on ? 0o755 : 0o644);
      return;
    case 'mkdir':
      clear(edit.path);
      if (!isDirectory(host(edit.path))) rmSync(host(edit.path), { force: true });
      mkdirSync(host(edit.path), { recursive: true });
      return;
    case 'link':
      clear(edit.path);
      rmSync(host(edit.path), { recursive: true, force: true });
      symlinkSync(Buffer.from(edit.target, 'latin1'), host(edit.path));
      return;
    case 'remove':
      rmSync(host(edit.path), { recursive: true, force: true });
      return;
    case 'rename':
      if (lstatSync(host(edit.from), { throwIfNoEntry: false }) === undefined || edit.to.startsWith(`${edit.from}/`) || edit.from.startsWith(`${edit.to}/`)) return;
      clear(edit.to);
      rmSync(host(edit.to), { recursive: true, force: true });
      renameSync(host(edit.from), host(edit.to));
      return;
    default:
      unreachable(edit);
  }
}

/** A project from nothing. */
export function randomProject(random: Random, names: Names): Edit[] {
  return [...random.some(3, 10, () => randomWrite(random, random.pick(inProject(names.files)))), ...random.some(0, 2, () => randomEdit(random, names, []))];
}

/** Something that somebody does between two builds, mostly to what is there. */
export function randomEdit(random: Random, names: Names, present: readonly ByteString[]): Edit {
  const [dirs, files] = [inProject(names.dirs), inProject(names.files)];
  const any = (): string => random.pick(present.length > 0 && random.chance(0.7) ? present : files);
  const free = (): string => random.pick(random.chance(0.25) ? dirs : files);
  switch (random.int(0, 13)) {
    case 0: case 1: case 2:
      return randomWrite(random, any());
    case 3:
      return { kind: 'append', path: any(), content: 'more\n' };
    case 4:
      return { kind: 'same-content', path: any() };
    case 5:
      return { kind: 'touch', path: any() };
    case 6:
      return { kind: 'executable', path: any(), on: random.chance(0.5) };
    case 7:
      return { kind: 'mkdir', path: free() };
    case 8:
      return { kind: 'link', path: free(), target: random.pick(LINK_TARGETS) };
    case 9: case 10:
      return { kind: 'remove', path: any() };
    case 11:
      return { kind: 'rename', from: any(), to: free() };
    case 12:
      return randomWrite(random, free());
    default:
      return randomWrite(random, `${random.pick(['', 'src/', 'elsewhere/', 'gen/'])}unrelated${random.int(0, 2)}`);
  }
}

function randomWrite(random: Random, path: string): Edit {
  if (TOOLS.includes(path) && random.chance(0.8)) return { kind: 'write', path, content: `#!/bin/sh\necho tool ${random.int(1, 2)}\n[ -e flag ] && cat a.txt\n`, executable: random.chance(0.8) };
  // A colon before each name, lest a list that comes to lie where a tool is looked for be a program.
  if (path === 'list.txt') return { kind: 'write', path, content: random.some(0, 4, () => `:${random.pick(['a.txt', 'b.txt', 'src/x.txt', 'lib/x.txt', 'out/o1.txt', 'none'])}\n`).join('') };
  return { kind: 'write', path, content: random.some(0, 3, () => `${random.pick(WORDS)}\n`).join('') };
}

/** Every path below, in order. */
export function pathsBelow(dir: string, path = '' as ByteString): ByteString[] {
  return readdirSync(hostPath(dir, path), { encoding: 'buffer' }).map(fromBuffer).sort().flatMap((name) => {
    const child = joinBytes(path, name);
    return isDirectory(hostPath(dir, child)) ? [child, ...pathsBelow(dir, child)] : [child];
  });
}

/** Makes `to` hold what `from` holds. Other inodes and other times, as after a checkout. */
export function replaceAll(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(to, { encoding: 'buffer' })) rmSync(Buffer.concat([Buffer.from(join(to, '/')), name]), { recursive: true });
  copyInto(from, to, '' as ByteString);
}

function copyInto(from: string, to: string, path: ByteString): void {
  for (const name of readdirSync(hostPath(from, path), { encoding: 'buffer' }).map(fromBuffer)) {
    const child = joinBytes(path, name);
    const [source, copy] = [hostPath(from, child), hostPath(to, child)];
    const stats = lstatSync(source);
    if (stats.isSymbolicLink()) {
      symlinkSync(readlinkSync(source, { encoding: 'buffer' }), copy);
    } else if (stats.isDirectory()) {
      mkdirSync(copy);
      copyInto(from, to, child);
    } else {
      writeFileSync(copy, readFileSync(source), { mode: stats.mode });
    }
  }
}

function isFile(path: string | Buffer): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isFile() === true;
}

function isDirectory(path: string | Buffer): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}
