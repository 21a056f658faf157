import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { HdError } from '@hyperdocker/base';
import { run } from '@hyperdocker/demo';

interface IndexFile { packs: { blobs: { id: string; type: 'data' | 'tree'; length: number; uncompressed_length?: number }[] }[] }
/** Pieces of files in a repository: how many, uncompressed, and as stored (encrypted, without the packs' headers). `diskBytes`: all of its files. */
export interface ResticCost { objects: number; uniqueBytes: number; storedBytes: number; diskBytes: number }

/** A repository of restic's in a new directory, with its own defaults: zstd, packs, content-defined chunks of 1 MiB on average. */
export class Restic {
  readonly #env: NodeJS.ProcessEnv;
  readonly #dir: string;

  private constructor(dir: string) {
    this.#dir = dir;
    this.#env = { ...process.env, RESTIC_REPOSITORY: dir, RESTIC_PASSWORD: 'benchmark' };
  }

  static async init(dir: string): Promise<Restic> {
    const restic = new Restic(dir);
    await restic.#run('init');
    return restic;
  }

  /** Undefined where it is not installed. */
  static async version(): Promise<string | undefined> {
    try {
      return /^restic (\S+)/.exec(await run('restic', ['version']))?.[1];
    } catch (error) {
      if (error instanceof HdError) throw error;
      return undefined;
    }
  }

  async backup(dir: string): Promise<void> {
    await this.#run('backup', '--quiet', '--host=bench', dir);
  }

  async cost(): Promise<ResticCost> {
    const sizes = new Map<string, { raw: number; stored: number }>();
    const ids = (await this.#run('list', '--quiet', 'index')).trim().split('\n');
    for (const id of ids) {
      const { packs } = JSON.parse(await this.#run('cat', '--quiet', 'index', id)) as IndexFile;
      for (const { id: blob, type, length, uncompressed_length: raw } of packs.flatMap(({ blobs }) => blobs)) {
        if (type === 'data') sizes.set(blob, { raw: raw ?? length, stored: length });
      }
    }
    const all = [...sizes.values()];
    return {
      objects: all.length,
      uniqueBytes: all.reduce((sum, { raw }) => sum + raw, 0),
      storedBytes: all.reduce((sum, { stored }) => sum + stored, 0),
      diskBytes: readdirSync(this.#dir, { recursive: true, encoding: 'utf8' }).reduce((sum, name) => sum + fileBytes(join(this.#dir, name)), 0),
    };
  }

  #run(...args: string[]): Promise<string> {
    return run('restic', ['--no-cache', ...args], { env: this.#env });
  }
}

function fileBytes(path: string): number {
  const stat = lstatSync(path);
  return stat.isFile() ? stat.size : 0;
}
