import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { HdError } from '@hyperdocker/base';
import { run } from '@hyperdocker/demo';

export interface Commit { id: string; subject: string; /** Files that it changes. */ files: string[] }

/** One working directory that walks through commits, as someone's who pulls. Only files that differ are written. */
export class Checkout {
  readonly dir: string;

  private constructor(dir: string) {
    this.dir = dir;
  }

  /** @param extra files that the project does not have, by name: they stay. */
  static async make(repo: string, dir: string, extra: Record<string, string>): Promise<Checkout> {
    await git(dir, 'clone', '--quiet', '--shared', '--no-checkout', repo, '.');
    for (const [name, text] of Object.entries(extra)) writeFileSync(join(dir, name), text);
    return new Checkout(dir);
  }

  async go({ id }: Commit): Promise<void> {
    await git(this.dir, 'checkout', '--quiet', '--force', '--detach', id);
  }
}

/** The last `count` commits of the main line that change files, oldest first; a merge is the change that it brings. @throws HdError BENCH_HISTORY */
export async function lastCommits(repo: string, count: number): Promise<Commit[]> {
  const text = await git(repo, 'log', '--first-parent', '-m', `--max-count=${count * 2}`, '--format=%x00%h%x09%s', '--name-only');
  const commits = text.split('\0').slice(1).map((entry): Commit => {
    const [head = '', ...rest] = entry.split('\n');
    const [id = '', subject = ''] = head.split('\t');
    return { id, subject, files: rest.filter((line) => line !== '') };
  }).filter(({ files }) => files.length > 0).slice(0, count);
  if (commits.length < count) throw new HdError('BENCH_HISTORY', `${repo} has ${commits.length} commits of that kind; ${count} are needed`, { hint: 'a clone with --depth is not enough' });
  return commits.toReversed();
}

/** All files of a commit, by path: mode and content. */
export async function snapshot(repo: string, { id }: Commit): Promise<Map<string, string>> {
  const text = await git(repo, 'ls-tree', '-r', '-z', id);
  return new Map(text.split('\0').filter((line) => line !== '').map((line) => [line.slice(line.indexOf('\t') + 1), line.slice(0, line.indexOf('\t'))]));
}

function git(cwd: string, ...args: string[]): Promise<string> {
  return run('git', ['-c', 'safe.directory=*', '-c', 'advice.detachedHead=false', ...args], { cwd });
}
