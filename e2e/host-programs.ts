/** Base images with programs of this machine: real ones, without a network. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, cpSync, existsSync, globSync, mkdirSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Python without what only its developers and users of windows need. */
const NOT_NEEDED = /\/(?:test|tests|idlelib|tkinter|turtledemo|lib2to3|ensurepip|pydoc_data|config-[^/]*|__pycache__)$/;

/** A program and the libraries that it loads, at the places that they have here. */
export function addProgram(root: string, program: string): void {
  copyInto(root, program);
  addLibraries(root, program);
}

/** Those that a program, or another library, loads. */
export function addLibraries(root: string, of: string): void {
  for (const library of librariesOf(of)) copyInto(root, library);
}

/** python3 with its library, and packages of Debian's for it. */
export function addPython(root: string, packages: readonly string[] = []): void {
  addProgram(root, '/usr/bin/python3');
  const library = dirname(globSync('/usr/lib/python3.*/os.py')[0] ?? '');
  cpSync(library, join(root, library), { recursive: true, filter: (path) => !NOT_NEEDED.test(path) });
  for (const extension of globSync(join(library, 'lib-dynload/*.so'))) addLibraries(root, extension);
  const own = packages.flatMap((name) => globSync(`/usr/lib/python3/dist-packages/${name}{,.py,-*.egg-info,-*.dist-info}`));
  for (const path of own) cpSync(path, join(root, path), { recursive: true, dereference: true });
}

function copyInto(root: string, path: string): void {
  const target = join(root, path);
  if (existsSync(target)) return;
  mkdirSync(dirname(target), { recursive: true });
  copyFileSync(realpathSync(path), target);
}

function librariesOf(program: string): string[] {
  return [...execFileSync('ldd', [program], { encoding: 'utf8' }).matchAll(/(?:=> |^\s*)(\/\S+) \(/gm)].map((match) => match[1] ?? '');
}
