import { tellDisk } from '../faulty-disk/faulty-disk.ts';
import { STEPS, Session } from './workload.ts';

/** Lives the life of a store on a faulty disk, in a process that ends: `<disk> <store> <host dir>`. Marks in the disk's log how many steps are done. */
const [disk, dir, hostDir] = process.argv.slice(2) as [string, string, string];
const session = new Session(dir, hostDir);
for (const [i, step] of STEPS.entries()) {
  step.run(session);
  tellDisk(disk, `mark ${i + 1}`);
}
