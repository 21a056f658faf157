import { assert } from '@hyperdocker/base';
import { durationMs } from './duration.ts';
import { lowerLimits } from './limits.ts';
import type { Place } from './locate.ts';
import { lowerPublish } from './publish.ts';
import { lowerReach } from './reach.ts';
import type { restartPolicies, SpecInput } from './schema.ts';
import type { BuildSpec, BuildStepSpec, Dependency, EnvSpec, FilesSpec, MountSpec, Readiness, RestartPolicy, SecretSpec, ServiceDependency, ServiceSpec, StepSecretSpec } from './spec.ts';

type ServiceInput = SpecInput['services'][string];
type StepInput = SpecInput['build']['steps'][number];
type StepTable = Exclude<StepInput, string>;
type StepSecretInput = StepTable['secrets'][number];
type DependencyInput = NonNullable<NonNullable<SpecInput['dependencies']>[string]>;

/** A checked document to the specification. */
export function lower(input: SpecInput, root: Place): EnvSpec {
  const { name, base, workdir, network, reach, env } = input.environment;
  const restartGraceMs = msOf(input.options.restart_grace);
  const debounceMs = msOf(input.options.debounce);
  return {
    environment: { name, base, ...(workdir === undefined ? {} : { workdir }), network, reach: Object.entries(reach).map(([to, ports]) => ({ name: to, ...lowerReach(ports) })) },
    dependencies: lowerDependencies(input.dependencies ?? {}),
    build: lowerBuild(input.build, root),
    secrets: lowerSecrets(input.secrets, root),
    services: lowerServices(input.services, root, { network, restartGraceMs }),
    volumes: [...(root.children.get('volumes')?.children.keys() ?? [])],
    files: lowerFiles(input.files),
    options: { restartGraceMs, env, overlay: input.options.overlay, debounceMs, debounceMaxMs: Math.max(debounceMs, msOf(input.options.debounce_max)) },
  };
}

function lowerFiles({ include, exclude, sync_back: syncBack, ignore_files: ignoreFiles }: SpecInput['files']): FilesSpec {
  return { include, exclude, syncBack, ignoreFiles: [...new Set(ignoreFiles)] };
}

/** Of a duration that has a default. */
function msOf(text: string): number {
  const ms = durationMs(text);
  assert(ms !== undefined, 'an unchecked duration');
  return ms;
}

function lowerDependencies(input: NonNullable<SpecInput['dependencies']>): Dependency[] {
  const dependencies: Dependency[] = [];
  for (const provider of Object.keys(input).toSorted()) {
    const value = input[provider];
    if (value !== undefined) dependencies.push(lowerDependency(provider, value));
  }
  return dependencies;
}

function lowerDependency(provider: string, value: DependencyInput): Dependency {
  if (typeof value === 'string') return { provider, kind: 'version', version: value };
  if (Array.isArray(value)) return { provider, kind: 'packages', packages: [...new Set(value)] };
  return { provider, kind: 'file', file: value.file };
}

function lowerBuild({ steps, cache, network, jobs, ...limits }: SpecInput['build'], root: Place): BuildSpec {
  const places = root.children.get('build')?.children.get('steps')?.children;
  return {
    steps: steps.map((step, index) => lowerStep(step, lineOf(places?.get(String(index))), network)),
    cache,
    network,
    ...(jobs === undefined ? {} : { jobs }),
    limits: lowerLimits(limits),
  };
}

function lowerStep(input: StepInput, line: number, networkDefault: boolean): BuildStepSpec {
  const table: Partial<StepTable> & { run: string } = typeof input === 'string' ? { run: input } : input;
  const { name, workdir, inputs, outputs, env = {}, network = networkDefault, cache = [], secrets = [] } = table;
  return {
    run: table.run,
    line,
    ...(name === undefined ? {} : { name }),
    ...(workdir === undefined ? {} : { workdir }),
    ...(inputs === undefined ? {} : { inputs }),
    ...(outputs === undefined ? {} : { outputs }),
    env,
    network,
    cache,
    secrets: secrets.map(lowerStepSecret),
  };
}

function lowerStepSecret(input: StepSecretInput): StepSecretSpec {
  const { id, file, env } = typeof input === 'string' ? { id: input, file: undefined, env: undefined } : input;
  return { id, file: file ?? `/run/secrets/${id}`, ...(env === undefined ? {} : { env }) };
}

/** In the order of the text, as services. */
function lowerSecrets(secrets: SpecInput['secrets'], root: Place): SecretSpec[] {
  const names = [...(root.children.get('secrets')?.children.keys() ?? [])];
  return names.map((id) => {
    const { env, file } = secrets[id] ?? {};
    if (env !== undefined) return { id, kind: 'env', variable: env };
    assert(file !== undefined, `secret ${id} has no source`);
    return { id, kind: 'file', file };
  });
}

interface ServiceDefaults { network: EnvSpec['environment']['network']; restartGraceMs: number }

/** In the order of the text: objects would put names such as "8080" first. */
function lowerServices(services: SpecInput['services'], root: Place, defaults: ServiceDefaults): ServiceSpec[] {
  const places = root.children.get('services')?.children ?? new Map<string, Place>();
  return [...places].map(([name, place]) => {
    const service = services[name];
    assert(service !== undefined, `service ${name} has a place but no value`);
    return lowerService(name, service, lineOf(place), defaults);
  });
}

function lowerService(name: string, input: ServiceInput, line: number, { network, restartGraceMs }: ServiceDefaults): ServiceSpec {
  const publish = network === 'host' || input.port === undefined ? undefined : lowerPublish(input.publish ?? true, input.port);
  return {
    name,
    command: input.command,
    watch: input.watch,
    ...(input.port === undefined ? {} : { port: input.port }),
    socket: input.socket,
    ...(publish === undefined ? {} : { publish }),
    dependsOn: lowerDependsOn(input.depends_on),
    restartPolicy: lowerPolicy(input.restart_policy),
    env: input.env,
    ...(input.cwd === undefined ? {} : { cwd: input.cwd }),
    ready: lowerReady(input),
    ...optionalMs('readyTimeoutMs', input.ready_timeout),
    envFiles: typeof input.env_file === 'string' ? [input.env_file] : input.env_file,
    stopSignal: signalName(input.stop_signal),
    restartGraceMs: input.restart_grace === undefined ? restartGraceMs : (durationMs(input.restart_grace) ?? restartGraceMs),
    onChange: input.on_change,
    reloadSignal: signalName(input.reload_signal),
    profiles: [...new Set(input.profiles)],
    ...(input.user === undefined ? {} : { user: input.user }),
    volumes: input.volumes.map(lowerMount),
    limits: lowerLimits(input),
    privileged: input.privileged,
    line,
  };
}

function lowerMount(text: string): MountSpec {
  const [source = '', target = '', access] = text.split(':');
  const readonly = access === 'ro';
  return isHostPath(source) ? { kind: 'bind', source, target, readonly } : { kind: 'volume', name: source, target, readonly };
}

/** Of the first part of a mount: everything else is the name of a volume. */
export function isHostPath(source: string): boolean {
  return /^(?:\/|\.\.?(?:\/|$)|~\/)/.test(source);
}

function lowerDependsOn(input: ServiceInput['depends_on']): ServiceDependency[] {
  if (Array.isArray(input)) return [...new Set(input)].map((name) => ({ name, condition: 'healthy' }));
  return Object.entries(input).map(([name, condition]) => ({ name, condition }));
}

function optionalMs<K extends string>(key: K, text: string | undefined): Partial<Record<K, number>> {
  const ms = text === undefined ? undefined : durationMs(text);
  return ms === undefined ? {} : ({ [key]: ms } as Record<K, number>);
}

function signalName(text: string): string {
  return text.startsWith('SIG') ? text : `SIG${text}`;
}

function lowerReady({ ready, port }: ServiceInput): Readiness {
  if (ready?.http !== undefined && port !== undefined) return { kind: 'http', port, path: ready.http };
  if (ready?.command !== undefined) return { kind: 'command', command: ready.command };
  if (ready?.log !== undefined) return { kind: 'log', pattern: ready.log };
  return port === undefined ? { kind: 'started' } : { kind: 'port', port };
}

function lowerPolicy(policy: (typeof restartPolicies)[number]): RestartPolicy {
  const canonical: Record<typeof policy, RestartPolicy> = {
    always: 'always',
    'unless-stopped': 'always',
    on_failure: 'on_failure',
    'on-failure': 'on_failure',
    never: 'never',
    no: 'never',
  };
  return canonical[policy];
}

function lineOf(place: Place | undefined): number {
  const line = (place?.key ?? place?.value)?.line;
  assert(line !== undefined, 'a value without a place');
  return line;
}
