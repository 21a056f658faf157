import { closeSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, readSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { HdError, isErrno, toByteString, writeAll } from '@hyperdocker/base';
import type { Content, Document, ImageTarget } from './image-export.ts';
import { descriptor } from './image-export.ts';
import { REF_NAME, blobPath } from './image-source.ts';
import { isObject, parseJsonObject } from './manifest.ts';
import { formatReference } from './reference.ts';
import type { Reference } from './reference.ts';
import type { RegistryClient } from './registry.ts';
import { fileEnd, fileHeader } from './tar-writer.ts';

const LAYOUT = Buffer.from('{"imageLayoutVersion":"1.0.0"}');
const COPY_BYTES = 1 << 20;
const TAR_BLOCK = 512;

/** An OCI image layout: a directory. Images that are in it already stay, unless they have the same name. */
export class LayoutTarget implements ImageTarget {
  readonly #dir: string;
  readonly #name: string | undefined;

  /** @throws HdError EXPORT_TARGET where the directory holds something else */
  constructor(dir: string, name: string | undefined) {
    this.#dir = resolve(dir);
    this.#name = name;
    const there = namesIn(this.#dir);
    if (there.length > 0 && !there.includes('oci-layout')) throw new HdError('EXPORT_TARGET', `${this.#dir} is not empty, and no OCI image layout`, { hint: 'name a new directory' });
    mkdirSync(join(this.#dir, 'blobs/sha256'), { recursive: true });
  }

  has({ digest, size }: Content): Promise<boolean> {
    return Promise.resolve(statSync(join(this.#dir, blobPath({ digest })), { throwIfNoEntry: false })?.size === size);
  }

  putFile({ digest }: Content, path: string): Promise<void> {
    return Promise.resolve(this.#place(blobPath({ digest }), (temp) => copyFileSync(path, temp)));
  }

  putDocument({ digest, bytes }: Document): Promise<void> {
    return Promise.resolve(this.#place(blobPath({ digest }), (temp) => writeFileSync(temp, bytes)));
  }

  async finish(manifest: Document, config: Document): Promise<void> {
    await this.putDocument(manifest);
    this.#place('oci-layout', (temp) => writeFileSync(temp, LAYOUT));
    const { architecture, os } = parseJsonObject(config.bytes, 'its own configuration');
    const entry = { ...descriptor(manifest), ...(this.#name === undefined ? {} : { annotations: { [REF_NAME]: this.#name } }), platform: { architecture, os } };
    const manifests = [...this.#others(manifest.digest), entry];
    this.#place('index.json', (temp) => writeFileSync(temp, JSON.stringify({ schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests })));
  }

  /** What the index names already, but for an image of this name or these bytes. */
  #others(digest: string): unknown[] {
    const path = join(this.#dir, 'index.json');
    if (!existsSync(path)) return [];
    const { manifests } = parseJsonObject(readFileSync(path), path);
    return (Array.isArray(manifests) ? manifests : []).filter((entry) => {
      if (!isObject(entry)) return false;
      const name = isObject(entry['annotations']) ? entry['annotations'][REF_NAME] : undefined;
      return name !== this.#name && (entry['digest'] !== digest || name !== undefined);
    });
  }

  #place(path: string, write: (temp: string) => void): void {
    const target = join(this.#dir, path);
    const temp = `${target}.${process.pid}.partial`;
    try {
      write(temp);
      renameSync(temp, target);
    } catch (cause) {
      rmSync(temp, { force: true });
      throw new HdError('EXPORT_WRITE', `cannot write ${target}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    }
  }
}

/** One file that `docker load`, podman, skopeo and `docker-archive:` read: an OCI layout with the `manifest.json` of `docker save`. */
export class ArchiveTarget implements ImageTarget {
  readonly #file: string;
  readonly #name: string | undefined;
  readonly #parts: string;
  readonly #layout: LayoutTarget;

  /** Call `dispose`, whatever happens. */
  constructor(file: string, name: string | undefined) {
    this.#file = resolve(file);
    this.#name = name;
    try {
      this.#parts = mkdtempSync(join(dirname(this.#file), '.hd-export-'));
    } catch (cause) {
      throw new HdError('EXPORT_WRITE', `cannot write ${this.#file}`, { cause });
    }
    this.#layout = new LayoutTarget(this.#parts, name);
  }

  has(content: Content): Promise<boolean> {
    return this.#layout.has(content);
  }

  putFile(content: Content, path: string): Promise<void> {
    return this.#layout.putFile(content, path);
  }

  putDocument(document: Document): Promise<void> {
    return this.#layout.putDocument(document);
  }

  async finish(manifest: Document, config: Document, layers: readonly Content[]): Promise<void> {
    await this.#layout.finish(manifest, config);
    const saved = [{ Config: blobPath(config), RepoTags: this.#name === undefined ? null : [this.#name], Layers: layers.map(blobPath) }];
    writeFileSync(join(this.#parts, 'manifest.json'), JSON.stringify(saved));
    const blobs = readdirSync(join(this.#parts, 'blobs/sha256')).sort().map((name) => `blobs/sha256/${name}`);
    const temp = join(this.#parts, 'archive');
    const fd = openSync(temp, 'wx', 0o644);
    try {
      for (const name of ['oci-layout', 'index.json', 'manifest.json', ...blobs]) writeMember(fd, name, join(this.#parts, name));
      writeAll(fd, fileEnd());
    } catch (cause) {
      throw new HdError('EXPORT_WRITE', `cannot write ${this.#file}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    } finally {
      closeSync(fd);
    }
    renameSync(temp, this.#file);
  }

  [Symbol.dispose](): void {
    rmSync(this.#parts, { recursive: true, force: true });
  }
}

function writeMember(fd: number, name: string, path: string): void {
  const { size } = statSync(path);
  writeAll(fd, fileHeader(toByteString(name), size));
  const source = openSync(path, 'r');
  try {
    const piece = Buffer.allocUnsafe(Math.min(size, COPY_BYTES));
    for (let read = readSync(source, piece); read > 0; read = readSync(source, piece)) writeAll(fd, piece.subarray(0, read));
  } finally {
    closeSync(source);
  }
  writeAll(fd, Buffer.alloc((TAR_BLOCK - (size % TAR_BLOCK)) % TAR_BLOCK));
}

/** A repository of a registry. */
export class RegistryTarget implements ImageTarget {
  readonly #client: RegistryClient;
  readonly #reference: Reference;

  constructor(client: RegistryClient, reference: Reference) {
    if (reference.digest !== undefined) throw new HdError('IMAGE_REFERENCE', `${formatReference(reference)} names a digest: an image is pushed under a tag`, { hint: 'leave "@sha256:…" out' });
    this.#client = client;
    this.#reference = reference;
  }

  has({ digest }: Content): Promise<boolean> {
    return this.#client.hasBlob(this.#reference, digest);
  }

  putFile({ digest }: Content, path: string): Promise<void> {
    return this.#client.upload(this.#reference, digest, { path });
  }

  async putDocument(document: Document): Promise<void> {
    if (!(await this.has(document))) await this.#client.upload(this.#reference, document.digest, document);
  }

  finish(manifest: Document): Promise<void> {
    return this.#client.putManifest(this.#reference, manifest.bytes, manifest.mediaType);
  }
}

function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
    throw new HdError('EXPORT_TARGET', `${dir} is no directory that can be read`, { cause: error });
  }
}
