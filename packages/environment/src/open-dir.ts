import { closeSync, constants, fchownSync, fstatSync, lstatSync, mkdirSync, openSync, type BigIntStats } from 'node:fs';
import type { ByteString } from '@hyperdocker/base';
import { isErrno, toBuffer } from '@hyperdocker/base';

const { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } = constants;

/** Whose new directories are. */
export interface Owner { uid: number; gid: number }

/**
 * A directory that is open. What is in it is reached through its descriptor, name by name and never through a link: nobody who may write there can lead the way elsewhere
 * while it is walked.
 */
export class OpenDir implements Disposable {
  readonly #fd: number;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** A directory that is trusted, as the path says. */
  static open(path: string): OpenDir {
    return new OpenDir(openSync(path, O_RDONLY | O_DIRECTORY));
  }

  /** The directory that holds `path`, below `root`. Undefined: on the way there is none, or something else. @param make missing ones, for this owner */
  static parentOf(root: string, path: ByteString, make?: Owner): OpenDir | undefined {
    let dir = OpenDir.open(root);
    for (const name of path.split('/').slice(0, -1)) {
      using last = dir;
      const next = last.enter(name as ByteString, make);
      if (next === undefined) return undefined;
      dir = next;
    }
    return dir;
  }

  /** Good for as long as this is open. */
  at(name: ByteString): Buffer {
    return Buffer.concat([Buffer.from(`/proc/self/fd/${this.#fd}/`), toBuffer(name)]);
  }

  stat(name: ByteString): BigIntStats | undefined {
    return lstatSync(this.at(name), { bigint: true, throwIfNoEntry: false });
  }

  enter(name: ByteString, make?: Owner): OpenDir | undefined {
    if (make !== undefined && this.stat(name) === undefined) return this.#make(name, make);
    try {
      return new OpenDir(openSync(this.at(name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return undefined;
      throw error;
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  #make(name: ByteString, { uid, gid }: Owner): OpenDir | undefined {
    mkdirSync(this.at(name), { mode: 0o755 });
    const made = this.enter(name);
    if (made !== undefined) chownIfOther(made.#fd, { uid, gid });
    return made;
  }
}

/** Where it is theirs already, no right is asked for. */
export function chownIfOther(fd: number, { uid, gid }: Owner): void {
  const now = fstatSync(fd);
  if (now.uid !== uid || now.gid !== gid) fchownSync(fd, uid, gid);
}
