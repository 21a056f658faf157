import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { HdResult } from '@hyperdocker/testkit';
import { checkout, runHd } from '@hyperdocker/testkit';
import { BusyboxRig, noBusybox, nothingLeft } from './busybox.ts';
import { noFuse, unable } from './rig.ts';

const skip = unable || noFuse || noBusybox;
/** Those of the corpus that need nothing but busybox. Their images are compared with Docker's by `npm run bench -- dockerfiles`. */
const CORPUS = join(checkout, 'packages/bench/dockerfiles');
const TIMEOUT_MS = 300_000;

interface Report { ran: string[]; cached: string[]; tree: string }

describe('images of Dockerfiles', { skip }, () => {
  let rig: BusyboxRig;
  let count = 0;

  before(async () => {
    rig = new BusyboxRig();
    await hd(rig.world.dir, 'image', 'import', join(rig.world.dir, 'busybox'), 'busybox:1.36');
  });
  after(() => rig[Symbol.asyncDispose]());

  async function hd(cwd: string, ...args: string[]): Promise<HdResult> {
    const result = await tryHd(cwd, {}, ...args);
    assert.equal(result.code, 0, `hd ${args.join(' ')}:\n${result.stdout}${result.stderr}`);
    return result;
  }

  function tryHd(cwd: string, env: Record<string, string>, ...args: string[]): Promise<HdResult> {
    return runHd(args, { cwd, env: { ...rig.world.env, ...env }, timeoutMs: TIMEOUT_MS });
  }

  function project(files: Record<string, string>): string {
    const dir = join(rig.world.dir, `image-${count++}`);
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(join(dir, path, '..'), { recursive: true });
      writeFileSync(join(dir, path), text);
    }
    return dir;
  }

  /** Commands that ran, and those that did not have to. */
  async function build(dir: string, ...args: string[]): Promise<Report> {
    const { stdout } = await hd(dir, 'build', '-f', 'Dockerfile', '-t', 'tested', '--json', ...args);
    const events = stdout.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as { type: string; status?: string; step?: { command: string }; tree?: string });
    const commands = (status: string): string[] => events.filter((event) => event.type === 'step' && event.status === status).map((event) => event.step?.command ?? '').sort();
    return { ran: commands('ran'), cached: commands('cached'), tree: events.find(({ type }) => type === 'image-built')?.tree ?? '' };
  }

  /** The files of the image, in a directory. */
  async function files(name = 'tested'): Promise<string> {
    const dir = join(rig.world.dir, `files-${count++}`);
    mkdirSync(dir);
    await hd(rig.world.dir, 'image', 'export', name, '--tar', `${dir}.tar`);
    execFileSync('tar', ['-xpf', `${dir}.tar`, '-C', dir, '--numeric-owner']);
    return dir;
  }

  async function config(name = 'tested'): Promise<Record<string, unknown>> {
    const [image] = JSON.parse((await hd(rig.world.dir, 'image', 'inspect', name)).stdout) as { Config: Record<string, unknown> }[];
    return image?.Config ?? {};
  }

  async function text(path: string): Promise<string> {
    return readFileSync(join(await files(), path), 'utf8');
  }

  test('after an edit, only the commands that looked at the file run again; without one, nothing is started', async () => {
    const dir = project({
      Dockerfile: 'FROM busybox:1.36 AS build\nWORKDIR /src\nCOPY . .\nRUN cat a > /a\nRUN cat b > /b\nFROM busybox:1.36\nCOPY --from=build /a /b /\nRUN cat /a /b > /both\nRUN echo independent > /c\n', a: '1', b: '1', 'notes.md': '',
    });
    const first = await build(dir);
    assert.deepEqual([first.ran.length, first.cached.length], [4, 0]);
    assert.deepEqual(await build(dir), { ran: [], cached: first.ran, tree: first.tree });
    writeFileSync(join(dir, 'notes.md'), 'changed');
    assert.deepEqual((await build(dir)).ran, []);
    writeFileSync(join(dir, 'b'), '2');
    assert.deepEqual((await build(dir)).ran, ['1: cat /a /b > /both', 'build: cat b > /b']);
    assert.equal(await text('both'), '12');
    writeFileSync(join(dir, 'b'), '1');
    assert.deepEqual((await build(dir)).ran, []);
    assert.equal((await build(dir, '--no-cache')).ran.length, 4);
  });

  test('mounts: what a command looks at in them counts, what it writes there is no part of the image, caches stay', async () => {
    const dir = project({
      Dockerfile: [
        'FROM busybox:1.36 AS tool', 'RUN printf "#!/bin/sh\\ncat\\n" > /tool && chmod +x /tool', 'FROM busybox:1.36', 'WORKDIR /w',
        'RUN --mount=type=bind,target=/ctx --mount=from=tool,source=/tool,target=/opt/tool cat /ctx/in | /opt/tool > out; touch /ctx/in 2> /dev/null && echo writable > oops; true',
        'RUN --mount=type=bind,target=rw,rw echo more > rw/new && ls rw | wc -l > count',
        'RUN --mount=type=cache,target=/cache,id=e2e echo x >> /cache/log && wc -l < /cache/log > runs && cat out >> runs',
        'RUN --mount=type=tmpfs,target=/scratch,size=1m df /scratch | tail -1 | cut -c1-5 > tmpfs && echo > /scratch/x',
        'RUN --mount=type=secret,id=token,target=/t,mode=0444,required=true wc -c < /t > secret && stat -c %a /t >> secret',
      ].join('\n'), in: 'one', other: '', '.dockerignore': 'Dockerfile\n.dockerignore\nsecret\n', secret: 'not for the image\n',
    });
    const options = ['--secret', `id=token,src=${join(dir, 'secret')}`];
    assert.equal((await build(dir, ...options)).ran.length, 6);
    const tree = await files();
    const read = (path: string): string => readFileSync(join(tree, 'w', path), 'utf8');
    assert.deepEqual([read('out'), read('count').trim(), read('runs'), read('tmpfs').trim(), read('secret')], ['one', '3', '1\none', 'tmpfs', '18\n444\n']);
    assert.deepEqual(readdirSync(join(tree, 'w')).sort(), ['count', 'out', 'runs', 'secret', 'tmpfs']);
    for (const path of ['ctx', 'cache', 'scratch', 't', 'opt']) assert(!existsSync(join(tree, path)), path);
    // Of all commands `ls` alone looks at it: at its size.
    writeFileSync(join(dir, 'other'), 'nobody reads this');
    assert.equal((await build(dir, ...options)).ran.length, 1);
    writeFileSync(join(dir, 'in'), 'two');
    assert.equal((await build(dir, ...options)).ran.length, 2);
    assert.equal(await text('w/runs'), '2\ntwo');
    const { code, stderr } = await tryHd(dir, {}, 'build', '-f', 'Dockerfile', '-t', 'tested', '--no-cache');
    assert.equal(code, 1);
    assert.match(stderr, /Dockerfile:9: the secret token is required/);
  });

  test('here-documents, copy options, arguments, contexts and targets', async () => {
    const other = project({ 'from-other': 'other' });
    const dir = project({
      Dockerfile: [
        'ARG WHO=nobody', 'FROM busybox:1.36 AS base', 'ARG WHO', 'RUN <<EOF', 'echo "hello $WHO" > /hello', 'EOF', 'COPY <<CONF /etc/my.conf', 'who = $WHO', 'CONF',
        'FROM base AS extra', 'COPY --from=named from-other /', 'COPY --parents --chmod=700 a/*/f /p/', 'COPY --exclude=*.md docs /docs/', 'FROM base AS broken', 'RUN false',
        'FROM extra', 'RUN id -u > /user', 'USER dev', 'WORKDIR /home/dev/sub', 'RUN id -un > user && pwd >> user && echo "$HOME" >> user',
      ].join('\n'), 'a/b/f': '1', 'docs/x.md': '', 'docs/x.txt': '',
    });
    await build(dir, '--build-arg', 'WHO=world', '--build-context', `named=${other}`);
    const tree = await files();
    const read = (path: string): string => readFileSync(join(tree, path), 'utf8');
    assert.deepEqual([read('hello'), read('etc/my.conf'), read('from-other'), read('p/a/b/f'), read('home/dev/sub/user')], ['hello world\n', 'who = world\n', 'other', '1', 'dev\n/home/dev/sub\n/home/dev\n']);
    assert.deepEqual(readdirSync(join(tree, 'docs')), ['x.txt']);
    assert.equal(execFileSync('stat', ['-c', '%a %u', join(tree, 'p/a/b/f'), join(tree, 'home/dev/sub')], { encoding: 'utf8' }), '700 0\n755 1000\n');
    const { code, stdout, stderr } = await tryHd(dir, {}, 'build', '-f', 'Dockerfile', '-t', 'tested', '--target', 'broken');
    assert.equal(code, 1);
    assert.match(`${stdout}${stderr}`, /Dockerfile:15:/);
  });

  test('ADD fetches a file, checks it, and asks only whether it has changed', async () => {
    let served = 'first';
    const asked: string[] = [];
    const server = createServer((request, response) => {
      asked.push(`${request.headers['if-none-match'] ?? ''}`);
      if (request.headers['if-none-match'] === served) return void response.writeHead(304).end();
      response.writeHead(200, { etag: served, 'last-modified': 'Wed, 21 Oct 2015 07:28:00 GMT' }).end(served);
    });
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    try {
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/dir/file.txt`;
      const dir = project({ Dockerfile: `FROM scratch\nADD ${url} /got/\nADD --chmod=644 ${url} /named\n` });
      await build(dir);
      const tree = await files();
      assert.equal(execFileSync('stat', ['-c', '%a %Y %s', join(tree, 'got/file.txt'), join(tree, 'named')], { encoding: 'utf8' }), '600 1445412480 5\n644 1445412480 5\n');
      served = 'second';
      await build(dir);
      assert.equal(await text('named'), 'second');
      assert(asked.includes('first'));
      writeFileSync(join(dir, 'Dockerfile'), `FROM scratch\nADD --checksum=sha256:${'0'.repeat(64)} ${url} /x\n`);
      const { code, stderr } = await tryHd(dir, {}, 'build', '-t', 'tested');
      assert.equal(code, 1);
      assert.match(stderr, /Dockerfile:2: .*not sha256:0000/);
    } finally {
      server.close();
    }
  });

  test('a dry run says before a build what it does, and `hd why` afterwards what it did', async () => {
    const dir = project({
      Dockerfile: [
        'FROM busybox:1.36 AS build', 'ARG FORM=1', 'COPY a b /src/', 'RUN wc -c < /src/a > /size', 'RUN cat /src/b > /b',
        'FROM busybox:1.36', 'RUN echo alone > /alone', 'COPY --from=build /size /from/', 'RUN cat /from/size > /shown', 'RUN --mount=from=build,source=/b,target=/m/b cat /m/b > /mounted', 'RUN echo app:x:7:7::/:/bin/sh >> /etc/passwd', 'USER app', 'RUN id -un > /tmp/me',
      ].join('\n'), a: 'one', b: 'b',
    });
    interface Plan { will_run: number; may_run: number; image_missing?: string; steps: { index: number; line: number; outcome: string; reason: string }[] }
    const plan = async (...args: string[]): Promise<Plan> => JSON.parse((await hd(dir, 'build', '-f', 'Dockerfile', '--dry-run', '--json', ...args)).stdout) as Plan;
    const outcomes = async (...args: string[]): Promise<string[]> => (await plan(...args)).steps.map(({ outcome }) => outcome);
    const first = await plan();
    assert.deepEqual([first.will_run, first.steps.map(({ index, line }) => [index, line])], [7, [[1, 4], [2, 5], [3, 7], [4, 9], [5, 10], [6, 11], [7, 13]]]);
    const never = await tryHd(dir, {}, 'why', '-f', 'Dockerfile');
    assert.match(never.stderr, /Dockerfile has not been built yet/);
    assert.equal((await build(dir)).ran.length, 7);
    assert.deepEqual(await outcomes(), Array(7).fill('cached'));
    writeFileSync(join(dir, 'a'), 'two');
    assert.deepEqual(await outcomes(), ['run', 'cached', 'cached', 'may run', 'cached', 'cached', 'cached']);
    const { stdout } = await hd(dir, 'build', '-f', 'Dockerfile', '--dry-run');
    assert.match(stdout, /^\[1\/7\] RUN build: wc -c < \/src\/a > \/size: the content of \/src\/a changed \(.*\[4\/7\] MAY RUN 1: cat \/from\/size > \/shown: it looks at what step 1 writes\n.*\n1 step would run, 1 may, 5 would not\.\n$/s);
    assert.deepEqual((await build(dir)).ran, ['build: wc -c < /src/a > /size']);
    writeFileSync(join(dir, 'b'), 'other');
    assert.deepEqual(await outcomes(), ['cached', 'run', 'cached', 'cached', 'may run', 'cached', 'cached']);
    assert.deepEqual((await outcomes('--build-arg', 'FORM=2')).slice(0, 3), ['run', 'run', 'cached']);
    assert.deepEqual(await outcomes('--no-cache'), Array(7).fill('run'));
    await build(dir);
    const why = async (...args: string[]): Promise<string> => (await hd(dir, 'why', ...args)).stdout;
    assert.match(await why('-f', 'Dockerfile'), /^\[1\/7\] CACHED build: wc -c .*\[2\/7\] RAN build: cat \/src\/b > \/b: the content of \/src\/b changed/s);
    assert.match(await why('-t', 'tested', 'Dockerfile:10'), /^\[5\/7\] 1: --mount=.* cat \/m\/b > \/mounted \(Dockerfile:10\)\n {2}ran /);
    assert.match(await why('-t', 'tested', 'cat /m/b'), /^\[5\/7\]/);
    assert.match(await why('-t', 'tested', 'cat /from'), /^\[4\/7\] .*\n {2}cached/);
    writeFileSync(join(dir, 'Dockerfile'), `${readFileSync(join(dir, 'Dockerfile'), 'utf8')}\nRUN exit 3\nRUN echo after`);
    assert.equal((await tryHd(dir, {}, 'build', '-f', 'Dockerfile', '-t', 'tested')).code, 1);
    assert.match(await why('-f', 'Dockerfile'), /\[8\/9\] FAILED 1: exit 3: it had never run before\n\[9\/9\] NOT REACHED/);
    assert.match((await plan()).steps[7]?.reason ?? '', /it failed the last time/);
    const elsewhere = project({ Dockerfile: 'FROM not-here:1\nUSER nobody-knows\nRUN true\nFROM busybox:1.36\nCOPY --from=0 /x /\nRUN echo of the other > /o\n' });
    const missing = JSON.parse((await hd(elsewhere, 'build', '-t', 'x', '--dry-run', '--json')).stdout) as Plan;
    assert.deepEqual([missing.image_missing, missing.will_run], ['not-here:1', 2]);
    assert(!(await hd(dir, 'image', 'ls')).stdout.includes('not-here'));
  });

  test('errors have the line of the Dockerfile, and leave nothing', async () => {
    const cases: [string, RegExp][] = [
      ['FROM busybox:1.36\nCOPY absent /x\n', /Dockerfile:2: \/absent is not there\n {2}2 \| COPY absent \/x\n {2}hint: /],
      ['FROM busybox:1.36\nRUN echo before && \\\n  exit 3\n', /Dockerfile:2: RUN ended with exit code 3/],
      ['FROM busybox:1.36\nUSER absent\nRUN true\n', /Dockerfile:3: .*absent/],
      ['FROM busybox:1.36\nRUN --security=insecure true\n', /Dockerfile:2: .*not allowed/],
      ['FROM busybox:1.36\nCPOY a b\n', /Dockerfile:2: unknown instruction "CPOY"; did you mean COPY\?/],
    ];
    for (const [dockerfile, message] of cases) {
      const { code, stderr } = await tryHd(project({ Dockerfile: dockerfile }), {}, 'build', '-t', 'never');
      assert.equal(code, 1, dockerfile);
      assert.match(stderr, message);
    }
    assert(!(await hd(rig.world.dir, 'image', 'ls')).stdout.includes('never'));
    await nothingLeft(join(rig.world.home, 'builds'));
  });

  test('images of the corpus have the files and the configuration that Docker gives them', async () => {
    for (const name of ['env-expansion', 'entrypoint-reset', 'copy-paths']) {
      const dir = join(rig.world.dir, `corpus-${name}`);
      cpSync(join(CORPUS, name), dir, { recursive: true, verbatimSymlinks: true });
      await build(dir);
    }
    const copied = await files();
    assert.deepEqual(readdirSync(join(copied, 'subs')), ['deeper', 'x']);
    assert.deepEqual(readdirSync(join(copied, 'existing')).sort(), ['a.txt', 'b.txt', 'c.md', 'kept', 'sub1', 'sub2']);
    await build(join(rig.world.dir, 'corpus-env-expansion'));
    assert.equal(await text('env.txt'), 'COMBINED=1-two words-default-alternate\nESCAPED=$ONE\nFOUR=a b\nMULTI=firstsecond\nOLD=style with   blanks\nONE=1\nPATHS=/opt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nQUOTED=say "hi"\nTHREE=$NOT expanded\nTWO=two words\n/dir-1/relative\n');
    await build(join(rig.world.dir, 'corpus-entrypoint-reset'));
    assert.deepEqual(await config(), {
      Cmd: ['/bin/sh', '-c', 'last argument'], Entrypoint: ['child-entrypoint'], Env: ['PARENT=1'], ExposedPorts: { '1000/tcp': {}, '2000/tcp': {} }, Labels: { parent: 'yes', both: 'child' }, User: 'root',
      Volumes: { '/v1': {}, '/v2': {} }, WorkingDir: '/parent',
    });
  });
});
