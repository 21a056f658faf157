import type { ByteString } from '@hyperdocker/base';
import type { Random } from './random.ts';

/** Where a scenario takes place: few names, so that its steps and edits meet: what one probes, another makes, moves or deletes. */
export interface Names { dirs: readonly string[]; files: readonly string[] }

/** Bytes as in a `ByteString`. Paths without a leading `/` are relative to the working directory. */
const DIRS = ['src', 'lib', 'src/deep', 'out', 'gen', 'conf.d', 'd one', 'out/sub', '/opt/base', '/opt/base/in'];
const FILES = [
  'a.txt', 'b.txt', 'c.md', 'list.txt', 'tool', 'flag', 'src/x.txt', 'src/y.txt', 'src/deep/z.txt', 'src/tool', 'lib/x.txt', 'lib/tool', 'conf.d/10.conf',
  'conf.d/20.conf', 'd one/f.txt', 'out/o1.txt', 'out/o2.txt', 'out/sub/o3.txt', 'gen/g1.txt', 'gen/g2', 'new\nline.txt', 'inv\xff.txt', 'gen/inv\xff.txt', 'link', 'src/link',
  'out/link', '/opt/base/k.txt', '/opt/base/in/linked', '/opt/new', '/etc/app.conf',
];

export function randomNames(random: Random): Names {
  const few = (all: readonly string[], share: number): string[] => all.filter(() => random.chance(share));
  return { dirs: ['src', ...few(DIRS, 0.3)], files: ['a.txt', 'src/x.txt', 'out/o1.txt', ...few(FILES, 0.25)] };
}

/** What a project may hold: all that is below the working directory. */
export function inProject(paths: readonly string[]): string[] {
  return paths.filter((path) => !path.startsWith('/'));
}

export const TOOLS = ['tool', 'src/tool', 'lib/tool'];
export const WORDS = ['one', 'two', 'three', 'needle', ''];
export const LINK_TARGETS = ['a.txt', '../a.txt', 'x.txt', 'src', '..', 'nowhere', 'deep/z.txt', 'link', '/etc/app.conf', '/opt/base', '/opt/new', 'inv\xff.txt'];

/** A name as one word of a busybox shell. */
export function quoted(bytes: string): string {
  if (/^[\w./@%+:,-]+$/.test(bytes)) return bytes;
  if (/^[ -~]*$/.test(bytes)) return `'${bytes.replaceAll("'", String.raw`'\''`)}'`;
  const escaped = bytes.replace(/[^ -~]|['\\]/g, (char) => `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`);
  return `$'${escaped}'`;
}

export function bytes(text: string): ByteString {
  return text as ByteString;
}
