import * as z from 'zod';
import { dependencyProviders, type Provider } from './providers.ts';
import { rules, type Rule } from './rules.ts';

/** Where editors find the JSON Schema of hd.toml. Also its `$id`. */
export const SCHEMA_URL = 'https://raw.githubusercontent.com/hyperdocker/hyperdocker/main/schema/hd.schema.json';

const text = (rule: Rule) => z.string().regex(rule.pattern);
const command = text(rules.text);
const variables = z.record(text(rules.variable), text(rules.value));

const environment = z
  .strictObject({
    name: text(rules.name).meta({ description: 'Name of the environment.' }),
    base: text(rules.token).meta({
      description: 'The root file system: apt://<release>?include=<packages>, or an OCI image reference such as node:20-alpine.',
    }),
    workdir: text(rules.absolutePath)
      .optional()
      .meta({ description: 'Absolute path at which the project appears inside, and in which steps and services start.' }),
    network: z
      .enum(['private', 'host'])
      .default('private')
      .meta({ description: 'Services have a network of their own, with ports published on the host, or share that of the host.' }),
    reach: z
      .record(text(rules.name), z.union([z.int().min(1).max(65535), text(rules.reach)]))
      .default({})
      .meta({ description: 'Names by which services reach ports of this machine, on loopback, such as those that other environments publish: a port, or "on this machine:for the services".' }),
    env: variables.default({}).meta({ description: 'Environment variables for every step and every service.' }),
  })
  .meta({ description: 'What the environment is called and what it is built on.' });

const packages = z.array(text(rules.package)).meta({ description: 'Packages to install.' });
const version = text(rules.token).meta({ description: 'Version of the runtime, such as "20.x".' });
const manifest = z
  .strictObject({ file: text(rules.projectPath).meta({ description: 'The manifest, relative to the project.' }) })
  .meta({ description: 'Resolve from a manifest of the project.' });

const dependencyForms = {
  packages: z.union([packages, manifest]),
  runtime: version,
  both: z.union([packages, version, manifest]),
};

function dependency(provider: Provider) {
  return dependencyForms[provider.form].optional().meta({ description: provider.description });
}

const dependencies = z
  .strictObject(Object.fromEntries(Object.entries(dependencyProviders).map(([name, provider]) => [name, dependency(provider)])))
  .meta({ description: 'What is installed before the build, by provider.' });

const stepSecret = z.union([
  text(rules.name),
  z.strictObject({
    id: text(rules.name).meta({ description: 'Name of a secret in [secrets].' }),
    file: text(rules.absolutePath).optional().meta({ description: 'Where the step finds it; /run/secrets/<id> if left out.' }),
    env: text(rules.variable).optional().meta({ description: 'A variable that holds it, too.' }),
  }),
]);

const step = z.union([
  command,
  z.strictObject({
    run: command.meta({ description: 'The shell command.' }),
    name: text(rules.text).optional().meta({ description: 'What reports call the step.' }),
    workdir: text(rules.containedPath).optional().meta({ description: 'Directory to run in: absolute, or relative to the working directory.' }),
    inputs: z
      .array(text(rules.text))
      .optional()
      .meta({ description: 'Glob patterns relative to the project: the step sees the project files that match, and no others. All if left out.' }),
    outputs: z
      .array(text(rules.containedPath))
      .optional()
      .meta({ description: 'What is kept of what the step writes: paths, absolute or relative to its directory. Everything if left out.' }),
    env: variables.default({}).meta({ description: 'Environment variables of this step, over those of the environment.' }),
    network: z.boolean().optional().meta({ description: 'May this step use the network? As in [build] if left out.' }),
    cache: z
      .array(text(rules.containedPath))
      .default([])
      .meta({ description: 'Directories kept between runs of this step, besides those of [build].' }),
    secrets: z.array(stepSecret).default([]).meta({ description: 'Secrets that this step gets, as files and as variables.' }),
  }),
]);

const limits = {
  memory: text(rules.size).optional().meta({ description: 'How much memory all of its processes may use together, such as "512MB".' }),
  cpus: z.number().min(0.01).max(1024).optional().meta({ description: 'How many processors, such as 1.5.' }),
  pids: z.int().min(1).max(4_194_304).optional().meta({ description: 'How many processes and threads. 4096 if left out.' }),
};

const build = z
  .strictObject({
    steps: z.array(step).default([]).meta({ description: 'Shell commands. The result is always that of running them in this order.' }),
    cache: z
      .array(text(rules.containedPath))
      .default([])
      .meta({ description: 'Directories kept between runs of a step: absolute, or relative to the working directory.' }),
    network: z.boolean().default(true).meta({ description: 'May build steps use the network, where they do not say themselves?' }),
    jobs: z.int().min(1).max(1024).optional().meta({ description: 'How many steps may run at once. As many as there are processors if left out.' }),
    ...limits,
  })
  .meta({ description: 'How the environment is built.' });

const secret = z
  .strictObject({
    env: text(rules.variable).optional().meta({ description: 'The variable of the host that holds the value.' }),
    file: text(rules.text).optional().meta({ description: 'The file of the host that holds the value: absolute, relative to the project, or below ~/.' }),
  })
  .meta({ description: 'Where the value comes from. Exactly one key.', minProperties: 1, maxProperties: 1 });

const ready = z
  .strictObject({
    http: text(rules.httpPath).optional().meta({ description: 'Path that answers with a status below 500 at the port of the service.' }),
    command: command.optional().meta({ description: 'Shell command that exits with 0.' }),
    log: text(rules.text).optional().meta({ description: 'Regular expression that matches a line of output.' }),
  })
  .meta({ description: 'When the service counts as ready. Exactly one key.', minProperties: 1, maxProperties: 1 });

export const dependencyConditions = ['started', 'healthy', 'completed'] as const;

/** Every accepted spelling. The first three are the canonical ones. */
export const restartPolicies = ['always', 'on_failure', 'never', 'on-failure', 'no', 'unless-stopped'] as const;

const service = z.strictObject({
  command: command.meta({ description: 'The shell command to run.' }),
  watch: z
    .array(text(rules.text))
    .default([])
    .meta({ description: 'Glob patterns relative to the project. The service restarts when a matching file changes.' }),
  port: z.int().min(1).max(65535).optional().meta({ description: 'Port that the service listens on.' }),
  socket: z.boolean().default(false).meta({ description: 'The supervisor listens at the port and hands the socket over (LISTEN_FDS), so that no connection is refused while the service restarts.' }),
  publish: z
    .union([z.boolean(), z.int().min(1).max(65535), text(rules.publish)])
    .optional()
    .meta({ description: 'Where the port is published on the host: a port, an address, or both, such as "0.0.0.0:8080"; false for nowhere. The same port on loopback if left out.' }),
  depends_on: z
    .union([z.array(z.string()), z.record(z.string(), z.enum(dependencyConditions))])
    .default([])
    .meta({ description: 'Services that must be ready before this one starts, or what each of them must be: started, healthy (ready) or completed (ended with 0).' }),
  restart_policy: z.enum(restartPolicies).default('always').meta({ description: 'What to do when the service ends by itself.' }),
  env: variables.default({}).meta({ description: 'Environment variables of this service, over those of the environment.' }),
  cwd: text(rules.text).optional().meta({ description: 'Directory to start in: absolute, or relative to the working directory.' }),
  ready: ready.optional(),
  ready_timeout: text(rules.duration).optional().meta({ description: 'A service that takes longer to be ready is stopped, which counts as a failure: a number with ms, s or m.' }),
  env_file: z
    .union([text(rules.projectPath), z.array(text(rules.projectPath))])
    .default([])
    .meta({ description: 'Files of the host with NAME=VALUE lines, relative to the project; read at each start. Below env.' }),
  stop_signal: text(rules.signal).default('SIGTERM').meta({ description: 'What asks the service to end.' }),
  restart_grace: text(rules.duration).optional().meta({ description: 'Time from the stop signal to SIGKILL: as [options] says where it is left out.' }),
  on_change: z.enum(['restart', 'signal', 'none']).default('restart').meta({ description: 'What a change of a watched file does.' }),
  reload_signal: text(rules.signal).default('SIGHUP').meta({ description: 'What on_change = "signal" sends.' }),
  profiles: z.array(text(rules.name)).default([]).meta({ description: 'Runs only where one of these profiles is asked for. Always, if empty.' }),
  user: text(rules.user).optional().meta({ description: 'User to run as: a name or number of the image, as user or user:group. The user of the image if left out.' }),
  volumes: z
    .array(text(rules.mount))
    .default([])
    .meta({ description: 'What is mounted for this service: volumes as NAME:/PATH, files and directories of the host as ./DIR:/PATH; :ro at the end for reading only.' }),
  ...limits,
  privileged: z.boolean().default(false).meta({ description: 'All rights of root on this machine, its devices too. Nothing keeps such a service in.' }),
});

const volume = z.strictObject({}).meta({ description: 'Directories that stay when the environment goes down. There is nothing to set yet.' });

const files = z
  .strictObject({
    include: z
      .array(text(rules.projectPath))
      .default([])
      .meta({ description: 'Path prefixes, relative to the project, that belong to the environment. Empty means all.' }),
    exclude: z.array(text(rules.text)).default([]).meta({ description: 'Glob patterns that do not.' }),
    sync_back: z
      .array(text(rules.text))
      .default([])
      .meta({ description: 'Glob patterns, relative to the project: what is written inside at a match is brought to the host, such as lock files.' }),
    ignore_files: z
      .array(text(rules.fileName))
      .default([])
      .meta({ description: 'Names of files, in any directory, that say as git does what does not belong to the environment, such as ".gitignore".' }),
  })
  .meta({ description: 'Which files of the project are watched and brought in.' });

const options = z
  .strictObject({
    restart_grace: text(rules.duration)
      .default('5s')
      .meta({ description: 'Time from SIGTERM to SIGKILL when a service restarts or stops: a number with ms, s or m.' }),
    overlay: z
      .enum(['disk', 'memory'])
      .default('disk')
      .meta({ description: 'Where writes inside the environment are kept.' }),
    debounce: text(rules.duration).default('50ms').meta({ description: 'How long it has to be quiet before changed files are taken in.' }),
    debounce_max: text(rules.duration).default('1s').meta({ description: 'The longest that a changed file waits for quiet.' }),
  })
  .meta({ description: 'How hd behaves.' });

/** The shape of hd.toml. What spans several keys is in `check.ts`. */
export const specSchema = z.strictObject({
  environment,
  dependencies: dependencies.optional(),
  build: build.prefault({}),
  secrets: z.record(text(rules.name), secret).default({}).meta({ description: 'Secrets for build steps, by name. Their values are in no key, no output and no log.' }),
  services: z
    .record(text(rules.name), service)
    .default({})
    .meta({ description: 'Long-running processes, by name.' }),
  volumes: z.record(text(rules.name), volume).default({}).meta({ description: 'Directories that stay when the environment goes down, by name.' }),
  files: files.prefault({}),
  options: options.prefault({}),
});

export type SpecInput = z.output<typeof specSchema>;

/** The JSON Schema of hd.toml, as committed in `schema/hd.schema.json`. */
export function specJsonSchema(): Record<string, unknown> {
  const { $schema, ...rest } = z.toJSONSchema(specSchema, { io: 'input' });
  return { $schema, $id: SCHEMA_URL, title: 'hd.toml', description: 'A Hyperdocker environment.', ...rest };
}
