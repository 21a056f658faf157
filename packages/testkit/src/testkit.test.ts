import { HdError } from '@hyperdocker/base';
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { test } from 'node:test';
import { freePort, tempWorld, waitForHttp, waitUntil } from './index.ts';

test('a world holds its files, and is gone after its scope', async () => {
  let dir: string;
  {
    await using world = tempWorld({ 'hd.toml': 'x', 'src/a.ts': 'a' });
    dir = world.dir;
    world.write({ 'src/a.ts': 'b' });
    assert.equal(readFileSync(world.path('src', 'a.ts'), 'utf8'), 'b');
    assert.equal(world.env['HD_HOME'], world.home);
  }
  assert(!existsSync(dir));
});

test('waitForHttp waits for the server, and for the body', async () => {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}/`;
  let requests = 0;
  const body = waitForHttp(url, { until: (text) => text === 'answer 3' });
  const server = createServer((_, response) => response.end(`answer ${++requests}`)).listen(port, '127.0.0.1');
  try {
    assert.equal(await body, 'answer 3');
  } finally {
    server.close();
    await once(server, 'close');
  }
});

test('waiting in vain names what was waited for, and why', async () => {
  const cause = new Error('not today');
  await assert.rejects(
    waitUntil('the end of days', () => Promise.reject(cause), { timeoutMs: 30 }),
    (error: unknown) => error instanceof HdError && error.code === 'TEST_TIMEOUT' && /end of days/.test(error.message) && error.cause === cause,
  );
});
