import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { NetworkUse } from './network-use.ts';

const ID = `hd-test-network-${process.pid}`;
const hierarchy = ['/sys/fs/cgroup/unified', '/sys/fs/cgroup'].find((dir) => existsSync(join(dir, 'cgroup.procs'))) ?? '';

/** As a container does: into its group first, then the program; a socket is opened by no shell. */
function inGroup(script: string): void {
  const { status, stderr } = spawnSync('sh', ['-c', `echo $$ > ${join(hierarchy, 'hyperdocker', ID, 'cgroup.procs')} && exec "$@"`, 'sh', process.execPath, '-e', script], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
}

function skip(): string | false {
  using watched = NetworkUse.watch(ID);
  return watched === undefined && 'no programs can be put on a cgroup here';
}

test('who opens an internet socket has used the network, and who opens another has not', { skip: skip() }, () => {
  const results = ["require('fs').openSync('/dev/null')", "require('net').createServer().listen('\\0hd-test-abstract', function () { this.close(); })", "require('net').connect(1, '127.0.0.1').on('error', () => {})", "require('dgram').createSocket('udp6').bind(() => process.exit())"].map((script) => {
    using watched = NetworkUse.watch(ID);
    inGroup(script);
    return watched?.result();
  });
  assert.deepEqual(results, ['unused', 'unused', 'used', 'used']);
});

test('a group in which nothing ran says nothing; it is gone afterwards', { skip: skip() }, () => {
  {
    using watched = NetworkUse.watch(ID);
    assert.equal(watched?.result(), 'unknown');
    assert(existsSync(join(hierarchy, 'hyperdocker', ID)));
  }
  assert(!existsSync(join(hierarchy, 'hyperdocker', ID)));
});

test('where no group can be made, nothing is counted', () => {
  assert.equal(NetworkUse.watch('x'.repeat(5_000)), undefined);
});
