import type { ByteString } from './bytes.ts';
import { HdError } from './error.ts';

/**
 * Canonical encoding of everything that is hashed (docs/format/encoding.md): a domain tag, then fields in a fixed order.
 * Integers are unsigned LEB128 in their shortest form; bytes and lists are prefixed with their length. One value has
 * exactly one encoding.
 */
export class Encoder {
  #buffer: Buffer = Buffer.allocUnsafe(256);
  #length = 0;

  /** @param domain names the kind and version of the object, for example `hd.tree/1`. */
  constructor(domain: string) {
    this.text(domain);
  }

  uint(value: number | bigint): this {
    if (typeof value === 'number' && value < 0x80) {
      if (!(value >= 0)) throw new RangeError(`not an unsigned integer: ${value}`);
      this.#reserve(1);
      this.#buffer[this.#length++] = value;
      return this;
    }
    let rest = BigInt(value);
    if (rest < 0n || rest >= 1n << 64n) throw new RangeError(`not an unsigned 64-bit integer: ${value}`);
    this.#reserve(10);
    while (rest >= 0x80n) {
      this.#buffer[this.#length++] = Number(rest & 0x7fn) | 0x80;
      rest >>= 7n;
    }
    this.#buffer[this.#length++] = Number(rest);
    return this;
  }

  bytes(value: Uint8Array): this {
    this.uint(value.byteLength);
    this.#reserve(value.byteLength);
    this.#buffer.set(value, this.#length);
    this.#length += value.byteLength;
    return this;
  }

  byteString(value: ByteString): this {
    this.uint(value.length);
    this.#reserve(value.length);
    this.#length += this.#buffer.write(value, this.#length, 'latin1');
    return this;
  }

  text(value: string): this {
    return this.bytes(Buffer.from(value, 'utf8'));
  }

  /** A 32-byte digest in its text form, without a length. */
  digest(hex: string): this {
    if (hex.length !== 64) throw new RangeError(`not a digest: ${hex}`);
    this.#reserve(32);
    this.#length += this.#buffer.write(hex, this.#length, 'hex');
    return this;
  }

  finish(): Buffer {
    return Buffer.from(this.#buffer.subarray(0, this.#length));
  }

  #reserve(extra: number): void {
    if (this.#length + extra <= this.#buffer.length) return;
    const grown = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#length + extra));
    this.#buffer.copy(grown, 0, 0, this.#length);
    this.#buffer = grown;
  }
}

/** Reads what `Encoder` wrote and refuses everything else: other domains, long integers, short input, trailing bytes. */
export class Decoder {
  readonly #buffer: Buffer;
  #offset = 0;

  constructor(bytes: Uint8Array, domain: string) {
    this.#buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const found = this.text();
    if (found !== domain) throw corrupt(`expected an object of kind ${domain}, found ${JSON.stringify(found.slice(0, 40))}`);
  }

  /** The domain tag of an encoded object, without reading the rest. */
  static domainOf(bytes: Uint8Array): string {
    const length = bytes[0] ?? 0;
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1', 1, 1 + Math.min(length, 64));
  }

  /** Without the detour over a bigint: a path set has 10,000 of them. */
  uint(): number {
    let byte = this.#byte();
    if (byte < 0x80) return byte;
    let value = byte & 0x7f;
    for (let factor = 0x80; ; factor *= 0x80) {
      byte = this.#byte();
      value += (byte & 0x7f) * factor;
      if (value > Number.MAX_SAFE_INTEGER) throw corrupt(`integer too large: ${value}`);
      if (byte < 0x80) {
        if (byte === 0) throw corrupt('integer not in its shortest form');
        return value;
      }
    }
  }

  bigUint(): bigint {
    let byte = this.#byte();
    if (byte < 0x80) return BigInt(byte);
    let value = BigInt(byte & 0x7f);
    for (let shift = 7n; ; shift += 7n) {
      byte = this.#byte();
      value |= BigInt(byte & 0x7f) << shift;
      if (value >= 1n << 64n) throw corrupt('integer over 64 bits');
      if (byte < 0x80) {
        if (byte === 0) throw corrupt('integer not in its shortest form');
        return value;
      }
    }
  }

  bytes(): Buffer {
    return this.#take(this.uint());
  }

  byteString(): ByteString {
    const end = this.#endOf(this.uint());
    const text = this.#buffer.toString('latin1', this.#offset, end);
    this.#offset = end;
    return text as ByteString;
  }

  /** Passes over bytes, a byte string or a text. @returns where it begins, for `seek` */
  skip(): number {
    const start = this.#offset;
    const length = this.uint();
    this.#offset = this.#endOf(length);
    return start;
  }

  seek(start: number): void {
    this.#offset = start;
  }

  text(): string {
    return this.bytes().toString('utf8');
  }

  digest(): string {
    return this.#take(32).toString('hex');
  }

  end(): void {
    if (this.#offset !== this.#buffer.length) throw corrupt(`${this.#buffer.length - this.#offset} bytes after the end`);
  }

  #byte(): number {
    const byte = this.#buffer[this.#offset];
    if (byte === undefined) throw corrupt('object ends early');
    this.#offset++;
    return byte;
  }

  #take(length: number): Buffer {
    const end = this.#endOf(length);
    const part = this.#buffer.subarray(this.#offset, end);
    this.#offset = end;
    return part;
  }

  #endOf(length: number): number {
    const end = this.#offset + length;
    if (end > this.#buffer.length) throw corrupt('object ends early');
    return end;
  }
}

function corrupt(message: string): HdError {
  return new HdError('CORRUPT_OBJECT', message, { hint: 'the store holds something that this version did not write: run `hd cas fsck`' });
}
