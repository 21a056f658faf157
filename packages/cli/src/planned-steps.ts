import type { DryRun, Prediction } from '@hyperdocker/environment';
import { reasonText } from '@hyperdocker/environment';
import type { Invocation } from './command.ts';
import { formatDuration, oneLine, plural } from './format.ts';
import { printable } from './terminal.ts';

/** Says what a build would do. */
export function tellPlan({ json, terminal }: Invocation, result: DryRun): void {
  terminal.out(json ? `${JSON.stringify(toDocument(result))}\n` : `${lines(result).map((line) => printable(line)).join('\n')}\n`);
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
    ...(imageMissing === undefined ? [] : [`${imageMissing.includes(', ') ? 'Images' : 'Image'} ${imageMissing} ${imageMissing.includes(', ') ? 'are' : 'is'} not here: ${imageMissing.includes(', ') ? 'they' : 'it'} would be fetched`]),
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
      if (prediction.after.length === 0) return 'it looks at what has to be fetched first';
      return `it looks at what ${prediction.after.length === 1 ? 'step' : 'steps'} ${prediction.after.join(', ')} ${prediction.after.length === 1 ? 'writes' : 'write'}`;
    case 'cached':
      return `none of the ${plural(prediction.facts, 'path')} that it looked at changed (saves ${formatDuration(prediction.savedMs)})`;
  }
}

function count(predictions: readonly Prediction[], outcome: Prediction['outcome']): number {
  return predictions.filter((prediction) => prediction.outcome === outcome).length;
}
