import type { Project } from './project.ts';

/** Wheels and other archives shall not hold the time of day; compiled Python beside the sources is what Dockerfiles usually switch off. */
const PYTHON = { PYTHONDONTWRITEBYTECODE: '1', SOURCE_DATE_EPOCH: '1577836800' };
const NODE = { suite: 'trixie', include: 'nodejs,npm,ca-certificates', tag: 'bench-trixie-node' };

export const PROJECTS: Project[] = [
  {
    name: 'commander.js', url: 'https://github.com/tj/commander.js', base: NODE, env: { CI: '1' }, caches: ['/root/.npm'], downloads: ['/root/.npm'],
    steps: [
      { name: 'install', run: 'npm ci', copies: ['package*.json ./'], mounts: ['/root/.npm'] },
      { name: 'types', run: 'npm run check:type:js', copies: ['tsconfig*.json *.js *.mjs ./', 'lib lib/', 'typings typings/'] },
      { name: 'test', run: 'node --test', copies: ['tests tests/'] },
      { name: 'lint', run: 'npm run check:lint', copies: ['. .'] },
    ],
  },
  {
    // With lifecycle scripts: esbuild's postinstall in `rebuild`, its own `prepare`.
    name: 'lru-cache', url: 'https://github.com/isaacs/node-lru-cache', base: NODE, env: { CI: '1' }, caches: ['/root/.npm'], downloads: ['/root/.npm'],
    steps: [
      { name: 'install', run: 'npm ci --ignore-scripts', copies: ['package*.json ./'], mounts: ['/root/.npm'] },
      { name: 'rebuild', run: 'npm rebuild', copies: [] },
      { name: 'prepare', run: 'npm run prepare', copies: ['tsconfig*.json ./', '.tshy .tshy/', 'scripts scripts/', 'src src/'] },
      { name: 'lint', run: 'npx oxlint src test', copies: ['.oxlintrc.json ./', 'test test/'] },
    ],
  },
  {
    name: 'click', url: 'https://github.com/pallets/click', base: { suite: 'trixie', include: 'python3,python3-pip', tag: 'bench-trixie-python' },
    env: { ...PYTHON, PIP_BREAK_SYSTEM_PACKAGES: '1' }, caches: ['/root/.cache/pip', '.mypy_cache'], downloads: ['/root/.cache/pip'],
    steps: [
      { name: 'tools', run: "pip install --group tests pytest==8.4.2 mypy==1.18.2 'flit_core>=3.11,<4'", copies: ['pyproject.toml ./'], mounts: ['/root/.cache/pip'] },
      { name: 'install', run: 'pip install --no-build-isolation --no-deps --editable .', copies: ['README* LICENSE* ./', 'src src/'] },
      { name: 'wheel', run: 'pip wheel --no-build-isolation --no-deps --wheel-dir dist .', copies: [] },
      { name: 'types', run: 'mypy', copies: ['tests/typing tests/typing/'], mounts: ['/workspace/.mypy_cache'] },
      // Left out: tests of whether a pager that is killed has printed before, which is a race.
      { name: 'test', run: 'pytest -q -k "not echo_via_pager"', copies: ['tests tests/', 'docs/conf.py docs/'] },
    ],
  },
  {
    name: 'zlib', url: 'https://github.com/madler/zlib', base: { suite: 'bookworm', include: 'gcc,make,cmake,libc6-dev', tag: 'bench-bookworm-c' },
    env: { CFLAGS: '-O0' }, caches: [], downloads: [],
    steps: [
      { name: 'configure', run: './configure', copies: ['configure Makefile.in zlib.pc.in zconf.h.in zlib.h zlib.map ./'] },
      { name: 'make', run: 'make', copies: ['*.c crc32.h deflate.h gzguts.h inffast.h inffixed.h inflate.h inftrees.h trees.h zutil.h ./', 'test test/'] },
      { name: 'test', run: 'make test', copies: [] },
      { name: 'minizip', run: 'make -C contrib/minizip', copies: ['contrib/minizip contrib/minizip/'] },
      { name: 'cmake', run: 'cmake -S . -B build -DZLIB_BUILD_EXAMPLES=OFF && cmake --build build --target zlibstatic', copies: ['CMakeLists.txt zconf.h zconf.h.cmakein zlib.pc.cmakein ./', 'win32 win32/'] },
    ],
  },
  {
    name: 'fzf', url: 'https://github.com/junegunn/fzf', base: { suite: 'trixie', include: 'golang-go,ca-certificates', tag: 'bench-trixie-go' },
    env: { CGO_ENABLED: '0' }, caches: ['/root/.cache/go-build'], downloads: [],
    steps: [
      { name: 'modules', run: 'go mod download', copies: ['go.mod go.sum ./'] },
      { name: 'build', run: 'go build -trimpath -o target/fzf .', copies: ['main.go ./', 'shell shell/', 'man man/', 'src src/'], mounts: ['/root/.cache/go-build'] },
      { name: 'format', run: 'test -z "$(gofmt -s -l src)"', copies: [] },
      { name: 'test', run: 'go test ./src/algo ./src/util', copies: [], mounts: ['/root/.cache/go-build'] },
      { name: 'shell', run: 'shell/update.sh --check shell/*.bash shell/*.sh', copies: [] },
    ],
  },
];
