import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Docker, DockerBuild } from '@hyperdocker/demo';
import { freePort, waitForPage } from '@hyperdocker/demo';
import type { Hd } from '../hd.ts';
import type { Race, Sample, Scenario, Side } from '../scenario.ts';
import type { Workshop } from '../workshop.ts';
import { DOCKER_BASE } from '../workshop.ts';

const INSTALL = 'pip install --break-system-packages --no-cache-dir -r requirements.txt';
/** As many a first Dockerfile is: every edit installs again. */
const NAIVE = `FROM ${DOCKER_BASE}\nWORKDIR /app\nCOPY . .\nRUN ${INSTALL}\nCMD ["python3", "app.py"]\n`;
/** As the manual says: what changes seldom comes first. */
const ORDERED = `FROM ${DOCKER_BASE}\nWORKDIR /app\nCOPY requirements.txt .\nRUN ${INSTALL}\nCOPY . .\nCMD ["python3", "app.py"]\n`;
/** For the page: what the code says, what the requirements say, and what is truly installed, all as of the start of the process. */
const SHOWN = `from importlib.metadata import version
EDIT = ""
SHOWN = f"{EDIT} {open('requirements.txt').readline().strip()} itsdangerous=={version('itsdangerous')}"
`;

/** In every edit: what an earlier run in the same work directory left in a cache must not answer for this one. */
const RUN = Date.now().toString(36);

type Edit = (app: FlaskApp, round: number) => string;

export const flaskScenarios: Scenario[] = [
  {
    name: 'flask.noop-up', rounds: 9,
    what: 'Nothing has changed and nothing runs: until the page answers, then until all is stopped. `hd up -d`, `hd down`; `docker build`, `docker run -d`, `docker rm -f`',
    open: (workshop) => race(workshop, { keepUp: false, dockerfiles: [['docker', ORDERED]], hd: upAndDown, docker: buildRunRemove }),
  },
  {
    name: 'flask.noop-build', rounds: 9,
    what: 'The part of it that finds everything built already: `hd build`; `docker build`',
    open: (workshop) => race(workshop, {
      keepUp: false, dockerfiles: [['docker', ORDERED]],
      hd: ({ hd }) => timed(async () => stepsOf(await hd.build())),
      docker: ({ docker, app, tag }) => timed(async () => workOf(await docker.build(app.dir, tag))),
    }),
  },
  edited('flask.edit-to-served', 9, 'A source file is edited while the service runs, differently every time: from the write until the page shows it. `hd` has seen it by itself; `docker build`, `docker rm -f`, `docker run -d`', (app, round) => {
    app.write('app.py', app.source.replace('EDIT = ""', `EDIT = "edit ${RUN}-${round}."`));
    return `edit ${RUN}-${round}.`;
  }),
  edited('flask.edit-requirements-comment', 5, 'A comment in requirements.txt is edited: until a service that was started after the install answers', (app, round) => {
    app.write('requirements.txt', `# comment ${RUN}-${round}.\n${app.requirements}`);
    return `# comment ${RUN}-${round}.`;
  }),
  edited('flask.edit-requirements-version', 5, 'Another version of a package is asked for in requirements.txt: until the page shows that it is in use', (app, round) => {
    const version = round % 2 === 0 ? '2.1.2' : '2.2.0';
    app.write('requirements.txt', `# bump ${RUN}-${round}.\n${app.requirements.replace(/itsdangerous==.*/, `itsdangerous==${version}`)}`);
    return `# bump ${RUN}-${round}. itsdangerous==${version}`;
  }),
  {
    name: 'flask.cold-build', rounds: 5,
    what: 'Only the base image is there: until all is built. `hd build` without its action cache; `docker build --no-cache`',
    open: (workshop) => race(workshop, {
      keepUp: false, dockerfiles: [['docker', ORDERED]],
      hd: ({ hd, home }) => {
        for (const suffix of ['', '-wal', '-shm']) rmSync(join(home, `actions.sqlite${suffix}`), { force: true });
        return timed(async () => stepsOf(await hd.build()));
      },
      docker: ({ docker, app, tag }) => timed(async () => workOf(await docker.build(app.dir, tag, { noCache: true }))),
    }),
  },
];

/** A copy of the example that shows on its page what it was made of. */
class FlaskApp {
  readonly dir: string;
  readonly port: number;
  readonly source: string;
  readonly requirements: string;

  constructor(dir: string, port: number) {
    this.dir = dir;
    this.port = port;
    this.source = SHOWN + readFileSync(join(dir, 'app.py'), 'utf8').replace('"Hello from Hyperdocker!"', 'SHOWN');
    this.requirements = readFileSync(join(dir, 'requirements.txt'), 'utf8');
    this.write('app.py', this.source);
  }

  write(name: string, text: string): void {
    writeFileSync(join(this.dir, name), text);
  }

  answers(text = '<html'): Promise<void> {
    return waitForPage(this.port, text);
  }
}

interface HdSide { hd: Hd; home: string; app: FlaskApp; steps: () => string }
interface DockerSide { docker: Docker; app: FlaskApp; tag: string }
interface Sides {
  /** Whether both run between the rounds. */
  keepUp: boolean;
  dockerfiles: [name: string, text: string][];
  hd: (side: HdSide, round: number) => Promise<Sample>;
  docker: (side: DockerSide, round: number) => Promise<Sample>;
}

function edited(name: string, rounds: number, what: string, edit: Edit): Scenario {
  return {
    name, rounds, what,
    open: (workshop) => race(workshop, {
      keepUp: true,
      dockerfiles: [['docker, naive Dockerfile', NAIVE], ['docker, well-ordered', ORDERED]],
      hd: ({ app, steps }, round) => timed(async () => {
        await app.answers(edit(app, round));
        return steps();
      }),
      docker: ({ docker, app, tag }, round) => timed(async () => {
        const text = edit(app, round);
        const build = await docker.build(app.dir, tag);
        await docker.remove(tag);
        await docker.run(tag, tag, { PORT: String(app.port) });
        await app.answers(text);
        return workOf(build);
      }),
    }),
  };
}

async function race(workshop: Workshop, { keepUp, dockerfiles, hd, docker }: Sides): Promise<Race> {
  const stack = new AsyncDisposableStack();
  try {
    const sides = [await hdSide(workshop, stack, keepUp, hd)];
    const engine = await workshop.docker();
    if (engine !== undefined) {
      for (const [index, [name, dockerfile]] of dockerfiles.entries()) sides.push(await dockerSide(workshop, stack, keepUp, engine, `bench-${index}`, name, dockerfile, docker));
    }
    return { sides, [Symbol.asyncDispose]: () => stack.disposeAsync() };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

async function hdSide(workshop: Workshop, stack: AsyncDisposableStack, keepUp: boolean, work: Sides['hd']): Promise<Side> {
  const app = new FlaskApp(workshop.project('flask-demo'), await freePort());
  const spec = readFileSync(join(app.dir, 'hd.toml'), 'utf8');
  app.write('hd.toml', spec.replace(/port = .*/, `port = ${app.port}`).replace('watch = [', 'watch = ["requirements.txt", '));
  const hd = workshop.hd(app.dir);
  let mark = 0;
  const steps = (): string => {
    const now = hd.stepsRun(mark);
    mark = now.mark;
    return stepWords(now.ran);
  };
  if (keepUp) {
    stack.defer(() => hd.down());
    await hd.up();
    await hd.follow();
    await app.answers();
    steps();
  } else {
    await hd.build();
  }
  return { name: 'hd', run: (round) => work({ hd, home: workshop.hdHome, app, steps }, round) };
}

async function dockerSide(workshop: Workshop, stack: AsyncDisposableStack, keepUp: boolean, docker: Docker, tag: string, name: string, dockerfile: string, work: Sides['docker']): Promise<Side> {
  const app = new FlaskApp(workshop.project('flask-demo'), await freePort());
  app.write('Dockerfile', dockerfile);
  await docker.build(app.dir, tag);
  if (keepUp) {
    await docker.run(tag, tag, { PORT: String(app.port) });
    stack.defer(() => docker.remove(tag));
    await app.answers();
  }
  return { name, run: (round) => work({ docker, app, tag }, round) };
}

async function upAndDown({ hd, app }: HdSide): Promise<Sample> {
  return timed(async () => {
    await hd.up();
    await app.answers();
    const upMs = performance.now();
    await hd.down();
    return `down ${Math.round(performance.now() - upMs)} ms of it`;
  });
}

async function buildRunRemove({ docker, app, tag }: DockerSide): Promise<Sample> {
  return timed(async () => {
    const build = await docker.build(app.dir, tag);
    await docker.run(tag, tag, { PORT: String(app.port) });
    await app.answers();
    const upMs = performance.now();
    await docker.remove(tag);
    return `${workOf(build)}; rm ${Math.round(performance.now() - upMs)} ms of it`;
  });
}

async function timed(work: () => Promise<string>): Promise<Sample> {
  const startedMs = performance.now();
  const text = await work();
  return { ms: performance.now() - startedMs, work: text };
}

function stepsOf(events: Awaited<ReturnType<Hd['build']>>): string {
  return stepWords(events.filter((event) => event.type === 'step' && event.status === 'ran').length);
}

function stepWords(ran: number): string {
  return `ran ${ran} step${ran === 1 ? '' : 's'}`;
}

function workOf({ ran, cached }: DockerBuild): string {
  return `ran ${ran.length === 0 ? 'nothing' : ran.join(', ')}; ${cached} cached`;
}
