import type { HdErrorJson } from '@hyperdocker/base';

/** Everything that happens in an environment, as data. Libraries emit; only renderers print. */
export type HdEvent =
  | { type: 'warning'; code: string; message: string }
  | { type: 'image'; status: 'cached' | 'fetching' | 'ready'; base: string; detail?: string; ms?: number }
  /** It runs ahead of its turn, which may never come: `running` follows, or `discarded`. What it prints is told once its turn has come. */
  | { type: 'step'; status: 'ahead'; step: StepId }
  | { type: 'step'; status: 'running'; step: StepId; reason: string }
  | { type: 'step'; status: 'cached'; step: StepId; facts: number; savedMs: number }
  | { type: 'step'; status: 'ran'; step: StepId; ms: number; facts: number; volatile: string[]; notPassed?: string[]; dropped?: DroppedOutputs }
  | { type: 'step'; status: 'failed'; step: StepId; ms: number; exitCode: number; log: string }
  /** It was run ahead of its turn, on what turned out to be something else. What it printed is void. If it has to run all the same, `running` follows. */
  | { type: 'step'; status: 'discarded'; step: StepId }
  | { type: 'step-output'; step: StepId; text: string }
  | BuiltEvent
  | { type: 'change'; changes: FileChange[]; summary: ChangeSummary; ms: number; ran: number }
  /** An edit met a write from inside: the host's version is in place, or, with `pulled`, each side's own. `host` and `inside` are digests; `host` is absent where the file was removed. */
  | { type: 'clash'; path: string; keptAt: string; inside?: string; host?: string; pulled?: boolean }
  /** Files that were written inside have been brought to the host. */
  | { type: 'pulled'; files: { path: string; change: 'added' | 'changed'; before: string | null; after: string | null }[] }
  /** `port` and `url`: where it can be reached on the host; `alias`: the same by a name of its own, for browsers. */
  | { type: 'service'; name: string; status: ServiceStatus; cause?: string; ms?: number; port?: number; url?: string; alias?: string; exitCode?: number; retryMs?: number }
  /** Files that it watches have changed, and it is told by a signal. */
  | { type: 'signalled'; service: string; signal: string; cause: string }
  | { type: 'log'; service: string; stream: 'stdout' | 'stderr'; text: string }
  /** The files of a supervisor that had ended unexpectedly are mounted as they were, with what was written inside; `services` ended with it and start again. */
  | { type: 'adopted'; services: string[] }
  /** Every service has come to something; `failed` names those that are not running. The environment goes on: an edit may mend them. */
  | { type: 'up'; ms: number; failed: string[] }
  /** The environment could not be built or started. What runs it ends next. */
  | { type: 'failed'; error: HdErrorJson }
  | { type: 'stopped' };

/** What a step wrote beside its `outputs`. */
export interface DroppedOutputs { count: number; first: string }

export interface StepId {
  /** 1-based. */
  index: number;
  total: number;
  /** For people; what is run is in the definition. */
  command: string;
  /** 1-based line in hd.toml; 0 for steps that a [dependencies] entry stands for. */
  line: number;
  /** Where that line is, if it is not in hd.toml: a Dockerfile. */
  file?: string;
}
export type ServiceStatus = 'starting' | 'ready' | 'restarting' | 'backing-off' | 'failed' | 'stopping' | 'stopped' | 'waiting';

export interface BuiltEvent {
  type: 'built';
  name: string;
  root: string;
  ms: number;
  files: number;
  bytes: number;
  services: string[];
  ran: number;
  cached: number;
  /** Runs ahead of their turn that were thrown away. */
  discarded: number;
  /** Files read and hashed for this: the rest was known by their stat. */
  hashed: number;
  /** Against the last build of this environment; undefined for the first. */
  changes?: FileChange[];
  summary?: ChangeSummary;
}
export interface FileChange { path: string; change: 'added' | 'removed' | 'changed' }
export interface ChangeSummary { changed: number; added: number; removed: number; unchanged: number }

/** An event as it is sent and kept. `seq` starts at 1 with each supervisor. */
export type Emitted = HdEvent & { seq: number; atMs: number };
export type Emit = (event: HdEvent) => void;
/** Tells of an error that does not end the environment, and of what follows from it. */
export type Warn = (error: unknown, consequence?: string) => void;
