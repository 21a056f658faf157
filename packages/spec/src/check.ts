import { durationMs, MAX_GRACE_MS } from './duration.ts';
import { isHostPath } from './lower.ts';
import { MIN_MEMORY_BYTES, sizeBytes } from './limits.ts';
import type { Place } from './locate.ts';
import { describePath, header, isTable, valueAt, type Path, type Report } from './report.ts';
import { publishProblem } from './publish.ts';
import { lowerReach } from './reach.ts';
import { rules } from './rules.ts';
import { serviceCycles, type Dependent } from './services.ts';
import { suggest } from '@hyperdocker/base';

/**
 * Checks what no single key shows. It looks at the raw document and passes over what has the wrong shape, so that one run
 * reports these errors together with those of the shape.
 */
export function checkMeaning(document: unknown, root: Place, report: Report): void {
  const names = isTable(valueAt(document, ['services'])) ? [...(root.children.get('services')?.children.keys() ?? [])] : [];
  refuseProto(root, report);
  checkPorts(document, names, report);
  checkDependsOn(document, names, report);
  for (const name of names) checkService(document, name, report);
  checkReach(document, names, report);
  for (const path of [['build'], ...names.map((name) => ['services', name])]) checkMemory(document, [...path, 'memory'], report);
  checkSteps(document, [...(isTable(valueAt(document, ['secrets'])) ? (root.children.get('secrets')?.children.keys() ?? []) : [])], report);
  for (const provider of root.children.get('dependencies')?.children.keys() ?? []) {
    warnOfRepetition(document, ['dependencies', provider], report);
  }
  for (const path of [...['restart_grace', 'debounce', 'debounce_max'].map((key) => ['options', key]), ...names.flatMap((name) => ['restart_grace', 'ready_timeout'].map((key) => ['services', name, key]))]) checkDuration(document, path, report);
}

function checkDuration(document: unknown, path: Path, report: Report): void {
  const value = valueAt(document, path);
  if (typeof value === 'string' && (durationMs(value) ?? 0) > MAX_GRACE_MS) report.add({ code: 'INVALID_VALUE', message: `${describePath(path)} must be at most one day`, path });
}

/** The one key that objects cannot carry safely: schemas pass over it in silence. */
function refuseProto(root: Place, report: Report): void {
  const open: { place: Place; path: string[] }[] = [{ place: root, path: [] }];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (next.path.at(-1) === '__proto__') report.add({ code: 'INVALID_NAME', message: '"__proto__" cannot be a name', path: next.path, at: 'key' });
    // Nothing that hd.toml knows lies deeper.
    else if (next.path.length < 6) for (const [name, place] of next.place.children) open.push({ place, path: [...next.path, name] });
  }
}

function checkMemory(document: unknown, path: string[], report: Report): void {
  const memory = valueAt(document, path);
  if (typeof memory !== 'string' || (sizeBytes(memory) ?? MIN_MEMORY_BYTES) >= MIN_MEMORY_BYTES) return;
  report.add({ code: 'INVALID_VALUE', message: `${describePath(path)} must be at least 4MB`, hint: `a number without a unit is bytes: did you mean "${memory.replace(/ ?b$/i, '')}MB"?`, path });
}

function checkPorts(document: unknown, names: string[], report: Report): void {
  const owners = new Map<number, string>();
  for (const name of names) {
    const path = ['services', name, 'port'];
    const port = valueAt(document, path);
    if (typeof port !== 'number') continue;
    const owner = owners.get(port);
    if (owner === undefined) owners.set(port, name);
    else report.add({ code: 'PORT_CONFLICT', message: `services "${owner}" and "${name}" both use port ${port}`, hint: 'give each service a port of its own', path });
  }
}

interface NamedDependency { name: string; path: Path; condition: unknown }

/** In either form: a list of names, or a table of conditions. */
function dependenciesOf(document: unknown, service: string): NamedDependency[] {
  const path = ['services', service, 'depends_on'];
  const value = valueAt(document, path);
  if (isTable(value)) return Object.entries(value).map(([name, condition]) => ({ name, condition, path: [...path, name] }));
  return strings(document, path).flatMap((name, index) => (name === undefined ? [] : [{ name, condition: 'healthy', path: [...path, index] }]));
}

function checkDependsOn(document: unknown, names: string[], report: Report): void {
  const services: Dependent[] = names.map((name) => ({ name, dependsOn: dependenciesOf(document, name).map((dependency) => dependency.name) }));
  for (const name of names) {
    warnOfRepetition(document, ['services', name, 'depends_on'], report);
    for (const { name: dependency, path, condition } of dependenciesOf(document, name)) {
      const policy = valueAt(document, ['services', dependency, 'restart_policy']) ?? 'always';
      if (condition === 'completed' && (policy === 'always' || policy === 'unless-stopped')) {
        report.add({ code: 'INVALID_VALUE', message: `service "${name}" waits for "${dependency}" to complete, which is always started again`, hint: `give ${dependency} restart_policy = "on_failure"`, path });
      }
      if (names.includes(dependency)) continue;
      const guess = suggest(dependency, names.filter((other) => other !== name));
      const hint = guess === undefined ? undefined : `did you mean "${guess}"?`;
      report.add({ code: 'UNKNOWN_SERVICE', message: `service "${name}" depends on "${dependency}", which is not defined`, hint, path });
    }
  }
  for (const cycle of serviceCycles(services)) {
    const [last = '', first = ''] = [cycle.at(-2), cycle.at(-1)];
    const closing = dependenciesOf(document, last).find(({ name }) => name === first);
    report.add({
      code: 'DEPENDENCY_CYCLE',
      message: `services depend on each other in a circle: ${cycle.join(' -> ')}`,
      hint: 'remove one of these from depends_on',
      path: closing?.path ?? ['services', last, 'depends_on'],
    });
  }
}

function checkService(document: unknown, name: string, report: Report): void {
  warnOfOutside(document, ['services', name, 'watch'], /^\/|^\.\.\/|\/\.\.\//, report);
  checkReady(document, name, report);
  checkSocket(document, name, report);
  checkPublish(document, name, report);
  checkVolumes(document, name, report);
}

function checkVolumes(document: unknown, service: string, report: Report): void {
  const path = ['services', service, 'volumes'];
  const known = isTable(valueAt(document, ['volumes'])) ? Object.keys(valueAt(document, ['volumes']) as object) : [];
  const targets = new Set<string>();
  for (const [index, text] of strings(document, path).entries()) {
    const [source = '', target = ''] = text?.split(':') ?? [];
    if (text === undefined || target === '') continue;
    const guess = suggest(source, known);
    if (!isHostPath(source) && !known.includes(source)) report.add({ code: 'UNKNOWN_VOLUME', message: `there is no volume ${JSON.stringify(source)} in [volumes]`, hint: guess === undefined ? `add \`${source} = {}\` to [volumes]; a directory of the host begins with "./" or "/"` : `did you mean "${guess}"?`, path: [...path, index] });
    if (targets.has(target)) report.add({ code: 'INVALID_VALUE', message: `two things are mounted at ${target}`, path: [...path, index] });
    targets.add(target);
  }
}

function checkSocket(document: unknown, name: string, report: Report): void {
  const path = ['services', name, 'socket'];
  if (valueAt(document, path) !== true || valueAt(document, ['services', name, 'port']) !== undefined) return;
  report.add({ code: 'MISSING_KEY', message: `${describePath(path)} needs a port to listen at`, hint: `set port in [services.${name}]`, path });
}

function checkSteps(document: unknown, secrets: string[], report: Report): void {
  for (const id of secrets) checkSecret(document, id, report);
  const steps = valueAt(document, ['build', 'steps']);
  for (const index of Array.isArray(steps) ? steps.keys() : []) {
    const path = ['build', 'steps', index];
    warnOfOutside(document, [...path, 'inputs'], /^\.\.\/|\/\.\.\//, report);
    checkStepSecrets(document, [...path, 'secrets'], secrets, report);
  }
}

function checkSecret(document: unknown, id: string, report: Report): void {
  const path = ['secrets', id];
  const source = valueAt(document, path);
  if (!isTable(source) || Object.keys(source).length === 1) return;
  report.add({ code: 'INVALID_VALUE', message: `${header(path)} must have exactly one key, not ${Object.keys(source).length}`, hint: 'one of env, file', path });
}

function checkStepSecrets(document: unknown, path: Path, secrets: string[], report: Report): void {
  const used = valueAt(document, path);
  const seen = new Set<string>();
  for (const [index, item] of Array.isArray(used) ? used.entries() : []) {
    const id: unknown = isTable(item) ? item['id'] : item;
    if (typeof id !== 'string') continue;
    const at = [...path, index, ...(isTable(item) ? ['id'] : [])];
    if (!secrets.includes(id)) {
      const guess = suggest(id, secrets);
      const hint = guess === undefined ? `say where its value comes from: [secrets] ${id} = { env = "…" }` : `did you mean "${guess}"?`;
      report.add({ code: 'UNKNOWN_SECRET', message: `there is no secret ${JSON.stringify(id)} in [secrets]`, hint, path: at });
    }
    if (seen.has(id)) report.add({ severity: 'warning', code: 'DUPLICATE_VALUE', message: `${JSON.stringify(id)} is named twice`, path: at });
    seen.add(id);
  }
}

function warnOfOutside(document: unknown, path: Path, outside: RegExp, report: Report): void {
  for (const [index, pattern] of strings(document, path).entries()) {
    if (pattern === undefined || !outside.test(pattern)) continue;
    report.add({ severity: 'warning', code: 'NEVER_MATCHES', message: `the pattern ${JSON.stringify(pattern)} never matches: patterns are relative to the project`, path: [...path, index] });
  }
}

function checkReady(document: unknown, name: string, report: Report): void {
  const path = ['services', name, 'ready'];
  const ready = valueAt(document, path);
  if (!isTable(ready)) return;
  if (Object.keys(ready).length !== 1) {
    const message = `${describePath(path)} must have exactly one key, not ${Object.keys(ready).length}`;
    report.add({ code: 'INVALID_VALUE', message, hint: 'one of http, command, log', path });
  }
  if ('http' in ready && valueAt(document, ['services', name, 'port']) === undefined) {
    const message = `service "${name}" is ready by http, but has no port to ask`;
    report.add({ code: 'MISSING_KEY', message, hint: 'add "port"', path: [...path, 'http'] });
  }
  if ('log' in ready && typeof ready.log === 'string') checkPattern(ready.log, [...path, 'log'], report);
}

/** Services listen at all addresses, mostly: then no other one has their ports. */
function checkReach(document: unknown, names: readonly string[], report: Report): void {
  const reach = valueAt(document, ['environment', 'reach']);
  for (const [name, value] of Object.entries(isTable(reach) ? reach : {})) {
    const path = ['environment', 'reach', name];
    if (valueAt(document, ['services', name]) !== undefined) report.add({ code: 'INVALID_VALUE', message: `${describePath(path)}: a service has that name`, path, at: 'key' });
    if (typeof value !== 'number' && !(typeof value === 'string' && rules.reach.pattern.test(value))) continue;
    const { hostPort, port } = lowerReach(value);
    const isHost = valueAt(document, ['environment', 'network']) === 'host';
    const wrong = [hostPort, port].find((number) => number < 1 || number > 65_535);
    const owner = names.find((service) => valueAt(document, ['services', service, 'port']) === port);
    if (wrong !== undefined) report.add({ code: 'INVALID_VALUE', message: `${describePath(path)}: ${wrong} is no port`, path });
    else if (owner !== undefined && !isHost) report.add({ code: 'PORT_CONFLICT', message: `service "${owner}" has port ${port}, at which ${name} is to be reached`, hint: `take another one for ${name}, as in "${hostPort}:${port + 1}"`, path });
    else if (hostPort !== port && isHost) {
      report.add({ severity: 'warning', code: 'NO_EFFECT', message: `${describePath(path)}: with network = "host", it is at port ${hostPort} for the services too`, path });
    }
  }
}

function checkPublish(document: unknown, name: string, report: Report): void {
  const path = ['services', name, 'publish'];
  const publish = valueAt(document, path);
  if (publish === undefined) return;
  if (publish !== false && valueAt(document, ['services', name, 'port']) === undefined) {
    report.add({ code: 'MISSING_KEY', message: `service "${name}" has nothing to publish: it has no port`, hint: 'add "port", the one that it listens on', path });
  }
  const problem = typeof publish === 'string' && rules.publish.pattern.test(publish) ? publishProblem(publish) : undefined;
  if (problem !== undefined) report.add({ code: 'INVALID_VALUE', message: `${describePath(path)}: ${problem}`, path });
  if (valueAt(document, ['environment', 'network']) === 'host') {
    report.add({ severity: 'warning', code: 'NO_EFFECT', message: `${describePath(path)} says nothing: with network = "host", the service is where it listens`, path, at: 'key' });
  }
}

function checkPattern(pattern: string, path: Path, report: Report): void {
  try {
    new RegExp(pattern);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    report.add({ code: 'INVALID_VALUE', message: `${describePath(path)} is not a regular expression: ${reason}`, path });
  }
}

function warnOfRepetition(document: unknown, path: Path, report: Report): void {
  const seen = new Set<string>();
  for (const [index, value] of strings(document, path).entries()) {
    if (value === undefined) continue;
    if (seen.has(value)) {
      const message = `${JSON.stringify(value)} is named twice`;
      report.add({ severity: 'warning', code: 'DUPLICATE_VALUE', message, path: [...path, index] });
    }
    seen.add(value);
  }
}

/** The list at `path`, with undefined for what is no string, so that indexes stay. */
function strings(document: unknown, path: Path): (string | undefined)[] {
  const value = valueAt(document, path);
  return Array.isArray(value) ? value.map((item) => (typeof item === 'string' ? item : undefined)) : [];
}
