import type { DemoReport, ScenarioReport, SideReport } from '@hyperdocker/demo';
import { formatMs, formatRatio } from '@hyperdocker/demo';
import { displayWidth, formatBytes, inColumns, plural } from './format.ts';
import type { Paint } from './terminal.ts';
import { printable } from './terminal.ts';

const BAR = 30;
const GAP = '   ';

/** Bars for each scenario, a table of all, what each side keeps on the disk, and how it was measured. */
export function renderDemo(report: DemoReport, paint: Paint): string {
  const { dockerVersion, dockerAbsent, scenarios } = report;
  const beside = dockerVersion === null ? '' : ` beside Docker Engine ${dockerVersion}`;
  return [
    paint('bold', printable(`Hyperdocker${beside}: ${report.environment}, ${plural(report.rounds, 'round')}`)),
    printable(`  base image   ${report.base}`),
    printable(`  one file     ${report.edited.file}: "${report.edited.phrase}" on the page of ${report.service} becomes something else every time`),
    printable(`  dependency   ${report.dependency ?? 'no step reads a file of the project'}`),
    ...(dockerAbsent === null ? [] : [paint('yellow', printable(`  no Docker    ${dockerAbsent}: these are the figures of hd alone`))]),
    ...scenarios.flatMap((scenario) => ['', ...bars(scenario, paint)]),
    '', paint('bold', 'Medians (least – most), and how many times the time of hd:'),
    ...resultTable(scenarios, paint),
    '', paint('bold', 'On the disk, after the first build and all edits:'),
    ...inColumns(report.disk.map(({ side, baseBytes, addedBytes }) => [`  ${sideName(side)}`, `${formatBytes(addedBytes)}`, `beside ${formatBytes(baseBytes)} of the base image`]), GAP),
    ...(report.notes.length === 0 ? [] : ['', ...report.notes.map((note) => paint('dim', `  ${note}`))]),
    '', 'Your files are as they were: the demo works on copies, and has removed them.', '',
  ].join('\n');
}

function bars({ title, what, sides }: ScenarioReport, paint: Paint): string[] {
  const mostMs = Math.max(...sides.map(({ ms }) => ms.median));
  const width = Math.max(...sides.map(({ side }) => displayWidth(sideName(side))));
  // As the reader waits for it: what there was before comes first.
  return [`${paint('bold', title)} (${what}):`, ...[...sides.slice(1), ...sides.slice(0, 1)].map((side) => {
    const bar = '='.repeat(Math.max(1, Math.round((side.ms.median / mostMs) * BAR))).padEnd(BAR);
    return `  ${sideName(side.side).padEnd(width)}  ${paint(side.side === 'hd' ? 'green' : 'dim', bar)}  ${formatMs(side.ms.median).padStart(7)}   ${stepText(side)}`;
  })];
}

function resultTable(scenarios: readonly ScenarioReport[], paint: Paint): string[] {
  const names = [...new Set(scenarios.flatMap(({ sides }) => sides.map(({ side }) => side)))];
  const rows = scenarios.map(({ title, sides }) => [`  ${title}`, ...names.map((name) => cell(sides.find(({ side }) => side === name)))]);
  const [head = '', ...lines] = inColumns([['', ...names.map(sideName)], ...rows], GAP);
  return [paint('dim', head), ...lines];
}

function cell(side: SideReport | undefined): string {
  if (side === undefined) return '-';
  const spread = `${formatMs(side.ms.median)} (${formatMs(side.ms.min)} – ${formatMs(side.ms.max)})`;
  return side.side === 'hd' ? spread : `${spread} ${formatRatio(side.timesHd).split(' ')[0]} ×`;
}

function stepText({ ran, steps }: SideReport): string {
  return steps === 0 ? 'no build' : `ran ${ran} of ${plural(steps, 'step')}`;
}

function sideName(side: string): string {
  return side === 'hd' ? 'Hyperdocker' : side;
}
