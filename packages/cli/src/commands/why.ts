import { existsSync } from 'node:fs';
import { relative, resolve, sep } from 'node:path';
import { HdError } from '@hyperdocker/base';
import type { BuildAsked, FileWhy, ServiceReply, StepWhy } from '@hyperdocker/environment';
import { connect, openHome, whyDockerfile, whyFile, whySteps } from '@hyperdocker/environment';
import type { EnvSpec } from '@hyperdocker/spec';
import { usageError } from '../args.ts';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { formatAgo, formatCount, formatDuration, oneLine, plural, shorten } from '../format.ts';
import type { ProjectPlace } from '../project.ts';
import { loadSpec } from '../load-spec.ts';
import { locateProject } from '../project.ts';
import { printable } from '../terminal.ts';

/** Says of a step, a service or a file what it had to do with the last build and restarts; without an argument, of all steps. */
export async function run(invocation: Invocation): Promise<number> {
  const { args: [what], json, terminal, cwd, env } = invocation;
  if (invocation.flags.text('file') !== undefined || invocation.flags.text('tag') !== undefined) return ofDockerfile(invocation);
  const place = locateProject(invocation);
  const { spec } = loadSpec(place.project, terminal);
  const show = (document: object, lines: string[]): number => {
    terminal.out(json ? `${JSON.stringify(document)}\n` : `${lines.map((line) => printable(line)).join('\n')}\n`);
    return EXIT.ok;
  };
  if (what === undefined) {
    const { atMs, steps } = whySteps(place);
    const services = await serviceReplies(place);
    const lines = [...steps.map(stepLine), ...services.map(serviceLine)];
    return show({ schema: 'hd.why/1', atMs, steps, services }, lines.length === 0 ? ['There are no steps and no running services.'] : lines);
  }
  if (spec.services.some(({ name }) => name === what)) {
    const service = (await serviceReplies(place)).find(({ name }) => name === what);
    return show({ schema: 'hd.why.service/1', name: what, service: service ?? null }, service === undefined ? [`${what} is not running.`] : serviceLines(service, spec));
  }
  const { steps } = whySteps(place);
  const step = stepNamed(what, steps);
  if (step !== undefined) return show({ schema: 'hd.why.step/1', ...step }, stepLines(step));
  const path = relative(place.project.dir, resolve(cwd, what));
  if (path === '' || path === '..' || path.startsWith(`..${sep}`)) throw noSuch(what, spec, steps);
  const file = whyFile(place, path, env);
  if (file.steps.every(({ looks }) => looks.length === 0) && !existsSync(resolve(cwd, what))) throw noSuch(what, spec, steps);
  return show({ schema: 'hd.why.file/1', ...file }, fileLines(file));
}

/** Of a build from a Dockerfile. */
function ofDockerfile({ args: [what], flags, json, terminal, cwd, env }: Invocation): number {
  const [file, image] = [flags.text('file'), flags.text('tag')];
  if (file !== undefined && image !== undefined) throw usageError('one of --file and --tag at a time');
  const asked: BuildAsked = image !== undefined ? { image } : { path: file === '-' ? undefined : resolve(cwd, file ?? ''), contextDir: cwd };
  const { name, atMs, steps } = whyDockerfile(openHome(env), asked);
  const step = what === undefined ? undefined : stepNamed(what, steps);
  if (what !== undefined && step === undefined) throw new HdError('NO_SUCH_THING', `${what} is no RUN of ${name}`, { hint: `one by its number (1 to ${steps.length}), the beginning of its command, or its line: ${name}:${steps[0]?.step.line ?? 1}` });
  const lines = step !== undefined ? stepLines(step) : steps.length === 0 ? [`${name} has no RUN.`] : steps.map(stepLine);
  const document = step !== undefined ? { schema: 'hd.why.step/1', ...step } : { schema: 'hd.why/1', atMs, steps, services: [] };
  terminal.out(json ? `${JSON.stringify(document)}\n` : `${lines.map((line) => printable(line)).join('\n')}\n`);
  return EXIT.ok;
}

/** By its number, its place in the file, its command, or the beginning of that alone. @throws HdError AMBIGUOUS */
function stepNamed(what: string, steps: readonly StepWhy[]): StepWhy | undefined {
  return steps.find(({ step }) => String(step.index) === what || placeOf(step) === what || step.command === what) ?? onlyOne(what, steps.filter(({ step: { command } }) => command.startsWith(what) || withoutStage(command).startsWith(what)));
}

/** The command of a RUN, without its stage and options. */
function withoutStage(command: string): string {
  return command.replace(/^[\w.-]+: /, '').replace(/^(--\S+\s+)+/, '');
}

function placeOf({ line, file = 'hd.toml' }: StepWhy['step']): string {
  return line === 0 ? '[dependencies]' : `${file}:${line}`;
}

function onlyOne(what: string, found: StepWhy[]): StepWhy | undefined {
  if (found.length < 2) return found[0];
  throw new HdError('AMBIGUOUS', `${found.length} steps begin with ${what}`, { hint: `say which by its number: ${found.map(({ step }) => step.index).join(', ')}` });
}

function noSuch(what: string, spec: EnvSpec, steps: readonly StepWhy[]): HdError {
  const services = spec.services.map(({ name }) => name).join(', ');
  return new HdError('NO_SUCH_THING', `${what} is no step, service or file of this project`, { hint: `a step by its number (1 to ${steps.length}) or the beginning of its command${services === '' ? '' : `, a service (${services})`}, or a path` });
}

async function serviceReplies({ paths }: ProjectPlace): Promise<ServiceReply[]> {
  try {
    return (await (await connect(paths))?.status())?.services ?? [];
  } catch (error) {
    if (error instanceof HdError && error.code === 'NOT_RUNNING') return [];
    throw error;
  }
}

const OUTCOMES = { ran: 'RAN', cached: 'CACHED', failed: 'FAILED', 'not reached': 'NOT REACHED' } as const;

function stepLine(why: StepWhy): string {
  const { step, outcome, facts } = why;
  const head = `[${step.index}/${step.total}] ${OUTCOMES[outcome]} ${shorten(oneLine(step.command), 48)}`;
  if (outcome === 'not reached') return `${head}: a step before it failed`;
  if (outcome !== 'cached') return `${head}: ${why.lastRun?.why ?? 'not known'}`;
  return `${head}: ${facts === undefined ? 'its result is known' : `none of the ${plural(facts.paths, 'path')} that it looked at changed`}`;
}

function stepLines(why: StepWhy): string[] {
  const { step, outcome, facts, volatile, notPassed } = why;
  return [
    `[${step.index}/${step.total}] ${oneLine(step.command)} (${placeOf(step)})`,
    outcomeText(why),
    ...(facts === undefined ? [] : [`  its result stands on ${plural(facts.paths, 'path')}: ${formatCount(facts.content)} read, ${formatCount(facts.listing)} listed, ${plural(facts.target, 'link')} followed, ${formatCount(facts.stat)} looked up`]),
    ...(outcome === 'ran' || outcome === 'failed' ? [] : [lastRunText(why)]),
    ...volatile.map((text) => `  another day it might come out otherwise: it ${text}`),
    ...(notPassed.length === 0 ? [] : [`  variables of the host that it speaks of and does not get: ${notPassed.join(', ')}`]),
  ];
}

function outcomeText({ outcome, lastRun, savedMs }: StepWhy): string {
  switch (outcome) {
    case 'cached':
      return `  cached: nothing that it looked at changed${savedMs === undefined ? '' : ` (saves ${formatDuration(savedMs)})`}`;
    case 'not reached':
      return '  not reached by the last build: a step before it failed';
    case 'ran':
    case 'failed':
      return `  ${outcome} ${lastRun === undefined ? 'in the last build' : `${formatAgo(Date.now() - lastRun.atMs)} in ${formatDuration(lastRun.durationMs)}: ${lastRun.why}`}`;
  }
}

function lastRunText({ outcome, lastRun }: StepWhy): string {
  if (lastRun !== undefined) return `  last run ${formatAgo(Date.now() - lastRun.atMs)} in ${formatDuration(lastRun.durationMs)}: ${lastRun.why}`;
  return outcome === 'cached' ? '  it has not run in this environment: its result comes from another one' : '  it has not run yet';
}

function serviceLine({ name, status, lastRestart }: ServiceReply): string {
  return `${name} ${status}${lastRestart === undefined ? '' : `: ${lastRestart.cause} (${formatAgo(Date.now() - lastRestart.atMs)})`}`;
}

function serviceLines(service: ServiceReply, spec: EnvSpec): string[] {
  const { watch = [], dependsOn = [], onChange = 'restart', reloadSignal = '' } = spec.services.find(({ name }) => name === service.name) ?? {};
  return [
    `${service.name}: ${service.status}, restarted ${service.restarts === 1 ? 'once' : `${service.restarts} times`}`,
    service.lastRestart === undefined ? '  it has run since the environment was started' : `  last: ${service.lastRestart.cause} (${formatAgo(Date.now() - service.lastRestart.atMs)})`,
    watch.length === 0 || onChange === 'none' ? '  no change of a file restarts it' : `  ${onChange === 'signal' ? `gets ${reloadSignal}` : 'restarts'} when a file changes that matches ${watch.join(', ')}`,
    ...(dependsOn.length === 0 ? [] : [`  starts after ${dependsOn.map(({ name, condition }) => `${name} (${condition})`).join(', ')}`]),
  ];
}

function fileLines({ path, included, rule, inside, steps, services }: FileWhy): string[] {
  const looking = steps.filter(({ looks }) => looks.length > 0);
  return [
    included ? `${path} is part of the environment, as ${inside} (${rule})` : `${path} is not part of the environment (${rule})`,
    ...(looking.length === 0 ? ['  no step looks at it'] : looking.flatMap(({ step, looks }) => [
      `  [${step.index}/${step.total}] ${shorten(oneLine(step.command), 60)}`,
      ...looks.map(({ at, asked, by }) => `      ${asked} ${at}${by === undefined ? '' : `, by \`${by}\``}`),
    ])),
    ...(services.length === 0 ? ['  a change of it restarts no service'] : services.map(({ name, pattern }) => `  a change of it restarts ${name} (watch "${pattern}")`)),
  ];
}
