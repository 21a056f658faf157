import type { DryRun, Prediction } from '@hyperdocker/environment';
import { dryRun, reasonText } from '@hyperdocker/environment';
import { usageError } from '../args.ts';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { formatDuration, oneLine, plural } from '../format.ts';
import { loadSpec } from '../load-spec.ts';
import { locateProject } from '../project.ts';
import { printable } from '../terminal.ts';
import { start } from '../start.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { flags, args, env, terminal, json } = invocation;
  if (isOfDockerfile(invocation)) return await (await import('./build-image.ts')).run(invocation);
  const noCache = flags.bool('no-cache');
  if (!flags.bool('dry-run')) return await start(invocation, { refreshImage: flags.bool('pull'), watch: false, profiles: [], buildOnly: true, noCache, until: 'stopped' });
  const place = locateProject(invocation, args[0]);
  loadSpec(place.project, terminal);
  const result = dryRun(place, { noCache, env });
  terminal.out(json ? `${JSON.stringify(toDocument(result))}\n` : `${lines(result).map((line) => printable(line)).join('\n')}\n`);
  return EXIT.ok;
}

const DOCKERFILE_FLAGS = { text: ['file', 'target', 'platform', 'network', 'output', 'oci', 'archive', 'push'], list: ['tag', 'build-arg', 'build-context', 'secret', 'ssh', 'label', 'allow'] } as const;

/** @throws HdError USAGE for options of a Dockerfile without one being asked for */
function isOfDockerfile({ flags }: Invocation): boolean {
  const isAsked = flags.text('file') !== undefined || flags.list('tag').length > 0;
  if (isAsked && flags.bool('dry-run')) throw usageError('--dry-run is of builds from hd.toml', 'leave out -f and -t');
  const given = [...DOCKERFILE_FLAGS.text.filter((name) => flags.text(name) !== undefined), ...DOCKERFILE_FLAGS.list.filter((name) => flags.list(name).length > 0)];
  if (!isAsked && given.length > 0) throw usageError(`--${given[0]} is of builds from a Dockerfile`, 'name the Dockerfile with -f, or the image with -t');
  return isAsked;
}

/** What `hd build --dry-run --json` prints. */
function toDocument(result: DryRun): object {
  const { predictions, imageMissing } = result;
  const steps = predictions.map((prediction) => ({ ...prediction.step, outcome: prediction.outcome, reason: reasonOf(prediction) }));
  return { schema: 'hd.plan/1', will_run: count(predictions, 'run'), may_run: count(predictions, 'may run'), ...(imageMissing === undefined ? {} : { image_missing: imageMissing }), steps };
}

function lines(result: DryRun): string[] {
  const { predictions, imageMissing } = result;
  const mayRun = count(predictions, 'may run');
  return [
    ...(imageMissing === undefined ? [] : [`Image ${imageMissing} is not here: it would be fetched`]),
    ...predictions.map((prediction) => `[${prediction.step.index}/${prediction.step.total}] ${WORDS[prediction.outcome]} ${oneLine(prediction.step.command)}: ${reasonOf(prediction)}`),
    `${plural(count(predictions, 'run'), 'step')} would run${mayRun === 0 ? '' : `, ${mayRun} may`}, ${count(predictions, 'cached')} would not.`,
  ];
}

const WORDS = { run: 'RUN', 'may run': 'MAY RUN', cached: 'CACHED' } as const;

function reasonOf(prediction: Prediction): string {
  switch (prediction.outcome) {
    case 'run':
      return reasonText(prediction.reason);
    case 'may run':
      return `it looks at what ${prediction.after.length === 1 ? 'step' : 'steps'} ${prediction.after.join(', ')} ${prediction.after.length === 1 ? 'writes' : 'write'}`;
    case 'cached':
      return `none of the ${plural(prediction.facts, 'path')} that it looked at changed (saves ${formatDuration(prediction.savedMs)})`;
  }
}

function count(predictions: readonly Prediction[], outcome: Prediction['outcome']): number {
  return predictions.filter((prediction) => prediction.outcome === outcome).length;
}
