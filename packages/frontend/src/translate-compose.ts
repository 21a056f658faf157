import { posix } from 'node:path';
import { HdError } from '@hyperdocker/base';
import { LineCounter, isMap, isPair, isScalar, parseDocument } from 'yaml';
import type { Document } from 'yaml';
import { splitWords } from './dockerfile-expand.ts';
import type { HdToml, IngestNote, TomlValue, Translated } from './hd-toml.ts';
import { addNote, renderHdToml } from './hd-toml.ts';
import { shellQuote } from './shell-quote.ts';
import { draftDockerfile, nameVolume } from './translate-dockerfile.ts';

export interface ComposeOptions {
  name: string;
  /** As errors name it. */
  file?: string;
  /** For `${NAME}`: those of `.env` and of whoever calls. */
  variables: ReadonlyMap<string, string>;
  /** Whose root file system it is to be. Default: that of the first service that is built, else of the first. */
  service?: string;
  /** Where the hd.toml is going to lie, by its path from the Compose file's directory. Default: there. */
  projectDir?: string;
  /** A file by its path from the Compose file's directory; undefined for one that is not there. */
  readFile: (path: string) => string | undefined;
}

type Mapping = Record<string, unknown>;

/** Debian packages that have what these images run. Not the same: another version, other settings, other places. */
const PACKAGES: Record<string, string> = {
  postgres: 'postgresql', redis: 'redis-server', mysql: 'mariadb-server', mariadb: 'mariadb-server', memcached: 'memcached', nginx: 'nginx', rabbitmq: 'rabbitmq-server', httpd: 'apache2', haproxy: 'haproxy', mosquitto: 'mosquitto',
};
/** Where they listen, if nothing says otherwise. */
const PORTS: Record<string, number> = { postgres: 5432, redis: 6379, mysql: 3306, mariadb: 3306, memcached: 11211, mongo: 27017, nginx: 80, rabbitmq: 5672, httpd: 80, mosquitto: 1883 };
const CONDITIONS: Record<string, string> = { service_started: 'started', service_healthy: 'healthy', service_completed_successfully: 'completed' };
const RESTARTS: Record<string, string> = { no: 'never', always: 'always', 'unless-stopped': 'always', 'on-failure': 'on_failure' };
/** Read below. */
const KNOWN = ['build', 'command', 'cpus', 'deploy', 'depends_on', 'develop', 'entrypoint', 'env_file', 'environment', 'healthcheck', 'image', 'mem_limit', 'pids_limit', 'ports', 'privileged', 'profiles', 'restart', 'stop_grace_period', 'stop_signal', 'user', 'volumes', 'working_dir'];
/** Of no meaning where all services are in one environment. */
const SILENT = ['container_name', 'expose', 'hostname', 'networks', 'links', 'init', 'tty', 'stdin_open', 'pull_policy', 'platform'];

/**
 * Translates a Compose file into the text of an hd.toml: the service that is built gives the root file system, and the others run on it as far as they have the same one. What is not carried over is a
 * note, also in the text. @throws HdError COMPOSE_INVALID, DOCKERFILE_INVALID
 */
export function translateCompose(text: string, options: ComposeOptions): Translated {
  const { draft, notes } = draftCompose(text, options);
  return renderHdToml(draft, notes, 'a Compose file');
}

/** The same before it is a text. */
export function draftCompose(text: string, options: ComposeOptions): { draft: HdToml; notes: IngestNote[] } {
  return new ComposeTranslation(text, options).result();
}

class ComposeTranslation {
  readonly #options: ComposeOptions;
  readonly #document: Document.Parsed;
  readonly #lines = new LineCounter();
  readonly #root: Mapping;
  readonly #notes: IngestNote[] = [];
  readonly #volumes = new Map<string, string>();
  readonly #ports = new Map<number, string>();
  /** Ports that a service here says it has: not for one whose Dockerfile says so. */
  #asked = new Set<number | undefined>();
  /** Some services are in environments of their own. */
  #isSplit = false;

  constructor(text: string, options: ComposeOptions) {
    this.#options = options;
    this.#document = parseDocument(text, { lineCounter: this.#lines, merge: true });
    const [error] = this.#document.errors;
    if (error !== undefined) throw this.#invalid(this.#lines.linePos(error.pos[0]).line, error.message.split('\n')[0] ?? 'not YAML');
    this.#root = this.#interpolated(this.#document.toJS() as unknown, []) as Mapping;
    if (!isMapping(this.#root) || !isMapping(this.#root['services'])) throw this.#invalid(1, 'there are no services');
  }

  result(): { draft: HdToml; notes: IngestNote[] } {
    const services = Object.entries(this.#root['services'] as Mapping).filter((entry): entry is [string, Mapping] => isMapping(entry[1]));
    for (const key of Object.keys(this.#root)) if (!['services', 'volumes', 'version', 'name', 'networks'].includes(key) && !key.startsWith('x-')) this.#note([key], key, 'not carried over');
    if (this.#root['networks'] !== undefined) this.#note(['networks'], 'networks', 'all services are in one private network, and reach each other by their names');
    const root = this.#rootService(services);
    const draft = this.#draftOf(root);
    const carried = services.filter(([name, service]) => this.#isCarried(name, service, root));
    this.#isSplit = carried.length < services.length;
    this.#asked = new Set(carried.flatMap(([, { ports }]) => portsOf(ports).map((port) => port?.port)));
    const built = draft.services.get('app');
    for (const mount of listOf(built?.['volumes'])) this.#volumes.set(mount.split(':')[0] ?? '', mount.split(':')[1] ?? '');
    draft.services.clear();
    for (const [name, service] of carried) {
      const made = this.#service(name, service, draft.workdir, carried.map(([other]) => other), service['build'] === undefined ? undefined : built);
      if (made !== undefined) draft.services.set(name, made);
    }
    draft.volumes = [...new Set([...this.#volumes.keys()])];
    for (const [name, service] of services) if (!carried.some(([other]) => other === name)) this.#reach(name, service, draft);
    for (const [name, value] of Object.entries(isMapping(this.#root['volumes']) ? this.#root['volumes'] : {})) {
      if (isMapping(value) && Object.keys(value).length > 0) this.#note(['volumes', name], `volumes.${name}`, `${Object.keys(value).join(', ')} is not carried over: the volume is a directory of the environment`);
    }
    return { draft, notes: this.#notes };
  }

  /** Whose files the environment has. */
  #rootService(services: readonly [string, Mapping][]): [string, Mapping] {
    const { service } = this.#options;
    const asked = services.find(([name]) => name === service);
    if (service !== undefined && asked === undefined) throw new HdError('SERVICE_UNKNOWN', `${this.#options.file ?? 'compose.yaml'} has no service ${service}`, { hint: `there are: ${services.map(([name]) => name).join(', ')}` });
    const found = asked ?? services.find(([, { build }]) => build !== undefined) ?? services[0];
    if (found === undefined) throw this.#invalid(1, 'there are no services');
    return found;
  }

  #draftOf([name, service]: [string, Mapping]): HdToml {
    const { build, image } = service;
    const empty: HdToml = { name: this.#options.name, base: typeof image === 'string' ? image : '', workdir: undefined, env: new Map(), apt: [], steps: [], cache: [], volumes: [], reach: new Map(), services: new Map(), include: [] };
    if (build === undefined) {
      if (empty.base === '') throw this.#invalid(this.#lineOf(['services', name]), `the service ${name} has neither image nor build`);
      return empty;
    }
    for (const key of Object.keys(isMapping(build) ? build : {})) if (!['context', 'dockerfile', 'dockerfile_inline', 'target', 'args'].includes(key)) this.#note(['services', name, 'build', key], `services.${name}.build.${key}`, 'not carried over');
    const { context, path, text, choices } = this.#dockerfileOf(build);
    if (text === undefined) throw this.#invalid(this.#lineOf(['services', name, 'build']), `${path}, which builds the service ${name}, is not there`);
    if (this.#fromProject(context) !== '.') this.#note(['services', name, 'build'], `services.${name}.build`, `the context ${context} is a directory of the project, and COPY takes its paths from there: an hd.toml does so where it lies in that directory (\`-o ${posix.join(context, 'hd.toml')}\`)`);
    const { draft, notes } = draftDockerfile(text, choices);
    for (const note of notes) addNote(this.#notes, 0, `${path}:${note.line}: ${note.instruction}`, note.message);
    return draft;
  }

  /** A path of the Compose file as the hd.toml has to say it: `.`, `./conf`, `../conf`; those that are absolute or begin with `~` as they are. */
  #fromProject(path: string): string {
    if (/^[/~]/.test(path)) return path;
    const relative = posix.relative(this.#options.projectDir ?? '.', path);
    return relative === '' ? '.' : relative.startsWith('..') ? relative : `./${relative}`;
  }

  /** What builds a service. `text` is undefined where the file is not there. */
  #dockerfileOf(build: unknown): { context: string; path: string; text: string | undefined; choices: Parameters<typeof draftDockerfile>[1] } {
    const table = isMapping(build) ? build : { context: build };
    const context = textOf(table['context']) ?? '.';
    const path = posix.join(context, textOf(table['dockerfile']) ?? 'Dockerfile');
    const target = textOf(table['target']);
    const choices = { name: this.#options.name, file: path, args: new Map(this.#pairs(table['args'])), ...(target === undefined ? {} : { target }) };
    return { context, path, text: textOf(table['dockerfile_inline']) ?? this.#options.readFile(path), choices };
  }

  /** All run on one root file system: those that need another cannot. */
  #isCarried(name: string, service: Mapping, [rootName, root]: [string, Mapping]): boolean {
    if (name === rootName) return true;
    const isSame = root['build'] === undefined ? service['build'] === undefined && service['image'] === root['image'] : JSON.stringify(service['build']) === JSON.stringify(root['build']) || (service['build'] === undefined && service['image'] !== undefined && service['image'] === root['image']);
    if (isSame) return true;
    const image = textOf(service['image']);
    const known = PACKAGES[imageName(image)];
    const what = image === undefined ? 'is built from another Dockerfile' : `runs the image ${image}`;
    const way = known === undefined ? 'Install what it needs with build steps and describe it as a service here, or run it beside hd' : `Debian has it as the package ${known}, in its own version and with its own settings: on a Debian base, add apt = ["${known}"] to [dependencies] and describe it as a service here; or run it beside hd`;
    const own = `hd ingest --service ${name} -o ${posix.join(this.#homeOf(name, service), 'hd.toml')} ${this.#options.file ?? 'compose.yaml'}`;
    this.#note(['services', name], `services.${name}`, `not carried over: it ${what}, which has a root file system of its own, and all services of an environment have one, here that of ${rootName}. ${way}; or make an environment of its own of it, which finds those here by name, and they it: \`${own}\``);
    return false;
  }

  /** How services here find one that is in an environment of its own, by its name. */
  #reach(name: string, service: Mapping, draft: HdToml): void {
    const note = (message: string): void => this.#note(['services', name], `services.${name}`, message);
    const at = this.#publishedPort(service) ?? this.#ownPort(service);
    if (at === undefined) return note('what port it has is not known: name it in [environment.reach], for services here to find it');
    const owner = this.#ports.get(at.port);
    if (owner !== undefined) return note(`services here do not find it by its name: its port, ${at.port}, is that of ${owner} here. Name it in [environment.reach] with another one, such as "${at.hostPort}:${at.port + 1}", and take that where it is asked`);
    draft.reach.set(name, at);
  }

  #publishedPort({ ports }: Mapping): { hostPort: number; port: number } | undefined {
    const [first] = portsOf(ports).filter((port) => port !== undefined);
    return first === undefined ? undefined : { hostPort: Number(String(first.publish ?? first.port).split(':').at(-1)), port: first.port };
  }

  /** Of a service that publishes none. */
  #ownPort({ expose, image, build }: Mapping): { hostPort: number; port: number } | undefined {
    const exposed = listOf(expose).map((port) => Number.parseInt(port, 10)).find((port) => port > 0);
    const port = exposed ?? PORTS[imageName(image)] ?? this.#portOfDockerfile(build);
    return port === undefined ? undefined : { hostPort: port, port };
  }

  #portOfDockerfile(build: unknown): number | undefined {
    if (build === undefined) return undefined;
    const { text, choices } = this.#dockerfileOf(build);
    if (text === undefined) return undefined;
    try {
      const port = draftDockerfile(text, choices).draft.services.get('app')?.['port'];
      return typeof port === 'number' ? port : undefined;
    } catch (error) {
      // It is told where its own environment is made.
      if (error instanceof HdError) return undefined;
      throw error;
    }
  }

  /** Where an hd.toml of its own belongs: to what it is built from. */
  #homeOf(name: string, { build }: Mapping): string {
    const context = posix.normalize(textOf(isMapping(build) ? build['context'] : build) ?? '.').replace(/\/$/, '');
    return context === '.' || context.startsWith('..') || /^[/~]|:/.test(context) ? name : context;
  }

  #service(name: string, service: Mapping, projectAt: string | undefined, carried: readonly string[], built: Record<string, TomlValue> | undefined): Record<string, TomlValue> | undefined {
    const note = (key: string, message: string): void => this.#note(['services', name, key], `services.${name}.${key}`, message);
    for (const key of Object.keys(service)) if (!KNOWN.includes(key) && !SILENT.includes(key) && !key.startsWith('x-')) note(key, 'not carried over');
    const command = this.#command(service) ?? textOf(built?.['command']);
    if (command === undefined) {
      this.#note(['services', name], `services.${name}`, 'not carried over: it has no command here, and what its image would run is not known');
      return undefined;
    }
    // What the Dockerfile says of ports, users and readiness holds where the Compose file says nothing.
    const { port: exposed, ...ofImage } = built ?? {};
    const made: Record<string, TomlValue> = { ...ofImage, command };
    this.#addPorts(name, service['ports'], made);
    const port = exposed ?? (this.#isSplit ? this.#ownPort(service)?.port : undefined);
    if (made['port'] === undefined && typeof port === 'number' && !this.#ports.has(port) && !this.#asked.has(port)) {
      this.#ports.set(port, name);
      // Other environments come by what is published.
      Object.assign(made, { port, ...(this.#isSplit ? {} : { publish: false }) });
    }
    const dependsOn = this.#dependsOn(name, service['depends_on'], carried);
    if (dependsOn !== undefined) made['depends_on'] = dependsOn;
    made['restart_policy'] = this.#restart(name, service['restart']);
    const env = Object.fromEntries(this.#pairs(service['environment'], (variable) => note('environment', `${variable} would come from the shell; it has no value here`)));
    const files = [service['env_file']].flat().flatMap((item) => (isMapping(item) ? [textOf(item['path'])] : [textOf(item)])).flatMap((path) => path ?? []).map((path) => posix.normalize(this.#fromProject(path)));
    const outside = files.filter((path) => path.startsWith('..') || path.startsWith('/'));
    for (const path of outside) note('env_file', `${path} lies outside the project and is not carried over`);
    if (files.length > outside.length) made['env_file'] = files.filter((path) => !outside.includes(path));
    if (Object.keys(env).length > 0) made['env'] = env;
    const workdir = textOf(service['working_dir']);
    if (workdir !== undefined) made['cwd'] = workdir;
    Object.assign(made, this.#healthcheck(name, service['healthcheck']), this.#limits(service));
    const volumes = this.#mounts(name, service['volumes'], workdir ?? projectAt);
    if (volumes.length > 0) made['volumes'] = [...listOf(ofImage['volumes']).filter((mount) => volumes.every((other) => other.split(':')[1] !== mount.split(':')[1])), ...volumes];
    for (const [key, to] of [['user', 'user'], ['stop_signal', 'stop_signal'], ['stop_grace_period', 'restart_grace']] as const) {
      const value = textOf(service[key]);
      if (value !== undefined) made[to] = value;
    }
    const profiles = listOf(service['profiles']);
    if (profiles.length > 0) made['profiles'] = profiles;
    if (service['privileged'] === true) made['privileged'] = true;
    const watch = this.#watch(name, service['develop']);
    if (watch.length > 0) made['watch'] = watch;
    return made;
  }

  #command(service: Mapping): string | undefined {
    const words = (value: unknown): string[] | undefined => (typeof value === 'string' ? splitWords(value, '\\').map(unquoted) : Array.isArray(value) ? value.map(String) : undefined);
    const [entrypoint, command] = [words(service['entrypoint']), words(service['command'])];
    if (entrypoint === undefined && command === undefined) return undefined;
    return [...(entrypoint ?? []), ...(command ?? [])].map(shellQuote).join(' ');
  }

  #addPorts(name: string, value: unknown, made: Record<string, TomlValue>): void {
    const ports = portsOf(value);
    const [first, ...others] = ports.filter((port) => port !== undefined);
    const note = (message: string): void => this.#note(['services', name, 'ports'], `services.${name}.ports`, message);
    if (ports.includes(undefined)) note('ranges and UDP are not carried over: a service has one TCP port');
    for (const other of others) note(`${other.port} is not carried over: a service has one port`);
    if (first === undefined) return;
    const owner = this.#ports.get(first.port);
    if (owner !== undefined) return note(`${first.port} is not carried over: ${owner} has that port, and all services are in one network. One of them has to listen elsewhere`);
    this.#ports.set(first.port, name);
    made['port'] = first.port;
    if (first.publish !== undefined && first.publish !== first.port) made['publish'] = first.publish;
  }

  #dependsOn(name: string, value: unknown, carried: readonly string[]): TomlValue | undefined {
    const wanted: [string, string][] = isMapping(value)
      ? Object.entries(value).map(([other, options]) => [other, CONDITIONS[isMapping(options) ? (textOf(options['condition']) ?? '') : ''] ?? 'started'])
      : listOf(value).map((other) => [other, 'started']);
    const kept = wanted.filter(([other]) => carried.includes(other));
    for (const [other] of wanted) if (!carried.includes(other)) this.#note(['services', name, 'depends_on'], `services.${name}.depends_on`, `${other} is not here to be waited for`);
    return kept.length === 0 ? undefined : Object.fromEntries(kept);
  }

  #restart(name: string, value: unknown): string {
    const text = value === undefined || value === false ? 'no' : String(value);
    const [policy = 'no', most] = text.split(':');
    if (most !== undefined) this.#note(['services', name, 'restart'], `services.${name}.restart`, `${text}: the number of attempts is not carried over`);
    return RESTARTS[policy] ?? 'never';
  }

  #healthcheck(name: string, value: unknown): Record<string, TomlValue> {
    if (!isMapping(value) || value['disable'] === true) return {};
    const test = value['test'];
    const words = Array.isArray(test) ? test.map(String) : typeof test === 'string' ? ['CMD-SHELL', test] : [];
    if (words.length === 0 || words[0] === 'NONE') return {};
    this.#note(['services', name, 'healthcheck'], `services.${name}.healthcheck`, 'decides when the service is ready; afterwards it is not asked again, and how often it is asked is for hd to say');
    return { ready: { command: words[0] === 'CMD-SHELL' ? (words[1] ?? 'true') : words.slice(1).map(shellQuote).join(' ') } };
  }

  #limits(service: Mapping): Record<string, TomlValue> {
    const resources = at(service['deploy'], 'resources', 'limits');
    const [memory, cpus, pids] = [textOf(service['mem_limit']) ?? textOf(at(resources, 'memory')), service['cpus'] ?? at(resources, 'cpus'), service['pids_limit'] ?? at(resources, 'pids')];
    return {
      ...(memory === undefined ? {} : { memory: memory.replace(/^(\d+(?:\.\d+)?)([kmgKMG])$/, '$1$2B').toUpperCase() }),
      ...(cpus === undefined ? {} : { cpus: Number(cpus) }), ...(pids === undefined || Number(pids) < 1 ? {} : { pids: Number(pids) }),
    };
  }

  #mounts(name: string, value: unknown, workdir: string | undefined): string[] {
    const note = (message: string): void => this.#note(['services', name, 'volumes'], `services.${name}.volumes`, message);
    return (Array.isArray(value) ? value : []).flatMap((item: unknown): string[] => {
      const mount = isMapping(item) ? longMount(item) : shortMount(String(item));
      if (mount === undefined) {
        note(`${JSON.stringify(item)} is not carried over`);
        return [];
      }
      const { source, target, readonly } = mount;
      const end = `:${target}${readonly ? ':ro' : ''}`;
      if (source === undefined) return [`${nameVolume(this.#volumes, target)}${end}`];
      if (/^[./~]/.test(source)) {
        const from = this.#fromProject(source);
        const isProject = from === '.' && (workdir === undefined || posix.normalize(target) === posix.normalize(workdir));
        if (isProject) note(`${source} at ${target} is what hd does anyway: the project's files are in the working directory, and follow every edit`);
        return isProject ? [] : [`${from === '.' ? './' : from}${end}`];
      }
      this.#volumes.set(source, source);
      return [`${source}${end}`];
    });
  }

  /** Restarts alone: files are brought in anyway. */
  #watch(name: string, develop: unknown): string[] {
    const rules = at(develop, 'watch');
    return (Array.isArray(rules) ? rules : []).flatMap((rule: unknown) => {
      const [action, path] = [textOf(at(rule, 'action')), textOf(at(rule, 'path'))];
      if (path === undefined || action === 'sync') return [];
      if (action === 'rebuild') this.#note(['services', name, 'develop'], `services.${name}.develop`, `${path}: what has to be built again is known without being told`);
      return action === 'restart' || action === 'sync+restart' ? [posix.join(posix.normalize(this.#fromProject(path)).replace(/\/$/, ''), path.endsWith('/') || !posix.basename(path).includes('.') ? '**' : '')] : [];
    });
  }

  #pairs(value: unknown, onMissing?: (name: string) => void): [string, string][] {
    const entries: [string, unknown][] = isMapping(value) ? Object.entries(value) : listOf(value).map((item) => (item.includes('=') ? [item.slice(0, item.indexOf('=')), item.slice(item.indexOf('=') + 1)] : [item, null]));
    return entries.flatMap(([name, text]): [string, string][] => {
      const found = text ?? this.#options.variables.get(name);
      if (found === undefined || found === null) onMissing?.(name);
      return found === undefined || found === null ? [] : [[name, String(found)]];
    });
  }

  /** `$NAME`, `${NAME}`, `${NAME:-word}`, `${NAME-word}`, `${NAME:+word}`, `${NAME:?message}`; `$$` is a `$`. */
  #interpolated(value: unknown, path: readonly string[]): unknown {
    if (Array.isArray(value)) return value.map((item: unknown) => this.#interpolated(item, path));
    if (isMapping(value)) return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.#interpolated(item, [...path, key])]));
    if (typeof value !== 'string' || !value.includes('$')) return value;
    return value.replace(/\$(?:\$|([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?:(:?[-+?])([^}]*))?\})/g, (match, plain: string | undefined, braced: string | undefined, operator = '', word = '') => {
      if (match === '$$') return '$';
      const name = plain ?? braced ?? '';
      const found = this.#options.variables.get(name);
      const isSet = String(operator).startsWith(':') ? found !== undefined && found !== '' : found !== undefined;
      const text = String(operator).endsWith('+') ? (isSet ? String(word) : '') : isSet ? (found ?? '') : String(operator).endsWith('-') ? String(word) : '';
      this.#note(path, path.join('.'), `\${${name}} is fixed at ${JSON.stringify(text)}`);
      return text;
    });
  }

  #note(path: readonly string[], key: string, message: string): void {
    addNote(this.#notes, this.#lineOf(path), key, message);
  }

  /** Of the nearest key that is there. */
  #lineOf(path: readonly string[]): number {
    let node: unknown = this.#document.contents;
    let line = 1;
    for (const name of path) {
      const pair = isMap(node) ? node.items.find((item) => isPair(item) && isScalar(item.key) && String(item.key.value) === name) : undefined;
      if (pair === undefined) break;
      if (isScalar(pair.key) && pair.key.range !== undefined && pair.key.range !== null) line = this.#lines.linePos(pair.key.range[0]).line;
      node = pair.value;
    }
    return line;
  }

  #invalid(line: number, why: string): HdError {
    return new HdError('COMPOSE_INVALID', `${this.#options.file ?? 'compose.yaml'}:${line}: ${why}`, { hint: 'correct it so that `docker compose config` takes it', details: { line } });
  }
}

function isMapping(value: unknown): value is Mapping {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function at(value: unknown, ...path: string[]): unknown {
  return path.reduce<unknown>((inner, name) => (isMapping(inner) ? inner[name] : undefined), value);
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : undefined;
}

function listOf(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : typeof value === 'string' ? [value] : [];
}

function unquoted(word: string): string {
  return word.replace(/^(["'])(.*)\1$/s, '$2');
}

/** `docker.io/library/postgres:16` is `postgres`. */
function imageName(image: unknown): string {
  return textOf(image)?.replace(/^.*\//, '').replace(/[:@].*$/, '') ?? '';
}

function portsOf(value: unknown): (Port | undefined)[] {
  return (Array.isArray(value) ? value : []).map((item: unknown) => (isMapping(item) ? longPort(item) : shortPort(String(item))));
}

interface Port { port: number; publish: number | string | undefined }

/** `[[address:]published:]port[/tcp]` */
function shortPort(text: string): Port | undefined {
  const match = /^(?:(?:(\[[^\]]+\]|[^:]+):)?(\d*):)?(\d+)(?:\/(tcp))?$/.exec(text);
  if (match === null) return undefined;
  const [, address, published, port] = match;
  const number = Number(published === undefined || published === '' ? port : published);
  return { port: Number(port), publish: address === undefined ? number : `${address}:${number}` };
}

function longPort(table: Mapping): Port | undefined {
  const [target, published, address, protocol] = ['target', 'published', 'host_ip', 'protocol'].map((key) => textOf(table[key]));
  if (target === undefined || !/^\d+$/.test(published ?? target) || (protocol ?? 'tcp') !== 'tcp') return undefined;
  const number = Number(published ?? target);
  return { port: Number(target), publish: address === undefined ? number : `${address}:${number}` };
}

interface ComposeMount { source: string | undefined; target: string; readonly: boolean }

function shortMount(text: string): ComposeMount | undefined {
  const [first = '', second, options = ''] = text.split(':');
  if (second === undefined) return first.startsWith('/') ? { source: undefined, target: first, readonly: false } : undefined;
  return second.startsWith('/') ? { source: first, target: second, readonly: options.split(',').includes('ro') } : undefined;
}

function longMount(table: Mapping): ComposeMount | undefined {
  const [type, source, target] = ['type', 'source', 'target'].map((key) => textOf(table[key]));
  if (target === undefined || (type !== 'volume' && type !== 'bind')) return undefined;
  return { source, target, readonly: table['read_only'] === true };
}
