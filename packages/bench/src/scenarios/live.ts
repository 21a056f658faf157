import { readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { HdError } from '@hyperdocker/base';
import type { Docker } from '@hyperdocker/demo';
import { formatMs, freePort, run, waitForPage } from '@hyperdocker/demo';
import type { Emitted } from '@hyperdocker/environment';
import type { Hd } from '../hd.ts';
import type { Race, Sample, Scenario, Side } from '../scenario.ts';
import type { Workshop } from '../workshop.ts';
import { BASE, DOCKER_BASE } from '../workshop.ts';
import { makeFiles } from './store.ts';

const FILES_WATCHED = 10_000;
const FILES_UP = 13_000;
const IDLE_MS = 20_000;
/** Ticks of the processor clock in a second, as Linux tells it to programs. */
const TICKS_A_SECOND = 100;
const HEAD = `[environment]\nname = "live"\nbase = "apt://${BASE.suite}?include=${BASE.include}"\n`;

export const liveScenarios: Scenario[] = [
  { name: 'live.event', rounds: 60, what: `a file of a project of ${FILES_WATCHED} is saved, by a new file that takes its name: until a program inside that watches the directory has been woken by inotify, by the clock of the machine`, open: saveToEvent },
  { name: 'live.edit-to-served', rounds: 15, what: 'app.py of the Flask demo is saved: until the page shows it. Beside docker cp and docker restart, which is what compose watch does for sync+restart, and beside the start of app.py by itself', open: editToServed },
  { name: 'live.noop-up', rounds: 9, what: `\`hd up -d\` of ${FILES_UP} files, none changed, with a service that does nothing: from the start of the process to its end, with the supervisor down and with it up; floor: Node that does nothing`, open: noopUp },
  { name: 'live.idle', rounds: 3, what: `processor time that all processes of an environment of ${FILES_UP} files take in ${IDLE_MS / 1_000} s in which nothing happens`, open: idle },
];

/** Prints when it was woken: nanoseconds since the epoch. */
const WATCHER = `import ctypes, os, time
libc = ctypes.CDLL(None)
fd = libc.inotify_init()
libc.inotify_add_watch(fd, os.environ.get("WATCHED", "d0/e0").encode(), 0x8 | 0x80)
print("watching", flush=True)
while os.read(fd, 65536):
    print("woken", time.time_ns(), flush=True)
`;

async function saveToEvent(workshop: Workshop): Promise<Race> {
  const stack = new AsyncDisposableStack();
  try {
    const dir = workshop.tempDir('event');
    makeFiles(dir, FILES_WATCHED, 2_000);
    writeFileSync(join(dir, 'watcher.py'), WATCHER);
    writeFileSync(join(dir, 'hd.toml'), `${HEAD}[services.watcher]\ncommand = "python3 -u watcher.py"\nready = { log = "watching" }\n`);
    const hd = workshop.hd(dir);
    await hd.up();
    stack.defer(() => hd.down());
    const samples = new Map<string, number[]>();
    const side = (name: string, file: string, wokenAt: () => Promise<number>): Side => ({
      name,
      run: async (round) => {
        // As people do it: now and then, not in step with anything.
        await delay(150 + (round * 37) % 100);
        const savedMs = performance.timeOrigin + performance.now();
        save(file, `saved ${round} ${name}\n`);
        const ms = (await wokenAt()) - savedMs;
        samples.set(name, [...(samples.get(name) ?? []), ...(round > 0 ? [ms] : [])]);
        return { ms, work: 'one event' };
      },
    });
    const sides = [side('hd', join(dir, 'd0/e0/f0.js'), await wokenInside(hd))];
    const docker = await workshop.docker();
    const build = workshop.tempDir('event-image');
    const copied = join(workshop.tempDir('copied'), 'f0.js');
    if (docker !== undefined) sides.push(side('docker cp', copied, await wokenInContainer(docker, stack, build, copied)));
    return { sides, report: () => percentiles(samples), [Symbol.asyncDispose]: () => stack.disposeAsync() };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

async function wokenInside(hd: Hd): Promise<() => Promise<number>> {
  await hd.follow();
  let mark = hd.events.length;
  return async () => {
    const woken = await hd.waitForEvent(mark, (event): event is Extract<Emitted, { type: 'log' }> => event.type === 'log' && event.text.startsWith('woken'));
    await hd.waitForEvent(mark, (event) => event.type === 'change');
    mark = hd.events.length;
    return Number(woken.text.split(' ')[1]) / 1e6;
  };
}

/** The copy is what compose waits for before it reports; the watcher's own clock says when it was woken. */
async function wokenInContainer(docker: Docker, stack: AsyncDisposableStack, build: string, file: string): Promise<() => Promise<number>> {
  writeFileSync(join(build, 'watcher.py'), WATCHER);
  writeFileSync(join(build, 'Dockerfile'), `FROM ${DOCKER_BASE}\nWORKDIR /app\nRUN mkdir watched\nENV WATCHED=watched\nCOPY watcher.py .\nCMD ["python3", "-u", "watcher.py"]\n`);
  await docker.build(build, 'bench-event');
  await docker.run('bench-event', 'bench-event', {}, { init: true });
  stack.defer(() => docker.remove('bench-event'));
  const linesOf = async (): Promise<string[]> => (await docker.logs('bench-event')).split('\n').filter((line) => line.startsWith('woken'));
  let last = '';
  return async () => {
    await docker.copy(file, 'bench-event', '/app/watched/f0.js');
    for (let tries = 0; tries < 100; tries++) {
      const line = (await linesOf()).at(-1) ?? '';
      if (line !== last) {
        last = line;
        return Number(line.split(' ')[1]) / 1e6;
      }
      await delay(20);
    }
    throw new HdError('BENCH_EVENT', 'the container was not woken');
  };
}

function percentiles(samples: ReadonlyMap<string, number[]>): string {
  const at = (sorted: readonly number[], share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
  const rows = [...samples].map(([name, taken]) => {
    const sorted = taken.toSorted((a, b) => a - b);
    return `| ${name} | ${[0.5, 0.9, 0.95, 0.99].map((share) => formatMs(at(sorted, share))).join(' | ')} |`;
  });
  return ['| Save to event | p50 | p90 | p95 | p99 |', '|---|---|---|---|---|', ...rows].join('\n');
}

async function editToServed(workshop: Workshop): Promise<Race> {
  const stack = new AsyncDisposableStack();
  try {
    const [hdApp, dockerApp] = [workshop.project('flask-demo'), workshop.project('flask-demo')];
    const [hdPort, dockerPort] = [await freePort(), await freePort()];
    const source = readFileSync(join(hdApp, 'app.py'), 'utf8');
    writeFileSync(join(hdApp, 'hd.toml'), readFileSync(join(hdApp, 'hd.toml'), 'utf8').replace(/port = .*/, `port = ${hdPort}`));
    const hd = workshop.hd(hdApp);
    await hd.up();
    stack.defer(() => hd.down());
    const run = Date.now().toString(36);
    const edited = (dir: string, port: number, after: (file: string) => Promise<void>) => async (round: number): Promise<Sample> => {
      const mark = `edit ${run}-${round}.`;
      const startedMs = performance.now();
      save(join(dir, 'app.py'), source.replace('Hello from Hyperdocker!', mark));
      await after(join(dir, 'app.py'));
      await waitForPage(port, mark);
      return { ms: performance.now() - startedMs, work: 'restarted' };
    };
    const sides: Side[] = [{ name: 'hd', run: edited(hdApp, hdPort, async () => {}) }];
    const docker = await workshop.docker();
    if (docker !== undefined) {
      writeFileSync(join(dockerApp, 'Dockerfile'), `FROM ${DOCKER_BASE}\nWORKDIR /app\nCOPY requirements.txt .\nRUN pip install --break-system-packages -r requirements.txt\nCOPY . .\nCMD ["python3", "app.py"]\n`);
      await docker.build(dockerApp, 'bench-live');
      await docker.run('bench-live', 'bench-live', { PORT: String(dockerPort) }, { init: true });
      stack.defer(() => docker.remove('bench-live'));
      sides.push({
        name: 'docker cp, docker restart',
        run: edited(dockerApp, dockerPort, async (file) => {
          await docker.copy(file, 'bench-live', '/app/app.py');
          await docker.restart('bench-live');
        }),
      });
    }
    sides.push({ name: 'floor: the start of app.py, inside', run: async () => ({ ms: Number((await hd.exec('python3', '-c', OWN_START)).trim().split('\n').at(-1)), work: 'started' }) });
    return { sides, [Symbol.asyncDispose]: () => stack.disposeAsync() };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

/** How long app.py takes from its start to its first answer, in milliseconds. */
const OWN_START = `import http.client, os, subprocess, time
started = time.monotonic()
app = subprocess.Popen(["python3", "app.py"], env={**os.environ, "PORT": "7391"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
while True:
    try:
        page = http.client.HTTPConnection("127.0.0.1", 7391)
        page.request("GET", "/")
        page.getresponse().read()
        break
    except OSError:
        time.sleep(0.002)
print((time.monotonic() - started) * 1000)
app.kill()
`;

async function noopUp(workshop: Workshop): Promise<Race> {
  const dir = workshop.tempDir('up');
  makeFiles(dir, FILES_UP, 2_000);
  writeFileSync(join(dir, 'hd.toml'), `${HEAD}[services.quiet]\ncommand = "exec sleep 100000"\n`);
  const hd = workshop.hd(dir);
  await hd.up();
  return {
    sides: [
      {
        name: 'hd, supervisor up',
        run: async () => {
          // The round before has just started it, and all files are looked at once more then.
          await delay(500);
          return timed(() => hd.up());
        },
      },
      {
        name: 'hd, supervisor down',
        run: async () => {
          await hd.down();
          return timed(() => hd.up());
        },
      },
      { name: 'floor: node -e 0', run: () => timed(() => run(process.execPath, ['-e', '0'])) },
    ],
    [Symbol.asyncDispose]: () => hd.down(),
  };
}

async function idle(workshop: Workshop): Promise<Race> {
  const dir = workshop.tempDir('idle');
  makeFiles(dir, FILES_UP, 2_000);
  writeFileSync(join(dir, 'hd.toml'), `${HEAD}[services.quiet]\ncommand = "exec sleep 100000"\n`);
  const hd = workshop.hd(dir);
  await hd.up();
  const home = workshop.hdHome;
  return {
    sides: [{
      name: 'hd',
      run: async () => {
        await delay(2_000);
        const before = processorMs(home);
        await delay(IDLE_MS);
        const ms = processorMs(home) - before;
        return { ms, work: `${((ms / IDLE_MS) * 100).toFixed(2)} % of a processor` };
      },
    }],
    [Symbol.asyncDispose]: () => hd.down(),
  };
}

/** Of all processes that have this home in their environment or their mounts: of the supervisor, what serves files, guards, services. */
function processorMs(home: string): number {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid).map((pid) => {
    try {
      if (!readFileSync(`/proc/${pid}/environ`, 'latin1').includes(`HD_HOME=${home}`) && !readFileSync(`/proc/${pid}/mountinfo`, 'latin1').includes(home)) return 0;
      const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').replace(/^.*\) /, '').split(' ');
      return ((Number(fields[11]) + Number(fields[12])) * 1_000) / TICKS_A_SECOND;
    } catch {
      return 0;
    }
  }).reduce((sum, ms) => sum + ms, 0);
}

/** As editors do. */
function save(file: string, text: string): void {
  writeFileSync(`${file}.new`, text);
  renameSync(`${file}.new`, file);
}

async function timed(work: () => Promise<unknown>): Promise<Sample> {
  const startedMs = performance.now();
  await work();
  return { ms: performance.now() - startedMs, work: '' };
}
