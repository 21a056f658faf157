/**
 * Real directories in two or three versions, made from package registries by their ordinary clients, in the work folder. Versions are pinned where that
 * is simple; what they depend on, and Debian's packages, are those of the day.
 */
import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { run } from '@hyperdocker/demo';

export interface Corpus {
  name: string;
  /** For the table's reader. */
  what: string;
  versions: { name: string; make(dir: string): Promise<void> | void }[];
}

const npmInstall = async (dir: string, ...packages: string[]): Promise<void> => {
  await run('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', `--cache=${join(dir, '../npm-cache')}`, ...packages], { cwd: dir });
};
const npmTree: Corpus['versions'][number] = {
  name: 'Next.js 14.1.4',
  make: async (dir) => {
    const dependencies = { next: '14.1.4', react: '18.3.1', 'react-dom': '18.3.1', typescript: '5.4.5', eslint: '8.57.0', 'eslint-config-next': '14.1.4', tailwindcss: '3.4.3', jest: '29.7.0', webpack: '5.91.0' };
    mkdirSync(dir);
    writeFileSync(join(dir, 'package.json'), JSON.stringify({ name: 'app', version: '1.0.0', private: true, dependencies }));
    await npmInstall(dir);
  },
};
const npmUpgrade: Corpus['versions'][number] = {
  name: 'Next.js 14.2.3',
  make: async (dir) => {
    mkdirSync(dir);
    for (const file of ['package.json', 'package-lock.json']) copyFileSync(join(dir, '../0', file), join(dir, file));
    await npmInstall(dir, 'next@14.2.3', 'eslint-config-next@14.2.3');
  },
};

const debianRoot = (name: string, suite: string, options: string[]): Corpus['versions'][number] => ({
  name,
  make: async (dir) => {
    await run('mmdebstrap', ['--variant=minbase', '--format=directory', '--include=python3,git,gcc', ...options, suite, dir], { env: { ...process.env, SOURCE_DATE_EPOCH: '1577836800' } });
  },
});

const wheels = (...requirements: string[]): Corpus['versions'][number] => ({
  name: requirements.join(', '),
  make: async (dir) => {
    const platform = ['--python-version', '3.12', '--implementation', 'cp', '--abi', 'cp312', '--abi', 'abi3', '--platform', 'manylinux2014_x86_64', '--platform', 'manylinux_2_17_x86_64', '--platform', 'manylinux_2_24_x86_64'];
    await run('pip', ['install', '--quiet', '--no-deps', '--no-compile', '--only-binary=:all:', ...platform, '--target', dir, ...requirements]);
  },
});

const program = (name: string, message: string): Corpus['versions'][number] => ({
  name,
  make: async (dir) => {
    mkdirSync(dir);
    const source = join(dir, '../program');
    mkdirSync(source, { recursive: true });
    writeFileSync(join(source, 'go.mod'), 'module program\n\ngo 1.21\n');
    writeFileSync(join(source, 'main.go'), goProgram(message));
    await run('go', ['build', '-trimpath', '-buildvcs=false', '-o', join(dir, 'program'), '.'], { cwd: source, env: { ...process.env, GOCACHE: join(dir, '../go-cache'), GOFLAGS: '-mod=mod', GOTOOLCHAIN: 'local' } });
    rmSync(source, { recursive: true });
  },
});

export const CORPORA: Corpus[] = [
  { name: 'node_modules', what: 'Next.js, React, ESLint, Jest, webpack and Tailwind as npm installs them; then upgraded to the next minor version of Next.js', versions: [npmTree, npmUpgrade] },
  {
    name: 'debian', what: 'Debian with Python, Git and GCC: as released, with its updates, and the next release',
    versions: [debianRoot('bookworm', 'bookworm', ['--aptopt=APT::Default-Release "bookworm"']), debianRoot('bookworm, updated', 'bookworm', []), debianRoot('trixie', 'trixie', [])],
  },
  { name: 'wheels', what: 'Python packages of large libraries, unpacked; then the next patch release of each', versions: [wheels('duckdb==1.1.2', 'numpy==2.1.2', 'polars==1.12.0', 'scipy==1.14.0'), wheels('duckdb==1.1.3', 'numpy==2.1.3', 'polars==1.13.0', 'scipy==1.14.1')] },
  { name: 'relinked', what: 'a Go program with a web server, templates and a parser in it; then with another message and a line more', versions: [program('one', 'println("one")'), program('two', 'println("another message")\n\tprintln(len(parsed.Decls))')] },
  {
    name: 'sqlite', what: 'a SQLite database of 300,000 rows with an index; after an update of 300 rows, at random; after 15,000 more rows',
    versions: [{ name: 'loaded', make: loadDatabase }, { name: '300 updates', make: updateDatabase }, { name: '15,000 rows more', make: growDatabase }],
  },
];

/** Directories of the versions, in their order. Made where they are not there yet. */
export async function openCorpus(workDir: string, { name, versions }: Corpus): Promise<string[]> {
  const dir = join(workDir, `corpus-${name}`);
  mkdirSync(dir, { recursive: true });
  const paths: string[] = [];
  for (const [index, version] of versions.entries()) {
    const path = join(dir, String(index));
    if (!existsSync(path)) {
      rmSync(`${path}.new`, { recursive: true, force: true });
      await version.make(`${path}.new`);
      renameSync(`${path}.new`, path);
    }
    paths.push(path);
  }
  for (const entry of readdirSync(dir)) if (!paths.includes(join(dir, entry))) rmSync(join(dir, entry), { recursive: true });
  return paths;
}

function goProgram(message: string): string {
  return `package main

import (
	"go/parser"
	"go/token"
	"html/template"
	"net/http"
	"os"
)

func main() {
	parsed, err := parser.ParseFile(token.NewFileSet(), os.Args[1], nil, 0)
	if err != nil {
		panic(err)
	}
	${message}
	page := template.Must(template.New("page").Parse("{{.Name}}"))
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { _ = page.Execute(w, parsed) })
	_ = http.ListenAndServe("127.0.0.1:0", nil)
}
`;
}

const WORDS = 'the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one you were all her she there would their we him been has when who will no more if out so up said what its about than into them can only other time new some could these two may first then do any like my now over such our man me even most made after also did many off before must well back through years where much your way down should because long each just state those people too mister how little good world make very year still see own work men day get here old between both life being under'.split(' ');
const ROWS = 300_000;

function loadDatabase(dir: string): void {
  mkdirSync(dir);
  using database = new DatabaseSync(join(dir, 'app.db'));
  database.exec('CREATE TABLE note (id INTEGER PRIMARY KEY, key TEXT, at REAL, body TEXT); CREATE INDEX note_key ON note (key)');
  insert(database, 0, ROWS);
}

function updateDatabase(dir: string): void {
  edit(dir, '0', (database) => {
    const random = randomNumbers(2);
    const update = database.prepare('UPDATE note SET body = ?, at = ? WHERE id = ?');
    for (let count = 0; count < ROWS / 1000; count++) update.run(text(random), random(), 1 + Math.floor(random() * ROWS));
  });
}

function growDatabase(dir: string): void {
  edit(dir, '1', (database) => insert(database, ROWS, ROWS / 20));
}

/** On a copy of an earlier version. */
function edit(dir: string, earlier: string, change: (database: DatabaseSync) => void): void {
  mkdirSync(dir);
  copyFileSync(join(dir, '..', earlier, 'app.db'), join(dir, 'app.db'));
  using database = new DatabaseSync(join(dir, 'app.db'));
  database.exec('BEGIN');
  change(database);
  database.exec('COMMIT');
}

function insert(database: DatabaseSync, from: number, count: number): void {
  const random = randomNumbers(from + 1);
  const statement = database.prepare('INSERT INTO note VALUES (?, ?, ?, ?)');
  if (from === 0) database.exec('BEGIN');
  for (let id = from + 1; id <= from + count; id++) statement.run(id, Math.floor(random() * 2 ** 48).toString(36), random(), text(random));
  if (from === 0) database.exec('COMMIT');
}

function text(random: () => number): string {
  return Array.from({ length: 20 + Math.floor(random() * 80) }, () => WORDS[Math.floor(random() ** 2 * WORDS.length)]).join(' ');
}

function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
}
