/** What an hd.toml says, checked and with every default filled in. Plain data: it survives JSON. */
export interface EnvSpec {
  environment: EnvironmentSpec;
  /** Sorted by provider; at most one entry for each. */
  dependencies: Dependency[];
  build: BuildSpec;
  /** In the order of the file. Values are never part of a specification. */
  secrets: SecretSpec[];
  /** In the order of the file. See `serviceOrder` for the order of starting. */
  services: ServiceSpec[];
  /** Names of directories that stay when the environment goes down. In the order of the file. */
  volumes: string[];
  files: FilesSpec;
  options: OptionsSpec;
}

export interface EnvironmentSpec {
  name: string;
  /** `apt://bookworm?include=…` or an OCI image reference. */
  base: string;
  /** Absolute path in the container. Absent: the one who runs the environment chooses. */
  workdir?: string;
  /** `private`: services share a network namespace of their own. `host`: they are in that of the host. Steps are in that of the host in either case. */
  network: 'private' | 'host';
  /** Names by which services reach loopback of the host. In the order of the file. */
  reach: ReachSpec[];
}

export interface ReachSpec {
  name: string;
  /** Of the host. */
  hostPort: number;
  /** Of that name, inside. */
  port: number;
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
  /** May the steps use the network, where they do not say themselves? */
  network: boolean;
  /** How many steps may run at once. Absent: as many as there are processors. */
  jobs?: number;
  /** Of each step. */
  limits: LimitsSpec;
}

/** What all processes of a container may use together. Absent: no limit, but for processes. */
export interface LimitsSpec {
  memoryBytes?: number;
  cpus?: number;
  pids?: number;
}

export interface BuildStepSpec {
  /** A shell command. */
  run: string;
  /** 1-based line of this step in hd.toml. */
  line: number;
  name?: string;
  /** Directory to run in: absolute, or relative to that of the environment. Absent: that of the environment. */
  workdir?: string;
  /** Globs, relative to the project: of the project's files, the step sees those that match. Absent: all. */
  inputs?: string[];
  /** Of what the step writes, these paths are kept: absolute, or relative to its directory. Absent: everything. */
  outputs?: string[];
  /** Over the variables of the environment. */
  env: Record<string, string>;
  network: boolean;
  /** Besides those of `BuildSpec`: absolute, or relative to the directory of the step. */
  cache: string[];
  secrets: StepSecretSpec[];
}

/** What a step gets of a secret: always a file, and a variable where one is named. */
export interface StepSecretSpec {
  /** Of one in `EnvSpec.secrets`. */
  id: string;
  /** Absolute path inside. */
  file: string;
  env?: string;
}

/** Where the value of a secret is to be found on the host. */
export type SecretSpec =
  | { id: string; kind: 'env'; variable: string }
  /** Absolute, relative to the project, or below the home directory with `~/`. */
  | { id: string; kind: 'file'; file: string };

export interface ServiceSpec {
  name: string;
  /** A shell command. */
  command: string;
  /** Glob patterns, relative to the project: a change to a match restarts the service. */
  watch: string[];
  port?: number;
  /** The supervisor listens at `port`, and hands the socket over. */
  socket: boolean;
  /** Where `port` of a private network can be reached on the host. Absent: nowhere, or the network is the host's. */
  publish?: PublishSpec;
  /** Other services of the same file, each once, without cycles. */
  dependsOn: ServiceDependency[];
  restartPolicy: RestartPolicy;
  env: Record<string, string>;
  cwd?: string;
  ready: Readiness;
  /** How long it may take to be ready. Absent: as long as it wants. */
  readyTimeoutMs?: number;
  /** Files of variables on the host, relative to the project. The last one wins, `env` over all. */
  envFiles: string[];
  stopSignal: string;
  /** From the stop signal to SIGKILL. */
  restartGraceMs: number;
  /** What a change of a watched file does. */
  onChange: 'restart' | 'signal' | 'none';
  reloadSignal: string;
  /** It runs where one of these is asked for; always, if there are none. */
  profiles: string[];
  /** Name or number, also user:group. Absent: that of the image. */
  user?: string;
  volumes: MountSpec[];
  limits: LimitsSpec;
  privileged: boolean;
  /** 1-based line of this service's first mention in hd.toml. */
  line: number;
}

/** What is mounted for a service; `target` is absolute, in the container. */
export type MountSpec =
  /** One of `EnvSpec.volumes`. */
  | { kind: 'volume'; name: string; target: string; readonly: boolean }
  /** Absolute, relative to the project with `./` or `../`, or below the home directory with `~/`. */
  | { kind: 'bind'; source: string; target: string; readonly: boolean };

export interface PublishSpec {
  /** `loopback` is 127.0.0.1 and ::1; otherwise an address. */
  address: string;
  /** The one to have if it is free. */
  port: number;
}

/** `completed`: it has ended with 0. */
export interface ServiceDependency { name: string; condition: 'started' | 'healthy' | 'completed' }

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
  /** Glob patterns of what is brought to the host when it is written inside. */
  syncBack: string[];
  /** Names of files that say, as git's do, what does not belong to the environment. */
  ignoreFiles: string[];
}

export interface OptionsSpec {
  /** From SIGTERM to SIGKILL. */
  restartGraceMs: number;
  /** The table `env` of [environment]: for every step and every service. */
  env: Record<string, string>;
  /** Where writes inside the environment are kept. */
  overlay: 'disk' | 'memory';
  /** How long it has to be quiet before changed files are taken in, and how long they wait for that at most. */
  debounceMs: number;
  debounceMaxMs: number;
}
