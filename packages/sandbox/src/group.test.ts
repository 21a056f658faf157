import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ContainerExit } from './contract.ts';
import { ServiceGroup, type Dependency } from './group.ts';
import { Service } from './service.ts';

interface Plan {
  readonly dependsOn?: readonly (string | Dependency)[];
  /** Ends with this code as soon as it is ready. */
  readonly exits?: number;
  readonly neverReady?: boolean;
}

/** Services that note when they are launched, are ready and are asked to stop. */
function makeGroup(plans: Record<string, Plan>): { group: ServiceGroup; log: string[]; services: Map<string, Service> } {
  const log: string[] = [];
  const services = new Map<string, Service>();
  const members = Object.entries(plans).map(([name, plan]) => {
    const launch = () => {
      log.push(`launch ${name}`);
      const ended = Promise.withResolvers<ContainerExit>();
      const ready = async (signal: AbortSignal): Promise<void> => {
        await new Promise((resolve) => (plan.neverReady === true ? signal.addEventListener('abort', resolve) : setImmediate(resolve)));
        if (signal.aborted) return;
        log.push(`ready ${name}`);
        if (plan.exits !== undefined) setImmediate(() => ended.resolve({ code: plan.exits ?? 0, signal: null }));
      };
      const stop = (): void => {
        log.push(`stop ${name}`);
        setImmediate(() => ended.resolve({ code: 143, signal: 'SIGTERM' }));
      };
      return { exit: ended.promise, stop, ready };
    };
    const service = new Service({ name, policy: { restart: 'never' }, launcher: { launch } });
    services.set(name, service);
    const dependsOn = (plan.dependsOn ?? []).map((dependency): Dependency => (typeof dependency === 'string' ? { name: dependency, condition: 'ready' } : dependency));
    return { service, dependsOn };
  });
  return { group: new ServiceGroup(members), log, services };
}

const before = (log: readonly string[], first: string, second: string): void => assert(log.indexOf(first) >= 0 && log.indexOf(first) < log.indexOf(second), `${first} before ${second} in ${log.join(', ')}`);

test('starts after what it depends on is ready, and stops before it', async () => {
  const { group, log } = makeGroup({ web: { dependsOn: ['api', 'cache'] }, api: { dependsOn: ['db'] }, cache: {}, db: {} });
  const outcomes = await group.start();
  assert.deepEqual([...outcomes.values()].map(({ kind }) => kind), ['ready', 'ready', 'ready', 'ready']);
  before(log, 'ready db', 'launch api');
  before(log, 'ready api', 'launch web');
  before(log, 'ready cache', 'launch web');
  before(log, 'launch cache', 'ready db');
  await group.stop();
  before(log, 'stop web', 'stop api');
  before(log, 'stop web', 'stop cache');
  before(log, 'stop api', 'stop db');
});

test('names start with what they need, and stop with what needs them', async () => {
  const { group, log } = makeGroup({ web: { dependsOn: ['db'] }, db: {}, other: {} });
  assert.deepEqual([...(await group.start({ names: ['web'] })).keys()].sort(), ['db', 'web']);
  await group.stop({ names: ['db'] });
  assert(log.includes('stop web'));
  assert(!log.includes('launch other'));
});

test('conditions', async () => {
  const migrated = { name: 'migrate', condition: 'completed' } as const;
  const { group, log, services } = makeGroup({ migrate: { exits: 0 }, web: { dependsOn: [migrated] }, slow: { neverReady: true }, eager: { dependsOn: [{ name: 'slow', condition: 'started' }] } });
  const stop = new AbortController();
  const started = group.start({ signal: stop.signal });
  await services.get('eager')?.until((state) => state.kind === 'ready');
  await services.get('web')?.until((state) => state.kind === 'ready');
  assert.equal(services.get('migrate')?.state.kind, 'stopped');
  stop.abort();
  const outcomes = await started;
  assert.deepEqual([outcomes.get('web')?.kind, outcomes.get('eager')?.kind, outcomes.get('slow')?.kind], ['ready', 'ready', 'aborted']);
  before(log, 'ready migrate', 'launch web');
  await group.stop();
});

test('what depends on a failure is not started', async () => {
  const failed = { name: 'migrate', condition: 'completed' } as const;
  const { group, log } = makeGroup({ migrate: { exits: 3 }, api: { dependsOn: [failed] }, web: { dependsOn: ['api'] } });
  const outcomes = await group.start();
  assert.deepEqual([outcomes.get('api'), outcomes.get('web')], [{ kind: 'blocked', by: 'migrate' }, { kind: 'blocked', by: 'api' }]);
  assert(!log.includes('launch api'));
});

test('a circle and an unknown name are refused', () => {
  assert.throws(() => makeGroup({ a: { dependsOn: ['b'] }, b: { dependsOn: ['c'] }, c: { dependsOn: ['a'] } }), { code: 'SERVICE_CYCLE', message: /a → b → c → a/ });
  assert.throws(() => makeGroup({ a: { dependsOn: ['b'] } }), { code: 'SERVICE_UNKNOWN' });
});
