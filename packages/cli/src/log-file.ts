import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { StringDecoder } from 'node:string_decoder';
import { isErrno } from '@hyperdocker/base';

export interface LogEntry {
  service: string;
  /** Milliseconds since the epoch. */
  t: number;
  stream: 'stdout' | 'stderr';
  text: string;
}

/** What one service printed, as the supervisor appends it: a line of JSON for each line. */
export class LogFile {
  readonly #service: string;
  readonly #path: string;
  #offset = 0;
  #decoder = new StringDecoder('utf8');
  #partial = '';

  constructor(service: string, logsDir: string) {
    this.#service = service;
    this.#path = join(logsDir, `${service}.log`);
  }

  /** What was appended since the last call; all that is there, the first time. */
  read(): LogEntry[] {
    const lines = (this.#partial + this.#readNew()).split('\n');
    this.#partial = lines.pop() ?? '';
    return lines.filter((line) => line !== '').map((line) => ({ service: this.#service, ...(JSON.parse(line) as Omit<LogEntry, 'service'>) }));
  }

  #readNew(): string {
    let fd: number;
    try {
      fd = openSync(this.#path, 'r');
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return '';
      throw error;
    }
    try {
      const { size } = fstatSync(fd);
      if (size < this.#offset) this.#startOver();
      const buffer = Buffer.alloc(size - this.#offset);
      const read = readSync(fd, buffer, 0, buffer.length, this.#offset);
      this.#offset += read;
      return this.#decoder.write(buffer.subarray(0, read));
    } finally {
      closeSync(fd);
    }
  }

  /** A new run of the environment begins an empty file. */
  #startOver(): void {
    this.#offset = 0;
    this.#partial = '';
    this.#decoder = new StringDecoder('utf8');
  }
}
