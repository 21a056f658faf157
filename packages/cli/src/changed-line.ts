import type { ChangedPath } from '@hyperdocker/environment';
import { printable } from './terminal.ts';

const LETTERS: Record<ChangedPath['change'], string> = { added: 'A', changed: 'C', removed: 'D' };

/** As `docker diff` has it. */
export function changedLine({ path, change }: ChangedPath): string {
  return `${LETTERS[change]} ${printable(path)}\n`;
}
