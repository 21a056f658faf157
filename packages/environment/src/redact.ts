import { closeSync, lstatSync, openSync, readSync, readdirSync, readlinkSync } from 'node:fs';
import { StringDecoder } from 'node:string_decoder';
import type { ByteString } from '@hyperdocker/base';
import { fromBuffer, hostPath, joinBytes, sys, toText } from '@hyperdocker/base';
import type { SecretValues } from './secrets.ts';
import { withoutLineEnd } from './secrets.ts';

const MASK = '***';
/** Of a secret of several lines, each that is longer is masked by itself. */
const MIN_LINE_BYTES = 8;
const CHUNK_BYTES = 1 << 20;

/**
 * Takes secrets out of a stream of output: as they are, line by line, and in base64. What may be the beginning of one is held back
 * until it is clear. One for each stream: their pieces must not mix.
 */
export class Masker {
  readonly #needles: readonly string[];
  readonly #pattern: RegExp;
  readonly #decoder = new StringDecoder('utf8');
  #held = '';

  constructor(secrets: SecretValues) {
    const needles = [...secrets.values()].flatMap((value) => [...plainForms(value), ...base64Forms(value)].map((form) => form.toString('latin1')));
    // The longest first: of a whole secret nothing is to be left over.
    this.#needles = [...new Set(needles)].sort((a, b) => b.length - a.length);
    this.#pattern = new RegExp(this.#needles.map((needle) => escapePattern(needle)).join('|'), 'g');
  }

  push(bytes: Buffer): string {
    if (this.#needles.length === 0) return this.#decoder.write(bytes);
    const text = this.#mask(this.#held + bytes.toString('latin1'));
    const kept = this.#undecided(text);
    this.#held = text.slice(text.length - kept);
    return this.#decoder.write(Buffer.from(text.slice(0, text.length - kept), 'latin1'));
  }

  /** What was held back. */
  end(): string {
    const rest = this.#held;
    this.#held = '';
    return this.#decoder.write(Buffer.from(rest, 'latin1')) + this.#decoder.end();
  }

  /** A whole text. */
  text(text: string): string {
    return this.#needles.length === 0 ? text : Buffer.from(this.#mask(Buffer.from(text).toString('latin1')), 'latin1').toString();
  }

  #mask(text: string): string {
    return text.replace(this.#pattern, MASK);
  }

  /** How many bytes at the end may be the beginning of a secret. */
  #undecided(text: string): number {
    const longest = Math.min(text.length, (this.#needles[0]?.length ?? 1) - 1);
    for (let length = longest; length > 0; length--) {
      const end = text.slice(text.length - length);
      if (this.#needles.some((needle) => needle.length > length && needle.startsWith(end))) return length;
    }
    return 0;
  }
}

/** A secret in what a step wrote. */
export interface Leak {
  id: string;
  /** From the root of the directory that was searched, for people: a secret that is the name of a file is masked in it. */
  path: string;
}

/**
 * The first secret in a directory: in the contents of files, names, link targets and attributes, as it is or in base64 (with or without line breaks). Compressed, encrypted or hashed it
 * is not recognised. Reads all of it: for what a step wrote, before any of that is stored.
 */
export function findLeak(dir: string, secrets: SecretValues): Leak | undefined {
  const found = secrets.size === 0 ? undefined : new LeakSearch(dir, secrets).directory('' as ByteString);
  return found === undefined ? undefined : { id: found.id, path: new Masker(secrets).text(toText(found.path)) };
}

interface Needle { id: string; form: Buffer }

class LeakSearch {
  readonly #dir: string;
  readonly #plain: Needle[];
  readonly #encoded: Needle[];
  readonly #overlap: number;
  readonly #sys = sys();

  constructor(dir: string, secrets: SecretValues) {
    this.#dir = dir;
    // Line by line would find what many files have in common, such as the first line of every key.
    this.#plain = [...secrets].map(([id, value]) => ({ id, form: withoutLineEnd(value) }));
    this.#encoded = [...secrets].flatMap(([id, value]) => base64Forms(value).map((form) => ({ id, form })));
    this.#overlap = Math.max(...[...this.#plain, ...this.#encoded].map(({ form }) => form.length));
  }

  directory(path: ByteString): { id: string; path: ByteString } | undefined {
    for (const name of readdirSync(hostPath(this.#dir, path), { encoding: 'buffer' }).map(fromBuffer)) {
      const child = joinBytes(path, name);
      const id = this.#entry(child, name);
      if (id !== undefined) return { id, path: child };
      const below = lstatSync(hostPath(this.#dir, child)).isDirectory() ? this.directory(child) : undefined;
      if (below !== undefined) return below;
    }
    return undefined;
  }

  #entry(path: ByteString, name: ByteString): string | undefined {
    const host = hostPath(this.#dir, path);
    const stats = lstatSync(host);
    const attributes = stats.isFile() || stats.isDirectory() ? this.#sys.listXattrs(host).map((key) => this.#sys.getXattr(host, key) ?? Buffer.alloc(0)) : [];
    const short = [Buffer.from(name, 'latin1'), ...attributes, ...(stats.isSymbolicLink() ? [readlinkSync(host, { encoding: 'buffer' })] : [])];
    return short.map((bytes) => this.#find(bytes)).find((id) => id !== undefined) ?? (stats.isFile() ? this.#file(host) : undefined);
  }

  #file(host: string | Buffer): string | undefined {
    const fd = openSync(host, 'r');
    try {
      let kept: Buffer = Buffer.alloc(0);
      let keptJoined: Buffer = Buffer.alloc(0);
      const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
      for (let length = readSync(fd, chunk); length > 0; length = readSync(fd, chunk)) {
        const bytes = Buffer.concat([kept, chunk.subarray(0, length)]);
        const joined = Buffer.concat([keptJoined, withoutLineBreaks(chunk.subarray(0, length))]);
        const id = firstIn(bytes, this.#plain) ?? firstIn(joined, this.#encoded);
        if (id !== undefined) return id;
        kept = Buffer.from(bytes.subarray(-this.#overlap));
        keptJoined = Buffer.from(joined.subarray(-this.#overlap));
      }
      return undefined;
    } finally {
      closeSync(fd);
    }
  }

  #find(bytes: Buffer): string | undefined {
    return firstIn(bytes, this.#plain) ?? firstIn(withoutLineBreaks(bytes), this.#encoded);
  }
}

function escapePattern(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
}

function firstIn(bytes: Buffer, needles: readonly Needle[]): string | undefined {
  return needles.find(({ form }) => bytes.includes(form))?.id;
}

function withoutLineBreaks(bytes: Buffer): Buffer {
  return bytes.includes(0x0a) ? Buffer.from(bytes.toString('latin1').replace(/[\r\n]+/g, ''), 'latin1') : bytes;
}

function plainForms(value: Buffer): Buffer[] {
  const whole = withoutLineEnd(value);
  const lines = whole.toString('latin1').split(/\r?\n/).map((line) => Buffer.from(line, 'latin1'));
  return [whole, ...lines.filter((line) => line.length >= MIN_LINE_BYTES)];
}

/** As it looks inside longer base64: at each of the three places that it can begin at, without the ends that its neighbours have a part in. In both alphabets. */
function base64Forms(value: Buffer): Buffer[] {
  const whole = withoutLineEnd(value);
  const forms = [0, 1, 2].flatMap((before) => {
    const text = Buffer.concat([Buffer.alloc(before), whole]).toString('base64');
    const own = text.slice(Math.ceil((before * 8) / 6), Math.floor(((before + whole.length) * 8) / 6));
    return [own, own.replaceAll('+', '-').replaceAll('/', '_')];
  });
  return [...new Set(forms)].map((form) => Buffer.from(form));
}
