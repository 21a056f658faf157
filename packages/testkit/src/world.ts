import { HdError } from '@hyperdocker/base';
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** A project and a home for `hd` of a test's own. */
export interface World extends AsyncDisposable {
  /** Holds the two below. Real path, without links. */
  readonly dir: string;
  /** Empty at first: where hd.toml and the sources go. */
  readonly project: string;
  /** HD_HOME: store and state. */
  readonly home: string;
  /** Gives `hd` this world's home. */
  readonly env: Readonly<Record<string, string>>;
  /** Writes files below the project. Keys are relative paths. */
  write(files: Readonly<Record<string, string>>): void;
  path(...parts: string[]): string;
}

/**
 * Made under the temporary directory of the system, and removed at the end of its scope:
 *
 *     await using world = tempWorld({ 'hd.toml': … });
 *
 * @throws HdError LEFT_MOUNTED at the end if something is still mounted in it: nothing is removed then, since removal
 * could reach through the mount.
 */
export function tempWorld(files: Readonly<Record<string, string>> = {}): World {
  const dir = realpathSync(mkdtempSync(join(tmpdir(), 'hd-world-')));
  const project = join(dir, 'project');
  const home = join(dir, 'home');
  mkdirSync(project);
  mkdirSync(home);
  const world: World = {
    dir,
    project,
    home,
    // No server stays behind a build: a test of those says so.
    env: { HD_HOME: home, HD_LINGER_SECONDS: '0' },
    path: (...parts) => join(project, ...parts),
    write(more) {
      for (const [name, content] of Object.entries(more)) {
        mkdirSync(dirname(join(project, name)), { recursive: true });
        writeFileSync(join(project, name), content);
      }
    },
    async [Symbol.asyncDispose]() {
      const mounts = mountsBelow(dir);
      if (mounts.length > 0) throw new HdError('LEFT_MOUNTED', `still mounted after the test: ${mounts.join(', ')}`);
      rmSync(dir, { recursive: true, force: true, maxRetries: 3 });
    },
  };
  world.write(files);
  return world;
}

function mountsBelow(dir: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((mountPoint) => mountPoint.startsWith(`${dir}/`));
}
