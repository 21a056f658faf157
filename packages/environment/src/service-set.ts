import { appendFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import type { ContainerSpec, Expected, Launched, OciRuntime, OutputStream, ReadinessProbe, RestartCause, RunningContainer, ServiceState } from '@hyperdocker/sandbox';
import { LineMatcher, Service, ServiceGroup, listenVariables, withListenPid } from '@hyperdocker/sandbox';
import type { ServiceSpec } from '@hyperdocker/spec';
import { createMatcher } from '@hyperdocker/watch';
import type { ServiceReply } from './api.ts';
import { readEnvFiles } from './env-file.ts';
import type { EnvironmentNetwork } from './environment-network.ts';
import type { Emit, ServiceStatus } from './events.ts';
import { aliasOf, urlOf } from './published-ports.ts';

export interface ServiceSetOptions {
  runtime: OciRuntime;
  specs: readonly ServiceSpec[];
  logsDir: string;
  /** Go on with the logs of the services before. */
  keepLogs: boolean;
  bundlesDir: string;
  /** Services that name some run only with one of these. */
  profiles: readonly string[];
  /** A container for one generation of a service, all but its command and its own variables. */
  container: (spec: ServiceSpec, generation: number) => Omit<ContainerSpec, 'args'>;
  network: EnvironmentNetwork;
  projectDir: string;
  runCommand: (command: string, signal: AbortSignal) => Promise<boolean>;
  emit: Emit;
}

interface Member {
  spec: ServiceSpec;
  service: Service;
  running: RunningContainer | undefined;
  restarts: number;
  lastRestart: { cause: string; atMs: number } | undefined;
  sinceMs: number;
  /** When the launch or restart under way began, and why. */
  began: number;
  cause: string | undefined;
}

/** The services of a live environment: containers on one root, started and stopped in the order of their dependencies. */
export class ServiceSet {
  readonly #options: ServiceSetOptions;
  readonly #members = new Map<string, Member>();
  readonly #group: ServiceGroup;
  #killing = false;

  constructor(options: ServiceSetOptions) {
    this.#options = options;
    mkdirSync(options.logsDir, { recursive: true });
    for (const spec of options.specs) {
      if (!options.keepLogs) writeFileSync(join(options.logsDir, `${spec.name}.log`), '');
      const service = new Service({ name: spec.name, launcher: { launch: (generation) => this.#launch(spec, generation) }, policy: { restart: spec.restartPolicy, ...(spec.readyTimeoutMs === undefined ? {} : { readyTimeoutMs: spec.readyTimeoutMs }) } });
      const member: Member = { spec, service, running: undefined, restarts: 0, lastRestart: undefined, sinceMs: Date.now(), began: performance.now(), cause: undefined };
      service.subscribe((state, before) => this.#onState(member, state, before));
      this.#members.set(spec.name, member);
    }
    this.#group = new ServiceGroup([...this.#members.values()].map(({ spec, service }) => ({ service, dependsOn: spec.dependsOn.map(({ name, condition }) => ({ name, condition: condition === 'healthy' ? 'ready' : condition })) })));
  }

  get names(): string[] {
    return [...this.#members.keys()];
  }

  /**
   * Starts the named services, else those of the profiles in use, and what they depend on. Resolves when each has come to something, with the names of those that do not run.
   */
  async start(signal: AbortSignal, names: readonly string[] = this.#inUse()): Promise<string[]> {
    if (![...this.#members.values()].some(({ service }) => isUp(service.state))) await this.#options.network.checkPorts();
    const outcomes = await this.#group.start({ names, signal });
    for (const [name, outcome] of outcomes) {
      if (outcome.kind === 'blocked') this.#options.emit({ type: 'service', name, status: 'waiting', cause: this.#blockedBy(name, outcome.by) });
    }
    return this.names.filter((name) => ['failed', 'blocked'].includes(outcomes.get(name)?.kind ?? ''));
  }

  /** All, where no names are given, and what depends on them. */
  async stop(names?: readonly string[]): Promise<void> {
    await this.#group.stop(names === undefined ? {} : { names });
  }

  /** No grace from now on, also for those who are stopping. */
  kill(): void {
    this.#killing = true;
    for (const { running } of this.#members.values()) void running?.kill();
  }

  /** Where no names are given, those of the profiles in use. */
  restart(names: readonly string[] | undefined, cause: RestartCause): void {
    for (const name of names ?? this.#inUse()) this.#members.get(name)?.service.restart(cause);
  }

  /** Files have changed: each service does what it says of that. */
  change(paths: readonly string[]): void {
    for (const { spec, service, running } of this.#members.values()) {
      const matches = createMatcher(spec.watch);
      const concerned = paths.filter((path) => spec.envFiles.includes(path) || (spec.watch.length > 0 && matches(path)));
      if (concerned.length === 0 || spec.onChange === 'none') continue;
      const cause: RestartCause = { kind: 'change', paths: concerned };
      // A new environment is for a new process, and what does not run is not asked to read its files again.
      const asks = spec.onChange === 'signal' && service.state.kind === 'ready' && !concerned.some((path) => spec.envFiles.includes(path));
      if (!asks) service.restart(cause);
      else {
        void running?.signal(spec.reloadSignal as NodeJS.Signals, 'command');
        this.#options.emit({ type: 'signalled', service: spec.name, signal: spec.reloadSignal, cause: describeCause(cause) });
      }
    }
  }

  #inUse(): string[] {
    const { profiles } = this.#options;
    return [...this.#members.values()].filter(({ spec }) => spec.profiles.length === 0 || spec.profiles.some((name) => profiles.includes(name))).map(({ spec }) => spec.name);
  }

  #blockedBy(name: string, other: string): string {
    const condition = this.#members.get(name)?.spec.dependsOn.find((dependency) => dependency.name === other)?.condition;
    return condition === 'completed' ? `${other} has not completed` : `${other} is not ready`;
  }

  status(): ServiceReply[] {
    return [...this.#members.values()].map(({ spec, service, restarts, lastRestart, sinceMs }) => ({
      name: spec.name, command: spec.command, watch: spec.watch, status: statusOf(service.state), restarts, sinceMs,
      ...(spec.port === undefined ? {} : { port: spec.port }),
      ...this.#reachedAt(spec.name),
      ...(lastRestart === undefined ? {} : { lastRestart }),
    }));
  }

  #reachedAt(service: string): Pick<ServiceReply, 'published' | 'url' | 'alias'> {
    const published = this.#options.network.published(service);
    if (published === undefined) return {};
    return { published: { address: published.address, port: published.port }, url: urlOf(published), ...aliasFor(published, this.#options.projectDir) };
  }

  #launch(spec: ServiceSpec, generation: number): Launched {
    const member = this.#members.get(spec.name);
    const base = this.#options.container(spec, generation);
    const bundleDir = join(this.#options.bundlesDir, base.id);
    const probe = this.#probe(spec);
    const output = this.#output(spec.name, probe);
    const socket = this.#options.network.socketOf(spec.name);
    const env = { ...base.env, ...(spec.port === undefined ? {} : { PORT: String(spec.port) }), ...(socket === undefined ? {} : listenVariables([spec.name])), ...readEnvFiles(this.#options.projectDir, spec.envFiles), ...spec.env };
    const command = ['/bin/sh', '-c', spec.command];
    const container = this.#options.runtime.run(
      { ...base, args: socket === undefined ? command : withListenPid(command), init: true, env, cwd: posix.resolve(base.cwd, spec.cwd ?? '.') },
      { bundleDir, stdio: 'capture', onOutput: output.write, ...(socket === undefined ? {} : { fds: [socket] }) },
    );
    if (member !== undefined) member.running = container;
    const exit = container.exit.then((end) => {
      output.end();
      rmSync(bundleDir, { recursive: true, force: true });
      return end;
    });
    return {
      exit,
      stop: () => void (this.#killing ? container.kill() : container.stop({ signal: spec.stopSignal as NodeJS.Signals, graceMs: spec.restartGraceMs })),
      ready: (signal) => this.#options.network.waitUntilReady(probe, signal),
    };
  }

  #probe(spec: ServiceSpec): ReadinessProbe {
    const { ready } = spec;
    if (ready.kind === 'log') return { kind: 'log', lines: new LineMatcher(new RegExp(ready.pattern)) };
    // Its port accepts connections before it runs.
    if (ready.kind === 'port' && spec.socket) return { kind: 'accepted', port: ready.port };
    if (ready.kind === 'command') return { kind: 'command', run: (signal) => this.#options.runCommand(ready.command, signal) };
    return ready;
  }

  /** Output by lines: to the log file, to whoever listens, and to a probe that waits for a line. `end` lets go of a last line without its end. */
  #output(name: string, probe: ReadinessProbe): { write(stream: OutputStream, bytes: Buffer): void; end(): void } {
    const file = join(this.#options.logsDir, `${name}.log`);
    const rest: Record<OutputStream, string> = { stdout: '', stderr: '' };
    const decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() };
    const put = (stream: OutputStream, lines: string[]): void => {
      if (lines.length > 0) appendFileSync(file, lines.map((text) => `${JSON.stringify({ t: Date.now(), stream, text })}\n`).join(''));
      for (const text of lines) this.#options.emit({ type: 'log', service: name, stream, text });
    };
    return {
      write(stream, bytes) {
        if (probe.kind === 'log') probe.lines.write(bytes);
        const lines = (rest[stream] + decoders[stream].decode(bytes, { stream: true })).split('\n');
        rest[stream] = lines.pop() ?? '';
        put(stream, lines);
      },
      end() {
        for (const stream of ['stdout', 'stderr'] as const) if (rest[stream] !== '') put(stream, [rest[stream]]);
      },
    };
  }

  #onState(member: Member, state: ServiceState, before: ServiceState): void {
    const { spec } = member;
    member.sinceMs = Date.now();
    if (state.kind === 'restarting') {
      member.began = performance.now();
      member.cause = describeCause(state.cause);
      member.restarts++;
      member.lastRestart = { cause: member.cause, atMs: member.sinceMs };
    } else if (state.kind === 'starting' && before.kind !== 'restarting') {
      member.began = performance.now();
      member.cause = before.kind === 'backing-off' ? 'it ended' : undefined;
    } else if (state.kind === 'backing-off' || state.kind === 'failed') {
      // How it ended says more than why it had been started.
      member.cause = undefined;
      member.lastRestart = { cause: endText(state), atMs: member.sinceMs };
    }
    const published = this.#options.network.published(spec.name);
    this.#options.network.expect(spec.name, expectedOf(state));
    this.#options.emit({
      type: 'service', name: spec.name, status: statusOf(state),
      ...(published === undefined ? {} : { port: published.port, url: urlOf(published), ...aliasFor(published, this.#options.projectDir) }),
      ...(member.cause === undefined ? {} : { cause: member.cause }),
      ...(state.kind === 'ready' ? { ms: performance.now() - member.began } : {}),
      ...endOf(state),
    });
    if (state.kind === 'ready') member.cause = undefined;
  }
}

function aliasFor(published: Parameters<typeof aliasOf>[0], projectDir: string): { alias?: string } {
  const alias = aliasOf(published, projectDir);
  return alias === undefined ? {} : { alias };
}

function isUp({ kind }: ServiceState): boolean {
  return kind !== 'stopped' && kind !== 'failed';
}

function expectedOf({ kind }: ServiceState): Expected {
  if (kind === 'starting' || kind === 'restarting') return 'starting';
  return kind === 'stopped' || kind === 'failed' ? 'down' : 'up';
}

function statusOf(state: ServiceState): ServiceStatus {
  return state.kind;
}

/** What is to be said of a service that ended. */
function endOf(state: ServiceState): { exitCode?: number; retryMs?: number; cause?: string } {
  if (state.kind === 'stopped' && state.reason === 'completed') return { exitCode: state.exit.code };
  if (state.kind !== 'failed' && state.kind !== 'backing-off') return {};
  const { failure } = state;
  const retry = state.kind === 'backing-off' ? { retryMs: state.delayMs } : {};
  if (failure.kind === 'exited' && failure.exit.outOfMemory !== undefined) return { exitCode: failure.exit.code, ...retry, cause: outOfMemoryText(failure.exit.outOfMemory) };
  if (failure.kind === 'exited') return { exitCode: failure.exit.code, ...retry, ...(failure.exit.problem === undefined ? {} : { cause: failure.exit.problem.message }) };
  return { cause: failure.kind === 'not-launched' ? failure.error.message : `not ready after ${failure.afterMs} ms`, ...retry };
}

export function outOfMemoryText(limitBytes: number): string {
  return `out of memory: a process was killed, since all may have ${Math.round(limitBytes / 2 ** 20)} MB together`;
}

function endText(state: Extract<ServiceState, { kind: 'backing-off' | 'failed' }>): string {
  const { cause, exitCode } = endOf(state);
  return cause ?? `it ended with exit code ${exitCode ?? 'unknown'}`;
}

function describeCause(cause: RestartCause): string {
  switch (cause.kind) {
    case 'change':
      return `${cause.paths[0]}${cause.paths.length > 1 ? ` and ${cause.paths.length - 1} more` : ''} changed`;
    case 'request':
      return 'asked for';
  }
}
