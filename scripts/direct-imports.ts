/**
 * Where a name of a package is defined. A bundler that splits its output loads all that a package's index names, for one of them: for
 * `hd exec` that was the whole application, 70 ms of it. So imports of our own packages are led to the modules themselves.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

interface Origin { file: string; name: string }

/** @param root of the checkout. @returns rewrites the text of a module; what it is not sure of it leaves as it is */
export function directImports(root: string): (source: string) => string {
  const packages = new Map<string, ReadonlyMap<string, Origin>>();
  const exportsOf = (name: string): ReadonlyMap<string, Origin> => {
    const known = packages.get(name) ?? exportedNames(join(root, 'packages', name, 'src/index.ts'));
    packages.set(name, known);
    return known;
  };
  return (source) => source.replace(/^import \{([^}]*)\} from '@hyperdocker\/([a-z]+)';$/gm, (whole, names: string, name: string) => {
    const values = names.split(',').map((part) => part.trim()).filter((part) => part !== '' && !part.startsWith('type '));
    const lines = values.map((part) => {
      const [imported = part, local = imported] = part.split(/\s+as\s+/);
      const origin = exportsOf(name).get(imported);
      return origin === undefined ? undefined : `import { ${origin.name} as ${local} } from ${JSON.stringify(origin.file)};`;
    });
    // On one line, so that places in the source stay what they are.
    return lines.includes(undefined) ? whole : `${lines.join(' ')}${'\n'.repeat(names.split('\n').length - 1)}`;
  });
}

/** The values that a module exports, and those that it passes on. */
function exportedNames(file: string): Map<string, Origin> {
  const names = new Map<string, Origin>();
  if (!existsSync(file)) return names;
  const source = readFileSync(file, 'utf8');
  for (const [, name = ''] of source.matchAll(/^export (?:async )?(?:abstract )?(?:function\*?|const|class|let) (\w+)/gm)) names.set(name, { file, name });
  for (const [, list = '', from = ''] of source.matchAll(/^export \{([^}]*)\} from '(\.[^']+)';$/gm)) {
    const passed = exportedNames(join(dirname(file), from));
    for (const part of list.split(',').map((text) => text.trim()).filter((text) => text !== '' && !text.startsWith('type '))) {
      const [name = part, as = name] = part.split(/\s+as\s+/);
      const origin = passed.get(name);
      if (origin !== undefined) names.set(as, origin);
    }
  }
  for (const [, from = ''] of source.matchAll(/^export \* from '(\.[^']+)';$/gm)) {
    for (const [name, origin] of exportedNames(join(dirname(file), from))) names.set(name, origin);
  }
  return names;
}
