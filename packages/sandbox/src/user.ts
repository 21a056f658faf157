import { HdError } from '@hyperdocker/base';

export interface ResolvedUser {
  readonly uid: number;
  readonly gid: number;
  /** The other groups that name the user, ascending. */
  readonly additionalGids: number[];
  /** `/` for an id that is not in the password file. */
  readonly home: string;
  readonly name: string | undefined;
  /** The program to log in with, '' where none is named. */
  readonly shell: string;
}

/**
 * Resolves `user[:group]`, names or numbers, by the text of an image's `/etc/passwd` and `/etc/group`; '' stands for root.
 * A number need not be listed. Naming a group leaves out the additional ones, as Docker does. Throws `USER_NOT_FOUND` and `GROUP_NOT_FOUND`.
 */
export function resolveUser(text: string, passwd: string, group: string): ResolvedUser {
  const [userText = '', groupText] = text.split(':', 2);
  const users = parseLines(passwd, 6).map(([name = '', , uid, gid, , home = '/', shell = '']) => ({ name, uid: Number(uid), gid: Number(gid), home, shell }));
  const groups = parseLines(group, 3).map(([name = '', , gid, members = '']) => ({ name, gid: Number(gid), members: members.split(',') }));
  const wanted = userText === '' ? '0' : userText;
  const known = users.find((user) => user.name === wanted) ?? users.find((user) => String(user.uid) === wanted);
  if (known === undefined && !isId(wanted)) {
    throw new HdError('USER_NOT_FOUND', `The image has no user named ${wanted}.`, { hint: 'Create it in a build step (useradd), or give its number.' });
  }
  const user = known ?? { name: undefined, uid: Number(wanted), gid: 0, home: '/', shell: '' };
  if (groupText === undefined || groupText === '') {
    const gids = groups.filter((entry) => user.name !== undefined && entry.members.includes(user.name)).map((entry) => entry.gid);
    return { ...user, home: user.home || '/', additionalGids: [...new Set(gids)].filter((gid) => gid !== user.gid).sort((a, b) => a - b) };
  }
  const gid = groups.find((entry) => entry.name === groupText)?.gid ?? (isId(groupText) ? Number(groupText) : undefined);
  if (gid === undefined) {
    throw new HdError('GROUP_NOT_FOUND', `The image has no group named ${groupText}.`, { hint: 'Create it in a build step (groupadd), or give its number.' });
  }
  return { ...user, home: user.home || '/', gid, additionalGids: [] };
}

/** Lines of a colon-separated file with numbers where ids belong; others are skipped, as libc does. */
function parseLines(text: string, fields: number): string[][] {
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split(':'))
    .filter((parts) => parts.length >= fields && isId(parts[2] ?? ''));
}

function isId(text: string): boolean {
  return /^\d{1,10}$/.test(text) && Number(text) < 2 ** 32;
}
