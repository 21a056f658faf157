import { posix } from 'node:path';
import { hasGlob, projectPath, translateCopy } from './dockerfile-copy.ts';
import type { ContextCopy } from './dockerfile-copy.ts';
import { invalidDockerfile, parseDockerfile, parseExecForm } from './dockerfile-parser.ts';
import type { Instruction } from './dockerfile-parser.ts';
import { evaluate, shellQuote, splitPairs, splitWords } from './dockerfile-words.ts';
import { tomlComment, tomlKey, tomlString } from './toml.ts';

/** Something of the Dockerfile that the hd.toml does not say, or says in another way. */
export interface IngestNote {
  /** 1-based, in the Dockerfile. */
  line: number;
  instruction: string;
  message: string;
}

interface Stage { line: number; lastLine: number; base: string; name: string | undefined; instructions: Instruction[] }
type StepDraft = { kind: 'run'; command: string; script: boolean; workdir: string | undefined } | { kind: 'copy'; copy: ContextCopy };
interface Command { words: string[] | string; stage: number }

/** What the instructions up to here come to. */
interface Draft {
  /** For `$NAME` outside of RUN. */
  variables: Map<string, string>;
  /** ARGs with a value, which only RUN sees as environment. */
  args: Map<string, string>;
  env: Map<string, string>;
  /** Undefined until the first WORKDIR: the base image's. */
  workdir: string | undefined;
  shell: string[];
  steps: StepDraft[];
  cache: string[];
  ports: { line: number; port: number }[];
  entrypoint: Command | undefined;
  cmd: Command | undefined;
  wholeProject: boolean;
  /** Where `COPY . DIR` first put the project. */
  projectAt: string | undefined;
}

const DEFAULT_SHELL = ['/bin/sh', '-c'];
/** What Docker sets where an image says nothing, and what nearly all images say. */
const USUAL_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const WITHOUT_PLACE: Record<string, string> = {
  LABEL: 'labels are not carried over: an environment has none',
  MAINTAINER: 'not carried over',
  VOLUME: 'not carried over: what is written there stays in the environment',
  STOPSIGNAL: 'not carried over: services are stopped with SIGTERM',
  ONBUILD: 'not carried over: nothing is built on top of an environment',
  USER: 'not carried over: steps and services run as root',
};

/**
 * Translates a Dockerfile into the text of an hd.toml. What is not carried over in full becomes a note, also in the text as a comment
 * `# line N: …`; nothing is dropped without one. `name` is the environment's. @throws HdError DOCKERFILE_INVALID
 */
export function translateDockerfile(text: string, options: { name: string }): { toml: string; notes: IngestNote[] } {
  return new Translation(text).result(options.name);
}

class Translation {
  readonly #escape: string;
  readonly #notes: IngestNote[] = [];
  readonly #globals = new Map<string, string>();
  readonly #stages: Stage[];
  readonly #draft: Draft = { variables: new Map(), args: new Map(), env: new Map(), workdir: undefined, shell: DEFAULT_SHELL, steps: [], cache: [], ports: [], entrypoint: undefined, cmd: undefined, wholeProject: false, projectAt: undefined };

  constructor(text: string) {
    const { instructions, escape } = parseDockerfile(text);
    this.#escape = escape;
    this.#stages = this.#readStages(instructions);
  }

  result(name: string): { toml: string; notes: IngestNote[] } {
    const chain = this.#chain();
    for (const stage of this.#stages) if (!chain.includes(stage)) this.#note(stage.line, 'FROM', `the stage ${stage.name ?? `at line ${stage.line}`} (lines ${stage.line} to ${stage.lastLine}) is left out: an hd.toml describes one environment, here the last stage`);
    for (const [index, stage] of chain.entries()) {
      this.#draft.variables = new Map(this.#draft.env);
      this.#draft.args = new Map();
      for (const instruction of stage.instructions) this.#translate(instruction, index);
    }
    const toml = this.#render(chain, name);
    return { toml, notes: this.#sortedNotes() };
  }

  #readStages(instructions: Instruction[]): Stage[] {
    const stages: Stage[] = [];
    for (const instruction of instructions) {
      const current = stages.at(-1);
      if (instruction.keyword === 'FROM') stages.push(this.#from(instruction));
      else if (current !== undefined) {
        current.instructions.push(instruction);
        current.lastLine = instruction.line;
      } else if (instruction.keyword === 'ARG') this.#arg(instruction, this.#globals, new Map());
      else throw invalidDockerfile(instruction.line, `${instruction.keyword} before the first FROM`);
    }
    if (stages.length === 0) throw invalidDockerfile(1, 'there is no FROM');
    return stages;
  }

  #from(instruction: Instruction): Stage {
    const { line, rest, flags } = instruction;
    const match = /^(\S+)(?:\s+[aA][sS]\s+(\S+))?$/.exec(rest);
    const base = evaluate(match?.[1] ?? '', this.#globals, this.#escape);
    if (base.text === '' || base.missing.length > 0) throw invalidDockerfile(line, `FROM names no image${base.missing.length > 0 ? `: ${base.missing.join(', ')} has no value before it` : ''}`);
    for (const { name, value } of flags) this.#note(line, 'FROM', `--${name}=${value} is not carried over: the image for this machine is taken`);
    return { line, lastLine: line, base: base.text, name: match?.[2]?.toLowerCase(), instructions: [] };
  }

  /** The last stage after the stages that it is built on. */
  #chain(): Stage[] {
    const chain: Stage[] = [];
    for (let index = this.#stages.length - 1; index >= 0; ) {
      const stage = this.#stages[index];
      if (stage === undefined) break;
      chain.unshift(stage);
      index = this.#stages.slice(0, index).findLastIndex(({ name }) => name === stage.base.toLowerCase());
    }
    return chain;
  }

  #translate(instruction: Instruction, stage: number): void {
    const { line, keyword, rest } = instruction;
    switch (keyword) {
      case 'ARG':
        return this.#arg(instruction, this.#draft.args, this.#draft.env);
      case 'ENV':
        return this.#env(instruction);
      case 'WORKDIR':
        this.#draft.workdir = posix.resolve(this.#draft.workdir ?? '/', this.#evaluate(instruction, rest));
        return;
      case 'RUN':
        return this.#run(instruction);
      case 'COPY':
      case 'ADD':
        return this.#copy(instruction);
      case 'EXPOSE':
        for (const word of splitWords(rest, this.#escape)) this.#expose(instruction, this.#evaluate(instruction, word));
        return;
      case 'SHELL':
        this.#draft.shell = parseExecForm(rest) ?? DEFAULT_SHELL;
        if (parseExecForm(rest) === undefined) throw invalidDockerfile(line, 'SHELL takes a JSON list of strings');
        return;
      case 'ENTRYPOINT':
        this.#draft.entrypoint = this.#command(rest, stage);
        if (this.#draft.cmd?.stage !== stage) this.#draft.cmd = undefined;
        return;
      case 'CMD':
        this.#draft.cmd = this.#command(rest, stage);
        return;
      case 'HEALTHCHECK':
        return this.#note(line, keyword, rest.toUpperCase() === 'NONE' ? 'not carried over' : 'not carried over: see `ready` of a service');
      default:
        return this.#note(line, keyword, WITHOUT_PLACE[keyword] ?? 'not carried over');
    }
  }

  /** Fixes build arguments at their defaults. `env` hides arguments of the same name. */
  #arg(instruction: Instruction, into: Map<string, string>, env: ReadonlyMap<string, string>): void {
    for (const word of splitWords(instruction.rest, this.#escape)) {
      const equals = word.indexOf('=');
      const name = equals < 0 ? word : word.slice(0, equals);
      const value = equals < 0 ? this.#globals.get(name) : this.#evaluate(instruction, word.slice(equals + 1), into === this.#globals ? this.#globals : this.#draft.variables);
      if (value === undefined) {
        this.#note(instruction.line, 'ARG', `${name} has no default, and so no value here`);
        continue;
      }
      if (equals >= 0) this.#note(instruction.line, 'ARG', `${name} is fixed at ${JSON.stringify(value)}: there are no build arguments`);
      if (env.has(name)) continue;
      into.set(name, value);
      if (into !== this.#globals) this.#draft.variables.set(name, value);
    }
  }

  #env(instruction: Instruction): void {
    const pairs = splitPairs(instruction.rest, this.#escape);
    if (pairs.length === 0) throw invalidDockerfile(instruction.line, 'ENV without a value');
    const before = new Map(this.#draft.variables);
    for (const [name, word] of pairs) {
      const value = this.#evaluate(instruction, word, before);
      this.#draft.variables.set(name, value);
      this.#draft.args.delete(name);
      if (/^[A-Za-z_]\w*$/.test(name)) this.#draft.env.set(name, value);
      else this.#note(instruction.line, 'ENV', `${JSON.stringify(name)} cannot be the name of a variable`);
    }
  }

  /** With a note for every variable that has no value here. */
  #evaluate(instruction: Instruction, word: string, variables: ReadonlyMap<string, string> = this.#draft.variables): string {
    const known = variables.has('PATH') ? variables : new Map([...variables, ['PATH', USUAL_PATH]]);
    const { text, missing } = evaluate(word, known, this.#escape);
    for (const name of new Set(missing)) this.#note(instruction.line, instruction.keyword, `$${name} has no value here and is left empty; the base image may set it`);
    if (known !== variables && /\$\{?PATH\b/.test(word)) this.#note(instruction.line, instruction.keyword, '$PATH is taken to be the usual one; the base image may have another');
    return text;
  }

  #run(instruction: Instruction): void {
    for (const { name, value } of instruction.flags) this.#runFlag(instruction, name, value);
    const exec = parseExecForm(instruction.rest);
    const [heredoc] = instruction.heredocs;
    const script = heredoc !== undefined && /^<<-?(["']?)\w+\1$/.test(instruction.rest);
    let command = exec !== undefined ? exec.map(shellQuote).join(' ') : instruction.rest;
    if (script) command = this.#script(instruction, heredoc.stripTabs ? heredoc.body.replace(/^\t+/gm, '') : heredoc.body);
    else for (const { name, body } of instruction.heredocs) command += `\n${body}${name}`;
    if (command.trim() === '') throw invalidDockerfile(instruction.line, 'RUN without a command');
    if (exec === undefined && this.#draft.shell !== DEFAULT_SHELL) command = [...this.#draft.shell, command].map(shellQuote).join(' ');
    this.#draft.steps.push({ kind: 'run', command: this.#argExports(command) + command, script, workdir: this.#draft.workdir });
  }

  #script(instruction: Instruction, body: string): string {
    const interpreter = /^#!\s*(.+)\n/.exec(body)?.[1];
    if (interpreter === undefined) return body.replace(/\n+$/, '');
    this.#note(instruction.line, 'RUN', 'the script is given to its interpreter on standard input');
    return `${interpreter.trim()} <<'HD_SCRIPT'\n${body}HD_SCRIPT`;
  }

  /** Docker shows arguments to every RUN; here to those that name them. */
  #argExports(command: string): string {
    return [...this.#draft.args].filter(([name]) => new RegExp(`\\$\\{?${name}\\b`).test(command)).map(([name, value]) => `export ${name}=${shellQuote(value)} && `).join('');
  }

  #runFlag(instruction: Instruction, name: string, value: string): void {
    const options = new Map(value.split(',').map((part) => [part.split('=')[0] ?? '', part.slice(part.indexOf('=') + 1)]));
    const type = options.get('type') ?? 'bind';
    const target = options.get('target') ?? options.get('dst') ?? options.get('destination') ?? '';
    if (name === 'mount' && type === 'cache' && target !== '' && !target.split('/').includes('..')) {
      const path = posix.resolve(this.#draft.workdir ?? '/', target);
      if (!this.#draft.cache.includes(path)) this.#draft.cache.push(path);
      return;
    }
    if (name === 'mount' && type === 'bind') this.#draft.wholeProject = true;
    this.#note(instruction.line, 'RUN', name === 'mount' ? `the ${type} mount${target === '' ? '' : ` at ${target}`} is not carried over` : `--${name}=${value} is not carried over`);
  }

  #copy(instruction: Instruction): void {
    const { line, keyword, rest, flags, heredocs } = instruction;
    const words = parseExecForm(rest) ?? splitWords(rest, this.#escape);
    const evaluated = words.map((word) => (heredocs.length > 0 && word.startsWith('<<') ? word : this.#evaluate(instruction, word)));
    const target = evaluated.pop();
    if (target === undefined || evaluated.length === 0) throw invalidDockerfile(line, `${keyword} needs a source and a destination`);
    const from = flags.find(({ name }) => name === 'from')?.value;
    if (from !== undefined) return this.#note(line, keyword, `${evaluated.join(', ')} of ${from} is not brought in: other stages and images are not built here. Make it with a build step`);
    for (const { name, value } of flags) if (name !== 'link') this.#note(line, keyword, `--${name}${value === '' ? '' : `=${value}`} is not carried over`);
    const slash = /(^|\/)\.?$/.test(target) ? '/' : '';
    const destination = posix.resolve(this.#draft.workdir ?? '/', target);
    for (const { name, body, quoted, stripTabs } of heredocs) this.#copyHeredoc(instruction, name, stripTabs ? body.replace(/^\t+/gm, '') : body, quoted, slash === '' ? destination : posix.join(destination, name));
    const remote = evaluated.filter((source) => /^(\w+:\/\/|git@)/.test(source));
    for (const url of remote) this.#note(line, keyword, `${url} is not fetched: use a build step with curl or git`);
    const sources = evaluated.filter((source) => !remote.includes(source) && !(heredocs.length > 0 && source.startsWith('<<')));
    if (sources.length === 0) return;
    if (sources.some((source) => projectPath(source) === '')) this.#draft.projectAt ??= destination;
    this.#draft.steps.push({ kind: 'copy', copy: { line, keyword, sources, destination: destination === '/' ? '/' : destination + slash } });
  }

  #copyHeredoc(instruction: Instruction, name: string, body: string, quoted: boolean, path: string): void {
    const content = quoted ? body : this.#evaluateLines(instruction, body);
    const parent = posix.dirname(path);
    const end = content.split('\n').includes(name) ? `${name}_` : name;
    this.#draft.steps.push({ kind: 'run', command: `mkdir -p ${shellQuote(parent)} && cat > ${shellQuote(path)} <<'${end}'\n${content}${end}`, script: false, workdir: undefined });
  }

  /** Variables put in, quotes left alone. */
  #evaluateLines(instruction: Instruction, body: string): string {
    return body.replace(/\\\$|\$(?:\w+|\{[^}]*\})/g, (match) => (match === '\\$' ? '$' : this.#evaluate(instruction, match)));
  }

  #expose(instruction: Instruction, word: string): void {
    const match = /^(\d+)(?:\/(tcp|udp))?$/.exec(word);
    const port = Number(match?.[1]);
    if (match === null || match[2] === 'udp' || port < 1 || port > 65535) this.#note(instruction.line, 'EXPOSE', `${word} is not carried over: a service has one TCP port`);
    else if (!this.#draft.ports.some((known) => known.port === port)) this.#draft.ports.push({ line: instruction.line, port });
  }

  #command(rest: string, stage: number): Command {
    return { words: parseExecForm(rest) ?? (this.#draft.shell === DEFAULT_SHELL ? rest : [...this.#draft.shell, rest]), stage };
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

  #render(chain: Stage[], name: string): string {
    const { workdir, projectAt, env, cache } = this.#draft;
    const project = workdir ?? (projectAt === '/' ? undefined : projectAt);
    const firstLine = chain[0]?.line ?? 1;
    if (workdir === undefined) this.#note(firstLine, 'FROM', project === undefined ? 'there is no WORKDIR: the project is where hd puts it, and not at /' : `there is no WORKDIR: steps and the service run in ${project}, where the project is`);
    const steps = this.#renderSteps(project);
    const include = this.#includes();
    const service = this.#renderService(chain.at(-1)?.line ?? firstLine);
    const lines = ['[environment]', `name = ${tomlString(environmentName(name))}`, `base = ${tomlString(chain[0]?.base ?? '')}`];
    if (project !== undefined) lines.push(`workdir = ${tomlString(project)}`);
    if (env.size > 0) lines.push('', '[environment.env]', ...[...env].map(([key, value]) => `${tomlKey(key)} = ${tomlString(value)}`));
    if (steps.length > 0 || cache.length > 0) lines.push('', '[build]');
    if (steps.length > 0) lines.push('steps = [', ...steps.map((step) => `  ${tomlString(step)},`), ']');
    if (cache.length > 0) lines.push(`cache = [${cache.map(tomlString).join(', ')}]`);
    lines.push(...service);
    if (include.length > 0) lines.push('', '[files]', `include = [${include.map(tomlString).join(', ')}]`);
    return `${[...this.#comments(), ...lines].join('\n')}\n`;
  }

  #renderSteps(project: string | undefined): string[] {
    return this.#draft.steps.flatMap((step) => {
      if (step.kind === 'run') return placeStep(step, project);
      const outcome = translateCopy(step.copy, project ?? '/');
      const message = outcome.kind === 'step' ? outcome.message : outcome.doubt;
      if (message !== undefined) this.#note(step.copy.line, step.copy.keyword, message);
      return outcome.kind === 'step' ? outcome.command : [];
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

  #renderService(fromLine: number): string[] {
    const command = this.#serviceCommand();
    const [port, ...otherPorts] = this.#draft.ports;
    if (command === undefined) {
      this.#note(fromLine, 'FROM', 'no CMD or ENTRYPOINT: what the base image would run is not known here, so there is no service');
      if (port !== undefined) this.#note(port.line, 'EXPOSE', `${port.port} is not carried over: there is no service`);
    }
    for (const other of otherPorts) this.#note(other.line, 'EXPOSE', `${other.port} is not carried over: a service has one port`);
    return command === undefined ? [] : ['', '[services.app]', `command = ${tomlString(command)}`, ...(port === undefined ? [] : [`port = ${port.port}`])];
  }

  #comments(): string[] {
    const notes = this.#sortedNotes();
    if (notes.length === 0) return ['# Translated from a Dockerfile by `hd ingest`.', ''];
    return ['# Translated from a Dockerfile by `hd ingest`. Please check:', ...notes.map(({ line, instruction, message }) => tomlComment(`line ${line}: ${instruction}: ${message}`)), ''];
  }

  #note(line: number, instruction: string, message: string): void {
    if (!this.#notes.some((note) => note.line === line && note.message === message)) this.#notes.push({ line, instruction, message });
  }

  #sortedNotes(): IngestNote[] {
    return this.#notes.toSorted((a, b) => a.line - b.line);
  }
}

/** WORKDIR makes its directory; before the first one, steps run where the project is. */
function placeStep(step: { command: string; script: boolean; workdir: string | undefined }, project: string | undefined): string {
  if (step.workdir === undefined || step.workdir === project) return step.command;
  const directory = shellQuote(step.workdir);
  const enter = step.workdir === '/' ? 'cd /' : `mkdir -p ${directory} && cd ${directory}`;
  return step.script ? `${enter} || exit 1\n${step.command}` : `${enter} && ${step.command}`;
}

function environmentName(name: string): string {
  return name.replace(/[^A-Za-z0-9_.-]+/g, '-').replace(/^[^A-Za-z0-9]+/, '') || 'app';
}
