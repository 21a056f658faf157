import { lstatSync, readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { createHash } from 'node:crypto';
import type { ByteString } from '@hyperdocker/base';
import { fromBuffer, hostPath, joinBytes, toText } from '@hyperdocker/base';

/** Every path below a directory, with what an environment keeps of it: kind, executable bit, content, target. */
export function describeTree(dir: string, ignored: ReadonlySet<string>): Map<ByteString, string> {
  const found = new Map<ByteString, string>();
  const walk = (path: ByteString): void => {
    for (const bytes of readdirSync(hostPath(dir, path), { encoding: 'buffer' })) {
      const name = fromBuffer(bytes);
      if (path === '' && ignored.has(name)) continue;
      const child = joinBytes(path, name);
      const file = hostPath(dir, child);
      const stats = lstatSync(file);
      if (stats.isDirectory()) {
        found.set(child, 'directory');
        walk(child);
      } else if (stats.isSymbolicLink()) found.set(child, `link to ${readlinkSync(file)}`);
      else found.set(child, `${(stats.mode & 0o111) === 0 ? 'file' : 'program'} ${createHash('sha256').update(readFileSync(file)).digest('hex').slice(0, 12)}`);
    }
  };
  walk('' as ByteString);
  return found;
}

/** Paths on which two descriptions differ, in words. */
export function differences(host: ReadonlyMap<ByteString, string>, inside: ReadonlyMap<ByteString, string>): string[] {
  return [...new Set([...host.keys(), ...inside.keys()])].sort().filter((path) => host.get(path) !== inside.get(path))
    .map((path) => `${JSON.stringify(toText(path))}: host ${host.get(path) ?? 'nothing'}, inside ${inside.get(path) ?? 'nothing'}`);
}
