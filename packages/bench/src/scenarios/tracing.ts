import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { HdError } from '@hyperdocker/base';
import { run } from '@hyperdocker/demo';
import { emptyPageCache } from '../page-cache.ts';
import type { Hd } from '../hd.ts';
import type { Race, Sample, Scenario, Side } from '../scenario.ts';
import type { Workshop } from '../workshop.ts';
import { BASE } from '../workshop.ts';

/** Every step finds its tools in the one image, and all that it would fetch in the project. */
const IMAGE = `${BASE.include},gcc,libc6-dev,make,nodejs,npm`;
const C_FILES = 100;

interface Case {
  name: string;
  what: string;
  step: string;
  /** Puts what the step works on into the project's directory. */
  fill(workshop: Workshop, dir: string): Promise<void>;
}

const CASES: Case[] = [
  {
    name: 'pip', what: '`pip install` of Flask and its six dependencies from wheels in the project',
    step: 'pip install --break-system-packages --no-cache-dir --no-index --find-links wheels -r requirements.txt', fill: wheels,
  },
  { name: 'c', what: `\`make\` of ${C_FILES} C files that include a dozen headers each`, step: 'make', fill: cFiles },
  { name: 'npm', what: '`npm ci` and `tsc` of the example node-ts, from a cache in the project', step: 'npm ci --offline --no-audit --cache .npm && npx --offline tsc', fill: npmProject },
];

export const tracingScenarios: Scenario[] = [
  ...CASES.flatMap((one) => [false, true].map((cold): Scenario => ({
    name: `tracing.${one.name}${cold ? '-cold' : ''}`, rounds: cold ? 5 : 9,
    what: `${one.what}: the step alone, from its mounts to the end of its container, as \`hd build\` tells. Traced on a fresh mount; beside an overlay on the same tree as files (\`HD_FUSE=off\`)${cold ? '; the page cache is emptied before each' : ''}`,
    open: (workshop) => tracedOrNot(workshop, one, cold),
  }))),
  {
    name: 'tracing.first-touch', rounds: 5,
    what: 'One `stat` of a path that nobody has looked at since the mount, the mean of all files below /usr; beside the same on files',
    open: (workshop) => tracedOrNot(workshop, FIRST_TOUCH, false, microseconds),
  },
];

const FIRST_TOUCH: Case = {
  name: 'first-touch', what: '', step: 'python3 touch.py',
  fill: async (_, dir) => writeFileSync(join(dir, 'touch.py'), `import os, time
paths = []
for folder, _, files in os.walk("/usr"):
    paths += [os.path.join(folder, file) for file in files]
started = time.perf_counter()
for path in paths:
    os.lstat(path)
print("microseconds", 1e6 * (time.perf_counter() - started) / len(paths))
`),
};

/** The step runs each time: without an action cache nothing is known of it. */
async function tracedOrNot(workshop: Workshop, { step, fill }: Case, cold: boolean, measure = duration): Promise<Race> {
  const dir = workshop.tempDir('project');
  await fill(workshop, dir);
  writeFileSync(join(dir, 'hd.toml'), `[environment]\nname = "tracing"\nbase = "apt://${BASE.suite}?include=${IMAGE}"\n\n[build]\nnetwork = false\nsteps = ['${step}']\n`);
  const side = (name: string, hd: Hd): Side => ({
    name,
    async run() {
      for (const suffix of ['', '-wal', '-shm']) rmSync(join(workshop.hdHome, `actions.sqlite${suffix}`), { force: true });
      if (cold) await emptyPageCache();
      return measure(await hd.build());
    },
  });
  return {
    sides: [side('untraced', workshop.hd(dir, { HD_FUSE: 'off' })), side('traced', workshop.hd(dir))],
    [Symbol.asyncDispose]: async () => rmSync(dir, { recursive: true, force: true }),
  };
}

type Events = Awaited<ReturnType<Hd['build']>>;

function duration(events: Events): Sample {
  const ran = events.find((event) => event.type === 'step' && event.status === 'ran');
  if (ran?.type !== 'step' || ran.status !== 'ran') throw new HdError('BENCH_STEP', 'the step has not run');
  return { ms: ran.ms, work: `${ran.facts} facts` };
}

function microseconds(events: Events): Sample {
  const output = events.map((event) => (event.type === 'step-output' ? event.text : '')).join('');
  return { ms: Number(/microseconds ([\d.]+)/.exec(output)?.[1]) / 1e3, work: duration(events).work };
}

async function wheels(workshop: Workshop, dir: string): Promise<void> {
  const requirements = join(workshop.checkout, 'examples/flask-demo/requirements.txt');
  const kept = await workshop.kept('wheels', (to) => run('python3', ['-m', 'pip', 'download', '--quiet', '--only-binary=:all:', '--python-version', '3.11', '--dest', to, '--requirement', requirements]));
  cpSync(kept, join(dir, 'wheels'), { recursive: true });
  cpSync(requirements, join(dir, 'requirements.txt'));
}

export async function npmProject(workshop: Workshop, dir: string): Promise<void> {
  const example = join(workshop.checkout, 'examples/node-ts');
  const kept = await workshop.kept('npm-cache', async (to) => {
    const scratch = workshop.tempDir('npm');
    cpSync(example, scratch, { recursive: true });
    return run('npm', ['ci', '--ignore-scripts', '--no-audit', '--cache', to], { cwd: scratch });
  });
  for (const name of ['package.json', 'package-lock.json', 'tsconfig.json', 'src']) cpSync(join(example, name), join(dir, name), { recursive: true });
  cpSync(join(kept, '_cacache'), join(dir, '.npm/_cacache'), { recursive: true });
}

async function cFiles(_workshop: Workshop, dir: string): Promise<void> {
  const headers = ['stdio', 'stdlib', 'string', 'errno', 'fcntl', 'unistd', 'sys/stat', 'sys/mman', 'pthread', 'math', 'time', 'signal'];
  mkdirSync(join(dir, 'src'));
  for (let i = 0; i < C_FILES; i++) {
    writeFileSync(join(dir, `src/part-${i}.h`), `int part_${i}(int);\n`);
    const calls = i === 0 ? '' : `#include "part-${i - 1}.h"\n`;
    writeFileSync(join(dir, `src/part-${i}.c`), `${headers.map((name) => `#include <${name}.h>\n`).join('')}${calls}#include "part-${i}.h"\nint part_${i}(int n) { char text[64]; snprintf(text, sizeof text, "%d", n); return (int)strlen(text)${i === 0 ? '' : ` + part_${i - 1}(n + 1)`}; }\n`);
  }
  writeFileSync(join(dir, 'src/main.c'), `#include "part-${C_FILES - 1}.h"\nint main(void) { return part_${C_FILES - 1}(1) == 0; }\n`);
  writeFileSync(join(dir, 'Makefile'), 'OBJECTS = $(patsubst src/%.c,build/%.o,$(wildcard src/*.c))\nbuild/program: $(OBJECTS)\n\tgcc -o $@ $^\nbuild/%.o: src/%.c | build\n\tgcc -O1 -c -o $@ $<\nbuild:\n\tmkdir -p build\n');
}
