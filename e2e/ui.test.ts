import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { request } from 'node:http';
import { after, before, describe, test } from 'node:test';
import type { Browser, Page } from 'playwright-core';
import { chromium } from 'playwright-core';
import { waitUntil } from '@hyperdocker/testkit';
import type { HdProcess } from '@hyperdocker/testkit';
import { BusyboxRig, noBusybox } from './busybox.ts';
import type { ProjectRig } from './rig.ts';
import { noFuse, unable } from './rig.ts';

const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) => existsSync(path)) ?? '';
const noChromium: string | false = CHROMIUM === '' ? 'no Chromium on this machine (Debian has it in chromium)' : false;

const PROJECT = `
[build]
steps = ["sort list.txt > /sorted"]

[services.page]
command = "httpd -f -v -p PORT -h site"
port = PORT
watch = ["site/**"]

[services.clock]
command = "echo '<b>bold</b>'; n=0; while sleep 0.2; do n=$((n+1)); echo tick $n; done"
restart_policy = "on_failure"
`;

interface Asked { path: string; method?: string; token?: string; headers?: Record<string, string>; body?: string }

describe('hd ui', { skip: unable || noFuse || noBusybox }, () => {
  let rig: BusyboxRig;
  let project: ProjectRig;
  let ui: HdProcess;
  let url: URL;
  let token: string;

  before(async () => {
    rig = new BusyboxRig();
    project = await rig.environment('dashboard', PROJECT, { 'list.txt': 'b\na\n', 'site/index.html': 'hello\n' });
    await project.up();
    ui = project.start('ui', '--no-open');
    url = new URL((await ui.waitFor(/http:\/\/\S+/))[0]);
    token = url.hash.slice('#token='.length);
  });
  after(async () => {
    await ui[Symbol.asyncDispose]();
    await rig[Symbol.asyncDispose]();
  });

  const ask = ({ path, method = 'GET', token: given = token, headers = {}, body }: Asked): Promise<{ status: number; text: string; headers: Record<string, unknown> }> =>
    new Promise((resolve, reject) => {
      const asked = request({ host: '127.0.0.1', port: url.port, path, method, headers: { host: url.host, ...(given === '' ? {} : { authorization: `Bearer ${given}` }), ...headers } }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk)).once('end', () => resolve({ status: response.statusCode ?? 0, text, headers: response.headers }));
      });
      asked.once('error', reject).end(body);
    });

  test('it is on loopback alone, and its address has a token', () => {
    assert.equal(url.hostname, '127.0.0.1');
    assert.match(token, /^[\w-]{32}$/);
  });

  test('without the token, with a wrong one, under another name or from another page there is nothing to be had', async () => {
    assert.equal((await ask({ path: '/api/overview' })).status, 200);
    for (const path of ['/api/overview', '/api/logs', '/api/build', '/api/store', '/api/events', '/api/nothing']) {
      assert.equal((await ask({ path, token: '' })).status, 401, path);
      assert.equal((await ask({ path, token: `${token}x` })).status, 401, path);
      assert.equal((await ask({ path, headers: { host: `rebound.example:${url.port}` } })).status, 403, path);
      assert.equal((await ask({ path, headers: { origin: 'http://elsewhere.example' } })).status, 403, path);
      assert.equal((await ask({ path, headers: { 'sec-fetch-site': 'cross-site' } })).status, 403, path);
    }
    assert.equal((await ask({ path: '/', headers: { host: 'rebound.example' } })).status, 403);
    assert.equal((await ask({ path: '/api/services', method: 'POST', token: '', body: '{"action":"stop","services":["clock"]}' })).status, 401);
    const page = await ask({ path: '/', token: '' });
    assert.equal(page.status, 200);
    assert.match(String(page.headers['content-security-policy']), /^default-src 'none'; script-src 'self';/);
    assert.doesNotMatch(page.text, /https?:\/\/(?!www\.w3\.org)/, 'nothing comes from elsewhere');
  });

  test('bad requests are told apart', async () => {
    assert.equal((await ask({ path: '/api/nothing' })).status, 404);
    assert.equal((await ask({ path: '/../package.json' })).status, 404);
    assert.equal((await ask({ path: '/api/services', method: 'POST', body: '{' })).status, 400);
    assert.equal((await ask({ path: '/api/services', method: 'POST', body: '{"action":"remove","services":[]}' })).status, 400);
    const unknown = await ask({ path: '/api/services', method: 'POST', body: '{"action":"restart","services":["nobody"]}' });
    assert.deepEqual([unknown.status, (JSON.parse(unknown.text) as { error: { code: string } }).error.code], [404, 'NO_SUCH_SERVICE']);
  });

  test('a port that is taken is an error that says so', async () => {
    const taken = await project.hd('ui', '--no-open', '--port', url.port);
    assert.equal(taken.code, 1);
    assert.match(taken.stderr, /cannot listen on port \d+[\s\S]*--port/);
  });

  describe('in a browser', { skip: noChromium }, () => {
    let browser: Browser;
    let page: Page;
    const problems: string[] = [];

    before(async () => {
      browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--headless=new'] });
      page = await browser.newPage({ viewport: { width: 1280, height: 860 } });
      page.on('pageerror', (error) => problems.push(error.message));
      page.on('console', (message) => void (message.type() === 'error' && problems.push(message.text())));
      await page.goto(url.href);
    });
    after(async () => {
      assert.deepEqual(problems, []);
      await browser.close();
    });
    const textOf = async (selector: string): Promise<string> => (await page.locator(selector).allInnerTexts()).join('\n');
    const shows = (selector: string, pattern: RegExp): Promise<string> =>
      waitUntil(`${selector} shows ${pattern}`, async () => {
        const text = await textOf(selector);
        if (!pattern.test(text)) throw new Error(text.slice(-2_000));
        return text;
      });

    test('services, logs as they come, steps with their reasons, the graph and the store', async () => {
      await shows('#state', /^up$/);
      assert.equal(await page.title(), 'dashboard · Hyperdocker');
      assert.equal(new URL(page.url()).hash, '', 'the token is not in the address any more');
      await shows('#services', new RegExp(`page\\s+ready[\\s\\S]*localhost:${project.port}[\\s\\S]*clock\\s+ready`));
      const first = Number(/tick (\d+)(?![\s\S]*tick)/.exec(await shows('#logs', /tick \d+/))?.[1]);
      await waitUntil('the next line comes', async () => (Number(/tick (\d+)(?![\s\S]*tick)/.exec(await textOf('#logs'))?.[1]) > first + 1 ? true : undefined));
      await shows('#logs', /<b>bold<\/b>/);
      await shows('#steps', /ran\s+sort list\.txt > \/sorted\s+1\/1\s+it had never run before/);
      await shows('#graph', /Env\(dashboard\)[\s\S]*list\.txt[\s\S]*Build\(sort list\.txt/);
      await shows('#store', /stored[\s\S]*this alone \d/);
    });

    test('an edit is seen: what changed, what ran and why, who restarted', async () => {
      await project.edit(() => project.write('list.txt', 'c\nb\n'));
      await shows('#activity', /~ list\.txt/);
      await shows('#steps', /ran\s+sort list\.txt > \/sorted\s+1\/1\s+the content of \/workspace\/list\.txt changed/);
      await shows('#graph', /changed\s+list\.txt/);
      project.write('site/index.html', 'changed\n');
      await shows('#services', /1 restart\s+restarted: site\/index\.html changed/);
      await page.locator('#graph-changed').check();
      await waitUntil('unchanged nodes are hidden', async () => (/Build\(/.test(await textOf('#graph')) ? undefined : true));
    });

    test('services are stopped and started with the keyboard', async () => {
      await page.locator('[data-action="stop-clock"]').focus();
      await page.keyboard.press('Enter');
      await shows('#services', /clock\s+stopped/);
      await page.locator('[data-action="start-clock"]').focus();
      await page.keyboard.press('Enter');
      await shows('#services', /clock\s+ready/);
    });

    test('keys: search, follow, graph, theme, help', async () => {
      await page.locator('#logs').focus();
      await page.keyboard.press('/');
      await page.keyboard.type('bold');
      await waitUntil('only lines that match are left', async () => (/tick/.test(await textOf('#logs')) ? undefined : true));
      assert.equal(await page.locator('#logs mark').first().innerText(), 'bold');
      await page.keyboard.press('Escape');
      await shows('#logs', /tick/);
      await page.keyboard.press('f');
      assert.equal(await page.locator('#log-follow').isChecked(), false);
      await page.keyboard.press('5');
      await page.keyboard.press('ArrowLeft');
      await waitUntil('the graph is closed', async () => ((await page.locator('#graph .node').count()) === 1 ? true : undefined));
      await page.keyboard.press('ArrowRight');
      await waitUntil('and open', async () => ((await page.locator('#graph .node').count()) > 1 ? true : undefined));
      const theme = await page.evaluate('document.documentElement.dataset.theme');
      await page.keyboard.press('t');
      assert.notEqual(await page.evaluate('document.documentElement.dataset.theme'), theme);
      await page.keyboard.press('?');
      assert.equal(await page.locator('#help').isVisible(), true);
      await page.keyboard.press('Escape');
      assert.equal(await page.locator('#help').isVisible(), false);
    });

    test('on a telephone nothing is wider than the screen', async () => {
      await page.setViewportSize({ width: 390, height: 800 });
      assert.equal(await page.evaluate('document.documentElement.scrollWidth <= innerWidth'), true);
      await page.setViewportSize({ width: 1280, height: 860 });
    });

    test('another tab without the token is told what to do', async () => {
      const stranger = await (await browser.newContext()).newPage();
      await stranger.goto(url.origin);
      await waitUntil('it is told', async () => (/Open the address/.test(await stranger.locator('#notice').innerText()) ? true : undefined));
      assert.equal(await stranger.locator('#services li').count(), 0);
      await stranger.close();
    });

    test('the environment goes down and comes up again, and the page with it', async () => {
      assert.equal((await project.hd('down')).code, 0);
      await shows('#state', /not running/);
      await project.up();
      await shows('#state', /^up$/);
      await shows('#services', /clock\s+ready/);
      problems.length = 0;
    });
  });

  test('Ctrl-C ends it, and the environment goes on', async () => {
    ui.signal('SIGINT');
    assert.equal((await ui.exited).code, 0);
    assert.equal((JSON.parse((await project.hd('status', '--json')).stdout) as { state: string }).state, 'up');
  });
});
