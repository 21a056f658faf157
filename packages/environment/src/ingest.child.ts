import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { openStore } from '@hyperdocker/cas';
import { createFilter } from '@hyperdocker/watch';
import { Ingest } from './ingest.ts';

/** The other process of ingest.test.ts: `<project> <empty directory>`; prints the most memory that it had at one time, in bytes. */
const [projectDir, dir] = process.argv.slice(2) as [string, string];
const storeDir = join(dir, 'store');
using store = openStore(storeDir);
new Ingest({ store, storeDir, projectDir, filter: createFilter({ include: [], exclude: [] }), statCacheFile: join(dir, 'stat.cache'), owner: { uid: 0, gid: 0 } }).scan();
process.stdout.write(`${Number(/^VmHWM:\s*(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024}\n`);
