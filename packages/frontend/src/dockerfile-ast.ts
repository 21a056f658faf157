import type { Heredoc } from './dockerfile-lines.ts';

/** A whole Dockerfile. Words are as written: variables are put in when a stage is evaluated, because their values depend on its base. */
export interface Dockerfile {
  /** As errors name it. */
  file: string;
  /** Its lines, for errors. */
  lines: readonly string[];
  escape: string;
  /** Of the `# syntax=` directive. */
  syntax: string | undefined;
  /** Before the first FROM. */
  globals: ArgInstruction[];
  stages: DockerfileStage[];
}

export interface DockerfileStage {
  /** 0-based; `COPY --from=0` names it. */
  index: number;
  /** Lower case. */
  name: string | undefined;
  from: FromInstruction;
  instructions: Instruction[];
}

/** 1-based, both inclusive. `text`: the instruction without its continuations, for histories and progress. */
interface Placed { line: number; endLine: number; text: string }

/** `exec`: a JSON list. `shell`: a text for the shell. */
export type Command = { form: 'exec'; words: string[] } | { form: 'shell'; text: string };
export type Pair = [name: string, value: string];

export interface FromInstruction extends Placed { keyword: 'FROM'; image: string; platform: string | undefined }
export interface ArgInstruction extends Placed { keyword: 'ARG'; args: { name: string; value: string | undefined }[] }
export interface RunInstruction extends Placed {
  keyword: 'RUN';
  command: Command;
  heredocs: Heredoc[];
  /** `type=cache,target=…`, with variables as written. */
  mounts: string[];
  network: 'default' | 'none' | 'host';
  security: 'sandbox' | 'insecure';
}
export interface CopyInstruction extends Placed {
  keyword: 'COPY' | 'ADD';
  /** Without here-documents. */
  sources: string[];
  heredocs: Heredoc[];
  destination: string;
  from: string | undefined;
  chown: string | undefined;
  chmod: string | undefined;
  link: boolean;
  parents: boolean;
  exclude: string[];
  /** ADD alone. */
  checksum: string | undefined;
  keepGitDir: boolean;
  unpack: boolean | undefined;
}
export interface Healthcheck { test: Command | 'NONE'; intervalNs?: number; timeoutNs?: number; startPeriodNs?: number; startIntervalNs?: number; retries?: number }
export interface OnbuildInstruction extends Placed { keyword: 'ONBUILD'; trigger: string }

export interface PairsInstruction extends Placed { keyword: 'ENV' | 'LABEL'; pairs: Pair[] }
export interface TextInstruction extends Placed { keyword: 'WORKDIR' | 'USER' | 'STOPSIGNAL' | 'MAINTAINER'; value: string }
export interface WordsInstruction extends Placed { keyword: 'EXPOSE' | 'VOLUME'; words: string[] }
export interface CommandInstruction extends Placed { keyword: 'CMD' | 'ENTRYPOINT'; command: Command }

export type Instruction =
  | ArgInstruction
  | RunInstruction
  | CopyInstruction
  | OnbuildInstruction
  | PairsInstruction
  | TextInstruction
  | WordsInstruction
  | CommandInstruction
  | (Placed & { keyword: 'SHELL'; words: string[] })
  | (Placed & { keyword: 'HEALTHCHECK'; healthcheck: Healthcheck });
