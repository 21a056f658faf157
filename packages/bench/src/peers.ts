import { accessSync, constants, mkdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { run } from '@hyperdocker/demo';

/** Another tool that keeps directories. A repository is a directory that is not there yet. */
export interface Peer {
  readonly name: string;
  /** What makes it comparable. */
  readonly note: string;
  init(repository: string): Promise<void>;
  /** Everything in `tree` stored and on the disk. May be called again for what has changed. */
  store(repository: string, tree: string, round: number): Promise<void>;
  /** The last that was stored into a new directory. */
  restore(repository: string, target: string, round: number): Promise<void>;
}

/** Those that are installed, and the names of those that are not. */
export function findPeers(): { peers: Peer[]; absent: string[] } {
  const all: [command: string, peer: Peer][] = [['restic', RESTIC], ['borg', BORG], ['casync', CASYNC], ['git', GIT]];
  return { peers: all.filter(([command]) => isInstalled(command)).map(([, peer]) => peer), absent: all.filter(([command]) => !isInstalled(command)).map(([command]) => command) };
}

const RESTIC: Peer = {
  name: 'restic',
  note: 'opening the repository derives a key: part of its time',
  async init(repository) {
    await restic(repository, ['init', '--repository-version', '2']);
  },
  async store(repository, tree) {
    await restic(repository, ['backup', '.'], tree);
  },
  async restore(repository, target) {
    await restic(repository, ['restore', 'latest', '--target', target]);
  },
};

const BORG: Peer = {
  name: 'borg',
  note: 'no encryption, its own compression (lz4)',
  async init(repository) {
    await borg(repository, ['init', '--encryption=none', repository]);
  },
  async store(repository, tree, round) {
    await borg(repository, ['create', `${repository}::${round}-${process.hrtime.bigint()}`, '.'], tree);
  },
  async restore(repository, target) {
    mkdirSync(target);
    const archives = await borg(repository, ['list', '--short', repository]);
    await borg(repository, ['extract', `${repository}::${archives.trim().split('\n').at(-1)}`], target);
  },
};

const CASYNC: Peer = {
  name: 'casync',
  note: 'followed by a sync of the file system, which it does not do',
  async init(repository) {
    mkdirSync(repository);
  },
  async store(repository, tree) {
    await run('casync', ['make', `--store=${join(repository, 'store.castr')}`, join(repository, 'index.caidx'), tree]);
    await run('sync', ['-f', repository]);
  },
  async restore(repository, target) {
    await run('casync', ['extract', `--store=${join(repository, 'store.castr')}`, join(repository, 'index.caidx'), target]);
  },
};

const GIT: Peer = {
  name: 'git',
  note: 'git add with core.fsync=all, core.fsyncMethod=batch; keeps no owners and times',
  async init(repository) {
    await run('git', ['init', '--quiet', '--bare', repository]);
  },
  async store(repository, tree) {
    await run('git', ['-c', 'core.fsync=all', '-c', 'core.fsyncMethod=batch', `--git-dir=${repository}`, `--work-tree=${tree}`, 'add', '--all', '--force', '.'], { cwd: tree });
  },
  async restore(repository, target) {
    mkdirSync(target);
    await run('git', [`--git-dir=${repository}`, `--work-tree=${target}`, 'checkout-index', '--all', '--force'], { cwd: target });
  },
};

function restic(repository: string, args: string[], cwd?: string): Promise<string> {
  const env = { ...process.env, RESTIC_PASSWORD: 'bench', RESTIC_CACHE_DIR: `${repository}.cache` };
  return run('restic', ['--repo', repository, '--quiet', ...args], { env, ...(cwd === undefined ? {} : { cwd }) });
}

function borg(repository: string, args: string[], cwd?: string): Promise<string> {
  const env = { ...process.env, BORG_BASE_DIR: `${repository}.base`, BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes', BORG_RELOCATED_REPO_ACCESS_IS_OK: 'yes' };
  return run('borg', args, { env, ...(cwd === undefined ? {} : { cwd }) });
}

function isInstalled(command: string): boolean {
  return (process.env['PATH'] ?? '').split(delimiter).some((dir) => {
    try {
      accessSync(join(dir, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
