import type { DemoReport, ScenarioReport, SideReport } from './demo.ts';
import { formatMs, formatRatio } from './stats.ts';

const WIDTH = 880;
const MARGIN = 32;
const LABELS = 190;
const BARS = WIDTH - 2 * MARGIN - LABELS - 190;
const ROW = 30;
const BAR = 16;
const HEAD = 92;
const PANEL_HEAD = 44;
const PANEL_GAP = 22;

const STYLE = `
  svg { color-scheme: light dark; --ground: #ffffff; --ink: #1c2330; --dim: #667085; --line: #e4e7ec; --hd: #0f766e; --docker: #98a5b9; }
  @media (prefers-color-scheme: dark) { svg { --ground: #11151c; --ink: #e6e9ef; --dim: #98a2b3; --line: #2a313d; --hd: #2dd4bf; --docker: #56637a; } }
  text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--ink); }
  .title { font-size: 20px; font-weight: 650; } .panel { font-size: 14.5px; font-weight: 600; } .dim { fill: var(--dim); font-size: 12.5px; }
  .value { font-weight: 600; font-variant-numeric: tabular-nums; } .line { stroke: var(--line); } .spread { stroke: var(--ink); stroke-opacity: .55; stroke-width: 1.2; }
  .dot { fill: var(--ink); fill-opacity: .45; } .hd { fill: var(--hd); } .docker { fill: var(--docker); }
`;

/** The rounds of a demo as a drawing: for each scenario a bar for each side's median, its spread and every round as a dot. Each scenario has a scale of its own, from zero. */
export function plotSvg(report: DemoReport): string {
  const panels: string[] = [];
  let top = HEAD;
  for (const scenario of report.scenarios) {
    panels.push(panel(scenario, top));
    top += PANEL_HEAD + scenario.sides.length * ROW + PANEL_GAP;
  }
  const height = top + 8;
  const beside = report.dockerVersion === null ? '' : ` and Docker Engine ${report.dockerVersion}`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${escape(`hd demo, ${report.environment}`)}">`,
    `<style>${STYLE}</style>`,
    `<rect width="${WIDTH}" height="${height}" fill="var(--ground)"/>`,
    text(MARGIN, 42, 'title', `Hyperdocker${beside}: ${report.environment}`),
    text(MARGIN, 66, 'dim', `Time to a served response, lower is better. Bars: medians of ${report.rounds} rounds; lines: least to most; dots: rounds.`),
    ...panels, '</svg>', '',
  ].join('\n');
}

function panel({ title, what, sides }: ScenarioReport, top: number): string {
  const mostMs = Math.max(...sides.map(({ ms }) => ms.max));
  return [
    `<line class="line" x1="${MARGIN}" x2="${WIDTH - MARGIN}" y1="${top}" y2="${top}"/>`,
    `<text class="panel" x="${MARGIN}" y="${top + 27}">${escape(title)}<tspan class="dim" dx="10" font-weight="400">${escape(what)}</tspan></text>`,
    ...sides.map((side, index) => bar(side, top + PANEL_HEAD + index * ROW, mostMs)),
  ].join('\n');
}

function bar({ side, ms, samplesMs, timesHd }: SideReport, top: number, mostMs: number): string {
  const left = MARGIN + LABELS;
  const x = (value: number): string => (left + (value / mostMs) * BARS).toFixed(1);
  const middle = top + BAR / 2;
  const isHd = side === 'hd';
  const times = isHd ? '' : `<tspan class="dim" dx="8" font-weight="400">${formatRatio(timesHd).split(' ')[0]} ×</tspan>`;
  return [
    text(MARGIN, middle + 4.5, isHd ? 'value' : '', isHd ? 'Hyperdocker' : side),
    `<rect class="${isHd ? 'hd' : 'docker'}" x="${left}" y="${top}" width="${Math.max(1.5, (ms.median / mostMs) * BARS).toFixed(1)}" height="${BAR}" rx="2"/>`,
    `<line class="spread" x1="${x(ms.min)}" x2="${x(ms.max)}" y1="${middle}" y2="${middle}"/>`,
    ...samplesMs.map((sample) => `<circle class="dot" cx="${x(sample)}" cy="${middle}" r="2.2"/>`),
    `<text class="value" x="${left + BARS + 14}" y="${middle + 4.5}">${formatMs(ms.median)}${times}</text>`,
  ].join('\n');
}

function text(x: number, y: number, style: string, words: string): string {
  return `<text${style === '' ? '' : ` class="${style}"`} x="${x}" y="${y}">${escape(words)}</text>`;
}

function escape(words: string): string {
  return words.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}
