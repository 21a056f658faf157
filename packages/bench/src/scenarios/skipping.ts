import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { HdError, toByteString } from '@hyperdocker/base';
import { TreeBuilder, applyDelta, openStore } from '@hyperdocker/cas';
import { FuseHost, materialize } from '@hyperdocker/mount';
import type { Docker } from '@hyperdocker/demo';
import { freePort, run, waitForPage } from '@hyperdocker/demo';
import type { Hd } from '../hd.ts';
import type { Race, Sample, Scenario, Side } from '../scenario.ts';
import type { Workshop } from '../workshop.ts';
import { BASE, DOCKER_BASE } from '../workshop.ts';

const STEPS = 10;
const FACT_DIRS = 50;
const FILES_A_DIR = 100;
const OUTPUT_FILES = 20_000;
/** In every edit: what an earlier run in the same work directory left in a cache must not answer for this one. */
const RUN = Date.now().toString(36);
/** What many data projects install: its wheels are in the project, so that no network is timed. */
const DATA_PACKAGES = ['numpy==2.1.3', 'pandas==2.2.3', 'scipy==1.14.1', 'matplotlib==3.9.2', 'scikit-learn==1.5.2'];
const INSTALL_DATA = 'pip install --break-system-packages --no-cache-dir --no-index --find-links wheels -r requirements.txt';

/** What costs nothing because nothing has to run. */
export const skippingScenarios: Scenario[] = [
  {
    name: 'skip.decide', rounds: 9,
    what: `${STEPS} steps that read ${FACT_DIRS * FILES_A_DIR} files each are found unchanged: by \`hd build\`, in the supervisor that it starts, from the event of the step before the first of them to that of the last, after an edit that none of them reads; and after none`,
    open: decide,
  },
  {
    name: 'skip.replay', rounds: 9,
    what: `The outputs of a step, ${OUTPUT_FILES} files in ${OUTPUT_FILES / FILES_A_DIR} directories, are put in place, until \`find -size\` has seen them all: over a tree that is mounted, by a FUSE host that runs already; written out as files, as \`hd\` does without FUSE; by \`cp -a\``,
    open: replay,
  },
  {
    name: 'skip.edit-unread', rounds: 5,
    what: `A file that no step reads is edited in a project that installs ${DATA_PACKAGES.join(', ')} from wheels: until the running service shows its new content. \`hd\` has seen it by itself, and the service goes on; \`docker build\` with the naive Dockerfile, \`docker rm -f\`, \`docker run -d\``,
    open: editUnread,
  },
];

async function decide(workshop: Workshop): Promise<Race> {
  const dir = workshop.tempDir('decide');
  for (let i = 0; i < FACT_DIRS; i++) {
    mkdirSync(join(dir, `src/${i}`), { recursive: true });
    for (let j = 0; j < FILES_A_DIR; j++) writeFileSync(join(dir, `src/${i}/${j}.txt`), `${i} ${j}\n`);
  }
  const steps = ['true', ...Array.from({ length: STEPS }, (_, i) => `cat src/*/*.txt > /${i}`)];
  writeFileSync(join(dir, 'hd.toml'), `[environment]\nname = "decide"\nbase = "apt://${BASE.suite}?include=${BASE.include}"\n\n[build]\nnetwork = false\nsteps = ${JSON.stringify(steps)}\n`);
  const hd = workshop.hd(dir);
  await hd.build();
  return {
    sides: [
      {
        name: 'after an edit',
        run: (round) => {
          writeFileSync(join(dir, 'notes.md'), `${RUN} ${round}`);
          return decided(hd);
        },
      },
      { name: 'after none', run: () => decided(hd) },
    ],
    [Symbol.asyncDispose]: async () => rmSync(dir, { recursive: true }),
  };
}

async function decided(hd: Hd): Promise<Sample> {
  const cached = (await hd.build()).filter((event) => event.type === 'step' && event.status === 'cached');
  const [first, last] = [cached[0], cached[STEPS]];
  if (first === undefined || last?.type !== 'step' || last.status !== 'cached') throw new HdError('BENCH_STEP', 'not every step was cached');
  return { ms: last.atMs - first.atMs, work: `${last.facts} facts each` };
}

async function replay(workshop: Workshop): Promise<Race> {
  const dir = workshop.tempDir('replay');
  const storeDir = join(dir, 'store');
  const store = openStore(storeDir);
  const builder = new TreeBuilder(store);
  for (let i = 0; i < OUTPUT_FILES; i++) {
    const bytes = Buffer.from(`export const number${i} = ${i};\n`.repeat(1 + (i % 100)));
    builder.set(toByteString(`app/out/${Math.floor(i / FILES_A_DIR)}/file-${i}.js`), { kind: 'file', mode: 0o644, digest: store.putBlob(bytes), size: bytes.length, meta: { uid: 0, gid: 0, mtimeNs: 1_700_000_000_000_000_000n, xattrs: [], linkGroup: 0, links: 1 } });
  }
  const delta = builder.finish();
  const base = new TreeBuilder(store);
  base.set(toByteString('app/input'), { kind: 'file', mode: 0o644, digest: store.putBlob(Buffer.from('input')), size: 5 });
  const input = base.finish();
  store.flush();
  const host = new FuseHost();
  const original = materialize(store, delta, dir, storeDir);
  const timed = async (put: () => Promise<string>): Promise<Sample> => {
    const startedMs = performance.now();
    const found = await run('find', [await put(), '-type', 'f', '-size', '+0', '-printf', 'x']);
    const ms = performance.now() - startedMs;
    if (found.length < OUTPUT_FILES) throw new HdError('BENCH_STEP', `only ${found.length} files are there`);
    return { ms, work: `${OUTPUT_FILES} files seen` };
  };
  const mountpoint = join(dir, 'mounted');
  mkdirSync(mountpoint);
  const mounted = async (): Promise<Sample> => {
    const sample = await timed(async () => {
      const tree = applyDelta(store, input, delta);
      store.flush();
      await host.mount('replay', { tree, mountpoint, storeDir, tracing: false });
      return mountpoint;
    });
    await host.unmount('replay');
    return sample;
  };
  const written = async (round: number): Promise<Sample> => {
    const cacheDir = join(dir, `files-${round}`);
    mkdirSync(cacheDir);
    const sample = await timed(async () => materialize(store, applyDelta(store, input, delta), cacheDir, storeDir));
    rmSync(cacheDir, { recursive: true });
    return sample;
  };
  const copied = async (): Promise<Sample> => {
    const copy = join(dir, 'copy');
    const sample = await timed(async () => (await run('cp', ['-a', original, copy]), copy));
    rmSync(copy, { recursive: true });
    return sample;
  };
  return {
    sides: [{ name: 'hd, mounted', run: mounted }, { name: 'hd, as files', run: written }, { name: '`cp -a`', run: copied }],
    async [Symbol.asyncDispose]() {
      await host.close();
      store[Symbol.dispose]();
      rmSync(dir, { recursive: true });
    },
  };
}

/** Says what the notes say, whenever it is asked. */
const SERVER = `import http.server, os, pandas
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(open("notes.md", "rb").read())
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Page).serve_forever()
`;

async function editUnread(workshop: Workshop): Promise<Race> {
  const wheels = await workshop.kept('data-wheels', (to) => run('python3', ['-m', 'pip', 'download', '--quiet', '--only-binary=:all:', '--python-version', '3.11', '--dest', to, ...DATA_PACKAGES]));
  const project = async (): Promise<{ dir: string; port: number }> => {
    const [dir, port] = [workshop.tempDir('unread'), await freePort()];
    cpSync(wheels, join(dir, 'wheels'), { recursive: true });
    const files = {
      'notes.md': 'notes\n', 'app.py': SERVER, 'requirements.txt': `${DATA_PACKAGES.join('\n')}\n`,
      'Dockerfile': `FROM ${DOCKER_BASE}\nWORKDIR /app\nCOPY . .\nRUN ${INSTALL_DATA}\nCMD ["python3", "app.py"]\n`,
      'hd.toml': `[environment]\nname = "unread"\nbase = "apt://${BASE.suite}?include=${BASE.include}"\n\n[build]\nsteps = ["${INSTALL_DATA}"]\n\n[services.web]\ncommand = "python3 app.py"\nport = ${port}\nenv = { PORT = "${port}" }\nwatch = ["app.py"]\n`,
    };
    for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text);
    return { dir, port };
  };
  const stack = new AsyncDisposableStack();
  try {
    const sides = [await hdSide(workshop, stack, await project())];
    const docker = await workshop.docker();
    if (docker !== undefined) sides.push(await dockerSide(docker, stack, await project()));
    return { sides, [Symbol.asyncDispose]: () => stack.disposeAsync() };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

type Running = { dir: string; port: number };

async function hdSide(workshop: Workshop, stack: AsyncDisposableStack, { dir, port }: Running): Promise<Side> {
  const hd = workshop.hd(dir);
  stack.defer(() => hd.down());
  await hd.up();
  await hd.follow();
  let { mark } = hd.stepsRun(0);
  return {
    name: 'hd',
    async run(round) {
      const sample = await untilShown(dir, port, round, async () => '');
      const now = hd.stepsRun(mark);
      mark = now.mark;
      return { ...sample, work: `ran ${now.ran} steps` };
    },
  };
}

async function dockerSide(docker: Docker, stack: AsyncDisposableStack, { dir, port }: Running): Promise<Side> {
  const tag = 'bench-unread';
  const env = { PORT: String(port) };
  await docker.build(dir, tag);
  await docker.run(tag, tag, env);
  stack.defer(() => docker.remove(tag));
  const again = async (): Promise<string> => {
    const { ran } = await docker.build(dir, tag);
    await docker.remove(tag);
    await docker.run(tag, tag, env);
    return `ran ${ran.join(', ')}`;
  };
  return { name: 'docker, naive Dockerfile', run: (round) => untilShown(dir, port, round, again) };
}

/** @param work brings the edit about, where it does not come by itself, and tells what was done */
async function untilShown(dir: string, port: number, round: number, work: () => Promise<string>): Promise<Sample> {
  const text = `edit ${RUN}-${round}.`;
  const startedMs = performance.now();
  writeFileSync(join(dir, 'notes.md'), text);
  const done = await work();
  await waitForPage(port, text);
  return { ms: performance.now() - startedMs, work: done };
}
