import { tellDisk } from '../faulty-disk/faulty-disk.ts';
import { STEPS, Session, WAYS } from './workload.ts';
import type { Way } from './workload.ts';

/** Lives the life of a store on a faulty disk, in a process that ends: `<disk> <store> <host dir> <way>`. Marks in the disk's log how many steps are done. */
const [disk, dir, hostDir, way] = process.argv.slice(2) as [string, string, string, Way];
const session = new Session(dir, hostDir, WAYS[way]);
for (const [i, step] of STEPS.entries()) {
  step.run(session);
  tellDisk(disk, `mark ${i + 1}`);
}
