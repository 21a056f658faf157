import { HdError } from '@hyperdocker/base';

const WHO: Record<string, number> = { u: 0o4700, g: 0o2070, o: 0o1007, a: 0o7777 };
const READ = 0o444;
const WRITE = 0o222;
const EXECUTE = 0o111;
const SET_ID = 0o6000;
const STICKY = 0o1000;

/** What `chmod` makes of a mode: octal, or `u+x,go=rX`. @throws HdError MODE_INVALID */
export function changeMode(mode: number, change: string, isDirectory: boolean): number {
  if (/^[0-7]{1,5}$/.test(change)) return Number.parseInt(change, 8) & 0o7777;
  return change.split(',').reduce((current, part) => applyPart(current, part, isDirectory), mode);
}

function applyPart(mode: number, part: string, isDirectory: boolean): number {
  const match = /^([ugoa]*)([-+=])([rwxXst]*)$/.exec(part);
  if (match === null) throw new HdError('MODE_INVALID', `${JSON.stringify(part)} is no mode for --chmod`, { hint: 'write it as 755, or as u+x,go-w' });
  const [, who = '', operator, letters = ''] = match;
  const mask = [...(who === '' ? 'a' : who)].reduce((bits, letter) => bits | (WHO[letter] ?? 0), 0);
  const wanted = [...letters].reduce((bits, letter) => bits | bitsOf(letter, mode, isDirectory), 0) & mask;
  if (operator === '+') return mode | wanted;
  return operator === '-' ? mode & ~wanted : (mode & ~mask) | wanted;
}

function bitsOf(letter: string, mode: number, isDirectory: boolean): number {
  switch (letter) {
    case 'r':
      return READ;
    case 'w':
      return WRITE;
    case 'x':
      return EXECUTE;
    case 'X':
      return isDirectory || (mode & EXECUTE) !== 0 ? EXECUTE : 0;
    case 's':
      return SET_ID;
    default:
      return STICKY;
  }
}
