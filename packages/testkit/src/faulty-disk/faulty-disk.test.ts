import assert from 'node:assert/strict';
import { closeSync, existsSync, fdatasyncSync, fstatSync, fsyncSync, ftruncateSync, linkSync, lstatSync, mkdirSync, openSync, readFileSync, readSync, readdirSync, readlinkSync, renameSync, rmSync, rmdirSync, statSync, symlinkSync, truncateSync, unlinkSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, test } from 'node:test';
import { inMountNamespace } from '../mount-namespace.ts';
import { faultyDisk, tellDisk } from './faulty-disk.ts';
import type { FaultyDisk } from './faulty-disk.ts';

if (inMountNamespace(import.meta.filename)) {
  let disk: FaultyDisk;
  let count = 0;
  before(async () => void (disk = await faultyDisk()));
  after(() => disk[Symbol.asyncDispose]());
  const newDir = (): string => {
    const dir = join(disk.path, String(count++));
    mkdirSync(dir);
    return dir;
  };

  test('does what a disk does', () => {
    const dir = newDir();
    const path = (name: string): string => join(dir, name);
    writeFileSync(path('a'), 'first');
    assert.throws(() => openSync(path('a'), 'wx'), { code: 'EEXIST' });
    const fd = openSync(path('a'), 'r+');
    writeSync(fd, 'F', 0);
    writeSync(fd, 'far', 10_000);
    ftruncateSync(fd, 10_001);
    ftruncateSync(fd, 10_010);
    assert.equal(fstatSync(fd).size, 10_010);
    fsyncSync(fd);
    fdatasyncSync(fd);
    closeSync(fd);
    const bytes = readFileSync(path('a'));
    assert.equal(bytes.toString('latin1').replaceAll('\0', ''), 'Firstf');
    linkSync(path('a'), path('b'));
    assert.equal(statSync(path('a')).nlink, 2);
    renameSync(path('b'), path('c'));
    mkdirSync(path('d/e/f'), { recursive: true });
    assert.throws(() => rmdirSync(path('d')), { code: 'ENOTEMPTY' });
    renameSync(path('c'), path('d/e/f/c'));
    symlinkSync('d/e', path('l'));
    assert.equal(readlinkSync(path('l')), 'd/e');
    assert(readFileSync(path('l/f/c')).equals(bytes));
    assert.deepEqual(readdirSync(dir).sort(), ['a', 'd', 'l']);
    writeFileSync(path('new'), 'replaces');
    renameSync(path('new'), path('a'));
    assert.equal(readFileSync(path('a'), 'utf8'), 'replaces');
    assert.equal(statSync(path('d/e/f/c')).nlink, 1);
    truncateSync(path('a'));
    assert.equal(statSync(path('a')).size, 0);
    rmSync(path('d'), { recursive: true });
    assert(!existsSync(path('d')));
    const many = Array.from({ length: 500 }, (_, i) => `name-${i}`);
    for (const name of many) writeFileSync(path(name), name);
    assert.equal(readdirSync(dir).length, 502);
  });

  test('an open file outlives its name', () => {
    const dir = newDir();
    const fd = openSync(join(dir, 'gone'), 'w+');
    writeSync(fd, 'still here');
    unlinkSync(join(dir, 'gone'));
    const buffer = Buffer.alloc(10);
    assert.equal(readSync(fd, buffer, 0, 10, 0), 10);
    assert.equal(buffer.toString(), 'still here');
    closeSync(fd);
  });

  test('SQLite in WAL mode, two connections', () => {
    const path = join(newDir(), 'db.sqlite');
    const one = new DatabaseSync(path);
    assert.equal(one.prepare('PRAGMA journal_mode = WAL').get()?.['journal_mode'], 'wal');
    one.exec('CREATE TABLE t (x INTEGER PRIMARY KEY, y TEXT)');
    const two = new DatabaseSync(path);
    for (let i = 0; i < 200; i++) (i % 2 === 0 ? one : two).prepare('INSERT INTO t VALUES (?, ?)').run(i, 'x'.repeat(i * 10));
    assert.equal(two.prepare('SELECT count(*) AS n FROM t').get()?.['n'], 200);
    one.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    assert.equal(statSync(`${path}-wal`).size, 0);
    assert.equal(two.prepare('PRAGMA integrity_check').get()?.['integrity_check'], 'ok');
    one.close();
    two.close();
    assert(!existsSync(`${path}-wal`));
  });

  test('the log says what was done, in order', async () => {
    const dir = newDir();
    await disk.record();
    const fd = openSync(join(dir, 'a'), 'wx');
    writeSync(fd, 'one');
    fsyncSync(fd);
    assert.equal(tellDisk(disk.path, 'mark one is there'), 0);
    writeSync(fd, Buffer.alloc(300_000, 2), 0, 300_000, 0);
    closeSync(fd);
    renameSync(join(dir, 'a'), join(dir, 'b'));
    const parent = openSync(dir, 'r');
    fsyncSync(parent);
    closeSync(parent);
    unlinkSync(join(dir, 'b'));
    const log = await disk.takeLog();
    assert.deepEqual(log.map(({ kind }) => kind), ['create', 'write', 'sync', 'mark', 'write', 'rename', 'sync', 'unlink']);
    const [create, write, , , large] = log;
    assert(create?.kind === 'create' && write?.kind === 'write' && large?.kind === 'write');
    assert.equal(write.ino, create.ino);
    assert.equal(Buffer.from(write.bytes).toString(), 'one');
    assert.deepEqual([large.offset, large.bytes.length], [0, 300_000]);
    assert.deepEqual(log[3], { kind: 'mark', text: 'one is there' });
  });

  test('EIO strikes once, at the change that it was set for', async () => {
    const dir = newDir();
    await disk.arm({ kind: 'EIO', at: 2 });
    const fd = openSync(join(dir, 'a'), 'w');
    writeSync(fd, '0123');
    assert.throws(() => writeSync(fd, 'X', 0), { code: 'EIO' });
    assert.equal(readFileSync(join(dir, 'a'), 'utf8'), '0123');
    writeSync(fd, '4', 4);
    closeSync(fd);
    assert.equal(readFileSync(join(dir, 'a'), 'utf8'), '01234');
    assert.deepEqual(await disk.changes(), ['name', 'write', 'write', 'write']);
    assert.equal(await disk.repair(), 1);
  });

  test('a torn write leaves its first half', async () => {
    const dir = newDir();
    await disk.arm({ kind: 'torn', at: 2 });
    const fd = openSync(join(dir, 'a'), 'w');
    writeSync(fd, Buffer.alloc(10_000, 'a'));
    assert.throws(() => writeSync(fd, Buffer.alloc(10_000, 'b'), 0, 10_000, 5000), { code: 'EIO' });
    closeSync(fd);
    await disk.repair();
    const bytes = readFileSync(join(dir, 'a'), 'utf8');
    assert.equal(bytes, 'a'.repeat(5000) + 'b'.repeat(5000));
    assert.equal(lstatSync(join(dir, 'a')).size, 10_000);
  });

  test('a full disk takes half of a write, then nothing that needs room, and works again afterwards', async () => {
    const dir = newDir();
    await disk.arm({ kind: 'short', at: 1 });
    const fd = openSync(join(dir, 'a'), 'w');
    assert.equal(writeSync(fd, Buffer.alloc(10_000, 'a')), 5000);
    assert.throws(() => writeSync(fd, 'b'), { code: 'ENOSPC' });
    assert.equal(writeSync(fd, 'c', 0), 1);
    assert.throws(() => mkdirSync(join(dir, 'd')), { code: 'ENOSPC' });
    fsyncSync(fd);
    renameSync(join(dir, 'a'), join(dir, 'b'));
    await disk.repair();
    writeSync(fd, 'b', 5000);
    closeSync(fd);
    assert.equal(readFileSync(join(dir, 'b'), 'utf8'), `c${'a'.repeat(4999)}b`);
  });

  test('a disk that turned read-only refuses every change', async () => {
    const dir = newDir();
    const fd = openSync(join(dir, 'a'), 'w');
    await disk.arm({ kind: 'EROFS', at: 0 });
    for (const change of [() => writeSync(fd, 'x'), () => fsyncSync(fd), () => unlinkSync(join(dir, 'a')), () => renameSync(join(dir, 'a'), join(dir, 'b'))]) {
      assert.throws(change, { code: 'EROFS' });
    }
    await disk.repair();
    closeSync(fd);
    assert.deepEqual(readdirSync(dir), ['a']);
  });
}
