import { closeSync, ftruncateSync, openSync } from 'node:fs';
import { join } from 'node:path';
import type { ByteString } from '@hyperdocker/base';
import { writeAll } from './blob-spool.ts';
import { decompressed } from './decompress.ts';
import { TarReader } from './tar-reader.ts';
import type { TarEntry, TarSink } from './tar-reader.ts';

const LINK_HOPS_MAX = 8;

/** The files of an archive under numbers in a directory of ours: no name from the archive becomes a path. */
export class ArchiveFiles implements TarSink {
  readonly #directory: string;
  readonly #files = new Map<string, string>();
  /** Old `docker save` links equal layers to each other. */
  readonly #links = new Map<string, string>();
  #count = 0;
  #fd: number | undefined;
  /** Of the file that is being written. */
  #sizeBytes = 0;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async extract(archive: string, directory: string, name: string, signal: AbortSignal | undefined): Promise<ArchiveFiles> {
    const files = new ArchiveFiles(directory);
    try {
      const reader = new TarReader(files);
      for await (const chunk of decompressed(archive, { name, signal })) reader.push(chunk);
      reader.finish();
    } finally {
      files.end();
    }
    return files;
  }

  find(path: ByteString): string | undefined {
    let name: string | undefined = normalize(path);
    for (let hops = 0; hops < LINK_HOPS_MAX && name !== undefined; hops++) {
      const file = this.#files.get(name);
      if (file !== undefined) return file;
      name = this.#links.get(name);
    }
    return undefined;
  }

  entry(entry: TarEntry): void {
    const name = normalize(entry.name);
    this.#links.delete(name);
    this.#files.delete(name);
    if (entry.kind === 'link') this.#links.set(name, normalize(entry.linkName));
    if (entry.kind === 'symlink') this.#links.set(name, normalize(`${name.slice(0, name.lastIndexOf('/') + 1)}${entry.linkName}`));
    if (entry.kind !== 'file') return;
    const path = join(this.#directory, `file-${this.#count++}`);
    this.#files.set(name, path);
    this.#fd = openSync(path, 'wx', 0o600);
    this.#sizeBytes = 0;
  }

  data(bytes: Buffer): void {
    if (this.#fd !== undefined) writeAll(this.#fd, bytes, this.#sizeBytes);
    this.#sizeBytes += bytes.length;
  }

  hole(sizeBytes: number): void {
    this.#sizeBytes += sizeBytes;
    if (this.#fd !== undefined) ftruncateSync(this.#fd, this.#sizeBytes);
  }

  end(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}

function normalize(path: string): string {
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return parts.join('/');
}
