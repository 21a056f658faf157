import type { Brand } from './brand.ts';

/**
 * File names are bytes, not text. A `ByteString` holds them as one character (U+0000..U+00FF) a byte ("latin1"), so that
 * names which are not valid UTF-8 survive, equality is `===`, and JavaScript's string order is the order of the bytes.
 */
export type ByteString = Brand<string, 'ByteString'>;

/** Text (any JavaScript string) to the bytes of its UTF-8 form. */
export function toByteString(text: string): ByteString {
  return (isAscii(text) ? text : Buffer.from(text, 'utf8').toString('latin1')) as ByteString;
}

/** Bytes for people: UTF-8 where valid, U+FFFD where not. Do not use the result as a path. */
export function toText(bytes: ByteString): string {
  return isAscii(bytes) ? bytes : Buffer.from(bytes, 'latin1').toString('utf8');
}

/** The form in which `node:fs` takes a path without loss. */
export function toBuffer(bytes: ByteString): Buffer {
  return Buffer.from(bytes, 'latin1');
}

export function fromBuffer(buffer: Uint8Array): ByteString {
  return Buffer.from(buffer.buffer, buffer.byteOffset, buffer.byteLength).toString('latin1') as ByteString;
}

/** Joins path components with `/`. An empty first part (a root) adds nothing. */
export function joinBytes(parent: ByteString, name: ByteString): ByteString {
  return (parent === '' ? name : `${parent}/${name}`) as ByteString;
}

/** A path for `node:fs`: a string while that is exact, else a Buffer. `dir` is an ordinary host path. */
export function hostPath(dir: string, relative: ByteString): string | Buffer {
  if (relative === '') return dir;
  if (isAscii(relative)) return `${dir}/${relative}`;
  return Buffer.concat([Buffer.from(`${dir}/`, 'utf8'), toBuffer(relative)]);
}

export function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0x7f) return false;
  return true;
}
