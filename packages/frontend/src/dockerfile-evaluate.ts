import { posix } from 'node:path';
import { HdError } from '@hyperdocker/base';
import type { ArgInstruction, Command, CopyInstruction, Dockerfile, DockerfileStage, Healthcheck, Instruction, PairsInstruction, RunInstruction, WordsInstruction } from './dockerfile-ast.ts';
import { invalidDockerfile } from './dockerfile-error.ts';
import type { Expansion } from './dockerfile-expand.ts';
import { expand } from './dockerfile-expand.ts';
import type { Heredoc } from './dockerfile-lines.ts';
import { heredocText } from './dockerfile-lines.ts';
import type { RunMount } from './dockerfile-mount.ts';
import { parseMount } from './dockerfile-mount.ts';
import { parseTrigger } from './dockerfile-parser.ts';

/** The `config` of an image, in Docker's words. */
export interface DockerConfig {
  Env?: string[];
  Cmd?: string[];
  Entrypoint?: string[];
  ExposedPorts?: Record<string, object>;
  Volumes?: Record<string, object>;
  WorkingDir?: string;
  User?: string;
  Labels?: Record<string, string>;
  StopSignal?: string;
  Healthcheck?: Record<string, unknown>;
  Shell?: string[];
  OnBuild?: string[];
  [other: string]: unknown;
}

/** What one instruction does to the files of its stage. */
export type StageOperation = RunOperation | CopyOperation | { kind: 'workdir'; instruction: Instruction; path: string; user: string };

export interface RunOperation {
  kind: 'run';
  instruction: RunInstruction;
  args: string[];
  /** With build arguments; without HOME, which depends on the user. */
  env: Record<string, string>;
  workdir: string;
  /** As USER says it; '' is root. */
  user: string;
  mounts: RunMount[];
  /** A here-document with an interpreter of its own: where it is mounted, and its text. */
  script: { path: string; text: string } | undefined;
}

export interface CopyOperation {
  kind: 'copy';
  instruction: CopyInstruction;
  sources: string[];
  /** Written into files of these names. */
  files: { name: string; text: string }[];
  /** Absolute; a final slash is kept. */
  destination: string;
  from: string | undefined;
  chown: string | undefined;
  chmod: string | undefined;
  checksum: string | undefined;
  exclude: string[];
}

export interface HistoryEntry { created_by: string; comment: string; empty_layer?: true }

export interface EvaluatedStage {
  operations: StageOperation[];
  config: DockerConfig;
  /** Of the instructions of this stage alone. */
  history: HistoryEntry[];
  author: string | undefined;
  /** Arguments that are known at its end: stages that build on it begin with them. */
  args: ReadonlyMap<string, string>;
}

export const DEFAULT_SHELL: readonly string[] = ['/bin/sh', '-c'];
export const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** They reach a RUN without being declared, and leave no trace in the image. */
export const PROXY_ARGUMENTS: readonly string[] = ['HTTP_PROXY', 'http_proxy', 'HTTPS_PROXY', 'https_proxy', 'FTP_PROXY', 'ftp_proxy', 'NO_PROXY', 'no_proxy', 'ALL_PROXY', 'all_proxy'];

/** `BUILDPLATFORM`, `TARGETARCH` and the like. @param platform such as `linux/arm/v7` */
export function platformArguments(build: string, target: string, stage: string): Map<string, string> {
  const of = (prefix: string, platform: string): [string, string][] => {
    const [os = '', architecture = '', variant = ''] = platform.split('/');
    return [[`${prefix}PLATFORM`, platform], [`${prefix}OS`, os], [`${prefix}ARCH`, architecture], [`${prefix}VARIANT`, variant]];
  };
  return new Map([...of('BUILD', build), ...of('TARGET', target), ['TARGETSTAGE', stage]]);
}

/** The arguments before the first FROM. @throws HdError DOCKERFILE_INVALID */
export function evaluateGlobals(dockerfile: Dockerfile, platform: ReadonlyMap<string, string>, buildArgs: ReadonlyMap<string, string>): Map<string, string> {
  const values = new Map(platform);
  for (const instruction of dockerfile.globals) {
    for (const { name, value } of instruction.args) {
      const found = buildArgs.get(name) ?? (value === undefined ? undefined : expandAt(dockerfile, instruction.line, value, values).text);
      if (found !== undefined) values.set(name, found);
    }
  }
  return values;
}

/** A text of an instruction, with its variables put in. @throws HdError DOCKERFILE_INVALID */
export function expandAt(dockerfile: Dockerfile, line: number, text: string, variables: ReadonlyMap<string, string>, options: { rawQuotes?: boolean } = {}): Expansion {
  try {
    return expand(text, variables, { escape: dockerfile.escape, ...options });
  } catch (error) {
    throw atLine(dockerfile, line, error);
  }
}

/**
 * What a stage does, once the configuration of its base is known. @throws HdError DOCKERFILE_INVALID
 * @param globals platform arguments and those before the first FROM @param buildArgs what the user gives @param inherited arguments of the stage that it is built on
 */
export function evaluateStage(dockerfile: Dockerfile, stage: DockerfileStage, base: DockerConfig, globals: ReadonlyMap<string, string>, buildArgs: ReadonlyMap<string, string>, inherited: ReadonlyMap<string, string> = new Map()): EvaluatedStage {
  return new Evaluation(dockerfile, base, { globals, buildArgs, inherited }).run(stage);
}

class Evaluation {
  readonly #dockerfile: Dockerfile;
  readonly #globals: ReadonlyMap<string, string>;
  readonly #buildArgs: ReadonlyMap<string, string>;
  readonly #config: DockerConfig;
  readonly #triggers: readonly string[];
  /** Of the image, in the order in which they came. */
  readonly #env: Map<string, string>;
  readonly #args: Map<string, string>;
  readonly #operations: StageOperation[] = [];
  readonly #history: HistoryEntry[] = [];
  #author: string | undefined;
  #hasOwnCmd = false;

  constructor(dockerfile: Dockerfile, base: DockerConfig, { globals, buildArgs, inherited }: Record<'globals' | 'buildArgs' | 'inherited', ReadonlyMap<string, string>>) {
    this.#dockerfile = dockerfile;
    this.#globals = globals;
    this.#buildArgs = buildArgs;
    this.#args = new Map(inherited);
    const { OnBuild, ...config } = structuredClone(base);
    this.#config = config;
    this.#triggers = OnBuild ?? [];
    this.#env = new Map((config.Env ?? []).map(splitVariable));
  }

  run(stage: DockerfileStage): EvaluatedStage {
    const { line } = stage.from;
    const place = { file: this.#dockerfile.file, line, source: this.#dockerfile.lines[line - 1] };
    for (const trigger of this.#triggers) this.#evaluate(parseTrigger(trigger, place));
    for (const instruction of stage.instructions) this.#evaluate(instruction);
    if (this.#env.size > 0) this.#config.Env = [...this.#env].map(([name, value]) => `${name}=${value}`);
    return { operations: this.#operations, config: this.#config, history: this.#history, author: this.#author, args: this.#args };
  }

  #evaluate(instruction: Instruction): void {
    const config = this.#config;
    switch (instruction.keyword) {
      case 'ARG':
        return this.#arg(instruction);
      case 'ENV':
        return this.#envs(instruction);
      case 'LABEL':
        return this.#labels(instruction);
      case 'RUN':
        return this.#run(instruction);
      case 'COPY':
      case 'ADD':
        return this.#copy(instruction);
      case 'WORKDIR': {
        const path = this.#path(this.#text(instruction, instruction.value));
        config.WorkingDir = path;
        this.#operations.push({ kind: 'workdir', instruction, path, user: config.User ?? '' });
        return this.#note(`WORKDIR ${path}`, false);
      }
      case 'USER':
        config.User = this.#text(instruction, instruction.value);
        return this.#note(`USER ${config.User}`);
      case 'STOPSIGNAL':
        config.StopSignal = this.#text(instruction, instruction.value);
        return this.#note(`STOPSIGNAL ${config.StopSignal}`);
      case 'MAINTAINER':
        this.#author = instruction.value;
        return this.#note(`MAINTAINER ${instruction.value}`);
      case 'EXPOSE':
        return this.#expose(instruction);
      case 'VOLUME': {
        const paths = instruction.words.map((word) => this.#text(instruction, word));
        config.Volumes = { ...config.Volumes, ...Object.fromEntries(paths.map((path) => [path, {}])) };
        return this.#note(`VOLUME [${paths.join(' ')}]`);
      }
      case 'CMD':
        config.Cmd = this.#command(instruction.command);
        this.#hasOwnCmd = true;
        return this.#note(`CMD ${JSON.stringify(config.Cmd)}`);
      case 'ENTRYPOINT':
        config.Entrypoint = this.#command(instruction.command);
        // What the base would have given to its own entrypoint is not meant for this one.
        if (!this.#hasOwnCmd) delete config.Cmd;
        return this.#note(`ENTRYPOINT ${JSON.stringify(config.Entrypoint)}`);
      case 'SHELL':
        config.Shell = instruction.words;
        return this.#note(`SHELL [${instruction.words.join(' ')}]`);
      case 'HEALTHCHECK':
        config.Healthcheck = this.#healthcheck(instruction.healthcheck);
        return this.#note(instruction.text);
      case 'ONBUILD':
        config.OnBuild = [...(config.OnBuild ?? []), instruction.trigger];
        return this.#note(`ONBUILD ${instruction.trigger}`);
    }
  }

  #arg(instruction: ArgInstruction): void {
    for (const { name, value } of instruction.args) {
      const found = this.#buildArgs.get(name) ?? (value === undefined ? this.#globals.get(name) : this.#text(instruction, value));
      if (found !== undefined) this.#args.set(name, found);
    }
    this.#note(instruction.text);
  }

  #envs(instruction: PairsInstruction): void {
    // All values of one instruction see the variables as they were before it.
    const values = instruction.pairs.map(([name, value]) => [this.#text(instruction, name), this.#text(instruction, value)] as const);
    for (const [name, value] of values) this.#env.set(name, value);
    this.#note(`ENV ${values.map(([name, value]) => `${name}=${value}`).join(' ')}`);
  }

  #labels(instruction: PairsInstruction): void {
    const labels = instruction.pairs.map(([name, value]) => [this.#text(instruction, name), this.#text(instruction, value)] as const);
    this.#config.Labels = { ...this.#config.Labels, ...Object.fromEntries(labels) };
    this.#note(`LABEL ${labels.map(([name, value]) => `${name}=${value}`).join(' ')}`);
  }

  #expose(instruction: WordsInstruction): void {
    const ports = instruction.words.flatMap((word) => this.#expand(instruction, word).words).flatMap((word) => this.#ports(instruction, word));
    this.#config.ExposedPorts = { ...this.#config.ExposedPorts, ...Object.fromEntries(ports.sort().map((port) => [port, {}])) };
    this.#note(`EXPOSE ${ports.join(' ')}`);
  }

  #ports(instruction: Instruction, word: string): string[] {
    const match = /^(?:[^/]*:)?(\d+)(?:-(\d+))?(?:\/([a-zA-Z]+))?$/.exec(word);
    const [first, last] = [Number(match?.[1]), Number(match?.[2] ?? match?.[1])];
    const protocol = match?.[3]?.toLowerCase() ?? 'tcp';
    if (match === null || first > last || last > 65535 || !['tcp', 'udp', 'sctp'].includes(protocol)) throw this.#fail(instruction, `${JSON.stringify(word)} is no port`);
    return Array.from({ length: last - first + 1 }, (_, nth) => `${first + nth}/${protocol}`);
  }

  #run(instruction: RunInstruction): void {
    const { args, script } = this.#runArgs(instruction);
    const fail = (why: string): HdError => this.#fail(instruction, why);
    const mounts = instruction.mounts.map((text) => parseMount(this.#text(instruction, text, { rawQuotes: true }), (path) => this.#path(path), fail));
    const env = Object.fromEntries([['PATH', DEFAULT_PATH], ...this.#args, ...this.#env]);
    this.#operations.push({ kind: 'run', instruction, args, env, workdir: this.#workdir, user: this.#config.User ?? '', mounts, script });
    const shown = [...this.#args].map(([name, value]) => `${name}=${value}`);
    this.#note(`RUN ${shown.length === 0 ? '' : `|${shown.length} ${shown.join(' ')} `}${args.join(' ')} # buildkit`, false);
  }

  #runArgs({ command, heredocs }: RunInstruction): { args: string[]; script: RunOperation['script'] } {
    if (command.form === 'exec') return { args: command.words, script: undefined };
    const [heredoc] = heredocs;
    const isWhole = heredoc !== undefined && heredocs.length === 1 && /^\d*<<-?\S+$/.test(command.text);
    if (isWhole && heredoc.body.startsWith('#!')) {
      const path = `/dev/pipes/${heredoc.name}`;
      return { args: [...this.#shell, path], script: { path, text: heredocText(heredoc) } };
    }
    const text = isWhole ? heredocText(heredoc) : [command.text, ...heredocs.map(({ body, name }) => `${body}${name}`)].join('\n');
    return { args: [...this.#shell, text], script: undefined };
  }

  #copy(instruction: CopyInstruction): void {
    const text = (value: string | undefined): string | undefined => (value === undefined ? undefined : this.#text(instruction, value));
    const written = this.#text(instruction, instruction.destination);
    const isDirectory = written === '.' || written === '' || written.endsWith('/') || written.endsWith('/.');
    const destination = this.#path(written);
    const operation: CopyOperation = {
      kind: 'copy', instruction, destination: isDirectory && destination !== '/' ? `${destination}/` : destination,
      sources: instruction.sources.map((source) => this.#text(instruction, source)),
      files: instruction.heredocs.map((heredoc) => ({ name: heredoc.name, text: this.#heredoc(instruction, heredoc) })),
      from: instruction.from, chown: text(instruction.chown), chmod: text(instruction.chmod), checksum: text(instruction.checksum),
      exclude: instruction.exclude.map((pattern) => this.#text(instruction, pattern)),
    };
    this.#operations.push(operation);
    this.#note(`${instruction.text} # buildkit`, false);
  }

  #heredoc(instruction: CopyInstruction, heredoc: Heredoc): string {
    const text = heredocText(heredoc);
    return heredoc.quoted ? text : this.#text(instruction, text, { rawQuotes: true });
  }

  #command(command: Command): string[] {
    return command.form === 'exec' ? command.words : command.text === '' ? [] : [...this.#shell, command.text];
  }

  #healthcheck({ test, intervalNs, timeoutNs, startPeriodNs, startIntervalNs, retries }: Healthcheck): Record<string, unknown> {
    if (test === 'NONE') return { Test: ['NONE'] };
    const words = test.form === 'exec' ? ['CMD', ...test.words] : ['CMD-SHELL', test.text];
    const filled = { Interval: intervalNs, Timeout: timeoutNs, StartPeriod: startPeriodNs, StartInterval: startIntervalNs, Retries: retries };
    return { Test: words, ...Object.fromEntries(Object.entries(filled).filter(([, value]) => value !== undefined && value !== 0)) };
  }

  get #shell(): readonly string[] {
    return this.#config.Shell === undefined || this.#config.Shell.length === 0 ? DEFAULT_SHELL : this.#config.Shell;
  }

  /** Some tools write an empty text where others write nothing. */
  get #workdir(): string {
    return this.#config.WorkingDir === undefined || this.#config.WorkingDir === '' ? '/' : this.#config.WorkingDir;
  }

  #path(path: string): string {
    return posix.resolve('/', this.#workdir, path);
  }

  #text(instruction: Instruction, text: string, options: { rawQuotes?: boolean } = {}): string {
    return this.#expand(instruction, text, options).text;
  }

  #expand(instruction: Instruction, text: string, options: { rawQuotes?: boolean } = {}): Expansion {
    return expandAt(this.#dockerfile, instruction.line, text, this.#variables(), options);
  }

  /** What ENV sets hides arguments of the same name. Where an image has no path of programs, commands get the usual one, and so do words. */
  #variables(): Map<string, string> {
    return new Map([['PATH', DEFAULT_PATH], ...this.#args, ...this.#env]);
  }

  #note(text: string, isEmpty = true): void {
    this.#history.push({ created_by: text, comment: 'hd build', ...(isEmpty ? { empty_layer: true } : {}) });
  }

  #fail(instruction: Instruction, why: string): HdError {
    const { file, lines } = this.#dockerfile;
    return invalidDockerfile({ file, line: instruction.line, source: lines[instruction.line - 1] }, why);
  }
}

function atLine({ file, lines }: Dockerfile, line: number, error: unknown): unknown {
  if (!(error instanceof HdError) || error.code !== 'DOCKERFILE_EXPANSION') return error;
  return invalidDockerfile({ file, line, source: lines[line - 1] }, error.message);
}

function splitVariable(item: string): [string, string] {
  const equals = item.indexOf('=');
  return equals < 0 ? [item, ''] : [item.slice(0, equals), item.slice(equals + 1)];
}
