/** What Docker does with words outside of RUN: quotes, escapes, and `$NAME`, `${NAME}`, `${NAME:-word}`, `${NAME:+word}`. */

export interface Evaluated {
  text: string;
  /** Variables without a value, in order; they became empty. */
  missing: string[];
}

/** One word with its variables put in and its quotes gone. Quotes inside of values stay. */
export function evaluate(word: string, variables: ReadonlyMap<string, string>, escape: string): Evaluated {
  const pattern = /^\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?:(:?[-+])([^}]*))?\})/;
  const missing: string[] = [];
  let text = '';
  let quote = '';
  for (let i = 0; i < word.length; i++) {
    const char = word.charAt(i);
    const variable = char === '$' && quote !== "'" ? pattern.exec(word.slice(i)) : null;
    if (variable !== null) {
      text += valueOf(variable, variables, escape, missing);
      i += variable[0].length - 1;
    } else if (char === escape && quote !== "'" && i + 1 < word.length) {
      const next = word.charAt(++i);
      text += quote === '"' && next !== '"' && next !== escape && next !== '$' ? char + next : next;
    } else if (quote === '' && (char === '"' || char === "'")) quote = char;
    else if (char === quote) quote = '';
    else text += char;
  }
  return { text, missing };
}

function valueOf(match: RegExpExecArray, variables: ReadonlyMap<string, string>, escape: string, missing: string[]): string {
  const name = match[1] ?? match[2] ?? '';
  const value = variables.get(name);
  const other = () => {
    const inner = evaluate(match[4] ?? '', variables, escape);
    missing.push(...inner.missing);
    return inner.text;
  };
  const isSet = match[3]?.startsWith(':') === true ? value !== undefined && value !== '' : value !== undefined;
  if (match[3]?.endsWith('+')) return isSet ? other() : '';
  if (match[3]?.endsWith('-')) return isSet ? (value ?? '') : other();
  if (value === undefined) missing.push(name);
  return value ?? '';
}

/** Splits at blanks outside of quotes; quotes and escapes stay. */
export function splitWords(text: string, escape: string): string[] {
  const words: string[] = [];
  let word = '';
  let quote = '';
  for (let i = 0; i < text.length; i++) {
    const char = text.charAt(i);
    if (char === escape && quote !== "'" && i + 1 < text.length) word += char + text.charAt(++i);
    else if (quote === '' && /\s/.test(char)) {
      if (word !== '') words.push(word);
      word = '';
    } else {
      if (quote === '' && (char === '"' || char === "'")) quote = char;
      else if (char === quote) quote = '';
      word += char;
    }
  }
  return word === '' ? words : [...words, word];
}

/** `NAME=value NAME="other value"`, or the old `NAME all the rest`. Values are still to be evaluated. */
export function splitPairs(text: string, escape: string): [name: string, value: string][] {
  const words = splitWords(text, escape);
  if (words[0]?.includes('=') !== true) {
    const old = /^(\S+)\s+([\s\S]+)$/.exec(text);
    return old === null ? [] : [[old[1] ?? '', old[2] ?? '']];
  }
  return words.map((word) => {
    const equals = word.indexOf('=');
    return equals < 0 ? [word, ''] : [word.slice(0, equals), word.slice(equals + 1)];
  });
}

/** One word for a POSIX shell. */
export function shellQuote(word: string): string {
  if (/^[\w@%+=:,./-]+$/.test(word)) return word;
  if (word.includes("'") && !/["$`\\!]/.test(word)) return `"${word}"`;
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
