import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseEnv } from 'node:util';
import { HdError, describeError } from '@hyperdocker/base';

/** The variables of files with `NAME=VALUE` lines, as in `.env`; of a name in several of them the last one. @throws HdError ENV_FILE */
export function readEnvFiles(projectDir: string, files: readonly string[]): Record<string, string> {
  return Object.assign({}, ...files.map((file) => parseEnv(read(projectDir, file)))) as Record<string, string>;
}

function read(projectDir: string, file: string): string {
  try {
    return readFileSync(resolve(projectDir, file), 'utf8');
  } catch (cause) {
    throw new HdError('ENV_FILE', `the env_file ${file} cannot be read: ${describeError(cause)}`, { hint: 'make it, or take it out of hd.toml', cause });
  }
}
