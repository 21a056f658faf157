/** What an hd.toml says, checked and with every default filled in. Plain data: it survives JSON. */
export interface EnvSpec {
  environment: EnvironmentSpec;
  /** Sorted by provider; at most one entry for each. */
  dependencies: Dependency[];
  build: BuildSpec;
  /** In the order of the file. See `serviceOrder` for the order of starting. */
  services: ServiceSpec[];
  files: FilesSpec;
  options: OptionsSpec;
}

export interface EnvironmentSpec {
  name: string;
  /** `apt://bookworm?include=…` or an OCI image reference. */
  base: string;
  /** Absolute path in the container. Absent: the one who runs the environment chooses. */
  workdir?: string;
}

export type Dependency =
  /** In the order of the file, without repetitions. */
  | { provider: string; kind: 'packages'; packages: string[] }
  | { provider: string; kind: 'version'; version: string }
  /** `file` is relative to the project. */
  | { provider: string; kind: 'file'; file: string };

export interface BuildSpec {
  /** The result is always that of running them in this order. */
  steps: BuildStepSpec[];
  /** Directories kept between runs: absolute, or relative to the working directory. Never with `..`. */
  cache: string[];
  /** May the steps use the network? */
  network: boolean;
}

export interface BuildStepSpec {
  /** A shell command. */
  run: string;
  /** 1-based line of this step in hd.toml. */
  line: number;
  name?: string;
}

export interface ServiceSpec {
  name: string;
  /** A shell command. */
  command: string;
  /** Glob patterns, relative to the project: a change to a match restarts the service. */
  watch: string[];
  port?: number;
  /** Names of other services of the same file, without repetitions or cycles. */
  dependsOn: string[];
  restartPolicy: RestartPolicy;
  env: Record<string, string>;
  cwd?: string;
  ready: Readiness;
  /** 1-based line of this service's first mention in hd.toml. */
  line: number;
}

export type RestartPolicy = 'always' | 'on_failure' | 'never';

/** When a service counts as ready, so that those which depend on it may start. */
export type Readiness =
  /** As soon as its process runs. */
  | { kind: 'started' }
  /** Something accepts connections at the port. */
  | { kind: 'port'; port: number }
  /** A GET of `path` at the port is answered by a status below 500. */
  | { kind: 'http'; port: number; path: string }
  /** The shell command, run inside the environment, exits with 0. */
  | { kind: 'command'; command: string }
  /** A line of output matches the regular expression. */
  | { kind: 'log'; pattern: string };

export interface FilesSpec {
  /** Path prefixes relative to the project; empty means everything. */
  include: string[];
  /** Glob patterns, on top of the ones that are always excluded. */
  exclude: string[];
}

export interface OptionsSpec {
  /** From SIGTERM to SIGKILL. */
  restartGraceMs: number;
  /** The table `env` of [environment]: for every step and every service. */
  env: Record<string, string>;
  /** Where writes inside the environment are kept. */
  overlay: 'disk' | 'memory';
}
