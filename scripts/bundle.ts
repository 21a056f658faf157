/**
 * Bundles `hd` into dist/: one flat directory of ES modules, split so that what a command does not need is not loaded.
 * Entries: the command itself, and every `*-main.ts` and `*-worker.ts` that runs in a process or thread of its own.
 *
 *   node scripts/bundle.ts [--root <checkout>] [--entry <file> --out <directory in the checkout>]
 *
 * With `--entry`: that program instead of the command, for benchmarks that time what users run.
 */
import { build, type Plugin } from 'esbuild';
import { existsSync, globSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { directImports } from './direct-imports.ts';

const STALE_MS = 24 * 60 * 60 * 1000;
/** What `hd` loads only when it is needed, besides its commands. */
const LATER = [
  'cli/src/dry-run.ts', 'cli/src/follow.ts', 'cli/src/load-spec.ts', 'cli/src/plan-image.ts', 'cli/src/send-built.ts', 'cli/src/session.ts', 'environment/src/dockerfile/quick-build.ts', 'environment/src/recover.ts',
];

const { values } = parseArgs({ options: { root: { type: 'string' }, entry: { type: 'string' }, out: { type: 'string', default: 'dist' } } });
try {
  await bundle(resolve(values.root ?? join(import.meta.dirname, '..')), values.out, values.entry);
} catch (error) {
  // esbuild has printed its own errors, with their places.
  if (!(error instanceof Error && 'errors' in error)) throw error;
  process.exitCode = 1;
}

async function bundle(root: string, out: string, entry: string | undefined): Promise<void> {
  const outdir = join(root, out);
  const entries = entryPoints(root);
  mkdirSync(outdir, { recursive: true });
  const isCommand = (source: string): boolean => source === join(root, 'packages/cli/src/main.ts');
  // Apart from each other: what both use would come in files of its own.
  const others = [...entries].filter(([source]) => !isCommand(source));
  const parts = entry === undefined ? [[...entries].filter(([source]) => isCommand(source)), others] : [[[join(root, entry), basename(entry, '.ts')] as const, ...others]];
  const outputs = await Promise.all(parts.map((part) => bundlePart(root, outdir, part, entries)));
  removeStale(outdir, new Set(outputs.flat()));
}

/** @returns the names of the files written */
async function bundlePart(root: string, outdir: string, part: readonly (readonly [source: string, name: string])[], entries: Map<string, string>): Promise<string[]> {
  const result = await build({
    entryPoints: Object.fromEntries(part.map(([source, name]) => [name, source])),
    absWorkingDir: root,
    outdir,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node26',
    outExtension: { '.js': '.mjs' },
    chunkNames: '[name]-[hash]',
    external: ['koffi', '@napi-rs/blake-hash'],
    // A package's ES modules, where it has them: what it wraps for every kind of loader may look for its parts by names that are gone in one file.
    mainFields: ['module', 'main'],
    plugins: [rewriteImports(root, entries, outdir, part.some(([, name]) => name === 'main') ? companions : () => ''), nodeModules()],
    // CommonJS packages call `require` for Node's own modules, which ES modules do not have.
    banner: { js: "globalThis.require ??= process.getBuiltinModule('node:module').createRequire(import.meta.url);" },
    sourcemap: true,
    metafile: true,
    logLevel: 'warning',
  });
  const names = Object.keys(result.metafile.outputs).map((path) => basename(path));
  for (const name of names.filter((file) => file.endsWith('.mjs'))) {
    const [left] = /\brequire\d*\(\s*["']\.{1,2}\/[^"']*/.exec(readFileSync(join(outdir, name), 'utf8')) ?? [];
    if (left !== undefined) throw new Error(`${name} still looks for a file that is part of it: ${left}`);
  }
  return names;
}

/** Source path → name in dist/, without extension. */
function entryPoints(root: string): Map<string, string> {
  const sources = globSync(['packages/cli/src/main.ts', 'packages/*/src/**/*-main.ts', 'packages/*/src/**/*-worker.ts'], { cwd: root });
  const entries = new Map<string, string>();
  for (const source of sources.sort()) {
    const name = basename(source, '.ts');
    if ([...entries.values()].includes(name)) throw new Error(`two entry points are named ${name}.ts: rename one, dist/ is flat`);
    entries.set(join(root, source), name);
  }
  return entries;
}

/**
 * `new URL('./x-worker.ts', import.meta.url)` finds a file beside its module in the sources; in dist/ every module has
 * moved. Rewrites such literals: to the entry's name in dist/, or to the path from dist/ of any other file. Imports of our own
 * packages go to the modules that have what is imported.
 */
function rewriteImports(root: string, entries: Map<string, string>, outdir: string, companionsOf: (path: string) => string): Plugin {
  const direct = directImports(root);
  const literal = /new URL\(\s*(['"])(\.[^'"]*)\1\s*,\s*import\.meta\.url\s*\)/g;
  return {
    name: 'rewrite-imports',
    setup(context) {
      context.onLoad({ filter: /\/packages\/[^/]+\/src\/.*\.ts$/ }, ({ path }) => {
        const contents = readFileSync(path, 'utf8').replace(literal, (_, quote: string, specifier: string) => {
          const target = resolve(dirname(path), specifier);
          if (!existsSync(target)) throw new Error(`${path}: ${specifier} does not exist`);
          const name = entries.get(target);
          if (name === undefined && target.endsWith('.ts')) throw new Error(`${path}: ${specifier} is no entry point: name it *-main.ts or *-worker.ts`);
          return `new URL(${quote}${name === undefined ? relative(outdir, target) : `./${name}.mjs`}${quote}, import.meta.url)`;
        });
        return { contents: `${direct(contents)}\n${companionsOf(relative(join(root, 'packages'), path))}`, loader: 'ts' };
      });
    },
  };
}

/**
 * A file to load is a millisecond, and modules that are shared by some commands and not by others come in files of their own. So each command is said to need all of the
 * command line, which is there already when it runs: that makes one file of it. `exec` and `build` are part of it, because people wait for nothing but the start of them.
 */
function companions(path: string): string {
  if (path === 'cli/src/cli.ts') return "import './commands/exec.ts'; import './commands/build.ts';";
  if (path.startsWith('cli/src/commands/')) return "import '../cli.ts';";
  return LATER.includes(path) ? `import './${relative(dirname(path), 'cli/src/cli.ts')}';` : '';
}

/**
 * Node's own modules, without the ES module that Node makes of each of them: for that it evaluates all that is loaded only on use otherwise. `node:fs` alone took 5 ms, all
 * of them together 10 to 15 of every command.
 */
function nodeModules(): Plugin {
  return {
    name: 'node-modules',
    setup(context) {
      context.onResolve({ filter: /^node:/ }, ({ path, kind }) => (kind === 'require-call' ? { path, external: true } : { path, namespace: 'node-module' }));
      context.onLoad({ filter: /.*/, namespace: 'node-module' }, ({ path }) => {
        const exports = Object.keys(process.getBuiltinModule(path) ?? {}).filter((name) => /^[A-Za-z_]\w*$/.test(name) && name !== 'default');
        // Marked as pure: what nobody imports is left out, and never asked for.
        const named = exports.map((name) => `export const ${name} = /* @__PURE__ */ (() => all.${name})();`);
        return { contents: [`const all = process.getBuiltinModule(${JSON.stringify(path)});`, 'export default all;', ...named].join('\n'), loader: 'js' };
      });
    },
  };
}

/** A supervisor of an older build may still load its chunks by name: they stay for a day. */
function removeStale(outdir: string, fresh: ReadonlySet<string>): void {
  for (const name of readdirSync(outdir)) {
    const path = join(outdir, name);
    if (/\.mjs(\.map)?$/.test(name) && !fresh.has(name) && Date.now() - statSync(path).mtimeMs > STALE_MS) rmSync(path);
  }
}
