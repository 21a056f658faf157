import assert from 'node:assert/strict';
import { appendFileSync, chmodSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { HdError } from '@hyperdocker/base';
import { createFilter } from './filter.ts';
import { watchTree, type WatchOptions } from './watcher.ts';

interface World {
  readonly root: string;
  readonly errors: HdError[];
  /** Resolves when all of these have been reported, with everything that was reported since the last call. */
  reported(...paths: string[]): Promise<Set<string>>;
  rescanned(): Promise<void>;
}

async function withTree(options: Partial<WatchOptions>, prepare: (root: string) => void, body: (world: World) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'hd-watch-'));
  const root = join(dir, 'project');
  mkdirSync(root);
  prepare(root);
  let seen = new Set<string>();
  let check = (): void => {};
  const errors: HdError[] = [];
  const watcher = watchTree(root, {
    filter: createFilter({ include: [], exclude: [] }),
    debounceMs: 5,
    rescanEveryMs: 0,
    onBatch(batch) {
      if (batch === 'rescan') seen.add('<rescan>');
      else for (const path of batch) seen.add(path);
      check();
    },
    onError: (error) => {
      errors.push(error);
    },
    ...options,
  });
  const reported = (...paths: string[]): Promise<Set<string>> =>
    new Promise((resolve) => {
      check = () => {
        if (!paths.every((path) => seen.has(path))) return;
        check = () => {};
        resolve(seen);
        seen = new Set();
      };
      check();
    });
  try {
    await watcher.ready;
    await body({ root, errors, reported, rescanned: async () => void (await reported('<rescan>')) });
  } finally {
    watcher.close();
    rmSync(dir, { recursive: true, force: true });
  }
}

const write = (...parts: string[]): void => writeFileSync(join(...parts), 'text');

test('create, modify, change of mode, delete', () =>
  withTree({}, () => {}, async ({ root, reported }) => {
    write(root, 'a');
    await reported('a');
    appendFileSync(join(root, 'a'), 'more');
    await reported('a');
    chmodSync(join(root, 'a'), 0o755);
    await reported('a');
    unlinkSync(join(root, 'a'));
    await reported('a');
    symlinkSync('/', join(root, 'link'));
    await reported('link');
  }));

test('what was there before is watched at every depth, and not reported by itself', () =>
  withTree({}, (root) => (mkdirSync(join(root, 'x/y/z'), { recursive: true }), write(root, 'x/y/z/file')), async ({ root, reported }) => {
    appendFileSync(join(root, 'x/y/z/file'), 'more');
    assert.deepEqual(await reported('x/y/z/file'), new Set(['x/y/z/file']));
  }));

test('new nested directories are reported with what they hold, and watched', () =>
  withTree({}, () => {}, async ({ root, reported }) => {
    mkdirSync(join(root, 'a/b/c'), { recursive: true });
    write(root, 'a/b/c/file');
    write(root, 'a/b/other');
    await reported('a/b/c/file', 'a/b/other');
    appendFileSync(join(root, 'a/b/c/file'), 'more');
    await reported('a/b/c/file');
  }));

test('an editor that writes beside and renames over', () =>
  withTree({}, (root) => write(root, 'file'), async ({ root, reported }) => {
    for (let save = 0; save < 3; save++) {
      write(root, 'file.tmp');
      renameSync(join(root, 'file.tmp'), join(root, 'file'));
      await reported('file');
    }
  }));

test('a renamed directory is watched under its new name alone', () =>
  withTree({}, (root) => (mkdirSync(join(root, 'old/deep'), { recursive: true }), write(root, 'old/deep/file')), async ({ root, reported }) => {
    renameSync(join(root, 'old'), join(root, 'new'));
    await reported('old', 'new', 'new/deep', 'new/deep/file');
    appendFileSync(join(root, 'new/deep/file'), 'more');
    assert.deepEqual(await reported('new/deep/file'), new Set(['new/deep/file']));
  }));

test('a directory replaced by another of the same name', () =>
  withTree({}, (root) => (mkdirSync(join(root, 'src')), write(root, 'src/a')), async ({ root, reported }) => {
    renameSync(join(root, 'src'), join(root, 'aside'));
    mkdirSync(join(root, 'src'));
    write(root, 'src/b');
    await reported('src', 'src/b', 'aside/a');
    rmSync(join(root, 'src'), { recursive: true });
    mkdirSync(join(root, 'src'));
    await reported('src');
    write(root, 'src/c');
    await reported('src/c');
    write(root, 'aside/d');
    await reported('aside/d');
  }));

test('a directory and a child of the same name', () =>
  withTree({}, (root) => mkdirSync(join(root, 'same')), async ({ root, reported }) => {
    write(root, 'same/same');
    assert.deepEqual(await reported('same/same'), new Set(['same/same']));
    write(root, 'project');
    assert.deepEqual(await reported('project'), new Set(['project']));
    rmSync(join(root, 'same'), { recursive: true });
    await reported('same');
  }));

test('a moved-in directory is read, a moved-out one is reported and silent from then on', () =>
  withTree({}, (root) => (mkdirSync(join(root, 'in/deep'), { recursive: true }), mkdirSync(join(root, '../out'), { recursive: true }), write(root, '../out/file')), async ({ root, reported }) => {
    renameSync(join(root, '../out'), join(root, 'arrived'));
    await reported('arrived', 'arrived/file');
    renameSync(join(root, 'in'), join(root, '../gone'));
    await reported('in');
    write(root, '../gone/deep/x');
    write(root, 'end');
    assert.deepEqual(await reported('end'), new Set(['end']));
  }));

test('excluded paths are silent, and so are excluded directories that appear', () =>
  withTree(
    { filter: createFilter({ include: ['src', '*.md'], exclude: ['*.log', 'src/gen', '!src/gen/keep'] }) },
    (root) => mkdirSync(join(root, '.git')),
    async ({ root, reported }) => {
      mkdirSync(join(root, 'src/gen/keep'), { recursive: true });
      mkdirSync(join(root, 'src/target'));
      await reported('src', 'src/gen/keep');
      for (const path of ['.git/index', 'a.log', 'src/a.log', 'src/target/x', 'src/gen/x', 'other.txt']) write(root, path);
      write(root, 'src/gen/keep/file');
      write(root, 'README.md');
      assert.deepEqual(await reported('README.md', 'src/gen/keep/file'), new Set(['README.md', 'src/gen/keep/file']));
    },
  ));

test('a deleted directory above what is included is reported', () =>
  withTree({ filter: createFilter({ include: ['a/b/c'], exclude: [] }) }, (root) => mkdirSync(join(root, 'a/b/c'), { recursive: true }), async ({ root, reported }) => {
    renameSync(join(root, 'a'), join(root, '../away'));
    await reported('a');
  }));

test('a burst is a rescan, and directories from within it are watched', () =>
  withTree({}, () => {}, async ({ root, reported, rescanned }) => {
    for (let index = 0; index < 1_200; index++) {
      mkdirSync(join(root, `d${index}`));
      write(root, `d${index}/file`);
    }
    await rescanned();
    write(root, 'd1199/later');
    await reported('d1199/later');
  }));

test('a name that is not UTF-8 asks for a rescan', () =>
  withTree({}, () => {}, async ({ root, rescanned }) => {
    writeFileSync(Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0x66, 0xff])]), 'text');
    await rescanned();
  }));

test('a rescan is asked for now and then', () => withTree({ rescanEveryMs: 10 }, () => {}, async ({ rescanned }) => (await rescanned(), await rescanned())));

test('the next rescan waits until the last one is done with', () => {
  let count = 0;
  const done = Promise.withResolvers<void>();
  let seen = (): void => {};
  const onBatch: WatchOptions['onBatch'] = (batch) => {
    if (batch !== 'rescan') return seen();
    count++;
    seen();
    return done.promise;
  };
  const next = (): Promise<void> => new Promise((resolve) => void (seen = resolve));
  return withTree({ rescanEveryMs: 1, onBatch }, () => {}, async ({ root }) => {
    if (count === 0) await next();
    // Far more than a millisecond goes by with each of these.
    for (const name of ['a', 'b', 'c']) {
      const reported = next();
      write(root, name);
      await reported;
    }
    assert.equal(count, 1);
    done.resolve();
  });
});

test('the end of the root is an error', () =>
  withTree({}, () => {}, async ({ root, errors, rescanned }) => {
    renameSync(root, `${root}-moved`);
    await rescanned();
    assert.deepEqual(errors.map(({ code }) => code), ['WATCH_FAILED']);
  }));

test('an event of a directory that has become a link in a circle by now is taken like any other', () => {
  const handlers = new Map<string, (kind: 'rename' | 'change', name: string | null) => void>();
  const watchDirectory: WatchOptions['watchDirectory'] = (path, onEvent) => {
    handlers.set(path, onEvent);
    return { close: () => {} };
  };
  return withTree({ watchDirectory }, (root) => (mkdirSync(join(root, 'a')), write(root, 'a/f')), async ({ root, errors, reported }) => {
    rmSync(join(root, 'a'), { recursive: true });
    symlinkSync('a', join(root, 'a'));
    handlers.get(join(root, 'a'))?.('rename', 'f');
    handlers.get(root)?.('rename', 'a');
    await reported('a/f', 'a');
    assert.deepEqual(errors, []);
  });
});

test('what cannot be seen of one event is looked for by a rescan', () => {
  let later: ((kind: 'rename' | 'change', name: string | null) => void) | undefined;
  const watchDirectory: WatchOptions['watchDirectory'] = (_, onEvent) => {
    later ??= onEvent;
    return { close: () => {} };
  };
  return withTree({ watchDirectory }, () => {}, async ({ errors, rescanned }) => {
    // Longer than any name may be: the system refuses to look at it.
    later?.('rename', 'x'.repeat(5_000));
    await rescanned();
    assert.deepEqual(errors.map(({ code }) => code), ['WATCH_FAILED']);
  });
});

test('a batch is told a moment after its first event, and a few times when more comes; a burst is not', async () => {
  const firsts: string[][] = [];
  const first = Promise.withResolvers<void>();
  const onFirst = (paths: ReadonlySet<string>): void => {
    firsts.push([...paths].sort());
    first.resolve();
  };
  await withTree({ onFirst, debounceMs: 300 }, (root) => write(root, 'a'), async ({ root, reported }) => {
    write(root, 'a.new');
    renameSync(join(root, 'a.new'), join(root, 'a'));
    await first.promise;
    assert.deepEqual(firsts, [['a', 'a.new']]);
    write(root, 'b');
    assert.deepEqual([...(await reported('a', 'b'))].sort(), ['a', 'a.new', 'b']);
    for (let i = 0; i < 40; i++) write(root, `many${i}`);
    await reported('many39');
    assert.deepEqual(firsts.slice(1), [['a', 'a.new', 'b']]);
  });
});

test('of one batch no more is told than a few times', async () => {
  let firsts = 0;
  let told = (): void => {};
  const onFirst = (): void => {
    firsts++;
    told();
  };
  await withTree({ onFirst, debounceMs: 1_000, maxWaitMs: 1_000 }, (root) => write(root, 'a'), async ({ root, reported }) => {
    for (let save = 0; save < 4; save++) {
      const next = new Promise<void>((resolve) => void (told = resolve));
      write(root, 'a');
      await next;
    }
    write(root, 'a');
    write(root, 'last');
    await reported('a', 'last');
    assert.equal(firsts, 4);
  });
});

test('without free watches there is one error, and rescans instead', () => {
  const watchDirectory = (): never => {
    throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
  };
  return withTree({ watchDirectory }, (root) => mkdirSync(join(root, 'a')), async ({ errors, rescanned }) => {
    assert.deepEqual(errors.map(({ code }) => code), ['WATCH_LIMIT']);
    await rescanned();
  });
});
