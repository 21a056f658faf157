import { HdError } from '@hyperdocker/base';

/**
 * What Docker does with words outside of RUN: quotes, escapes, `$NAME`, and `${NAME}` with `:-word`, `-word`, `:+word`, `+word`, `:?word`, `?word`, `#pattern`,
 * `##pattern`, `%pattern`, `%%pattern`, `/pattern/word`, `//pattern/word`.
 */
export interface Expansion {
  text: string;
  /** The text cut at blanks that are not quoted, also at those of values: what an instruction of many words takes. */
  words: string[];
  /** Variables without a value, in order; they became empty. */
  missing: string[];
}

export interface ExpandOptions {
  escape: string;
  /** Quotes and escapes stay: only variables are put in, as in a here-document. */
  rawQuotes?: boolean;
}

/** @throws HdError DOCKERFILE_EXPANSION, without a line: the caller knows it */
export function expand(word: string, variables: ReadonlyMap<string, string>, options: ExpandOptions): Expansion {
  return new Expander(word, variables, options).run();
}

class Expander {
  readonly #word: string;
  readonly #variables: ReadonlyMap<string, string>;
  readonly #escape: string;
  readonly #rawQuotes: boolean;
  readonly #missing: string[] = [];
  readonly #words: string[] = [];
  #current: string | undefined;
  #at = 0;

  constructor(word: string, variables: ReadonlyMap<string, string>, { escape, rawQuotes = false }: ExpandOptions) {
    this.#word = word;
    this.#variables = variables;
    this.#escape = escape;
    this.#rawQuotes = rawQuotes;
  }

  run(): Expansion {
    const text = this.#until('');
    this.#cut();
    return { text, words: this.#words, missing: this.#missing };
  }

  /** Up to an unquoted character of `stop`, which is left to be read. */
  #until(stop: string): string {
    let text = '';
    while (this.#at < this.#word.length) {
      const char = this.#word.charAt(this.#at);
      if (stop.includes(char)) return text;
      if (char === '$') {
        const value = this.#dollar();
        this.#addValue(value);
        text += value;
      } else if (!this.#rawQuotes && (char === "'" || char === '"')) {
        const quoted = char === "'" ? this.#single() : this.#double();
        this.#add(quoted);
        text += quoted;
      } else if (char === this.#escape) {
        const escaped = this.#escaped();
        this.#add(escaped);
        text += escaped;
      } else {
        this.#at++;
        if (/\s/.test(char)) this.#cut();
        else this.#add(char);
        text += char;
      }
    }
    if (stop !== '') throw invalid('a variable is not closed with "}"');
    return text;
  }

  #escaped(): string {
    const next = this.#word.charAt(this.#at + 1);
    this.#at += 2;
    if (next === '') return '';
    return this.#rawQuotes && next !== '$' && next !== this.#escape ? this.#escape + next : next;
  }

  #single(): string {
    const end = this.#word.indexOf("'", this.#at + 1);
    if (end < 0) throw invalid("a ' is not closed");
    const text = this.#word.slice(this.#at + 1, end);
    this.#at = end + 1;
    return text;
  }

  #double(): string {
    let text = '';
    this.#at++;
    while (this.#at < this.#word.length) {
      const char = this.#word.charAt(this.#at);
      if (char === '"') {
        this.#at++;
        return text;
      }
      if (char === '$') text += this.#dollar();
      else if (char === this.#escape) {
        const next = this.#word.charAt(this.#at + 1);
        this.#at += 2;
        if (next === '') throw invalid('a " is not closed');
        text += next === '"' || next === '$' || next === this.#escape ? next : char + next;
      } else {
        text += char;
        this.#at++;
      }
    }
    throw invalid('a " is not closed');
  }

  #dollar(): string {
    this.#at++;
    if (this.#word.charAt(this.#at) === '{') return this.#braces();
    const name = /^(?:[A-Za-z_]\w*|\d|[@*#])/.exec(this.#word.slice(this.#at))?.[0];
    if (name === undefined) return '$';
    this.#at += name.length;
    return this.#value(name);
  }

  #braces(): string {
    this.#at++;
    const name = /^(?:[A-Za-z_]\w*|\d+|[@*#])/.exec(this.#word.slice(this.#at))?.[0];
    if (name === undefined) throw invalid('there is no variable name after "${"');
    this.#at += name.length;
    const operator = /^(?::[-+?]|[-+?}]|##?|%%?|\/\/?)/.exec(this.#word.slice(this.#at))?.[0];
    if (operator === undefined) throw invalid(this.#at >= this.#word.length ? `\${${name} is not closed with "}"` : `unknown modifier of \${${name}`);
    this.#at += operator.length;
    if (operator === '}') return this.#value(name);
    return this.#modified(name, operator);
  }

  #modified(name: string, operator: string): string {
    const value = this.#variables.get(name);
    const isSet = operator.startsWith(':') ? value !== undefined && value !== '' : value !== undefined;
    const pattern = this.#apart(() => this.#until(operator.startsWith('/') ? '/}' : '}'));
    if (operator.startsWith('/')) return this.#replaced(name, operator, pattern);
    this.#at++;
    switch (operator.at(-1)) {
      case '-':
        return isSet ? (value ?? '') : pattern;
      case '+':
        return isSet ? pattern : '';
      case '?':
        if (!isSet) throw invalid(`${name}: ${pattern === '' ? 'has no value' : pattern}`);
        return value ?? '';
      default:
        return trimmed(this.#value(name), operator, pattern);
    }
  }

  #replaced(name: string, operator: string, pattern: string): string {
    let replacement = '';
    if (this.#word.charAt(this.#at) === '/') {
      this.#at++;
      replacement = this.#apart(() => this.#until('}'));
    }
    this.#at++;
    const source = globSource(pattern, true);
    return this.#value(name).replace(new RegExp(source, operator === '//' ? 'gs' : 's'), () => replacement);
  }

  /** What is read inside of braces makes no words of its own. */
  #apart(read: () => string): string {
    const [current, count] = [this.#current, this.#words.length];
    const text = read();
    this.#current = current;
    this.#words.length = count;
    return text;
  }

  #value(name: string): string {
    const value = this.#variables.get(name);
    if (value === undefined) this.#missing.push(name);
    return value ?? '';
  }

  #add(text: string): void {
    this.#current = (this.#current ?? '') + text;
  }

  #addValue(text: string): void {
    const parts = text.split(/\s+/);
    for (const [nth, part] of parts.entries()) {
      if (nth > 0) this.#cut();
      if (part !== '') this.#add(part);
    }
  }

  #cut(): void {
    if (this.#current !== undefined) this.#words.push(this.#current);
    this.#current = undefined;
  }
}

/** `#` and `##` cut at the beginning, `%` and `%%` at the end; one sign the shortest match, two the longest. */
function trimmed(value: string, operator: string, pattern: string): string {
  const isGreedy = operator.length === 2;
  const source = globSource(pattern, isGreedy);
  if (operator.startsWith('#')) return value.replace(new RegExp(`^${source}`, 's'), '');
  // From the end: the first match from the left is the longest one.
  for (let at = 0; at <= value.length; at++) {
    const start = isGreedy ? at : value.length - at;
    if (new RegExp(`^${globSource(pattern, true)}$`, 's').test(value.slice(start))) return value.slice(0, start);
  }
  return value;
}

function globSource(glob: string, isGreedy: boolean): string {
  return glob.replace(/\\(.)|[\s\S]/g, (char, escaped: string | undefined) => {
    if (escaped !== undefined) return quoted(escaped);
    if (char === '*') return isGreedy ? '.*' : '.*?';
    return char === '?' ? '.' : quoted(char);
  });
}

function quoted(char: string): string {
  return char.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
}

function invalid(why: string): HdError {
  return new HdError('DOCKERFILE_EXPANSION', why);
}

/** Splits at blanks outside of quotes; quotes and escapes stay. */
export function splitWords(text: string, escape: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quote = '';
  for (let i = 0; i < text.length; i++) {
    const char = text.charAt(i);
    if (char === escape && quote !== "'" && i + 1 < text.length) word = (word ?? '') + char + text.charAt(++i);
    else if (quote === '' && /\s/.test(char)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else {
      if (quote === '' && (char === '"' || char === "'")) quote = char;
      else if (char === quote) quote = '';
      word = (word ?? '') + char;
    }
  }
  return word === undefined ? words : [...words, word];
}
