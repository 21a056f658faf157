/** Base images of a megabyte or two, made here from the static busybox of this machine: no network, and an environment is up in a second. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitUntil } from '@hyperdocker/testkit';
import { Rig, leftovers } from './rig.ts';
import type { ProjectRig } from './rig.ts';

const BUSYBOX = ['/bin/busybox', '/usr/bin/busybox'].find((path) => existsSync(path)) ?? '';

/** Why there is no such image here, or false. A busybox that needs shared libraries is of no use in an empty root. */
export const noBusybox: string | false = BUSYBOX === '' || readFileSync(BUSYBOX).subarray(0, 4096).includes('ld-linux') ? 'no static busybox on this machine (Debian has it in busybox-static)' : false;

export const busyboxProgram = BUSYBOX;

/** A root file system: busybox under all its names, root and a user `dev` (1000), /tmp. */
export function makeBusyboxRoot(dir: string): void {
  for (const path of ['bin', 'etc', 'root', 'tmp', 'home/dev']) mkdirSync(join(dir, path), { recursive: true });
  chmodSync(join(dir, 'tmp'), 0o1777);
  cpSync(BUSYBOX, join(dir, 'bin/busybox'));
  chmodSync(join(dir, 'bin/busybox'), 0o755);
  const names = execFileSync(BUSYBOX, ['--list'], { encoding: 'utf8' }).split('\n').filter((name) => name !== '' && name !== 'busybox');
  for (const name of names) symlinkSync('busybox', join(dir, 'bin', name));
  writeFileSync(join(dir, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\ndev:x:1000:1000:dev:/home/dev:/bin/sh\n');
  writeFileSync(join(dir, 'etc/group'), 'root:x:0:\ndev:x:1000:\nextra:x:2000:dev\n');
}

export interface OciImage {
  /** A directory for each layer, lowest first. What is in them is taken as it is: owners, modes, attributes; `.wh.NAME` is a whiteout. */
  layers: readonly string[];
  /** As in an image's configuration: Env, WorkingDir, User and so on. */
  config?: Readonly<Record<string, unknown>>;
  tag?: string;
}

/** Writes an OCI image layout. */
export function writeOciDir(dir: string, image: OciImage): void {
  mkdirSync(join(dir, 'blobs/sha256'), { recursive: true });
  const put = (bytes: Buffer): { digest: string; size: number } => {
    const hex = createHash('sha256').update(bytes).digest('hex');
    writeFileSync(join(dir, 'blobs/sha256', hex), bytes);
    return { digest: `sha256:${hex}`, size: bytes.length };
  };
  const layers = image.layers.map((layer) => put(tar(layer)));
  const config = put(json({ os: 'linux', architecture: process.arch === 'x64' ? 'amd64' : process.arch, config: image.config ?? {}, rootfs: { type: 'layers', diff_ids: layers.map(({ digest }) => digest) } }));
  const manifest = put(json({
    schemaVersion: 2,
    mediaType: MANIFEST,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...config },
    layers: layers.map((layer) => ({ mediaType: 'application/vnd.oci.image.layer.v1.tar', ...layer })),
  }));
  const annotations = { 'org.opencontainers.image.ref.name': image.tag ?? 'latest' };
  writeFileSync(join(dir, 'index.json'), json({ schemaVersion: 2, manifests: [{ mediaType: MANIFEST, ...manifest, annotations }] }));
  writeFileSync(join(dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
}

/** A rig with a busybox image in `busybox/` beside its projects, which have it as their base where they name none. */
export class BusyboxRig extends Rig {
  constructor() {
    super();
    const root = join(this.world.dir, 'busybox-root');
    makeBusyboxRoot(root);
    writeOciDir(join(this.world.dir, 'busybox'), { layers: [root] });
  }

  /** A project whose hd.toml is `[environment]` followed by `toml`; in it and in the files `PORT` stands for its port. */
  async environment(name: string, toml: string, files: Record<string, string> = {}, base = 'oci:../busybox'): Promise<ProjectRig> {
    return await this.project(name, { 'hd.toml': `[environment]\nname = "${name}"\nbase = "${base}"\n${toml}`, ...files });
  }
}

/** Waits until nothing runs or is mounted that mentions `path`. At once, but for the shells that guard containers: they end a moment after what they guard. */
export async function nothingLeft(path: string): Promise<void> {
  await waitUntil(`nothing of ${path} is left`, () => {
    const left = leftovers(path);
    if (left.length > 0) throw new Error(left.join('\n'));
    return true;
  }, { timeoutMs: 30_000 });
}

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

function tar(dir: string): Buffer {
  return execFileSync('tar', ['--sort=name', '--numeric-owner', '--xattrs', '--xattrs-include=*', '--pax-option=delete=atime,delete=ctime', '-C', dir, '-cf', '-', '.'], { maxBuffer: 512 * 2 ** 20 });
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}
