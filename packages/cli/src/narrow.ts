import { displayWidth } from './format.ts';

/** Terminals narrower than this get a form of their own: names and values below each other, nothing cut. */
const NARROW = 64;

export function isNarrow(columns: number | undefined): columns is number {
  return columns !== undefined && columns > 0 && columns < NARROW;
}

/** A name in a column of its own, and its text beside it on as many lines as it takes. `indent` goes before all of it. */
export function beside(name: string, text: string, { columns, width, indent = '' }: { columns: number; width: number; indent?: string }): string[] {
  const room = Math.max(10, columns - displayWidth(indent) - width);
  const pad = (words: string): string => words + ' '.repeat(Math.max(0, width - displayWidth(words)));
  return wrap(text, room).map((line, index) => `${indent}${pad(index === 0 ? name : '')}${line}`);
}

/** At spaces where there are any, else behind a mark that paths and lists have, else anywhere. Nothing is lost. */
export function wrap(text: string, columns: number): string[] {
  const lines: string[] = [];
  let rest = text;
  while (displayWidth(rest) > columns) {
    const most = prefixOf(rest, columns);
    const space = most.length < rest.length && rest[most.length] === ' ' ? most.length : most.lastIndexOf(' ');
    const mark = Math.max(...[...'/,&?;=-'].map((char) => most.lastIndexOf(char)));
    const at = space > 0 ? space : mark > 0 ? mark + 1 : most.length;
    lines.push(rest.slice(0, at));
    rest = rest.slice(at).replace(/^ /, '');
  }
  return [...lines, rest];
}

/** Its longest beginning of so many columns, a character at least. */
function prefixOf(text: string, columns: number): string {
  let width = 0;
  let prefix = '';
  for (const char of text) {
    width += displayWidth(char);
    if (width > columns && prefix !== '') break;
    prefix += char;
  }
  return prefix;
}
