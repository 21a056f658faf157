import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { formatMs, run, summarize } from '@hyperdocker/demo';
import { hasRegistry, startRegistry } from '../registry.ts';
import type { Race, Scenario, Side } from '../scenario.ts';
import type { Workshop } from '../workshop.ts';

const APP_FILES = 400;
const APP_FILE_BYTES = 64 * 1024;
const [FIRST, SECOND] = ['first', 'second'] as const;

/** An image from a registry on this machine, ready to be run. */
export const imageScenarios: Scenario[] = [
  {
    name: 'images.pull', rounds: 5, unable,
    what: `An image of a Debian with Python, and ${(APP_FILES * APP_FILE_BYTES) / 2 ** 20} MiB of other files above it, gzip, from a registry on the loopback into an empty store until it could be run: \`hd image pull\`, \`docker pull\`, \`podman pull\`, \`skopeo copy\` to an OCI layout and \`umoci unpack\``,
    open: (workshop) => open(workshop, false),
  },
  {
    name: 'images.second', rounds: 5, unable,
    what: 'A second image with the same Debian and other files above it, nine tenths the same, into the store that has the first',
    open: (workshop) => open(workshop, true),
  },
];

function unable(): string | undefined {
  const missing = [...(hasRegistry ? [] : ['docker-registry']), ...(isInstalled('skopeo') ? [] : ['skopeo'])];
  return missing.length === 0 ? undefined : `it needs ${missing.join(' and ')}`;
}

function isInstalled(program: string): boolean {
  return spawnSync(program, ['--version']).error === undefined;
}

/** One tool, with a store of its own. */
interface Puller {
  name: string;
  /** An empty store. Unmeasured. */
  empty(): Promise<void>;
  pull(image: string): Promise<void>;
  /** Runs in the background, and does the work. */
  daemonPid?: number | undefined;
  /** Where its store is. */
  dir: string;
}

async function open(workshop: Workshop, second: boolean): Promise<Race> {
  const dir = workshop.tempDir('images');
  const registry = await startRegistry(join(dir, 'registry'));
  const layouts = await workshop.kept('pulled-images', (made) => makeImages(workshop, made));
  const image = (name: string): string => `${registry.host}/bench/${name}:1`;
  for (const name of [FIRST, SECOND]) await run('skopeo', ['copy', '--quiet', '--dest-tls-verify=false', `oci:${join(layouts, name)}:1`, `docker://${image(name)}`]);
  const { pullers, absent } = await findPullers(workshop, dir);
  const used = new Map<string, { cpuMs: number; bytes: number }[]>();
  const sides = pullers.map((puller): Side => ({
    name: puller.name,
    async run() {
      await puller.empty();
      if (second) await puller.pull(image(FIRST));
      const before = await diskBytes(puller.dir);
      const [startedMs, startedCpuMs] = [performance.now(), processorMs(puller.daemonPid)];
      await puller.pull(image(second ? SECOND : FIRST));
      const [ms, cpuMs] = [performance.now() - startedMs, processorMs(puller.daemonPid) - startedCpuMs];
      const after = await diskBytes(puller.dir);
      used.set(puller.name, [...(used.get(puller.name) ?? []), { cpuMs, bytes: after - before }]);
      return { ms, work: `${mebibytes(after - before)} more on the disk` };
    },
  }));
  return {
    sides, absent,
    report: () => processorTable(second ? 'images.second' : 'images.pull', used),
    [Symbol.asyncDispose]: async () => {
      for (const puller of pullers) await puller.empty();
      await registry[Symbol.asyncDispose]();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

async function findPullers(workshop: Workshop, dir: string): Promise<{ pullers: Puller[]; absent: string[] }> {
  const hdHome = join(dir, 'hd');
  const pullers: Puller[] = [{
    name: 'hd image pull', dir: hdHome,
    empty: async () => rmSync(hdHome, { recursive: true, force: true }),
    pull: async (image) => void (await workshop.hd(dir, { HD_HOME: hdHome }).run('image', 'pull', '--quiet', image)),
  }];
  const absent: string[] = [];
  const docker = await workshop.docker();
  if (docker === undefined) absent.push('docker');
  else pullers.push({ name: 'docker pull', dir: docker.dataDir ?? '', daemonPid: docker.daemonPid, empty: () => docker.removeImages('127.0.0.1:*/bench/*'), pull: (image) => docker.pull(image) });
  const storage = join(dir, 'podman');
  const podman = ['--root', join(storage, 'root'), '--runroot', join(storage, 'run'), '--storage-driver', 'overlay'];
  if (!isInstalled('podman')) absent.push('podman');
  else {
    pullers.push({
      name: 'podman pull', dir: storage,
      async empty() {
        await run('podman', [...podman, 'rmi', '--all', '--force']);
      },
      pull: async (image) => void (await run('podman', [...podman, 'pull', '--quiet', '--tls-verify=false', image])),
    });
  }
  const unpacked = join(dir, 'umoci');
  if (!isInstalled('umoci')) absent.push('umoci');
  else {
    pullers.push({
      name: 'skopeo copy, umoci unpack', dir: unpacked,
      async empty() {
        rmSync(unpacked, { recursive: true, force: true });
        mkdirSync(unpacked, { recursive: true });
      },
      async pull(image) {
        const name = image.split('/').at(-1)?.split(':')[0] ?? '';
        await run('skopeo', ['copy', '--quiet', '--src-tls-verify=false', `docker://${image}`, `oci:${join(unpacked, 'layout')}:${name}`]);
        await run('umoci', ['unpack', '--image', `${join(unpacked, 'layout')}:${name}`, join(unpacked, name)]);
      },
    });
  }
  return { pullers, absent };
}

/** Two layouts: the same Debian, and slices of a large program that are others in each. */
async function makeImages(workshop: Workshop, made: string): Promise<void> {
  const base = join(made, 'base.tar.gz');
  const marker = join(made, 'not-the-base-that-docker-has');
  writeFileSync(marker, '');
  // One more file makes it another layer than that of the other scenarios' base, which Docker would not pull.
  await run('sh', ['-c', 'cp "$0" "$1.tar" && tar -rf "$1.tar" -C "$2" "$3" && gzip -6 -n < "$1.tar" > "$1" && rm "$1.tar"', await workshop.baseTar(), base, made, 'not-the-base-that-docker-has']);
  const program = readFileSync(process.execPath);
  for (const [nth, name] of [FIRST, SECOND].entries()) {
    const files = join(made, `${name}-files/opt/app`);
    mkdirSync(files, { recursive: true });
    for (let i = 0; i < APP_FILES; i++) writeFileSync(join(files, String(i)), program.subarray((nth * APP_FILES + i) * APP_FILE_BYTES, (nth * APP_FILES + i + 1) * APP_FILE_BYTES));
    const app = join(made, `${name}.tar.gz`);
    await run('sh', ['-c', 'tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$0" -cf - opt | gzip -6 -n > "$1"', join(made, `${name}-files`), app]);
    await writeLayout(join(made, name), [base, app]);
    rmSync(join(made, `${name}-files`), { recursive: true });
    rmSync(app);
  }
  for (const file of [base, marker]) rmSync(file);
}

async function writeLayout(dir: string, layers: readonly string[]): Promise<void> {
  mkdirSync(join(dir, 'blobs/sha256'), { recursive: true });
  const put = (bytes: Buffer): { digest: string; size: number } => {
    const hex = createHash('sha256').update(bytes).digest('hex');
    writeFileSync(join(dir, 'blobs/sha256', hex), bytes);
    return { digest: `sha256:${hex}`, size: bytes.length };
  };
  const descriptors = [];
  const diffIds = [];
  for (const layer of layers) {
    const copy = `${dir}/layer`;
    await run('cp', [layer, copy]);
    const hex = (await run('sha256sum', [copy])).slice(0, 64);
    renameSync(copy, join(dir, 'blobs/sha256', hex));
    descriptors.push({ mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: `sha256:${hex}`, size: statSync(layer).size });
    diffIds.push(`sha256:${(await run('sh', ['-c', 'gzip -dc "$0" | sha256sum', layer])).slice(0, 64)}`);
  }
  const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
  const config = put(Buffer.from(JSON.stringify({ os: 'linux', architecture, config: { Cmd: ['sh'] }, rootfs: { type: 'layers', diff_ids: diffIds } })));
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = put(Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...config }, layers: descriptors })));
  writeFileSync(join(dir, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [{ mediaType, ...manifest, annotations: { 'org.opencontainers.image.ref.name': '1' } }] }));
  writeFileSync(join(dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
}

async function diskBytes(dir: string): Promise<number> {
  const text = await run('sh', ['-c', 'test -e "$0" || { echo 0; exit; }; du -sB1 -x "$0" 2>/dev/null', dir]);
  return Number(text.split('\t')[0]?.trim());
}

/** What all processes that were started here, and have ended, have used of the processors, and a daemon with its own. */
function processorMs(daemonPid: number | undefined): number {
  return childrenMs(process.pid) + (daemonPid === undefined ? 0 : childrenMs(daemonPid) + ownMs(daemonPid));
}

/** Of /proc/PID/stat, in ticks of 10 ms. */
function ticks(pid: number, first: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[first]) + Number(fields[first + 1]);
}

const ownMs = (pid: number): number => 10 * ticks(pid, 11);
const childrenMs = (pid: number): number => 10 * ticks(pid, 13);

/** The first round of all is not measured, here neither. */
function processorTable(scenario: string, used: ReadonlyMap<string, readonly { cpuMs: number; bytes: number }[]>): string {
  const rows = [...used].map(([name, samples]) => {
    const cpu = summarize(samples.slice(1).map(({ cpuMs }) => cpuMs));
    return `| ${name} | ${formatMs(cpu.median)} | ${formatMs(cpu.min)} – ${formatMs(cpu.max)} | ${mebibytes(samples.at(-1)?.bytes ?? 0)} |`;
  });
  return [`Processor time of \`${scenario}\`, of all that took part but the registry:`, '', '| Side | Median | Min – max | More on the disk |', '|---|---|---|---|', ...rows].join('\n');
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}
