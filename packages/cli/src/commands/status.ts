import { existsSync } from 'node:fs';
import { HdError } from '@hyperdocker/base';
import { openStore } from '@hyperdocker/cas';
import type { ServiceReply, StatusReply } from '@hyperdocker/environment';
import { connect, envRef, findLeft } from '@hyperdocker/environment';
import type { EnvSpec } from '@hyperdocker/spec';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { formatDuration, oneLine, plural } from '../format.ts';
import { listAll } from '../environment-table.ts';
import { beside, isNarrow, wrap } from '../narrow.ts';
import type { ProjectPlace } from '../project.ts';
import { loadSpec } from '../load-spec.ts';
import { locateProject } from '../project.ts';
import type { Paint } from '../terminal.ts';

/** What `hd status --json` prints. */
export interface StatusDocument {
  schema: 'hd.status/1';
  name: string;
  base: string;
  project: string;
  /** `left`: its supervisor was killed; its files wait for somebody to go on with them. */
  state: StatusReply['phase'] | 'left' | 'not running';
  root: string | null;
  pid: number | null;
  /** Null while it is not running. */
  tracing: boolean | null;
  network: EnvSpec['environment']['network'];
  /** Of a private network that is up. */
  wayOut: StatusReply['wayOut'];
  /** `url` and `alias` are null for services that cannot be reached from the host, and while it is not running. */
  /** Directories that stay when it goes down. */
  volumes: string[];
  services: (Omit<ServiceReply, 'status' | 'url' | 'alias'> & { status: ServiceReply['status'] | 'not running'; url: string | null; alias: string | null })[];
}

export async function run(invocation: Invocation): Promise<number> {
  const { terminal, json, flags } = invocation;
  if (flags.bool('all')) return listAll(invocation);
  const place = locateProject(invocation, invocation.args[0]);
  const reply = await liveStatus(place);
  const { spec } = loadSpec(place.project, terminal);
  const document = toDocument(place, spec, reply);
  terminal.out(json ? `${JSON.stringify(document)}\n` : renderStatus(document, terminal.outPaint, Date.now(), terminal.live?.columns()));
  return EXIT.ok;
}

async function liveStatus({ paths }: ProjectPlace): Promise<StatusReply | undefined> {
  try {
    return await (await connect(paths))?.status();
  } catch (error) {
    if (error instanceof HdError && error.code === 'NOT_RUNNING') return undefined;
    throw error;
  }
}

function toDocument(place: ProjectPlace, spec: EnvSpec, reply: StatusReply | undefined): StatusDocument {
  // While the first build runs, the supervisor knows no services yet.
  const live = new Map(reply?.services.map((service) => [service.name, service]));
  const services = spec.services.map(({ name, command, watch, port }): StatusDocument['services'][number] => {
    const service = live.get(name);
    const shown = service ?? { name, command, watch, status: 'not running' as const, restarts: 0, sinceMs: 0, ...(port === undefined ? {} : { port }) };
    return { ...shown, url: service?.url ?? null, alias: service?.alias ?? null };
  });
  return {
    schema: 'hd.status/1',
    name: spec.environment.name,
    base: spec.environment.base,
    project: place.project.dir,
    state: reply?.phase ?? (findLeft(place.paths) === undefined ? 'not running' : 'left'),
    root: reply?.root ?? lastRoot(place) ?? null,
    pid: reply?.pid ?? null,
    tracing: reply?.tracing ?? null,
    network: spec.environment.network,
    wayOut: reply?.wayOut ?? null,
    volumes: spec.volumes,
    services,
  };
}

function lastRoot({ home, paths }: ProjectPlace): string | undefined {
  if (!existsSync(home.storeDir)) return undefined;
  using store = openStore(home.storeDir, { readOnly: true });
  return store.getRef(envRef(paths.id, 'root'))?.target.digest;
}

const LEFT = 'its supervisor ended unexpectedly, and its services with it; what was written inside is kept for some minutes: `hd up` goes on with it, `hd down` drops it';

/** @param columns of a terminal. A narrow one gets a form of its own. */
export function renderStatus(status: StatusDocument, paint: Paint, nowMs: number, columns?: number): string {
  if (isNarrow(columns)) return renderNarrow(status, paint, nowMs, columns);
  const rows: [string, string][] = [
    ['Environment', paint('bold', status.name)],
    ['Base image', status.base],
    ['DAG root', status.root ?? 'not built yet'],
    ['State', `${paintState(status.state, paint)}${status.pid === null ? '' : ` (pid ${status.pid})`}`],
    ...(status.tracing === null ? [] : [['Tracing', status.tracing ? 'on' : 'off'] satisfies [string, string]]),
    ['Network', networkText(status)],
    ...(status.volumes.length === 0 ? [] : [['Volumes', status.volumes.join(', ')] satisfies [string, string]]),
    ['Project', status.project],
    ...(status.state === 'left' ? [['', LEFT] satisfies [string, string]] : []),
  ];
  const head = rows.map(([name, value]) => `${(name === '' ? '' : `${name}:`).padEnd(13)}${value}\n`).join('');
  if (status.services.length === 0) return `${head}Services:    none\n`;
  return `${head}\nServices:\n${status.services.map((service) => renderService(service, paint, nowMs)).join('')}`;
}

function renderService(service: StatusDocument['services'][number], paint: Paint, nowMs: number): string {
  const { since, restarts, why } = stateWords(service, nowMs);
  const rows: [string, string][] = [
    ['command', service.command],
    ['watch', service.watch.join(', ') || 'nothing'],
    ['state', `${paintState(service.status, paint)}${since}${restarts}${why}`],
    ...(service.url === null ? [] : [['url', `${service.url}${isMoved(service) ? ` (port ${service.port} inside)` : ''}`] satisfies [string, string]]),
    ...(service.alias === null ? [] : [['', service.alias] satisfies [string, string]]),
  ];
  return `  ${paint('bold', service.name)}\n${rows.map(([name, value]) => `    ${(name === '' ? '' : `${name}:`).padEnd(9)}${value}\n`).join('')}`;
}

function stateWords(service: StatusDocument['services'][number], nowMs: number): { since: string; restarts: string; why: string } {
  const ended = service.status === 'failed' || service.status === 'backing-off';
  return {
    since: service.sinceMs === 0 ? '' : ` for ${formatDuration(Math.max(0, nowMs - service.sinceMs))}`,
    restarts: service.restarts === 0 ? '' : `, ${plural(service.restarts, 'restart')}`,
    why: ended && service.lastRestart !== undefined ? ` (${oneLine(service.lastRestart.cause)})` : '',
  };
}

/** The same for 40 columns: how it is first, what it is made of after it. */
function renderNarrow(status: StatusDocument, paint: Paint, nowMs: number, columns: number): string {
  const row = (name: string, text: string): string[] => beside(name, text, { columns, width: 6 });
  const services = status.services.flatMap((service) => {
    const { since, restarts, why } = stateWords(service, nowMs);
    const below = [`${since.replace(' for ', '')}${restarts}${why}`.replace(/^, /, ''), service.url === null ? '' : `${service.url}${isMoved(service) ? ` (port ${service.port} inside)` : ''}`, service.alias ?? '', service.command, service.watch.length === 0 ? '' : `watch ${service.watch.join(', ')}`];
    return ['', ...wrap(`${service.name} ${service.status}`, columns).map((line) => line.replace(service.status, paintState(service.status, paint))), ...below.filter((text) => text !== '').flatMap((text) => beside('', text, { columns, width: 2 }))];
  });
  const lines = [
    ...wrap(`${status.name} ${status.state}`, columns).map((line) => line.replace(status.state, paintState(status.state, paint))),
    ...(status.state === 'left' ? wrap(LEFT, columns) : []),
    ...row('root', status.root?.slice(0, 12) ?? 'not built yet'), ...row('base', status.base), ...row('net', networkText(status)),
    ...row('dir', status.project), ...(status.pid === null ? [] : row('pid', `${status.pid}${status.tracing === true ? '' : ', no tracing'}`)),
    ...services,
  ];
  return `${lines.join('\n')}\n`;
}

function isMoved({ port, published }: StatusDocument['services'][number]): boolean {
  return published !== undefined && port !== published.port;
}

function networkText({ network, wayOut }: StatusDocument): string {
  if (network === 'host') return 'of the host';
  if (wayOut === null) return 'private';
  return wayOut === 'none' ? 'private, without a way out' : `private, out through ${wayOut}`;
}

function paintState(state: string, paint: Paint): string {
  if (state === 'up' || state === 'ready') return paint('green', state);
  if (state === 'failed') return paint('red', state);
  if (state === 'not running' || state === 'stopped') return paint('dim', state);
  return paint('yellow', state);
}
