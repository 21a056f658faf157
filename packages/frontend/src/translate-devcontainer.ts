import { posix } from 'node:path';
import { HdError } from '@hyperdocker/base';
import type { ParseError } from 'jsonc-parser';
import { findNodeAtLocation, parseTree, getNodeValue, printParseErrorCode } from 'jsonc-parser';
import type { Node } from 'jsonc-parser';
import type { HdToml, IngestNote, TomlValue, Translated } from './hd-toml.ts';
import { addNote, renderHdToml } from './hd-toml.ts';
import { shellQuote } from './shell-quote.ts';
import { draftCompose } from './translate-compose.ts';
import type { ComposeOptions } from './translate-compose.ts';
import { draftDockerfile, nameVolume } from './translate-dockerfile.ts';

/** As for a Compose file; paths are from the directory of devcontainer.json. */
export type DevcontainerOptions = ComposeOptions;

/** Features whose job a Debian package does, in its own version. */
const FEATURES: Record<string, string[]> = {
  'git': ['git'], 'node': ['nodejs', 'npm'], 'python': ['python3', 'python3-pip', 'python3-venv'], 'go': ['golang-go'], 'rust': ['cargo', 'rustc'], 'ruby': ['ruby'], 'java': ['default-jdk'], 'php': ['php-cli'], 'sshd': ['openssh-server'],
  'git-lfs': ['git-lfs'], 'github-cli': ['gh'], 'common-utils': ['curl', 'ca-certificates', 'less', 'procps', 'sudo', 'zsh'], 'apt-packages': [],
};
/** Of editors, or of no meaning here. */
const SILENT = ['$schema', 'customizations', 'name', 'overrideCommand', 'portsAttributes', 'otherPortsAttributes', 'userEnvProbe', 'waitFor', 'updateRemoteUserUID', 'build', 'image', 'dockerFile', 'dockerComposeFile', 'service', 'runServices', 'context'];
const AT_BUILD = ['onCreateCommand', 'updateContentCommand', 'postCreateCommand'];

/**
 * Translates a devcontainer.json into the text of an hd.toml. Lifecycle commands up to `postCreateCommand` become build steps, `postStartCommand` a service that ends. What is not carried over is a note.
 * @throws HdError DEVCONTAINER_INVALID, COMPOSE_INVALID, DOCKERFILE_INVALID
 */
export function translateDevcontainer(text: string, options: DevcontainerOptions): Translated {
  const { draft, notes } = new DevcontainerTranslation(text, options).result();
  return renderHdToml(draft, notes, 'a devcontainer.json');
}

class DevcontainerTranslation {
  readonly #text: string;
  readonly #options: DevcontainerOptions;
  readonly #root: Node;
  readonly #notes: IngestNote[] = [];

  constructor(text: string, options: DevcontainerOptions) {
    this.#text = text;
    this.#options = options;
    const errors: ParseError[] = [];
    const root = parseTree(text, errors, { allowTrailingComma: true });
    const [error] = errors;
    if (root?.type !== 'object' || error !== undefined) throw this.#invalid(error === undefined ? 1 : this.#line(error.offset), error === undefined ? 'it is no object' : printParseErrorCode(error.error));
    this.#root = root;
  }

  result(): { draft: HdToml; notes: IngestNote[] } {
    const draft = this.#base();
    const workdir = this.#textAt('workspaceFolder');
    if (workdir !== undefined) draft.workdir = this.#expanded(['workspaceFolder'], workdir, draft);
    this.#environment(draft);
    this.#features(draft);
    for (const key of AT_BUILD) for (const command of this.#commands([key])) draft.steps.push({ run: this.#expanded([key], command, draft), network: true });
    this.#service(draft);
    for (const key of this.#keys()) {
      if (SILENT.includes(key) || HANDLED.includes(key) || AT_BUILD.includes(key)) continue;
      this.#note([key], REASONS[key] ?? 'not carried over');
    }
    return { draft, notes: this.#notes };
  }

  #base(): HdToml {
    const { name } = this.#options;
    const compose = this.#valueAt('dockerComposeFile');
    if (compose !== undefined) return this.#ofCompose([compose].flat().map(String));
    const file = this.#textAt('build', 'dockerfile') ?? this.#textAt('dockerFile');
    if (file === undefined) {
      const image = this.#textAt('image');
      if (image === undefined) throw this.#invalid(1, 'it has neither image, build nor dockerComposeFile');
      return { name, base: image, workdir: undefined, env: new Map(), apt: [], steps: [], cache: [], volumes: [], reach: new Map(), services: new Map(), include: [] };
    }
    const text = this.#options.readFile(file);
    if (text === undefined) throw this.#invalid(this.#lineOf(['build']), `${file} is not there`);
    const args = new Map(Object.entries((this.#valueAt('build', 'args') ?? {}) as Record<string, unknown>).map(([key, value]) => [key, String(value)]));
    const target = this.#textAt('build', 'target');
    for (const key of ['cacheFrom', 'options']) if (this.#valueAt('build', key) !== undefined) this.#note(['build', key], 'not carried over');
    const { draft, notes } = draftDockerfile(text, { name, file, args, ...(target === undefined ? {} : { target }) });
    for (const note of notes) addNote(this.#notes, 0, `${file}:${note.line}: ${note.instruction}`, note.message);
    // Inside, people work: what the image would run is not run.
    if (draft.services.size > 0) this.#note(['build'], 'what the Dockerfile would run is not run, as in a dev container; describe it as a service where it should be');
    draft.services.clear();
    draft.volumes = [];
    draft.include = [];
    return draft;
  }

  #ofCompose(files: readonly string[]): HdToml {
    const [file = '', ...more] = files;
    for (const other of more) this.#note(['dockerComposeFile'], `${other} is not carried over: only the first file is read`);
    const text = this.#options.readFile(file);
    if (text === undefined) throw this.#invalid(this.#lineOf(['dockerComposeFile']), `${file} is not there`);
    const from = posix.dirname(file);
    const { draft, notes } = draftCompose(text, { ...this.#options, file, readFile: (path) => this.#options.readFile(posix.join(from, path)) });
    for (const note of notes) addNote(this.#notes, 0, `${file}:${note.line}: ${note.instruction}`, note.message);
    return draft;
  }

  #environment(draft: HdToml): void {
    for (const key of ['containerEnv', 'remoteEnv'] as const) {
      const table = (this.#valueAt(key) ?? {}) as Record<string, unknown>;
      for (const [name, value] of Object.entries(table)) {
        if (typeof value === 'string') draft.env.set(name, this.#expanded([key, name], value, draft));
        else this.#note([key, name], 'a variable cannot be taken away');
      }
    }
  }

  #features(draft: HdToml): void {
    const features = (this.#valueAt('features') ?? {}) as Record<string, unknown>;
    for (const [id, options] of Object.entries(features)) {
      const name = /([^/:@]+)(?:[:@][^/]*)?$/.exec(id)?.[1] ?? id;
      const packages = name === 'apt-packages' ? String((options as { packages?: unknown } | undefined)?.packages ?? '').split(/[,\s]+/).filter((item) => item !== '') : FEATURES[name];
      if (packages === undefined || packages.length === 0) {
        this.#note(['features', id], 'not carried over: a feature is a script of its own from a registry. Put what it installs into [dependencies] or a build step');
        continue;
      }
      draft.apt.push(...packages.filter((item) => !draft.apt.includes(item)));
      const version = (options as { version?: unknown } | undefined)?.version;
      this.#note(['features', id], `installed as the Debian packages ${packages.join(', ')}, in the version that the base image's Debian has${version === undefined ? '' : `, not ${JSON.stringify(version)}`}; on another base, use a build step`);
    }
  }

  #service(draft: HdToml): void {
    const commands = this.#commands(['postStartCommand']).map((command) => this.#expanded(['postStartCommand'], command, draft));
    const ports = ((this.#valueAt('forwardPorts') ?? []) as unknown[]).filter((port) => typeof port === 'number');
    const user = this.#textAt('containerUser') ?? this.#textAt('remoteUser');
    const volumes = this.#mounts(draft);
    const settings: Record<string, TomlValue> = { ...(user === undefined ? {} : { user }), ...(volumes.length === 0 ? {} : { volumes }) };
    if (commands.length > 0) {
      draft.services.set('post-start', { command: commands.join(' && '), restart_policy: 'on_failure', ...settings });
      this.#note(['postStartCommand'], 'a service that runs with each `hd up` and ends');
    }
    if (ports.length > 0) this.#note(['forwardPorts'], `${ports.join(', ')}: a port belongs to a service here, as \`port\` of whatever listens there`);
    if (user !== undefined) this.#note([this.#textAt('containerUser') === undefined ? 'remoteUser' : 'containerUser'], `services run as ${user}, a command with \`hd exec -u ${user}\`; build steps run as the user of the base image`);
    if (commands.length === 0 && volumes.length > 0) {
      for (const service of draft.services.values()) service['volumes'] = [...((service['volumes'] as readonly string[] | undefined) ?? []), ...volumes];
      if (draft.services.size === 0) this.#note(['mounts'], `${volumes.join(', ')}: what is mounted belongs to a service here, as its \`volumes\``);
    }
  }

  /** `source=name,target=/x,type=volume`, or the same as an object. */
  #mounts(draft: HdToml): string[] {
    const named = new Map(draft.volumes.map((name) => [name, name]));
    const mounts = ((this.#valueAt('mounts') ?? []) as unknown[]).flatMap((item): string[] => {
      const fields = typeof item === 'string' ? Object.fromEntries(item.split(',').map((part) => [part.split('=')[0] ?? '', part.slice(part.indexOf('=') + 1)])) : (item as Record<string, unknown>);
      const [type, target] = [String(fields['type'] ?? 'volume'), fields['target'] ?? fields['dst'] ?? fields['destination']];
      const source = fields['source'] ?? fields['src'];
      if (typeof target !== 'string' || !target.startsWith('/') || (type !== 'volume' && type !== 'bind')) {
        this.#note(['mounts'], `${JSON.stringify(item)} is not carried over`);
        return [];
      }
      if (type === 'bind') return [`${this.#expanded(['mounts'], String(source), draft)}:${target}`];
      const name = typeof source === 'string' && /^[A-Za-z0-9][\w.-]*$/.test(source) ? source : nameVolume(named, target);
      named.set(name, name);
      return [`${name}:${target}`];
    });
    draft.volumes = [...named.keys()];
    return mounts;
  }

  /** A text for a shell, a list that is run as it is, or several by name. */
  #commands(path: string[]): string[] {
    const value = this.#valueAt(...path);
    const one = (item: unknown): string[] => (typeof item === 'string' ? (item.trim() === '' ? [] : [item]) : Array.isArray(item) ? [item.map((word) => shellQuote(String(word))).join(' ')] : []);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.values(value).flatMap(one) : one(value);
  }

  /** `${localWorkspaceFolder}`, `${containerWorkspaceFolder}`, `${localEnv:NAME:default}`, `${containerEnv:NAME}`. */
  #expanded(path: string[], text: string, draft: HdToml): string {
    return text.replace(/\$\{(\w+)(?::([^}:]*)(?::([^}]*))?)?\}/g, (match, kind: string, name: string | undefined, fallback: string | undefined) => {
      switch (kind) {
        case 'localWorkspaceFolder':
          return '.';
        case 'localWorkspaceFolderBasename':
        case 'containerWorkspaceFolderBasename':
        case 'devcontainerId':
          return this.#options.name;
        case 'containerWorkspaceFolder':
          return draft.workdir ?? '/workspace';
        case 'containerEnv': {
          const known = draft.env.get(name ?? '');
          if (known === undefined) this.#note(path, `\${containerEnv:${name ?? ''}} has no value here`);
          return known ?? fallback ?? '';
        }
        case 'localEnv':
        case 'env': {
          const found = this.#options.variables.get(name ?? '') ?? fallback ?? '';
          this.#note(path, `${match} is fixed at ${JSON.stringify(found)}`);
          return found;
        }
        default:
          return match;
      }
    });
  }

  #keys(): string[] {
    return (this.#root.children ?? []).flatMap((property) => (property.children?.[0] === undefined ? [] : [String(getNodeValue(property.children[0]))]));
  }

  #valueAt(...path: string[]): unknown {
    const node = findNodeAtLocation(this.#root, path);
    return node === undefined ? undefined : (getNodeValue(node) as unknown);
  }

  #textAt(...path: string[]): string | undefined {
    const value = this.#valueAt(...path);
    return typeof value === 'string' ? value : undefined;
  }

  #note(path: string[], message: string): void {
    addNote(this.#notes, this.#lineOf(path), path.join('.'), message);
  }

  #lineOf(path: string[]): number {
    const node = findNodeAtLocation(this.#root, path);
    return node === undefined ? 0 : this.#line(node.parent?.offset ?? node.offset);
  }

  #line(offset: number): number {
    return this.#text.slice(0, offset).split('\n').length;
  }

  #invalid(line: number, why: string): HdError {
    return new HdError('DEVCONTAINER_INVALID', `${this.#options.file ?? 'devcontainer.json'}:${line}: ${why}`, { hint: 'see https://containers.dev/implementors/json_reference/', details: { line } });
  }
}

const HANDLED = ['workspaceFolder', 'containerEnv', 'remoteEnv', 'features', 'postStartCommand', 'forwardPorts', 'mounts', 'containerUser', 'remoteUser'];
const REASONS: Record<string, string> = {
  initializeCommand: 'not carried over: it runs on the host, before anything else; run it yourself',
  postAttachCommand: 'not carried over: there is nothing to attach to; `hd shell` opens a shell',
  workspaceMount: 'not carried over: the project is always in the working directory, and follows every edit',
  runArgs: 'not carried over: they are options of `docker run`',
  shutdownAction: 'not carried over: `hd down` stops the environment',
  privileged: 'not carried over: a service has `privileged = true` of its own',
  hostRequirements: 'not carried over: hd takes the machine as it is',
};
