/**
 * What the tests need from the system, and how to get it. As root on Debian it is installed; else it is named and the
 * tests that need it skip, each with its reason. Plain JavaScript, because it runs before the pinned Node is there.
 */
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from './node26.mjs';

/** Debian package → a program, or a file, that it brings. */
const PACKAGES = {
  runc: 'runc',
  fuse3: 'fusermount3',
  mmdebstrap: 'mmdebstrap',
  'docker-registry': 'docker-registry',
  skopeo: 'skopeo',
  openssl: 'openssl',
  'busybox-static': 'busybox',
  'inotify-tools': 'inotifywait',
  uidmap: 'newuidmap',
  attr: 'setfattr',
  bzip2: 'bzip2',
  'xz-utils': 'xz',
  gcc: 'gcc',
  'libc6-dev': '/usr/include/fcntl.h',
  make: 'make',
  python3: 'python3',
  'python3-flask': '/usr/lib/python3/dist-packages/flask/__init__.py',
  'python3-uvicorn': '/usr/lib/python3/dist-packages/uvicorn/__init__.py',
  chromium: 'chromium',
  tmux: 'tmux',
};

export function ensureSystemPackages() {
  const missing = Object.keys(PACKAGES).filter((name) => !onPath(PACKAGES[name]));
  if (missing.length === 0) return;
  if (process.getuid?.() !== 0 || !onPath('apt-get')) {
    console.error(`not installed, so some tests will skip: ${missing.join(' ')}`);
    return;
  }
  console.error(`installing ${missing.join(' ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const options = { env, stdio: ['ignore', 'ignore', 'inherit'] };
  const code = run('apt-get', ['update', '-qq'], options) || run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...missing], options);
  if (code !== 0) console.error(`apt-get failed (${code}): tests that need ${missing.join(' ')} will skip`);
}

function onPath(program) {
  return `${process.env.PATH}:/usr/sbin:/sbin`.split(':').some((dir) => {
    try {
      accessSync(program.startsWith('/') ? program : join(dir, program), program.startsWith('/') ? constants.R_OK : constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) ensureSystemPackages();
