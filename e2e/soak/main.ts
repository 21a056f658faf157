/**
 * `npm run soak [-- --seed N --edits N --minutes N --json]`: eight hours of work on a project, an edit a second, in as little time as it takes. As root, on Linux.
 * Ends with 1 where the files inside were not those of the host at a quiet point, or something has leaked.
 */
import { parseArgs } from 'node:util';
import { noBusybox } from '../busybox.ts';
import { noFuse, unable } from '../rig.ts';
import { describeUsage, leaks, soak } from './soak.ts';

const EDITS = 8 * 3600;

const { values } = parseArgs({ options: { seed: { type: 'string' }, edits: { type: 'string' }, minutes: { type: 'string' }, json: { type: 'boolean' } } });
const why = unable || noFuse || noBusybox;
if (why !== false) {
  process.stderr.write(`cannot run here: ${why}\n`);
  process.exitCode = 2;
} else {
  const seed = Number(values.seed ?? Date.now() % 1_000_000);
  process.stderr.write(`seed ${seed}\n`);
  const report = await soak({ seed, edits: Number(values.edits ?? EDITS), minutes: Number(values.minutes ?? 60), onProgress: (text) => void process.stderr.write(`${text}\n`) });
  const leaked = leaks(report);
  process.stdout.write(values.json === true ? `${JSON.stringify({ ...report, leaked })}\n` : [
    `${report.edits} edits in ${report.seconds} s: ${Object.entries(report.deeds).map(([deed, times]) => `${deed} ${times}`).join(', ')}`,
    `${report.batches} batches, ${report.stepsRun} steps run, ${report.restarts} starts of services, ${report.clashes} clashes`,
    `${report.quietPoints} quiet points, all equal (${report.late} of them a moment late)`,
    ...report.usage.map((usage, quarter) => `${quarter === 0 ? 'at first' : quarter === report.usage.length - 1 ? 'at the end' : `quarter ${quarter}`}: ${describeUsage(usage)}`),
    ...report.warnings.map((warning) => `warning: ${warning}`),
    leaked.length === 0 ? 'nothing leaked' : `LEAKED: ${leaked.join('; ')}`, '',
  ].join('\n'));
  process.exitCode = leaked.length === 0 ? 0 : 1;
}
