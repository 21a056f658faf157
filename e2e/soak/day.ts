import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Random } from '../soundness/random.ts';
import { applyEdit, pathsBelow, randomEdit } from '../soundness/edits.ts';
import { randomNames } from '../soundness/names.ts';

/** What a day at a project consists of. */
export type Deed = 'edits' | 'save' | 'rename' | 'many' | 'branch' | 'stash' | 'crash' | 'step' | 'tree';

/** How often, of a hundred. */
const SHARES: [Deed, number][] = [['edits', 44], ['save', 26], ['rename', 9], ['tree', 6], ['branch', 4], ['stash', 3], ['many', 1], ['crash', 2], ['step', 2]];
const BRANCHES = ['main', 'feature', 'old'];
const MANY_FILES = 300;

/**
 * Random work on a project in a git repository: what editors, shells and git do, in bursts. Everything below `play/` may become anything; `data/` is what the build
 * step reads; `control/` makes a service crash.
 */
export class Day {
  readonly #dir: string;
  readonly #random: Random;
  readonly #names;
  #branch = 'main';
  #serial = 0;
  /** Files written, moved, removed. */
  edits = 0;
  readonly deeds = new Map<Deed, number>();

  constructor(dir: string, random: Random) {
    this.#dir = dir;
    this.#random = random;
    this.#names = randomNames(random);
  }

  /** A repository with three branches that differ in hundreds of files. */
  prepare(): void {
    this.#git('init', '-q', '-b', 'main');
    mkdirSync(this.#path('play/lib'), { recursive: true });
    for (let i = 0; i < 200; i++) this.#write(`play/lib/m${i}.js`, `export const m${i} = 0;\n`);
    this.#commit('start');
    for (const branch of BRANCHES.slice(1)) {
      this.#git('checkout', '-q', '-b', branch, 'main');
      for (let i = 0; i < 150; i++) this.#write(`play/lib/m${this.#random.int(0, 260)}.js`, `export const of = '${branch}';\n`);
      this.#git('rm', '-q', '-r', '-f', '--ignore-unmatch', ...Array.from({ length: 20 }, (_, i) => `play/lib/m${i * 7}.js`));
      this.#write(`play/${branch}/only.txt`, branch);
      this.#commit(branch);
    }
    this.#git('checkout', '-q', 'main');
    this.edits = 0;
  }

  /** Does one thing. */
  next(): Deed {
    let at = this.#random.int(0, SHARES.reduce((sum, [, share]) => sum + share, 0) - 1);
    const [deed] = SHARES.find(([, share]) => (at -= share) < 0) ?? SHARES[0]!;
    this.#do(deed);
    this.deeds.set(deed, (this.deeds.get(deed) ?? 0) + 1);
    return deed;
  }

  #do(deed: Deed): void {
    const { int } = { int: (low: number, high: number) => this.#random.int(low, high) };
    switch (deed) {
      case 'edits':
        for (let i = int(1, 12); i > 0; i--) this.#randomEdit();
        return;
      case 'save':
        for (let i = int(1, 4); i > 0; i--) this.#saveAsEditors();
        return;
      case 'rename':
        return this.#renameDirectory();
      case 'many':
        for (let i = 0; i < MANY_FILES; i++) this.#write(`play/gen/${int(0, 9)}/f${int(0, 99)}`, `${this.#serial}\n`);
        return;
      case 'branch':
        this.#commit('work');
        this.#branch = this.#random.pick(BRANCHES.filter((branch) => branch !== this.#branch));
        this.#git('checkout', '-q', '-f', this.#branch);
        this.edits += 150;
        return;
      case 'stash':
        this.#randomEdit();
        this.#write('play/lib/m1.js', `stashed ${this.#serial}\n`);
        this.#git('stash', '-q', '-u');
        if (this.#random.chance(0.5)) this.#git('stash', 'pop', '-q');
        else this.#git('stash', 'drop', '-q');
        this.edits += 4;
        return;
      case 'crash':
        return this.#write('control/crash', `${++this.#serial}\n`);
      case 'step':
        return this.#write(`data/${int(0, 3)}`, `${++this.#serial}\n`);
      case 'tree':
        return this.#deepTree();
    }
  }

  #randomEdit(): void {
    const dir = this.#path('play');
    const edit = randomEdit(this.#random, this.#names, pathsBelow(dir).slice(0, 400));
    applyEdit(dir, edit);
    this.edits++;
  }

  /** In place, by a new file that takes the name, or by moving the old one away first, as vim does. */
  #saveAsEditors(): void {
    const path = `play/lib/m${this.#random.int(0, 199)}.js`;
    const text = `export const edit = ${++this.#serial};\n`;
    const file = this.#path(path);
    this.edits++;
    try {
      switch (this.#random.int(0, 3)) {
        case 0:
          return writeFileSync(file, text);
        case 1:
          return appendFileSync(file, text);
        case 2:
          writeFileSync(`${file}.tmp`, text);
          return renameSync(`${file}.tmp`, file);
        default:
          renameSync(file, `${file}~`);
          return writeFileSync(file, text);
      }
    } catch (error) {
      // Something random has made a directory, or nothing, of what was on the way.
      if (!(error instanceof Error && 'code' in error)) throw error;
    }
  }

  #renameDirectory(): void {
    const dir = this.#path('play');
    const dirs = readdirSync(dir, { withFileTypes: true }).filter((entry) => entry.isDirectory()).map(({ name }) => name).sort();
    const from = this.#random.pick(dirs);
    applyEdit(dir, { kind: 'rename', from, to: `${this.#random.pick(['moved', 'other', 'src', 'lib', 'deep/er'])}${this.#random.chance(0.5) ? '' : this.#random.int(0, 3)}` });
    // Renamed while somebody writes into it.
    applyEdit(dir, { kind: 'write', path: 'lib/m1.js', content: `${++this.#serial}` });
    this.edits += 2;
  }

  /** Made and used at once: directories that nobody watched a moment ago. */
  #deepTree(): void {
    const top = `play/t${this.#random.int(0, 5)}`;
    if (this.#random.chance(0.3)) {
      applyEdit(this.#dir, { kind: 'remove', path: top });
      this.edits++;
    }
    let path = top;
    for (let depth = this.#random.int(1, 6); depth > 0; depth--) {
      path += `/d${this.#random.int(0, 2)}`;
      applyEdit(this.#dir, { kind: 'write', path: `${path}/f${this.#random.int(0, 2)}`, content: `${++this.#serial}`, executable: this.#random.chance(0.2) });
      this.edits++;
    }
  }

  #write(path: string, content: string): void {
    applyEdit(this.#dir, { kind: 'write', path, content });
    this.edits++;
  }

  #commit(message: string): void {
    this.#git('add', '-A');
    this.#git('commit', '-q', '--allow-empty', '-m', message);
  }

  #git(...args: string[]): void {
    const identity = ['-c', 'user.name=soak', '-c', 'user.email=soak@localhost', '-c', 'gc.auto=0', '-c', 'core.autocrlf=false'];
    try {
      execFileSync('git', [...identity, ...args], { cwd: this.#dir, stdio: ['ignore', 'ignore', 'pipe'] });
    } catch (error) {
      // A stash that does not go back on is a day like any other: what is there is left as it is.
      if (args[0] !== 'stash') throw error;
      execFileSync('git', [...identity, 'checkout', '-q', '-f', this.#branch], { cwd: this.#dir, stdio: 'ignore' });
    }
  }

  #path(path: string): string {
    return join(this.#dir, path);
  }
}
