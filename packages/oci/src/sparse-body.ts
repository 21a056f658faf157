import type { HdError } from '@hyperdocker/base';

/** A stretch of a sparse file that is stored in the archive. Between them are zeros. */
export interface Extent { offset: number; length: number }

/** Where the file goes, in order. */
export interface SparseSink {
  data(bytes: Buffer): void;
  hole(sizeBytes: number): void;
}

const BLOCK = 512;
/** What a real file comes to is far less; each is 16 bytes of memory and more. */
const EXTENTS_MAX = 1 << 18;
const DIGITS_MAX = 16;

/**
 * The body of one sparse member: the stretches that are stored, one after the other; in GNU's format 1.0 after a list of them.
 * Give it all of the body, then `finish`. @throws HdError of `invalid`
 */
export class SparseBody {
  readonly #sink: SparseSink;
  readonly #sizeBytes: number;
  readonly #invalid: (what: string) => HdError;
  #extents: Extent[] | undefined;
  #list: ListReader | undefined;
  /** In `#extents`. */
  #at = 0;
  #done = 0;

  /** @param sizeBytes of the file @param extents undefined: the body begins with them */
  constructor(sink: SparseSink, sizeBytes: number, extents: Extent[] | undefined, invalid: (what: string) => HdError) {
    this.#sink = sink;
    this.#sizeBytes = sizeBytes;
    this.#invalid = invalid;
    if (extents === undefined) this.#list = new ListReader(invalid);
    else this.#begin(extents);
  }

  push(bytes: Buffer): void {
    let rest = bytes;
    if (this.#list !== undefined) {
      rest = rest.subarray(this.#list.push(rest));
      if (!this.#list.isWhole) return;
      this.#begin(this.#list.extents);
      this.#list = undefined;
    }
    while (rest.length > 0) {
      const extent = this.#next();
      if (extent === undefined) throw this.#invalid('a sparse member with more data than it says');
      const part = rest.subarray(0, extent.offset + extent.length - this.#done);
      this.#sink.data(part);
      this.#done += part.length;
      rest = rest.subarray(part.length);
    }
  }

  finish(): void {
    if (this.#list !== undefined || this.#next() !== undefined) throw this.#invalid('a sparse member with less data than it says');
    this.#skipTo(this.#sizeBytes);
  }

  #begin(extents: Extent[]): void {
    let end = 0;
    for (const { offset, length } of extents) {
      if (offset < end || offset + length > this.#sizeBytes) throw this.#invalid('a sparse member whose parts overlap or lie behind its end');
      end = offset + length;
    }
    this.#extents = extents;
  }

  /** The stretch that the next byte belongs to, with the zeros before it passed on. */
  #next(): Extent | undefined {
    for (let extent = this.#extents?.[this.#at]; extent !== undefined; extent = this.#extents?.[++this.#at]) {
      // An empty one stands for the end of a file that ends in zeros.
      if (extent.length === 0 || this.#done >= extent.offset + extent.length) continue;
      this.#skipTo(extent.offset);
      return extent;
    }
    return undefined;
  }

  #skipTo(position: number): void {
    if (position <= this.#done) return;
    this.#sink.hole(position - this.#done);
    this.#done = position;
  }
}

/** `offset,length,offset,length,…`, as formats 0.0 and 0.1 have it in PAX records. @throws HdError of `invalid` */
export function parseExtents(text: string, invalid: (what: string) => HdError): Extent[] {
  const numbers = text === '' ? [] : text.split(',').map((digits) => numberOf(digits, invalid));
  return pairs(numbers, invalid);
}

/** Format 1.0: decimal numbers, each with a newline, filled up to a whole block: how many, then offset and length of each. */
class ListReader {
  readonly #invalid: (what: string) => HdError;
  readonly #numbers: number[] = [];
  #digits = '';
  #read = 0;
  /** Until the end of the block. */
  #filling: number | undefined;

  constructor(invalid: (what: string) => HdError) {
    this.#invalid = invalid;
  }

  get isWhole(): boolean {
    return this.#filling === 0;
  }

  get extents(): Extent[] {
    return pairs(this.#numbers.slice(1), this.#invalid);
  }

  /** Returns how many bytes it took. */
  push(bytes: Buffer): number {
    let at = 0;
    while (at < bytes.length && this.#filling === undefined) this.#take(bytes[at++] ?? 0);
    if (this.#filling === undefined) return at;
    const skipped = Math.min(this.#filling, bytes.length - at);
    this.#filling -= skipped;
    return at + skipped;
  }

  #take(byte: number): void {
    this.#read++;
    if (byte !== 0x0a) {
      this.#digits += String.fromCharCode(byte);
      if (this.#digits.length > DIGITS_MAX) throw this.#invalid('a sparse member with a damaged list');
      return;
    }
    this.#numbers.push(numberOf(this.#digits, this.#invalid));
    this.#digits = '';
    const [count = 0] = this.#numbers;
    if (count > EXTENTS_MAX) throw this.#invalid(`a sparse member of ${count} parts`);
    if (this.#numbers.length === 1 + 2 * count) this.#filling = (BLOCK - (this.#read % BLOCK)) % BLOCK;
  }
}

function numberOf(digits: string, invalid: (what: string) => HdError): number {
  const value = /^\d{1,16}$/.test(digits) ? Number(digits) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw invalid('a sparse member with a damaged list');
  return value;
}

function pairs(numbers: readonly number[], invalid: (what: string) => HdError): Extent[] {
  if (numbers.length % 2 !== 0) throw invalid('a sparse member with a damaged list');
  const extents: Extent[] = [];
  for (let at = 0; at < numbers.length; at += 2) extents.push({ offset: numbers[at] ?? 0, length: numbers[at + 1] ?? 0 });
  return checkedCount(extents, invalid);
}

/** @throws HdError of `invalid` for more than any honest file has */
export function checkedCount(extents: Extent[], invalid: (what: string) => HdError): Extent[] {
  if (extents.length > EXTENTS_MAX) throw invalid(`a sparse member of ${extents.length} parts`);
  return extents;
}
