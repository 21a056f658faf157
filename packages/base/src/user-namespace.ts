import { readFileSync } from 'node:fs';

let inside: boolean | undefined;

/** Whether this process is in a user namespace of somebody's: root there has not all the rights of the machine's. */
export function inUserNamespace(): boolean {
  if (inside === undefined) {
    try {
      const [from, to, count] = readFileSync('/proc/self/uid_map', 'utf8').trim().split(/\s+/).map(Number);
      inside = from !== 0 || to !== 0 || count !== 2 ** 32 - 1;
    } catch {
      inside = false;
    }
  }
  return inside;
}
