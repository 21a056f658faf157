import { posix } from 'node:path';
import type { HdError } from '@hyperdocker/base';
import type { Command, CopyInstruction, Dockerfile, DockerfileStage, Healthcheck, Instruction, PairsInstruction, RunInstruction, WordsInstruction } from './dockerfile-ast.ts';
import { hasGlob, projectPath, translateCopy } from './dockerfile-copy.ts';
import type { ContextCopy } from './dockerfile-copy.ts';
import { invalidDockerfile } from './dockerfile-error.ts';
import { DEFAULT_PATH, DEFAULT_SHELL, expandAt } from './dockerfile-evaluate.ts';
import { heredocText } from './dockerfile-lines.ts';
import { parseMount } from './dockerfile-mount.ts';
import { targetStage } from './dockerfile-graph.ts';
import { parseDockerfile } from './dockerfile-parser.ts';
import { shellQuote } from './shell-quote.ts';
import type { HdToml, IngestNote, TomlValue, Translated } from './hd-toml.ts';
import { addNote, renderHdToml } from './hd-toml.ts';

type StepDraft = { kind: 'run'; command: string; script: boolean; workdir: string | undefined; network: boolean } | { kind: 'copy'; copy: ContextCopy };
interface ServiceCommand { words: string[] | string; stage: number }

/** What the instructions up to here come to. */
interface Draft {
  /** For `$NAME` outside of RUN. */
  variables: Map<string, string>;
  /** ARGs with a value, which only RUN sees as environment. */
  args: Map<string, string>;
  env: Map<string, string>;
  /** Undefined until the first WORKDIR: the base image's. */
  workdir: string | undefined;
  shell: readonly string[];
  steps: StepDraft[];
  cache: string[];
  ports: { line: number; port: number }[];
  volumes: { line: number; path: string }[];
  user: { line: number; name: string } | undefined;
  stopSignal: string | undefined;
  healthcheck: { line: number; check: Healthcheck } | undefined;
  entrypoint: ServiceCommand | undefined;
  cmd: ServiceCommand | undefined;
  wholeProject: boolean;
  /** Where `COPY . DIR` first put the project. */
  projectAt: string | undefined;
}

const WITHOUT_PLACE: Partial<Record<Instruction['keyword'], string>> = {
  LABEL: 'labels are not carried over: an environment has none, and `hd export --label` gives them to an image',
  MAINTAINER: 'not carried over',
  ONBUILD: 'not carried over: nothing is built on top of an environment',
};

/**
 * Translates a Dockerfile into the text of an hd.toml. What is not carried over in full becomes a note, also in the text as a comment
 * `# line N: …`; nothing is dropped without one. `name` is the environment's. @throws HdError DOCKERFILE_INVALID
 */
export function translateDockerfile(text: string, options: { name: string; file?: string }): Translated {
  const { draft, notes } = draftDockerfile(text, options);
  return renderHdToml(draft, notes, 'a Dockerfile');
}

/** The same before it is a text. @param options.target the stage; default: the last one @param options.args over the defaults of ARG */
export function draftDockerfile(text: string, options: { name: string; file?: string; target?: string; args?: ReadonlyMap<string, string> }): { draft: HdToml; notes: IngestNote[] } {
  return new Translation(parseDockerfile(text, options.file), options).result();
}

class Translation {
  readonly #dockerfile: Dockerfile;
  readonly #name: string;
  readonly #given: ReadonlyMap<string, string>;
  readonly #target: DockerfileStage;
  readonly #notes: IngestNote[] = [];
  readonly #globals = new Map<string, string>();
  readonly #draft: Draft = {
    variables: new Map(), args: new Map(), env: new Map(), workdir: undefined, shell: DEFAULT_SHELL, steps: [], cache: [], ports: [], volumes: [], user: undefined, stopSignal: undefined, healthcheck: undefined,
    entrypoint: undefined, cmd: undefined, wholeProject: false, projectAt: undefined,
  };

  constructor(dockerfile: Dockerfile, { name, target, args = new Map() }: { name: string; target?: string; args?: ReadonlyMap<string, string> }) {
    this.#dockerfile = dockerfile;
    this.#name = name;
    this.#given = args;
    this.#target = targetStage(dockerfile, target);
    for (const instruction of dockerfile.globals) this.#arg(instruction, this.#globals, new Map());
  }

  result(): { draft: HdToml; notes: IngestNote[] } {
    const { chain, base } = this.#chain();
    for (const stage of this.#dockerfile.stages) if (!chain.includes(stage)) this.#leaveOut(stage);
    for (const [index, stage] of chain.entries()) {
      this.#draft.variables = new Map(this.#draft.env);
      this.#draft.args = new Map();
      for (const instruction of stage.instructions) this.#translate(instruction, index);
    }
    const draft = this.#assemble(chain, base);
    return { draft, notes: this.#notes };
  }

  #leaveOut(stage: DockerfileStage): void {
    const { line } = stage.from;
    const last = stage.instructions.at(-1)?.line ?? line;
    this.#note(line, 'FROM', `the stage ${stage.name ?? `at line ${line}`} (lines ${line} to ${last}) is left out: an hd.toml describes one environment, here the last stage; \`hd build -f\` builds all of them`);
  }

  /** The last stage after the stages that it is built on. */
  #chain(): { chain: DockerfileStage[]; base: string } {
    const { stages } = this.#dockerfile;
    const chain: DockerfileStage[] = [];
    let base = '';
    for (let stage: DockerfileStage | undefined = this.#target; stage !== undefined; ) {
      chain.unshift(stage);
      const { line, image, platform } = stage.from;
      const expanded = expandAt(this.#dockerfile, line, image, this.#globals);
      if (expanded.text === '' || expanded.missing.length > 0) throw this.#fail(line, `FROM names no image${expanded.missing.length > 0 ? `: ${expanded.missing.join(', ')} has no value before it` : ''}`);
      if (platform !== undefined) this.#note(line, 'FROM', `--platform=${platform} is not carried over: the image for this machine is taken`);
      base = expanded.text;
      stage = stages.slice(0, stage.index).findLast(({ name }) => name === base.toLowerCase());
    }
    return { chain, base };
  }

  #translate(instruction: Instruction, stage: number): void {
    const { line, keyword } = instruction;
    const draft = this.#draft;
    switch (keyword) {
      case 'ARG':
        return this.#arg(instruction, draft.args, draft.env);
      case 'ENV':
        return this.#env(instruction);
      case 'WORKDIR':
        draft.workdir = posix.resolve(draft.workdir ?? '/', this.#evaluate(instruction, instruction.value));
        return;
      case 'RUN':
        return this.#run(instruction);
      case 'COPY':
      case 'ADD':
        return this.#copy(instruction);
      case 'EXPOSE':
        return this.#exposes(instruction);
      case 'VOLUME':
        for (const word of instruction.words) draft.volumes.push({ line, path: posix.resolve('/', this.#evaluate(instruction, word)) });
        return;
      case 'SHELL':
        draft.shell = instruction.words;
        return;
      case 'USER':
        draft.user = { line, name: this.#evaluate(instruction, instruction.value) };
        return;
      case 'STOPSIGNAL':
        draft.stopSignal = this.#stopSignal(instruction, this.#evaluate(instruction, instruction.value));
        return;
      case 'ENTRYPOINT':
        draft.entrypoint = this.#command(instruction.command, stage);
        if (draft.cmd?.stage !== stage) draft.cmd = undefined;
        return;
      case 'CMD':
        draft.cmd = this.#command(instruction.command, stage);
        return;
      case 'HEALTHCHECK':
        draft.healthcheck = { line, check: instruction.healthcheck };
        return;
      default:
        return this.#note(line, keyword, WITHOUT_PLACE[keyword] ?? 'not carried over');
    }
  }

  /** Fixes build arguments at their defaults. `env` hides arguments of the same name. */
  #arg(instruction: Extract<Instruction, { keyword: 'ARG' }>, into: Map<string, string>, env: ReadonlyMap<string, string>): void {
    for (const { name, value: word } of instruction.args) {
      const value = this.#given.get(name) ?? (word === undefined ? this.#globals.get(name) : this.#evaluate(instruction, word, into === this.#globals ? this.#globals : this.#draft.variables));
      if (value === undefined) {
        this.#note(instruction.line, 'ARG', `${name} has no default, and so no value here`);
        continue;
      }
      if (word !== undefined) this.#note(instruction.line, 'ARG', `${name} is fixed at ${JSON.stringify(value)}: there are no build arguments`);
      if (env.has(name)) continue;
      into.set(name, value);
      if (into !== this.#globals) this.#draft.variables.set(name, value);
    }
  }

  #env(instruction: PairsInstruction): void {
    const before = new Map(this.#draft.variables);
    for (const [name, word] of instruction.pairs) {
      const value = this.#evaluate(instruction, word, before);
      this.#draft.variables.set(name, value);
      this.#draft.args.delete(name);
      if (/^[A-Za-z_]\w*$/.test(name)) this.#draft.env.set(name, value);
      else this.#note(instruction.line, 'ENV', `${JSON.stringify(name)} cannot be the name of a variable`);
    }
  }

  /** With a note for every variable that has no value here. */
  #evaluate(instruction: Instruction, word: string, variables: ReadonlyMap<string, string> = this.#draft.variables, rawQuotes = false): string {
    const known = variables.has('PATH') ? variables : new Map([...variables, ['PATH', DEFAULT_PATH]]);
    const { text, missing } = expandAt(this.#dockerfile, instruction.line, word, known, { rawQuotes });
    for (const name of new Set(missing)) this.#note(instruction.line, instruction.keyword, `$${name} has no value here and is left empty; the base image may set it`);
    if (known !== variables && /\$\{?PATH\b/.test(word)) this.#note(instruction.line, instruction.keyword, '$PATH is taken to be the usual one; the base image may have another');
    return text;
  }

  #run(instruction: RunInstruction): void {
    const { command, heredocs, line } = instruction;
    for (const mount of instruction.mounts) this.#mount(instruction, mount);
    if (instruction.network === 'host') this.#note(line, 'RUN', '--network=host is what steps have anyway');
    if (instruction.security === 'insecure') this.#note(line, 'RUN', '--security=insecure is not carried over: steps have the rights of any container');
    const [heredoc] = heredocs;
    const script = command.form === 'shell' && heredoc !== undefined && /^<<-?(["']?)\w+\1$/.test(command.text);
    let text = command.form === 'exec' ? command.words.map(shellQuote).join(' ') : withoutIndentation(command.text);
    if (script) text = this.#script(line, heredocText(heredoc));
    else for (const { name, body } of heredocs) text += `\n${body}${name}`;
    if (text.trim() === '') throw this.#fail(line, 'RUN without a command');
    if (command.form === 'shell' && this.#draft.shell !== DEFAULT_SHELL) text = [...this.#draft.shell, text].map(shellQuote).join(' ');
    this.#draft.steps.push({ kind: 'run', command: this.#argExports(text) + text, script, workdir: this.#draft.workdir, network: instruction.network !== 'none' });
  }

  #script(line: number, body: string): string {
    const interpreter = /^#!\s*(.+)\n/.exec(body)?.[1];
    if (interpreter === undefined) return body.replace(/\n+$/, '');
    this.#note(line, 'RUN', 'the script is given to its interpreter on standard input');
    return `${interpreter.trim()} <<'HD_SCRIPT'\n${body}HD_SCRIPT`;
  }

  /** Docker shows arguments to every RUN; here to those that name them. */
  #argExports(command: string): string {
    return [...this.#draft.args].filter(([name]) => new RegExp(`\\$\\{?${name}\\b`).test(command)).map(([name, value]) => `export ${name}=${shellQuote(value)} && `).join('');
  }

  #mount(instruction: RunInstruction, text: string): void {
    const { line } = instruction;
    const mount = parseMount(this.#evaluate(instruction, text, this.#draft.variables, true), (path) => posix.resolve('/', this.#draft.workdir ?? '/', path), (why) => this.#fail(line, why));
    switch (mount.type) {
      case 'cache':
        if (!this.#draft.cache.includes(mount.target)) this.#draft.cache.push(mount.target);
        return;
      case 'bind':
        this.#draft.wholeProject ||= mount.from === undefined;
        return this.#note(line, 'RUN', `the bind mount at ${mount.target} is not carried over${mount.from === undefined ? `: the project is in ${this.#draft.workdir ?? 'the working directory'}` : ''}`);
      case 'secret':
        return this.#note(line, 'RUN', `the secret mount of ${mount.id} is not carried over: name where its value is to be found in [secrets], and the secret in a step's \`secrets\``);
      default:
        return this.#note(line, 'RUN', `the ${mount.type} mount at ${mount.target} is not carried over`);
    }
  }

  #copy(instruction: CopyInstruction): void {
    const { line, keyword, from } = instruction;
    const sources = instruction.sources.map((word) => this.#evaluate(instruction, word));
    const target = this.#evaluate(instruction, instruction.destination);
    if (from !== undefined) return this.#note(line, keyword, `${sources.join(', ')} of ${from} is not brought in: other stages and images are not built here. Make it with a build step, or take \`hd build -f\` for the image and this file for what is yours`);
    const { chown, chmod, parents, exclude, checksum } = instruction;
    for (const [name, value] of Object.entries({ chown, chmod, parents: parents ? '' : undefined, exclude: exclude.length === 0 ? undefined : exclude.join(','), checksum })) {
      if (value !== undefined) this.#note(line, keyword, `--${name}${value === '' ? '' : `=${value}`} is not carried over`);
    }
    const slash = /(^|\/)\.?$/.test(target) ? '/' : '';
    const destination = posix.resolve(this.#draft.workdir ?? '/', target);
    for (const heredoc of instruction.heredocs) {
      const text = heredocText(heredoc);
      this.#writeFile(heredoc.name, heredoc.quoted ? text : this.#evaluate(instruction, text, this.#draft.variables, true), slash === '' ? destination : posix.join(destination, heredoc.name));
    }
    const remote = sources.filter((source) => /^(\w+:\/\/|git@)/.test(source));
    for (const url of remote) this.#note(line, keyword, `${url} is not fetched: use a build step with curl or git`);
    const local = sources.filter((source) => !remote.includes(source));
    if (local.length === 0) return;
    if (local.some((source) => projectPath(source) === '')) this.#draft.projectAt ??= destination;
    this.#draft.steps.push({ kind: 'copy', copy: { line, keyword, sources: local, destination: destination === '/' ? '/' : destination + slash } });
  }

  #writeFile(name: string, content: string, path: string): void {
    const end = content.split('\n').includes(name) ? `${name}_` : name;
    this.#draft.steps.push({ kind: 'run', command: `mkdir -p ${shellQuote(posix.dirname(path))} && cat > ${shellQuote(path)} <<'${end}'\n${content}${end}`, script: false, workdir: undefined, network: true });
  }

  #exposes(instruction: WordsInstruction): void {
    for (const written of instruction.words) {
      const word = this.#evaluate(instruction, written);
      const match = /^(\d+)(?:\/(tcp|udp))?$/.exec(word);
      const port = Number(match?.[1]);
      if (match === null || match[2] === 'udp' || port < 1 || port > 65535) this.#note(instruction.line, 'EXPOSE', `${word} is not carried over: a service has one TCP port`);
      else if (!this.#draft.ports.some((known) => known.port === port)) this.#draft.ports.push({ line: instruction.line, port });
    }
  }

  #stopSignal(instruction: Instruction, text: string): string | undefined {
    const name = SIGNALS[text] ?? (text.startsWith('SIG') ? text : `SIG${text}`);
    if (STOP_SIGNALS.includes(name)) return name;
    this.#note(instruction.line, 'STOPSIGNAL', `${text} is not carried over: services are stopped with SIGTERM`);
    return undefined;
  }

  #command(command: Command, stage: number): ServiceCommand {
    if (command.form === 'exec') return { words: command.words, stage };
    return { words: this.#draft.shell === DEFAULT_SHELL ? command.text : [...this.#draft.shell, command.text], stage };
  }

  /** The service's command as Docker puts it together. Undefined: the base image's own, or none. */
  #serviceCommand(): string | undefined {
    const { entrypoint, cmd } = this.#draft;
    const own = entrypoint?.words ?? [];
    if (typeof own === 'string') return own === '' ? undefined : own;
    const rest = cmd?.words ?? [];
    if (typeof rest === 'string' && own.length === 0) return rest === '' ? undefined : rest;
    const words = [...own, ...(typeof rest === 'string' ? [...DEFAULT_SHELL, rest] : rest)];
    return words.length === 0 ? undefined : words.map(shellQuote).join(' ');
  }

  #assemble(chain: DockerfileStage[], base: string): HdToml {
    const { workdir, projectAt, env, cache } = this.#draft;
    const project = workdir ?? (projectAt === '/' ? undefined : projectAt);
    const firstLine = chain[0]?.from.line ?? 1;
    if (workdir === undefined) this.#note(firstLine, 'FROM', project === undefined ? 'there is no WORKDIR: the project is where hd puts it, and not at /' : `there is no WORKDIR: steps and the service run in ${project}, where the project is`);
    const steps = this.#steps(project);
    const include = this.#includes();
    const volumes = new Map<string, string>();
    const service = this.#service(chain.at(-1)?.from.line ?? firstLine, volumes);
    return { name: this.#name, base, workdir: project, env, apt: [], steps, cache, volumes: [...volumes.keys()], reach: new Map(), services: new Map(service === undefined ? [] : [['app', service]]), include };
  }

  #steps(project: string | undefined): HdToml['steps'] {
    return this.#draft.steps.flatMap((step) => {
      if (step.kind === 'run') return { run: placeStep(step, project), network: step.network };
      const outcome = translateCopy(step.copy, project ?? '/');
      const message = outcome.kind === 'step' ? outcome.message : outcome.doubt;
      if (message !== undefined) this.#note(step.copy.line, step.copy.keyword, message);
      return outcome.kind === 'step' ? { run: outcome.command, network: true } : [];
    });
  }

  /** The project's files that the Dockerfile copies, where it names them; nothing for all of them. */
  #includes(): string[] {
    const sources = this.#draft.steps.flatMap((step) => (step.kind === 'copy' ? step.copy.sources.map((source) => ({ source, line: step.copy.line, keyword: step.copy.keyword })) : []));
    const globs = sources.filter(({ source }) => hasGlob(source));
    if (this.#draft.wholeProject || sources.some(({ source }) => projectPath(source) === '')) return [];
    for (const { source, line, keyword } of globs) this.#note(line, keyword, `${source} is a pattern, which \`files.include\` cannot say: all of the project is brought in`);
    return globs.length > 0 ? [] : [...new Set(sources.map(({ source }) => projectPath(source)))];
  }

  #service(fromLine: number, named: Map<string, string>): Record<string, TomlValue> | undefined {
    const { ports: [port, ...otherPorts], user, stopSignal, healthcheck, volumes } = this.#draft;
    const command = this.#serviceCommand();
    for (const other of otherPorts) this.#note(other.line, 'EXPOSE', `${other.port} is not carried over: a service has one port`);
    if (user !== undefined) this.#note(user.line, 'USER', `the service runs as ${user.name}; build steps run as the user of the base image`);
    if (command === undefined) {
      this.#note(fromLine, 'FROM', 'no CMD or ENTRYPOINT: what the base image would run is not known here, so there is no service');
      if (port !== undefined) this.#note(port.line, 'EXPOSE', `${port.port} is not carried over: there is no service`);
      if (healthcheck !== undefined) this.#note(healthcheck.line, 'HEALTHCHECK', 'not carried over: there is no service');
      for (const { line } of volumes) this.#note(line, 'VOLUME', 'not carried over: there is no service');
      return undefined;
    }
    return {
      command, ...(port === undefined ? {} : { port: port.port }), ...(user === undefined ? {} : { user: user.name }), ...(stopSignal === undefined ? {} : { stop_signal: stopSignal }),
      ...this.#readiness(), ...(volumes.length === 0 ? {} : { volumes: volumes.map(({ path }) => `${nameVolume(named, path)}:${path}`) }),
    };
  }

  #readiness(): Record<string, TomlValue> {
    const { healthcheck } = this.#draft;
    if (healthcheck === undefined || healthcheck.check.test === 'NONE') return {};
    const { test } = healthcheck.check;
    this.#note(healthcheck.line, 'HEALTHCHECK', 'decides when the service is ready; afterwards it is not asked again');
    return { ready: { command: test.form === 'exec' ? test.words.map(shellQuote).join(' ') : test.text } };
  }

  #note(line: number, instruction: string, message: string): void {
    addNote(this.#notes, line, instruction, message);
  }

  #fail(line: number, why: string): HdError {
    const { file, lines } = this.#dockerfile;
    return invalidDockerfile({ file, line, source: lines[line - 1] }, why);
  }
}

const STOP_SIGNALS = ['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH', 'SIGKILL'];
/** By their numbers. */
const SIGNALS: Record<string, string> = { 1: 'SIGHUP', 2: 'SIGINT', 3: 'SIGQUIT', 9: 'SIGKILL', 10: 'SIGUSR1', 12: 'SIGUSR2', 15: 'SIGTERM', 28: 'SIGWINCH' };

/** Docker keeps the indentation of continuation lines. Outside of quotes one space says the same and reads better. */
function withoutIndentation(text: string): string {
  let result = '';
  let quote = '';
  for (let at = 0; at < text.length; at++) {
    const char = text.charAt(at);
    if (char === '\\' && quote !== "'") {
      result += char + text.charAt(++at);
      continue;
    }
    if (quote === '' && (char === '"' || char === "'")) quote = char;
    else if (char === quote) quote = '';
    if (quote === '' && char === ' ' && result.endsWith(' ') && !result.endsWith('\\ ')) continue;
    result += char;
  }
  return result;
}

/** WORKDIR makes its directory; before the first one, steps run where the project is. */
function placeStep(step: { command: string; script: boolean; workdir: string | undefined }, project: string | undefined): string {
  if (step.workdir === undefined || step.workdir === project) return step.command;
  const directory = shellQuote(step.workdir);
  const enter = step.workdir === '/' ? 'cd /' : `mkdir -p ${directory} && cd ${directory}`;
  return step.script ? `${enter} || exit 1\n${step.command}` : `${enter} && ${step.command}`;
}

/** After the last part of its path. @param named names that are taken, with their paths; the new one is added */
export function nameVolume(named: Map<string, string>, path: string): string {
  const plain = posix.basename(path).replace(/[^A-Za-z0-9_.-]+/g, '-').replace(/^[^A-Za-z0-9]+/, '') || 'volume';
  for (let nth = 1; ; nth++) {
    const name = nth === 1 ? plain : `${plain}-${nth}`;
    if (named.has(name) && named.get(name) !== path) continue;
    named.set(name, path);
    return name;
  }
}
