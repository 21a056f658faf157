import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export interface TestImage {
  /** As stored: compressed or not. */
  layers: { stored: Buffer; plain: Buffer }[];
  config?: Record<string, unknown>;
}

export interface BuiltImage { manifest: Buffer; manifestDigest: string; config: Buffer; blobs: Map<string, Buffer> }

export function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

/** An OCI manifest with its blobs, by digest. */
export function buildImage(image: TestImage): BuiltImage {
  const config = Buffer.from(JSON.stringify({ os: 'linux', architecture: 'amd64', ...image.config, rootfs: { type: 'layers', diff_ids: image.layers.map(({ plain }) => sha256(plain)) } }));
  const blobs = new Map([config, ...image.layers.map(({ stored }) => stored)].map((bytes) => [sha256(bytes), bytes]));
  const descriptor = (mediaType: string, bytes: Buffer) => ({ mediaType, digest: sha256(bytes), size: bytes.length });
  const manifest = Buffer.from(JSON.stringify({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: descriptor('application/vnd.oci.image.config.v1+json', config),
    layers: image.layers.map(({ stored }) => descriptor('application/vnd.oci.image.layer.v1.tar', stored)),
  }));
  return { manifest, manifestDigest: sha256(manifest), config, blobs };
}

export function writeOciDir(directory: string, image: BuiltImage, annotations: Record<string, string>[]): void {
  mkdirSync(join(directory, 'blobs/sha256'), { recursive: true });
  for (const [digest, bytes] of [...image.blobs, [image.manifestDigest, image.manifest] as const]) writeFileSync(join(directory, 'blobs', digest.replace(':', '/')), bytes);
  const manifests = annotations.map((names) => ({ mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: image.manifestDigest, size: image.manifest.length, annotations: names }));
  writeFileSync(join(directory, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
  writeFileSync(join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
}

export const hasDockerRegistry = spawnSync('docker-registry', ['--version']).status === 0;

/** A real registry on a free loopback port. */
export async function startDockerRegistry(directory: string): Promise<{ host: string; stop(): Promise<void> }> {
  mkdirSync(join(directory, 'data'), { recursive: true });
  const config = join(directory, 'config.yml');
  writeFileSync(config, `version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: ${JSON.stringify(join(directory, 'data'))}}}\nhttp: {addr: "127.0.0.1:0"}\n`);
  const child: ChildProcess = spawn('docker-registry', ['serve', config], { stdio: ['ignore', 'pipe', 'pipe'] });
  const port = await new Promise<string>((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`docker-registry ended with ${code}`)));
    for (const stream of [child.stdout, child.stderr]) {
      if (stream === null) continue;
      createInterface({ input: stream }).on('line', (line) => {
        const found = /listening on 127\.0\.0\.1:(\d+)/.exec(line)?.[1];
        if (found !== undefined) resolve(found);
      });
    }
  });
  return {
    host: `127.0.0.1:${port}`,
    async stop() {
      const exited = once(child, 'exit');
      child.kill();
      await exited;
    },
  };
}

export async function push(host: string, repository: string, tag: string, image: BuiltImage): Promise<void> {
  for (const [digest, bytes] of image.blobs) {
    const begun = await fetch(`http://${host}/v2/${repository}/blobs/uploads/`, { method: 'POST' });
    const location = new URL(begun.headers.get('location') ?? '', `http://${host}`);
    location.searchParams.set('digest', digest);
    await expectCreated(await fetch(location, { method: 'PUT', body: new Uint8Array(bytes), headers: { 'content-type': 'application/octet-stream' } }));
  }
  await putManifest(host, repository, tag, image.manifest, 'application/vnd.oci.image.manifest.v1+json');
}

export async function putManifest(host: string, repository: string, tag: string, bytes: Buffer, type: string): Promise<void> {
  await expectCreated(await fetch(`http://${host}/v2/${repository}/manifests/${tag}`, { method: 'PUT', body: new Uint8Array(bytes), headers: { 'content-type': type } }));
}

async function expectCreated(response: Response): Promise<void> {
  if (response.status !== 201) throw new Error(`the registry answered ${response.status}: ${await response.text()}`);
}
