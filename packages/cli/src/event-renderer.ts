import { unreachable } from '@hyperdocker/base';
import type { BuiltEvent, ChangeSummary, FileChange, HdEvent, StepId } from '@hyperdocker/environment';
import { renderDiagnostic } from '@hyperdocker/spec';
import { displayWidth, fit, formatBytes, formatCount, formatDuration, oneLine, plural } from './format.ts';
import { LogPrefix } from './log-prefix.ts';
import { StepProgress } from './step-progress.ts';
import type { Paint } from './terminal.ts';
import { printable } from './terminal.ts';
import { versionsText } from './versions-text.ts';

export interface Line {
  stream: 'stdout' | 'stderr';
  /** Without a line end. */
  text: string;
}

export interface EventRendererOptions {
  services: readonly string[];
  /** The text of hd.toml or of a Dockerfile, to show the line of a step that failed. */
  specText: string;
  outPaint: Paint;
  errPaint: Paint;
  /** Leave out progress: only logs, warnings and errors remain. */
  quiet: boolean;
  /** Steps that run are shown by `region`, in lines that go when they are done, instead of all that they print. Other lines are kept from growing beyond the terminal. */
  live?: { columns(): number };
  /** Nothing is going to be up: its beginning and end are not worth a line. */
  buildOnly?: boolean;
  /** Paths in the project that what is printed here goes to, as in `hd up > log`: telling of their changes would never end. */
  ownOutputs?: readonly string[];
}

const MAX_CHANGES = 100;
const FAILED_STEP_LINES = 20;
/** Where its output has not been printed before. */
const FAILED_STEP_LINES_LIVE = 200;
/** What a command is shown with at least, on a terminal however narrow. */
const LEAST_COMMAND = 24;

type ServiceEvent = Extract<HdEvent, { type: 'service' }>;
type StepEvent = Extract<HdEvent, { type: 'step' }>;

/** Events to lines of text: each event once, in order. Keeps what later lines need of earlier events. */
export class EventRenderer {
  readonly #options: EventRendererOptions;
  readonly #prefix: LogPrefix;
  readonly #nameWidth: number;
  #savedMs = 0;
  #imageDetail: string | undefined;
  readonly #progress = new StepProgress();
  /** Steps whose turn has come. */
  readonly #begun = new Set<number>();
  /** By step, while it runs in the region: the line that says what it is and why it runs. */
  readonly #headings = new Map<number, Line>();
  /** Of each step's output: the end that is not a whole line yet. */
  readonly #partial = new Map<number, string>();
  /** What each restart that is under way was caused by. */
  readonly #restarts = new Map<string, string>();
  readonly #seen = new Set<string>();
  /** Built once: from then on steps that are up to date are not worth a line with each edit. */
  #isBuilt = false;
  #hasFailed = false;

  constructor(options: EventRendererOptions) {
    this.#options = options;
    this.#prefix = new LogPrefix(options.services);
    this.#nameWidth = Math.max(0, ...options.services.map((name) => name.length));
  }

  /** Events are going to be those after a first build that is not among them. */
  skipBuild(): void {
    this.#isBuilt = true;
  }

  /** What to show below all lines for now. Nothing unless `live`. */
  region(nowMs: number, columns: number): string[] {
    return this.#progress.lines(nowMs, columns).map((line) => this.#options.outPaint('dim', line));
  }

  render(event: HdEvent): Line[] {
    const lines = this.#lines(event);
    return this.#options.quiet ? lines.filter(({ stream }) => stream === 'stderr' || event.type === 'log') : lines;
  }

  #lines(event: HdEvent): Line[] {
    switch (event.type) {
      case 'warning':
        return [stderr(`${this.#options.errPaint('yellow', 'warning:')} ${event.message}`)];
      case 'image':
        return this.#image(event);
      case 'step':
        return [...this.#endOutput(event.step), ...this.#step(event)];
      case 'step-output':
        return this.#output(event.step, event.text);
      case 'built':
        return this.#built(event).map(stdout);
      case 'change':
        return this.#change(event);
      case 'clash':
        return [stderr(`${this.#options.errPaint('yellow', 'warning:')} ${clashText(event)}`)];
      case 'pulled':
        return event.files.map((file) => stdout(`${file.change === 'added' ? '+' : '~'} ${printable(file.path)} brought out (${versionsText({ host: file.before, inside: file.after })})`));
      case 'service':
        return this.#service(event);
      case 'signalled':
        return [this.#serviceLine(event.service, `sent ${event.signal} (${event.cause})`)];
      case 'log':
        return this.#log(event);
      case 'adopted':
        return [stderr(`${this.#options.errPaint('yellow', 'warning:')} its supervisor had ended unexpectedly: what was written inside is still there${event.services.length === 0 ? '' : `; starting again: ${event.services.join(', ')}`}`)];
      case 'up':
        return this.#up(event);
      case 'failed':
        this.#progress.clear();
        this.#hasFailed = true;
        return [];
      case 'stopped':
        this.#progress.clear();
        return this.#hasFailed || this.#options.buildOnly === true ? [] : [stdout('Stopped.')];
      default:
        return unreachable(event);
    }
  }

  #up({ ms, failed }: Extract<HdEvent, { type: 'up' }>): Line[] {
    const { outPaint, errPaint, buildOnly = false } = this.#options;
    if (buildOnly) return [];
    if (failed.length === 0) return [stdout(outPaint('bold', `Up in ${formatDuration(ms)}.`))];
    return [stderr(`${errPaint('yellow', 'warning:')} up in ${formatDuration(ms)}, but not running: ${failed.join(', ')}`)];
  }

  #image(event: Extract<HdEvent, { type: 'image' }>): Line[] {
    const { outPaint } = this.#options;
    const head = `Image ${event.base}`;
    if (event.status === 'cached') return [stdout(outPaint('dim', `${head} is here already`))];
    if (event.status === 'ready') return [stdout(`${head} ready (${formatDuration(event.ms ?? 0)})`)];
    if (event.detail === undefined) return [stdout(`${head}: fetching`)];
    if (event.detail === this.#imageDetail) return [];
    this.#imageDetail = event.detail;
    return [stdout(outPaint('dim', `  | ${printable(event.detail)}`))];
  }

  #step(event: StepEvent): Line[] {
    const { outPaint, live } = this.#options;
    const { step } = event;
    const number = `[${step.index}/${step.total}]`;
    const label = outPaint('bold', number);
    const heading = this.#headings.get(step.index);
    const hadBegun = this.#begun.has(step.index);
    if (event.status !== 'running' && event.status !== 'ahead') {
      this.#progress.end(step);
      this.#headings.delete(step.index);
      this.#begun.delete(step.index);
    }
    switch (event.status) {
      case 'ahead':
        if (live !== undefined) this.#progress.startAhead(step, performance.now());
        return [];
      case 'running': {
        this.#begun.add(step.index);
        const line = stdout(this.#named(step, `${number} RUN `, ` (${placeOf(step)}): ${event.reason}`).replace(number, () => label));
        if (live === undefined) return [line];
        this.#headings.set(step.index, line);
        this.#progress.start(step, performance.now());
        return [];
      }
      case 'cached':
        this.#savedMs += event.savedMs;
        return this.#isBuilt ? [] : [stdout(outPaint('dim', this.#named(step, `${number} CACHED `, ` (saved ${formatDuration(event.savedMs)})`)))];
      case 'ran':
        return [...listed(heading), stdout(`${label} ${outPaint('green', 'DONE')} ${formatDuration(event.ms)}${remarks(event).length === 0 ? '' : outPaint('dim', ` (${remarks(event).join(', ')})`)}`)];
      case 'discarded':
        return live !== undefined || !hadBegun ? [] : [stdout(outPaint('dim', `${number} runs again: a step before it changed what it looks at`))];
      case 'failed':
        return [...listed(heading), ...this.#failedStep(event)];
      default:
        return unreachable(event);
    }
  }

  /** A line with a step's command in it. On a terminal the command gets the room that is left, and some in any case. */
  #named(step: StepId, before: string, after: string): string {
    const { live } = this.#options;
    const command = oneLine(step.command);
    return `${before}${live === undefined ? command : fit(command, Math.max(LEAST_COMMAND, live.columns() - displayWidth(before + after) - 1))}${after}`;
  }

  #failedStep({ step, ms, exitCode, log }: Extract<StepEvent, { status: 'failed' }>): Line[] {
    const { errPaint, specText, live } = this.#options;
    const lines = log.split(/\r?\n/).filter((line) => line.trim() !== '');
    const tail = lines.slice(-(live === undefined ? FAILED_STEP_LINES : FAILED_STEP_LINES_LIVE));
    const head = `${errPaint('bold', `[${step.index}/${step.total}]`)} ${errPaint('red', 'FAILED')} with exit code ${exitCode} after ${formatDuration(ms)}`;
    return [
      stderr(head),
      ...(tail.length === lines.length ? [] : [stderr(errPaint('dim', `  … ${plural(lines.length - tail.length, 'line')} before these`))]),
      ...tail.map((line) => stderr(`  | ${printable(lastState(line), errPaint.enabled)}`)),
      ...(step.line === 0 ? [] : renderStepPlace(step, exitCode, specText, { color: errPaint.enabled, ...(live === undefined ? {} : { columns: live.columns() }) }).split('\n').map(stderr)),
    ];
  }

  #output(step: StepId, text: string): Line[] {
    const lines = ((this.#partial.get(step.index) ?? '') + text).split('\n');
    this.#partial.set(step.index, lines.pop() ?? '');
    return lines.flatMap((line) => this.#outputLine(step, line));
  }

  #endOutput(step: StepId): Line[] {
    const rest = this.#partial.get(step.index) ?? '';
    this.#partial.delete(step.index);
    return rest === '' ? [] : this.#outputLine(step, rest);
  }

  #outputLine(step: StepId, text: string): Line[] {
    const { outPaint, live } = this.#options;
    const line = lastState(text);
    if (live !== undefined) {
      this.#progress.output(step, line);
      return [];
    }
    return [stdout(`${outPaint('dim', '  |')} ${printable(line, outPaint.enabled)}`.trimEnd())];
  }

  #built(event: BuiltEvent): string[] {
    const { outPaint } = this.#options;
    this.#isBuilt = true;
    const services = event.services.length === 0 ? '' : `  Services: ${event.services.join(', ')}`;
    const lines = [
      `Environment '${event.name}' built in ${formatDuration(event.ms)}`,
      `DAG root: ${event.root}`,
      `Files: ${formatCount(event.files)} (${formatBytes(event.bytes)})${services}`,
    ];
    if (event.ran + event.cached > 0) lines.push(this.#stepsText(event));
    this.#savedMs = 0;
    if (event.changes === undefined || event.summary === undefined) return lines;
    if (event.changes.length === 0) return [...lines, '', 'No changes since last build.', ''];
    return [...lines, '', 'Changes detected since last build:', ...changeLines(event.changes, outPaint), '', `  ${summaryText(event.summary)}`, ''];
  }

  #stepsText({ ran, cached, discarded }: BuiltEvent): string {
    const saved = this.#savedMs > 0 ? ` (saved ${formatDuration(this.#savedMs)})` : '';
    return `Steps: ${formatCount(ran)} ran, ${formatCount(cached)} cached${saved}${discarded === 0 ? '' : `, ${plural(discarded, 'run')} ahead of ${discarded === 1 ? 'its' : 'their'} turn thrown away`}`;
  }

  #change({ changes: all, ms, ran }: Extract<HdEvent, { type: 'change' }>): Line[] {
    const { outPaint, ownOutputs = [] } = this.#options;
    this.#savedMs = 0;
    const changes = all.filter(({ path }) => !ownOutputs.includes(path));
    if (changes.length === 0 && all.length > 0 && ran === 0) return [];
    const named = changes.length > 3 ? `${plural(changes.length, 'file')} changed` : changes.map((change) => paintChange(change, outPaint)).join(', ');
    return [stdout(`${named === '' ? 'No change in content' : named} (${formatDuration(ms, ' ')}${ran === 0 ? '' : `, ${plural(ran, 'step')} ran`})`)];
  }

  #service(event: ServiceEvent): Line[] {
    const text = this.#serviceText(event);
    if (text === undefined) return [];
    return [this.#serviceLine(event.name, text)];
  }

  #serviceLine(service: string, text: string): Line {
    return stdout(`${this.#prefix.paint(service.padEnd(this.#nameWidth), service, this.#options.outPaint)}  ${text}`);
  }

  #serviceText(event: ServiceEvent): string | undefined {
    const { outPaint } = this.#options;
    const { name, status, cause } = event;
    const because = cause === undefined ? '' : ` (${cause})`;
    switch (status) {
      case 'starting': {
        const isFirst = !this.#seen.has(name) && !this.#restarts.has(name);
        this.#seen.add(name);
        return isFirst ? outPaint('dim', 'starting') : undefined;
      }
      case 'waiting':
        return outPaint('dim', `waiting${because}`);
      case 'ready':
        return this.#readyText(event);
      case 'restarting':
        this.#restarts.set(name, cause ?? 'asked to');
        return outPaint('dim', `restarting${because}`);
      case 'backing-off':
        this.#restarts.set(name, cause ?? exitText(event.exitCode));
        return outPaint('yellow', `${cause ?? exitText(event.exitCode)}: starts again${event.retryMs === undefined ? '' : ` in ${formatDuration(event.retryMs, ' ')}`}`);
      case 'failed':
        return outPaint('red', `failed (${[...(cause === undefined ? [] : [cause]), ...(event.exitCode === undefined || cause?.includes(String(event.exitCode)) === true ? [] : [exitText(event.exitCode)])].join(', ') || 'unknown cause'})`);
      case 'stopping':
        return undefined;
      case 'stopped':
        return outPaint('dim', event.exitCode === undefined ? 'stopped' : `finished (${exitText(event.exitCode)})`);
      default:
        return unreachable(status);
    }
  }

  #readyText({ name, cause, ms, url, alias }: ServiceEvent): string {
    const { outPaint } = this.#options;
    const why = this.#restarts.get(name) ?? cause;
    this.#restarts.delete(name);
    const took = ms === undefined ? [] : [formatDuration(ms, ' ')];
    if (why !== undefined) return `${outPaint('green', 'restarted')} (${[why, ...took].join(', ')})`;
    const where = url === undefined ? '' : ` on ${[url, ...(alias === undefined ? [] : [alias])].join(', ')}`;
    return `${outPaint('green', 'ready')}${where}${took.length === 0 ? '' : ` (${took.join()})`}`;
  }

  #log({ service, stream, text }: Extract<HdEvent, { type: 'log' }>): Line[] {
    const paint = stream === 'stdout' ? this.#options.outPaint : this.#options.errPaint;
    return this.#prefix.lines(service, text, paint).map((line) => ({ stream, text: line }));
  }
}

function stdout(text: string): Line {
  return { stream: 'stdout', text };
}

function stderr(text: string): Line {
  return { stream: 'stderr', text };
}

function listed<T>(value: T | undefined): T[] {
  return value === undefined ? [] : [value];
}

/** What is left on a terminal of a line that was written over with carriage returns. */
function lastState(line: string): string {
  return line.replace(/\r+$/, '').split('\r').at(-1) ?? '';
}

function remarks({ volatile, dropped }: Extract<StepEvent, { status: 'ran' }>): string[] {
  if (dropped === undefined) return volatile;
  return [...volatile, `dropped ${plural(dropped.count, 'path')} outside of its outputs: ${printable(dropped.first)}${dropped.count === 1 ? '' : ' …'}`];
}

function placeOf(step: StepId): string {
  return step.line === 0 ? '[dependencies]' : `${step.file ?? 'hd.toml'}:${step.line}`;
}

function exitText(code: number | undefined): string {
  return code === undefined ? 'it ended' : `exit ${code}`;
}

function renderStepPlace(step: StepId, exitCode: number, specText: string, options: { color: boolean; columns?: number }): string {
  const source = specText.split(/\r?\n/)[step.line - 1] ?? '';
  const literal = JSON.stringify(step.command);
  const found = source.indexOf(literal);
  const start = found === -1 ? source.search(/\S|$/) : found;
  const length = found === -1 ? source.trim().length : literal.length;
  return renderDiagnostic(
    { severity: 'error', code: 'INVALID_VALUE', message: `this step ended with exit code ${exitCode}`, line: step.line, column: start + 1, length: Math.max(1, length) },
    step.file ?? 'hd.toml', specText, options,
  );
}

function clashText({ path, inside, host, keptAt, pulled = false }: Extract<HdEvent, { type: 'clash' }>): string {
  const digests = inside === undefined ? '' : ` (host ${versionsText({ host })}, inside ${versionsText({ inside })})`;
  const kept = keptAt === '' ? '' : `; the one ${pulled ? 'inside is also' : 'that was inside is'} kept at ${keptAt}`;
  return `${printable(path)} was changed on both sides${digests}${pulled ? ', and is left as it is on either' : ''}${kept}`;
}

const CHANGE_MARKS = { added: ['+', 'green'], removed: ['-', 'red'], changed: ['~', 'yellow'] } as const;

function paintChange({ path, change }: FileChange, paint: Paint): string {
  const [mark, style] = CHANGE_MARKS[change];
  return paint(style, `${mark} ${printable(path)}`);
}

function changeLines(changes: readonly FileChange[], paint: Paint): string[] {
  const shown = changes.slice(0, MAX_CHANGES).map((change) => `  ${paintChange(change, paint)}`);
  return changes.length <= MAX_CHANGES ? shown : [...shown, `  … and ${formatCount(changes.length - MAX_CHANGES)} more`];
}

function summaryText({ changed, added, removed, unchanged }: ChangeSummary): string {
  return `${formatCount(changed)} changed, ${formatCount(added)} added, ${formatCount(removed)} removed, ${formatCount(unchanged)} unchanged`;
}
