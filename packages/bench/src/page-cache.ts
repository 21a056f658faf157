import { writeFileSync } from 'node:fs';
import { run } from '@hyperdocker/demo';

/** The next to read a file reads it from the disk. */
export async function emptyPageCache(): Promise<void> {
  await run('sync', []);
  writeFileSync('/proc/sys/vm/drop_caches', '3');
}
