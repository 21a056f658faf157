/**
 * `npm run equal-images [-- IMAGE…]`: are the files of an image the same for `hd` and for a real Docker engine? One image with everything that layers can hold, a Debian, and the images named, each from a
 * registry: `hd image pull` and `hd image export --tar` beside `docker pull` and `docker export`, and beside what Docker's overlay of the layers shows, extended attributes and all. Exits with 1 where they differ.
 *
 * `npm run equal-images -- --corpus DIR [PATH…]`: the same of images that both build from the Dockerfiles below DIR, in which each directory is a project as somebody fetched it; prints the table of docs/dockerfiles.md.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, createReadStream, linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { sys, toByteString, toText } from '@hyperdocker/base';
import type { TreeDigest } from '@hyperdocker/base';
import { openMemoryStore, walkTree } from '@hyperdocker/cas';
import type { Store, TreeEntry } from '@hyperdocker/cas';
import { importTar } from '@hyperdocker/oci';
import { run } from '@hyperdocker/demo';
import { REAL_BASE, buildReal, realTable } from './real-dockerfiles.ts';
import { startRegistry } from './registry.ts';
import { Workshop } from './workshop.ts';

/** What `docker create` puts into a container, and `docker export` therefore has. */
const OF_CONTAINERS = new Set(['.dockerenv', 'dev', 'dev/console', 'dev/pts', 'dev/shm', 'etc', 'etc/hostname', 'etc/hosts', 'etc/mtab', 'etc/resolv.conf', 'proc', 'sys']);

const { values, positionals } = parseArgs({ allowPositionals: true, options: { work: { type: 'string' }, hd: { type: 'string' }, corpus: { type: 'string' }, 'install-docker': { type: 'boolean' } } });
const say = (text: string): void => console.error(text);
await using workshop = new Workshop({ workDir: values.work, docker: values['install-docker'] === true ? 'install' : 'use', hdBin: values.hd ?? join(import.meta.dirname, '../../../hd'), reposDir: undefined, say });
const docker = await workshop.docker(values.corpus === undefined ? undefined : REAL_BASE);
if (docker === undefined) process.exitCode = 2;
else if (values.corpus !== undefined) {
  const results = await buildReal(workshop, docker, values.corpus, positionals, (done) => say(realTable([done]).split('\n')[2] ?? ''));
  console.log(realTable(results));
} else {
  const dir = mkdtempSync(join(tmpdir(), 'hd-equal-'));
  await using registry = await startRegistry(join(dir, 'registry'));
  try {
    await run('skopeo', ['copy', '--quiet', '--dest-tls-verify=false', `oci:${makeLayout(dir)}:1`, `docker://${registry.host}/everything:1`]);
    const debian = `${registry.host}/debian:1`;
    await docker.push('bench-imported', debian);
    for (const image of [`${registry.host}/everything:1`, debian, ...positionals]) if (!(await compare(image, dir))) process.exitCode = 1;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

async function compare(image: string, dir: string): Promise<boolean> {
  const [ours, exported, overlaid] = ['hd.tar', 'docker.tar', 'overlay.tar'].map((name) => join(dir, name)) as [string, string, string];
  const hd = workshop.hd(dir, { HD_HOME: join(dir, 'hd-home') });
  await hd.run('image', 'pull', '--quiet', image);
  await hd.run('image', 'export', image, '--tar', ours);
  await docker?.pull(image);
  await docker?.exportImage(image, { exported, overlaid });
  const store = openMemoryStore();
  const load = (file: string): Promise<TreeDigest> => importTar(store, createReadStream(file), { tempDir: dir });
  const mine = describe(store, await load(ours));
  const [ofExport, ofOverlay] = [describe(store, await load(exported)), describe(store, await load(overlaid))];
  for (const file of [ours, exported, overlaid]) rmSync(file);
  // Docker's export leaves out attributes but for capabilities.
  const differences = [...differ(without(mine, /^user\.|^trusted\./), without(ofExport, /^user\.|^trusted\./), (path) => OF_CONTAINERS.has(path), 'docker export'), ...differ(mine, ofOverlay, () => false, 'the layers as Docker mounts them')];
  console.log(`${image}: ${mine.size} paths, ${differences.length === 0 ? 'no difference' : `${differences.length} differences`}`);
  for (const line of differences.slice(0, 50)) console.log(`  ${line}`);
  return differences.length === 0;
}

interface Facts { what: string; attributes: string[] }

function describe(store: Store, tree: TreeDigest): Map<string, Facts> {
  const names = new Map<number, string>();
  return new Map(Array.from(walkTree(store, tree), ({ path, entry }): [string, Facts] => {
    const { uid = 0, gid = 0, xattrs = [], linkGroup = 0 } = entry.meta ?? {};
    if (linkGroup !== 0 && !names.has(linkGroup)) names.set(linkGroup, path);
    const linked = linkGroup === 0 ? '' : ` linked as ${toText(toByteString(names.get(linkGroup) ?? ''))}`;
    return [path, { what: `${entry.kind} ${entry.mode.toString(8)} ${uid}:${gid} ${contentOf(entry)}${linked}`, attributes: xattrs.map(([name, value]) => `${name}=${Buffer.from(value).toString('hex')}`) }];
  }));
}

function contentOf(entry: TreeEntry): string {
  switch (entry.kind) {
    case 'file':
      return `${entry.size} ${entry.digest}`;
    case 'symlink':
      return `-> ${entry.target}`;
    case 'char':
    case 'block':
      return `${entry.major}:${entry.minor}`;
    default:
      return '';
  }
}

function without(facts: Map<string, Facts>, attribute: RegExp): Map<string, Facts> {
  return new Map([...facts].map(([path, { what, attributes }]) => [path, { what, attributes: attributes.filter((each) => !attribute.test(each)) }]));
}

function differ(ours: Map<string, Facts>, theirs: Map<string, Facts>, mayDiffer: (path: string) => boolean, name: string): string[] {
  const text = (facts: Facts | undefined): string => (facts === undefined ? 'not there' : `${facts.what} ${facts.attributes.join(' ')}`.trim());
  return [...new Set([...ours.keys(), ...theirs.keys()])].sort().flatMap((path) => {
    const [mine, other] = [text(ours.get(path)), text(theirs.get(path))];
    return mine === other || mayDiffer(path) ? [] : [`${JSON.stringify(path)}: hd: ${mine}; ${name}: ${other}`];
  });
}

/** Three layers with all kinds of entries, owners, modes, attributes, names, links over layers, whiteouts and opaque directories. */
function makeLayout(dir: string): string {
  const layer = (name: string, fill: (at: (path: string) => string) => void): string => {
    const root = join(dir, name);
    mkdirSync(root);
    fill((path) => join(root, path));
    return root;
  };
  const first = layer('first', (at) => {
    for (const path of ['usr/bin', 'data/gone', 'data/opaque/deep', 'data/kept', 'tmp']) mkdirSync(at(path), { recursive: true });
    chmodSync(at('tmp'), 0o1777);
    symlinkSync('usr/bin', at('bin'));
    for (const path of ['data/gone/a', 'data/opaque/deep/b', 'data/opaque/c', 'data/kept/d', 'data/kept/hidden', 'data/replaced']) writeFileSync(at(path), path);
    writeFileSync(at('usr/bin/tool'), '#!/bin/sh\n', { mode: 0o755 });
    linkSync(at('usr/bin/tool'), at('usr/bin/alias'));
    writeFileSync(at('suid'), 'S');
    chownSync(at('suid'), 1234, 3_000_000);
    chmodSync(at('suid'), 0o6755);
    writeFileSync(at('capable'), 'C', { mode: 0o755 });
    sys().setXattr(at('capable'), toByteString('security.capability'), Buffer.from('0100000200040000000000000000000000000000', 'hex'));
    sys().setXattr(at('capable'), toByteString('user.note'), Buffer.from('kept'));
    sys().makeNode(at('null'), 0o020666, 1, 3);
    sys().makeNode(at('disk'), 0o060600, 8, 0);
    sys().makeNode(at('fifo'), 0o010644, 0, 0);
    writeFileSync(at('sparse'), '');
    truncateSync(at('sparse'), 20 << 20);
    for (const name of ['with space', 'new\nline', 'naïve 🚀', '-dash', `${'n'.repeat(200)}`, '.hidden', 'quote"\\']) writeFileSync(at(name), name);
    writeFileSync(Buffer.concat([Buffer.from(at('')), Buffer.from([0x2f, 0x6e, 0xff, 0xfe])]), 'bytes');
    const long = `${'d'.repeat(150)}/${'e'.repeat(150)}`;
    mkdirSync(at(long), { recursive: true });
    writeFileSync(at(`${long}/deep`), 'deep');
    mkdirSync(at('empty'), { mode: 0o700 });
    symlinkSync('/nowhere/at all', at('dangling'));
  });
  const second = layer('second', (at) => {
    for (const path of ['data/opaque', 'data/kept', 'data/replaced', 'usr']) mkdirSync(at(path), { recursive: true });
    for (const path of ['data/.wh.gone', 'data/opaque/.wh..wh..opq', 'data/kept/.wh.hidden', 'data/opaque/new', 'data/replaced/inside']) writeFileSync(at(path), '');
    chmodSync(at('data/kept'), 0o750);
    writeFileSync(at('one'), 'linked');
    linkSync(at('one'), at('two'));
  });
  const third = layer('third', (at) => {
    mkdirSync(at('usr/bin'), { recursive: true });
    mkdirSync(at('data/gone'), { recursive: true });
    writeFileSync(at('usr/bin/tool'), '#!/bin/sh\necho newer\n', { mode: 0o755 });
    writeFileSync(at('data/gone/back'), 'back');
    writeFileSync(at('.wh.dangling'), '');
  });
  const layout = join(dir, 'layout');
  execFileSync('umoci', ['init', '--layout', layout], { stdio: 'ignore' });
  execFileSync('umoci', ['new', '--image', `${layout}:1`], { stdio: 'ignore' });
  for (const root of [first, second, third]) {
    execFileSync('tar', ['--sort=name', '--numeric-owner', '--xattrs', '--xattrs-include=*', '-C', root, '-cf', `${root}.tar`, '.']);
    execFileSync('umoci', ['raw', 'add-layer', '--image', `${layout}:1`, `${root}.tar`], { stdio: 'ignore' });
  }
  return layout;
}
