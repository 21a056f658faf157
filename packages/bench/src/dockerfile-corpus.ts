import { cpSync, existsSync, readFileSync, readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { extname, join } from 'node:path';

/** One Dockerfile of `packages/bench/dockerfiles`, with what is known of it. All are of our own, in the manner of the official images' and Docker's documentation. */
export interface CorpusEntry {
  name: string;
  dir: string;
  /** The file that is edited. */
  edited: string;
  /** Options of both builders. `SECRET` stands for a file with a secret. */
  options: string[];
  /** Why the BuildKit that is in Docker Engine 20.10 cannot build it. */
  tooNew?: string;
}

export const CORPUS_DIR = join(import.meta.dirname, '../dockerfiles');
/** What the Dockerfiles call the base of Debian's packages, and the one of busybox alone. */
export const TOOLCHAIN_NAMES: readonly string[] = ['debian:bookworm-slim', 'python:3.11-slim', 'node:18-slim', 'gcc:12'];
export const BUSYBOX_NAME = 'busybox:1.36';
export const TOOLCHAIN = { suite: 'bookworm', include: 'gcc,libc6-dev,make,nodejs,python3', tag: 'bench-toolchain' };

const EDITED: Record<string, string> = {
  'add-archives': 'text.txt', 'arg-scopes': 'notes.txt', 'autotools-like': 'greet.c', 'backtick-escape': 'file.txt', 'bind-mount': 'src/one.txt', 'c-multistage': 'src/words.c', 'cache-mount': 'twice.c',
  'copy-options': 'apps/web/src/index.js', 'copy-paths': 'dir/b.txt', 'database': 'docker-entrypoint.sh', 'distroless': 'message', 'docs-site': 'pages/c.md', 'entrypoint-reset': 'x', 'env-expansion': '1.txt',
  'flask-web': 'app.py', 'heredocs': 'x', 'ignore-rules': 'src/c.txt', 'key-value': 'docker-entrypoint.sh', 'links': 'real/file', 'lint-and-test': 'docs/index.md', 'many-files': 'CHANGELOG.md', 'monorepo': 'services/api/api.py',
  'node-server': 'docs/notes.md', 'notebook': 'notebooks/one.py', 'onbuild': 'app.conf', 'ownership': 'tree/data/values', 'package-database': 'notes', 'replacing': 'keep/b', 'secret-tmpfs': 'x', 'shell-forms': 'x',
  'static-site': 'site/index.html', 'unused-stages': 'app.sh', 'workdirs': 'x',
};
const OPTIONS: Record<string, string[]> = { 'secret-tmpfs': ['--secret', 'id=token,src=SECRET'], 'arg-scopes': ['--build-arg', 'FLAVOUR=sweet'] };
const TOO_NEW: Record<string, string> = { heredocs: 'here-documents came with Dockerfile 1.4', 'copy-options': '`--link`, `--parents` and `--exclude` came with Dockerfile 1.4 and later' };
const COMMENTS: Record<string, string> = { '.c': '//', '.h': '//', '.js': '//', '.py': '#', '.sh': '#', '.css': '/*' };

/** @param only names, with commas between them; default: all */
export function corpus(only = process.env['HD_BENCH_DOCKERFILES'] ?? ''): CorpusEntry[] {
  const wanted = only.split(',').filter((name) => name !== '');
  return readdirSync(CORPUS_DIR).sort().filter((name) => wanted.length === 0 || wanted.includes(name)).map((name) => {
    const edited = EDITED[name];
    if (edited === undefined || !existsSync(join(CORPUS_DIR, name, edited))) throw new Error(`${name} has no file to edit`);
    const tooNew = TOO_NEW[name];
    return { name, edited, dir: join(CORPUS_DIR, name), options: OPTIONS[name] ?? [], ...(tooNew === undefined ? {} : { tooNew }) };
  });
}

/** A copy for one builder. The engine of Docker 20.10 gets it without its `# syntax=`: what that names would have to be fetched. */
export function copyProject({ dir }: CorpusEntry, to: string, options: { withoutSyntax: boolean }): void {
  cpSync(dir, to, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
  if (!options.withoutSyntax) return;
  const file = join(to, 'Dockerfile');
  const { atime, mtime } = statSync(file);
  writeFileSync(file, readFileSync(file, 'utf8').replace(/^# syntax=.*\n/, ''));
  utimesSync(file, atime, mtime);
}

/** Another content each time. */
export function edit({ edited }: CorpusEntry, dir: string, round: string): void {
  const file = join(dir, edited);
  const before = readFileSync(file, 'utf8').replace(/^.*edit [\w-]+\n$/m, '');
  writeFileSync(file, `${before}${COMMENTS[extname(edited)] ?? ''} edit ${round}\n`);
}
