import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, cpSync, linkSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { freePort, waitForHttp } from '@hyperdocker/testkit';
import { BusyboxRig, busyboxProgram, makeBusyboxRoot, noBusybox, nothingLeft, writeOciDir } from './busybox.ts';
import { noRegistry, noSkopeo, skopeoCopy, startRegistry } from './registry.ts';
import type { RunningRegistry } from './registry.ts';
import { noFuse, unable } from './rig.ts';
import type { ProjectRig } from './rig.ts';

const skip = unable || noFuse || noBusybox;
const noXattrs = spawnSync('setfattr', ['--version']).status === 0 ? false : 'no setfattr on this machine';

/** What must be left of an environment that could not be made: nothing. */
async function assertNothingLeft(rig: BusyboxRig): Promise<void> {
  for (const name of readdirSync(join(rig.world.home, 'envs')).filter((each) => each.startsWith('absent-'))) await nothingLeft(join(rig.world.home, 'envs', name));
  assert.deepEqual(readdirSync(join(rig.world.home, 'tmp')), []);
}

describe('images in a registry', { skip: skip || noRegistry || noSkopeo }, () => {
  let rig: BusyboxRig;
  let registry: RunningRegistry;
  let digest: string;

  before(async () => {
    rig = new BusyboxRig();
    registry = await startRegistry(join(rig.world.dir, 'registry'));
    digest = skopeoCopy(`oci:${join(rig.world.dir, 'busybox')}:latest`, `docker://${registry.host}/team/app:v1`, rig.world.dir);
  });
  after(async () => {
    await registry.stop();
    await rig[Symbol.asyncDispose]();
  });

  test('by tag, and by digest without asking the registry for what is here', async () => {
    const tagged = await rig.environment('tagged', '', {}, `${registry.host}/team/app:v1`);
    await tagged.up();
    assert.equal((await tagged.hd('exec', 'cat', '/etc/group')).stdout, 'root:x:0:\ndev:x:1000:\nextra:x:2000:dev\n');
    const pinned = await rig.environment('pinned', '', {}, `${registry.host}/team/app@${digest}`);
    await pinned.up();
    assert.equal((await pinned.hd('exec', 'echo', 'works')).stdout, 'works\n');
  });

  test('a tag or digest that is not there is one clear error', async () => {
    for (const name of ['team/app:absent', 'team/nothing', `team/app@sha256:${'0'.repeat(64)}`]) {
      const project = await rig.environment(`absent-${name.length}`, '', {}, `${registry.host}/${name}`);
      const { code, stderr } = await project.hd('up', '-d');
      assert.equal(code, 1);
      assert.match(stderr, new RegExp(`^hd: [^\n]*${registry.host}/${name}[^\n]*\n( {2}hint: [^\n]+\n)?$`));
    }
    await assertNothingLeft(rig);
  });

  test('--pull asks for what a tag is now; without it the first answer stays', async () => {
    const root = join(rig.world.dir, 'newer-root');
    makeBusyboxRoot(root);
    writeFileSync(join(root, 'etc/newer'), 'newer\n');
    writeOciDir(join(rig.world.dir, 'newer'), { layers: [root] });
    const project = await rig.environment('pulled', '', {}, `${registry.host}/team/app:v1`);
    skopeoCopy(`oci:${join(rig.world.dir, 'newer')}:latest`, `docker://${registry.host}/team/app:v1`, rig.world.dir);
    await project.up();
    assert.equal((await project.hd('exec', 'cat', '/etc/newer')).code, 1);
    await project.hd('down');
    await project.up('--pull');
    assert.equal((await project.hd('exec', 'cat', '/etc/newer')).stdout, 'newer\n');
  });

  test('a mirror is asked first, and nobody else needs to be there', async () => {
    writeFileSync(join(rig.world.home, 'registries.json'), JSON.stringify({ mirrors: { 'registry.invalid': [`http://127.0.0.1:${registry.port}`] } }));
    const project = await rig.environment('mirrored', '', {}, 'registry.invalid/team/app:v1');
    await project.up();
    assert.equal((await project.hd('exec', 'echo', 'works')).stdout, 'works\n');
  });

  test('plain HTTP only where a registry is listed as insecure', async () => {
    // An address that leads here without being a loopback address by its text.
    const host = `0.0.0.0:${registry.port}`;
    const project = await rig.environment('listed', '', {}, `${host}/team/app:v1`);
    const refused = await project.hd('up', '-d');
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, new RegExp(`^hd: [^\n]*${host}[^\n]*\n {2}hint: [^\n]*"insecure" in registries\\.json\n$`));
    writeFileSync(join(rig.world.home, 'registries.json'), '{ broken');
    const broken = await project.hd('up', '-d');
    assert.equal(broken.code, 1);
    assert.match(broken.stderr, /registries\.json is not valid JSON\n {2}hint: /);
    writeFileSync(join(rig.world.home, 'registries.json'), JSON.stringify({ insecure: [host] }));
    await project.up();
    rmSync(join(rig.world.home, 'registries.json'));
  });

  test('with the registry gone, what was fetched still works, in another project too', async () => {
    await registry.stop();
    const second = await rig.environment('second', '', {}, `${registry.host}/team/app:v1`);
    await second.up();
    assert.equal((await second.hd('exec', 'echo', 'works')).stdout, 'works\n');
    const other = await rig.environment('uncached', '', {}, `${registry.host}/team/other:v1`);
    const { code, stderr, stdout } = await other.hd('up', '-d');
    assert.equal(code, 1);
    assert.match(stderr, new RegExp(`^hd: cannot reach the registry [^\n]*${registry.host}[^\n]*connection refused\n {2}hint: [^\n]+\n$`));
    assert.doesNotMatch(stdout, /error|    at /);
    assert.equal((await other.hd('status')).code, 0);
    assert.deepEqual(readdirSync(join(rig.world.home, 'tmp')), []);
  });
});

describe('images on disk', { skip }, () => {
  let rig: BusyboxRig;
  before(() => {
    rig = new BusyboxRig();
  });
  after(async () => await rig[Symbol.asyncDispose]());

  const content = async (project: ProjectRig, path: string): Promise<string> => (await project.hd('exec', 'cat', path)).stdout;

  test('an OCI layout, also by name; another name is an error that lists what there is', async () => {
    const named = await rig.environment('named', '', {}, 'oci:../busybox:latest');
    await named.up();
    assert.match(await content(named, '/etc/passwd'), /^root:/);
    const wrong = await rig.environment('wrong', '', {}, 'oci:../busybox:nope');
    const { code, stderr } = await wrong.hd('up', '-d');
    assert.equal(code, 1);
    assert.match(stderr, /no image named "nope"\n {2}hint: there are: latest\n$/);
    const absent = await rig.environment('absent', '', {}, 'oci:../nowhere');
    assert.match((await absent.hd('up', '-d')).stderr, /^hd: oci:\.\.\/nowhere: there is no OCI image layout[^\n]*\n {2}hint: [^\n]+\n$/);
    assert.deepEqual(readdirSync(join(rig.world.home, 'tmp')), []);
  });

  test('a docker archive; a new one at the same path is noticed', { skip: noSkopeo }, async () => {
    const archive = join(rig.world.dir, 'image.tar');
    skopeoCopy(`oci:${join(rig.world.dir, 'busybox')}:latest`, `docker-archive:${archive}:some/image:1`, rig.world.dir);
    const project = await rig.environment('archive', '', {}, 'docker-archive:../image.tar');
    await project.up();
    assert.equal((await project.hd('exec', 'cat', '/etc/version')).code, 1);
    await project.hd('down');

    const root = join(rig.world.dir, 'second-root');
    makeBusyboxRoot(root);
    writeFileSync(join(root, 'etc/version'), '2\n');
    writeOciDir(join(rig.world.dir, 'second'), { layers: [root] });
    rmSync(archive);
    skopeoCopy(`oci:${join(rig.world.dir, 'second')}:latest`, `docker-archive:${archive}:some/image:2`, rig.world.dir);
    await project.up();
    assert.equal(await content(project, '/etc/version'), '2\n');
  });

  test('scratch: what the project brings is all there is', async () => {
    const project = await rig.project('scratch', {
      'hd.toml': '[environment]\nname = "scratch"\nbase = "scratch"\nworkdir = "/"\n[services.web]\ncommand = "httpd -f -p 127.0.0.1:PORT -h /www"\nport = PORT\n',
      'www/index.html': 'from scratch',
    });
    mkdirSync(join(project.dir, 'bin'));
    cpSync(busyboxProgram, join(project.dir, 'bin/busybox'));
    for (const name of ['sh', 'httpd', 'ls']) symlinkSync('/bin/busybox', join(project.dir, 'bin', name));
    await project.up();
    assert.equal(await waitForHttp(`${project.url}index.html`), 'from scratch');
    assert.equal((await project.hd('exec', 'ls', '/')).stdout, 'bin\ndev\netc\nhd.toml\nproc\nrun\nsys\nwww\n');
  });

  test('scratch without a shell: exec needs none', async () => {
    const project = await rig.project('no-shell', { 'hd.toml': '[environment]\nname = "no-shell"\nbase = "scratch"\n' });
    cpSync(busyboxProgram, join(project.dir, 'busybox'));
    await project.up();
    assert.equal((await project.hd('exec', '/workspace/busybox', 'echo', 'works')).stdout, 'works\n');
    assert.equal((await project.hd('exec', 'sh')).code, 127);
  });

  test('environment, working directory and user of the image hold; the project belongs to that user, who can write beside it', async () => {
    const root = join(rig.world.dir, 'configured-root');
    makeBusyboxRoot(root);
    mkdirSync(join(root, 'srv/app'), { recursive: true });
    writeOciDir(join(rig.world.dir, 'configured-image'), { layers: [root], config: { Env: ['FLAVOUR=plain', 'PATH=/bin:/opt/bin'], WorkingDir: '/srv/app', User: 'dev' } });
    const project = await rig.environment('configured', 'env = { EXTRA = "1" }\n[build]\nsteps = ["id -u > made-by-step && mkdir -p deep && echo $FLAVOUR > deep/flavour"]\n', { 'sub/file.txt': 'x' }, 'oci:../configured-image');
    await project.up();
    const { stdout, stderr } = await project.hd('exec', 'sh', '-c', 'id; pwd; echo $HOME $FLAVOUR $PATH $EXTRA; stat -c "%U %n" . hd.toml sub sub/file.txt made-by-step deep; cat made-by-step deep/flavour; echo y >> sub/file.txt && touch new && echo writable');
    assert.equal(stderr, '');
    const [id = '', ...lines] = stdout.split('\n');
    assert.match(id, /^uid=1000\(dev\) gid=1000\(dev\) groups=1000\(dev\),2000\(extra\)/);
    assert.deepEqual(lines, [
      '/srv/app', '/home/dev plain /bin:/opt/bin 1',
      'dev .', 'dev hd.toml', 'dev sub', 'dev sub/file.txt', 'dev made-by-step', 'dev deep', '1000', 'plain', 'writable', '',
    ]);
    assert.equal((await project.hd('exec', '-u', 'root', 'id', '-u')).stdout, '0\n');
    await project.edit(() => project.write('sub/later.txt', 'from the host'));
    assert.equal((await project.hd('exec', 'stat', '-c', '%U', 'sub/later.txt')).stdout, 'dev\n');
  });

  test('whiteouts, opaque directories, hard links, set-user-ID, owners and times of layers', async () => {
    const [lower, upper] = ['lower-root', 'upper-root'].map((name) => join(rig.world.dir, name)) as [string, string];
    makeBusyboxRoot(lower);
    for (const dir of ['gone', 'replaced', 'kept']) mkdirSync(join(lower, 'data', dir), { recursive: true });
    for (const file of ['gone/a', 'replaced/old', 'kept/hidden', 'kept/shown']) writeFileSync(join(lower, 'data', file), file);
    mkdirSync(join(upper, 'data/replaced'), { recursive: true });
    mkdirSync(join(upper, 'data/kept'), { recursive: true });
    for (const marker of ['.wh.gone', 'replaced/.wh..wh..opq', 'kept/.wh.hidden']) writeFileSync(join(upper, 'data', marker), '');
    writeFileSync(join(upper, 'data/replaced/new'), 'new');
    writeFileSync(join(upper, 'data/one'), 'linked');
    linkSync(join(upper, 'data/one'), join(upper, 'data/two'));
    writeFileSync(join(upper, 'data/suid'), '');
    chownSync(join(upper, 'data/suid'), 1000, 2000);
    chmodSync(join(upper, 'data/suid'), 0o4755);
    execFileSync('touch', ['-d', '2001-02-03 04:05:06 UTC', join(upper, 'data/suid')]);
    if (noXattrs === false) execFileSync('setfattr', ['-n', 'user.note', '-v', 'kept', join(upper, 'data/one')]);
    writeOciDir(join(rig.world.dir, 'layered-image'), { layers: [lower, upper] });

    const project = await rig.environment('layered', '', {}, 'oci:../layered-image');
    await project.up();
    const found = await project.hd('exec', 'sh', '-c', 'cd /data; find . -type f | sort; stat -c "%a %u:%g %Y" suid; stat -c %h one two; [ $(stat -c %i one) = $(stat -c %i two) ] && echo same inode');
    assert.deepEqual(found.stdout.split('\n'), [
      './kept/shown', './one', './replaced/new', './suid', './two', '4755 1000:2000 981173106', '2', '2', 'same inode', '',
    ]);
    assert.equal((await project.hd('exec', 'ls', '/data/gone')).code, 1);
  });

  test('extended attributes of a layer are there inside', { skip: noXattrs }, async () => {
    const project = await rig.environment('attributes', '', {}, 'oci:../layered-image');
    await project.up();
    const { pid } = await (await project.client()).status();
    const merged = join(rig.world.home, 'envs', readdirSync(join(rig.world.home, 'envs')).find((name) => name.startsWith('attributes-')) ?? '', 'live/merged');
    assert.equal(execFileSync('nsenter', ['--target', String(pid), '--mount', '--root', '--', 'getfattr', '--only-values', '-n', 'user.note', join(merged, 'data/one')], { encoding: 'utf8' }), 'kept');
  });

  test('a damaged layer is one clear error and leaves nothing', async () => {
    // Layers that are here already are not read again.
    const root = join(rig.world.dir, 'another-root');
    makeBusyboxRoot(root);
    writeFileSync(join(root, 'etc/another'), 'another\n');
    writeOciDir(join(rig.world.dir, 'damaged'), { layers: [root] });
    const blobs = join(rig.world.dir, 'damaged/blobs/sha256');
    const sizes = readdirSync(blobs).map((name) => ({ name, size: execFileSync('stat', ['-c', '%s', join(blobs, name)], { encoding: 'utf8' }) }));
    const layer = sizes.toSorted((a, b) => Number(b.size) - Number(a.size))[0]?.name ?? '';
    execFileSync('sh', ['-c', 'printf X | dd of="$0" bs=1 seek=600000 conv=notrunc status=none', join(blobs, layer)]);
    const project = await rig.environment('damaged-layer', '', {}, 'oci:../damaged');
    const { code, stderr } = await project.hd('up', '-d');
    assert.equal(code, 1);
    assert.match(stderr, /^hd: layer 1 of 1 is not what was asked for[^\n]*\n( {2}hint: [^\n]+\n)?$/);
    assert.deepEqual(readdirSync(join(rig.world.home, 'tmp')), []);
    assert.equal((await project.hd('cas', 'fsck')).code, 0);
  });

  test('a port of nobody as a registry names the host', async () => {
    const host = `127.0.0.1:${await freePort()}`;
    const project = await rig.environment('nobody', '', {}, `${host}/a:1`);
    const { code, stderr } = await project.hd('up', '-d');
    assert.equal(code, 1);
    assert.match(stderr, new RegExp(`^hd: cannot reach the registry ${host} [^\n]*\n {2}hint: `));
  });
});
