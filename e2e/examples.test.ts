/** Every example is understood and can be planned, without a look at the network; the one with a database is run. Others run in flask.test.ts and projects.test.ts. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { World } from '@hyperdocker/testkit';
import { checkout, runHd, tempWorld, waitForHttp } from '@hyperdocker/testkit';
import { Rig, noFuse, unable } from './rig.ts';
import type { ProjectRig } from './rig.ts';

const examples = readdirSync(join(checkout, 'examples'), { withFileTypes: true }).filter((entry) => entry.isDirectory()).map(({ name }) => name);

describe('examples', () => {
  let world: World;
  before(() => void (world = tempWorld()));
  after(async () => await world[Symbol.asyncDispose]());

  for (const name of examples) {
    test(`${name}: its hd.toml has no error, and there is a plan before anything is fetched`, async () => {
      const dir = join(checkout, 'examples', name);
      const hd = (...args: string[]) => runHd(args, { cwd: dir, env: world.env, timeoutMs: 60_000 });
      const config = await hd('config', '--json');
      assert.equal(config.code, 0, config.stderr);
      const plan = await hd('build', '--dry-run', '--json');
      assert.equal(plan.code, 0, plan.stderr);
      const { image_missing: base, will_run: steps } = JSON.parse(plan.stdout) as { image_missing: string; will_run: number };
      assert.match(base, /^apt:\/\//, 'no image registry is needed');
      assert(steps > 0 || name === 'guestbook', 'there is something to build');
      assert(!existsSync(join(dir, 'hd.lock')), 'nothing is written into an example');
    });
  }

  test('the gallery has all of them', () => {
    const gallery = readFileSync(join(checkout, 'docs/examples.md'), 'utf8');
    const list = readFileSync(join(checkout, 'examples/README.md'), 'utf8');
    for (const name of examples) assert(gallery.includes(`](../examples/${name})`) && list.includes(`\`${name}\``), name);
  });
});

describe('a service over PostgreSQL', { skip: unable || noFuse }, () => {
  let rig: Rig;
  let guestbook: ProjectRig;
  before(async () => {
    rig = new Rig();
    guestbook = await rig.example('guestbook', 8200);
  });
  after(async () => await rig[Symbol.asyncDispose]());

  const post = async (author: string, said: string): Promise<number> => (await fetch(guestbook.url, { method: 'POST', body: new URLSearchParams({ author, said }) })).status;

  test('the database is there before the page, and keeps what is written', async () => {
    await guestbook.up();
    assert.match(await waitForHttp(guestbook.url), /<h1>Guestbook<\/h1><ul><\/ul><p>0 entries/);
    assert.equal(await post('Ada', 'Hello'), 201);
    assert.match(await waitForHttp(guestbook.url), /Ada<\/b>: Hello/);
  });

  test('an edit of the page runs no step, and the entries stay', async () => {
    const report = await guestbook.edit(() => guestbook.replace('app.py', 'TITLE = "Guestbook"', 'TITLE = "Visitors"'));
    assert.deepEqual(report.ran, []);
    assert.match(await waitForHttp(guestbook.url, { until: (body) => body.includes('Visitors') }), /Ada<\/b>: Hello/);
  });

  test('an edit of the schema reaches the database that runs', async () => {
    await guestbook.edit(() => guestbook.write('db/schema.sql', `${guestbook.read('db/schema.sql')}ALTER TABLE entries ADD COLUMN IF NOT EXISTS place text;\n`));
    const client = await guestbook.client();
    await waitForHttp(guestbook.url, { until: (body) => body.includes('Ada') });
    const { services } = await client.status();
    assert(services.every(({ status }) => status !== 'failed'));
    await guestbook.hd('restart', 'web');
    await waitForHttp(guestbook.url, { until: (body) => body.includes('Ada') });
    assert.match((await guestbook.hd('exec', 'psql', '-U', 'postgres', '-d', 'guestbook', '-c', '\\d entries')).stdout, / place /);
  });
});
