import { parse } from 'smol-toml';

/** A stretch of one line: 1-based line and column, length in UTF-16 code units (at least 1). */
export interface Span {
  line: number;
  column: number;
  length: number;
}

/** Where a TOML value is. The children of an array are named "0", "1", … in order. */
export interface Place {
  /** The key, or the part of a header or dotted key, that first names the value. */
  key?: Span;
  /** The first line of the value; absent for tables made by headers. */
  value?: Span;
  /** In the order of the text. */
  children: Map<string, Place>;
}

/**
 * The places of every key and value of a TOML document. `text` must have passed a TOML parser: this one checks nothing, which
 * is why it is small and costs a fraction of the parse.
 */
export function locate(text: string): Place {
  return new Locator(text).document();
}

class Locator {
  readonly #text: string;
  #offset = 0;
  /** Line and start of line at the last span asked for: they only move forward. */
  #line = 1;
  #lineStart = 0;
  /** Places made by `[[header]]`: a header below them means the last element. */
  readonly #arrays = new WeakSet<Place>();

  constructor(text: string) {
    this.#text = text;
    if (text.startsWith('\ufeff')) this.#offset = this.#lineStart = 1;
  }

  document(): Place {
    const root = newPlace();
    let table = root;
    this.#skipBlank();
    while (this.#offset < this.#text.length) {
      if (this.#peek() === '[') table = this.#header(root);
      else this.#keyValue(table);
      this.#skipBlank();
    }
    return root;
  }

  #header(root: Place): Place {
    const isArray = this.#text.startsWith('[[', this.#offset);
    this.#offset += isArray ? 2 : 1;
    const keys = this.#keys();
    this.#offset += isArray ? 2 : 1;
    const table = this.#descend(root, keys);
    if (!isArray) return table;
    const element = newPlace(keys.at(-1)?.span);
    table.children.set(String(table.children.size), element);
    this.#arrays.add(table);
    return element;
  }

  #keyValue(table: Place): void {
    const place = this.#descend(table, this.#keys());
    this.#offset++;
    this.#skipSpace();
    this.#value(place);
  }

  /** A dotted key, with the white space around it. */
  #keys(): { name: string; span: Span }[] {
    const keys = [];
    for (;;) {
      this.#skipSpace();
      const start = this.#offset;
      const quote = this.#peek();
      if (quote === '"' || quote === "'") this.#string(quote);
      else this.#offset = this.#find(/[\s.=\]]/g);
      const raw = this.#text.slice(start, this.#offset);
      keys.push({ name: unquoteKey(raw), span: this.#span(start) });
      this.#skipSpace();
      if (this.#peek() !== '.') return keys;
      this.#offset++;
    }
  }

  #descend(from: Place, keys: { name: string; span: Span }[]): Place {
    let place = from;
    for (const { name, span } of keys) {
      if (this.#arrays.has(place)) place = place.children.get(String(place.children.size - 1)) ?? place;
      let child = place.children.get(name);
      if (child === undefined) place.children.set(name, (child = newPlace(span)));
      place = child;
    }
    return place;
  }

  #value(place: Place): void {
    const start = this.#offset;
    // Taken first: the counting of lines only goes forward.
    const begin = this.#span(start);
    const first = this.#peek();
    if (first === '[') this.#array(place);
    else if (first === '{') this.#inlineTable(place);
    else if (first === '"' || first === "'") this.#string(first);
    else this.#bare();
    const [firstLine = ''] = this.#text.slice(start, this.#offset).split(/\r?\n/, 1);
    place.value = { ...begin, length: Math.max(1, firstLine.length) };
  }

  #array(place: Place): void {
    this.#offset++;
    for (let index = 0; this.#skipToItem(']'); index++) {
      const element = newPlace();
      place.children.set(String(index), element);
      this.#value(element);
    }
  }

  #inlineTable(place: Place): void {
    this.#offset++;
    while (this.#skipToItem('}')) this.#keyValue(place);
  }

  /** To the next item of an array or inline table, or past its end. */
  #skipToItem(close: string): boolean {
    this.#skipBlank();
    while (this.#peek() === ',') {
      this.#offset++;
      this.#skipBlank();
    }
    if (this.#offset < this.#text.length && this.#peek() !== close) return true;
    this.#offset++;
    return false;
  }

  #string(quote: '"' | "'"): void {
    const isMultiLine = this.#text.startsWith(quote.repeat(3), this.#offset);
    const end = isMultiLine ? quote.repeat(3) : quote;
    this.#offset += end.length;
    while (this.#offset < this.#text.length && !this.#text.startsWith(end, this.#offset)) {
      this.#offset += quote === '"' && this.#peek() === '\\' ? 2 : 1;
    }
    this.#offset += end.length;
    // Up to two quotes may stand right before the closing three.
    if (isMultiLine) while (this.#peek() === quote) this.#offset++;
  }

  #bare(): void {
    const start = this.#offset;
    const end = this.#find(/[,\]}#\r\n]/g);
    this.#offset = start + this.#text.slice(start, end).trimEnd().length;
  }

  #skipSpace(): void {
    this.#offset = this.#find(/[^ \t]/g);
  }

  #skipBlank(): void {
    for (;;) {
      this.#offset = this.#find(/[^ \t\r\n]/g);
      if (this.#peek() !== '#') return;
      this.#offset = this.#find(/\n/g);
    }
  }

  #peek(): string {
    return this.#text[this.#offset] ?? '';
  }

  #find(pattern: RegExp): number {
    pattern.lastIndex = this.#offset;
    return pattern.exec(this.#text)?.index ?? this.#text.length;
  }

  /** From `start` to the present offset. Starts must come in the order of the text. */
  #span(start: number): Span {
    for (;;) {
      const newline = this.#text.indexOf('\n', this.#lineStart);
      if (newline === -1 || newline >= start) break;
      this.#line++;
      this.#lineStart = newline + 1;
    }
    return { line: this.#line, column: start - this.#lineStart + 1, length: Math.max(1, this.#offset - start) };
  }
}

function newPlace(key?: Span): Place {
  return { ...(key === undefined ? {} : { key }), children: new Map() };
}

function unquoteKey(raw: string): string {
  if (raw.startsWith("'")) return raw.slice(1, -1);
  if (!raw.startsWith('"')) return raw;
  return raw.includes('\\') ? (Object.keys(parse(`${raw}=0`))[0] ?? raw) : raw.slice(1, -1);
}
