import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { ArgumentsExchange, ProgramNames, programName } from './programs.ts';

const line = (...words: string[]): Buffer => Buffer.from(words.map((word) => `${word}\0`).join(''));

test('a name is the start of the command line', () => {
  assert.equal(programName(line('/usr/bin/python3', '-m', 'pip', 'install', 'flask'), 'python3'), 'python3 -m pip install …');
  assert.equal(programName(line('cc1'), 'cc1'), 'cc1');
  assert.equal(programName(line('npm ci', '', ''), 'npm ci'), 'npm ci', 'a title that a program gave itself');
  assert.equal(programName(line(), 'kworker/0:1'), 'kworker/0:1', 'a thread of the kernel');
  assert.equal(programName(line('/opt/a b/run\n'), 'run'), 'a …');
  assert.equal(programName(line('x'.repeat(300), 'y'), 'x').length, 62);
});

test('what might be a secret, and what is no plain word, is cut off', () => {
  for (const secret of ['--token=abc', 'https://user:word@host', 'Authorization: x', 'a\nb', '$HOME', 'ü']) {
    assert.equal(programName(line('curl', '-H', secret, 'after'), 'curl'), 'curl -H …', secret);
  }
});

test('a process that executes another program gets another name, and is asked for its arguments once each', async () => {
  const asked: number[] = [];
  const names = new ProgramNames((pid) => {
    asked.push(pid);
    return readFileSync(`/proc/${pid}/cmdline`);
  });
  const child = spawn('sh', ['-c', 'echo; read line; exec sh -c "echo; read line" again'], { stdio: ['pipe', 'pipe', 'ignore'] });
  const pid = child.pid ?? 0;
  try {
    await once(child.stdout, 'data');
    assert.deepEqual([names.of(pid), names.of(pid)], ['sh -c …', 'sh -c …']);
    child.stdin.write('\n');
    await once(child.stdout, 'data');
    assert.deepEqual([names.of(pid), names.of(pid)], ['sh -c …', 'sh -c …']);
    assert.deepEqual(asked, [pid, pid], 'the same name, but not the same program');
  } finally {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  assert.equal(names.of(pid), undefined, 'gone');
  assert.equal(names.of(0), undefined);
  for (let i = 0; i < 40; i++) names.of(process.pid);
  names.close();
});

test('arguments come from another thread; one that does not answer is not waited for', async () => {
  const exchange = new ArgumentsExchange();
  assert.equal(exchange.ask(1, () => {}), undefined);
  const source = `const { parentPort, workerData } = require('node:worker_threads');
    import(workerData.module).then(({ ArgumentsExchange }) => {
      const exchange = new ArgumentsExchange(workerData.shared);
      const of = (pid) => Buffer.from(exchange.ask(pid, (question) => parentPort.postMessage(question)) ?? []).toString();
      parentPort.postMessage([of(workerData.pid), of(2 ** 22 + 1), of(workerData.pid)]);
    });`;
  const shared = new SharedArrayBuffer(exchange.shared.byteLength);
  const other = new ArgumentsExchange(shared);
  const asking = new Worker(source, { eval: true, workerData: { module: new URL('./programs.ts', import.meta.url).href, shared, pid: process.pid } });
  const found = await new Promise((resolve, reject) => {
    asking.on('message', (message) => (Array.isArray(message) ? resolve(message) : other.answer(message)));
    asking.once('error', reject);
  });
  const mine = readFileSync('/proc/self/cmdline').subarray(0, 512).toString();
  assert.deepEqual(found, [mine, '', mine]);
});
