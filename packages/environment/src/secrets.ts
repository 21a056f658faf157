import { chmodSync, chownSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { HdError, isErrno } from '@hyperdocker/base';
import type { SecretUse } from '@hyperdocker/engine';
import { mountMemory, unmountScratch } from '@hyperdocker/mount';
import type { ContainerMount, ContainerUser } from '@hyperdocker/sandbox';
import type { SecretSpec } from '@hyperdocker/spec';

/** Where values come from: the environment that `hd` was started in, and files. */
export interface SecretHost {
  env: Readonly<Record<string, string | undefined>>;
  projectDir: string;
}

/** Values by id. They live in the memory of this process and of the containers that use them, nowhere else. */
export type SecretValues = ReadonlyMap<string, Buffer>;

/** Shorter ones would be found, and replaced, in every output. */
const MIN_BYTES = 8;

/**
 * The values of the secrets that are used.
 * @throws HdError SECRET_MISSING, SECRET_TOO_SHORT
 */
export function readSecrets(specs: readonly SecretSpec[], uses: readonly SecretUse[], host: SecretHost): SecretValues {
  const used = new Set(uses.map(({ id }) => id));
  return new Map(specs.filter(({ id }) => used.has(id)).map((spec) => [spec.id, readSecret(spec, host)]));
}

function readSecret(spec: SecretSpec, host: SecretHost): Buffer {
  const value = spec.kind === 'env' ? readVariable(spec.id, spec.variable, host) : readSecretFile(spec.id, secretFile(spec.file, host));
  if (withoutLineEnd(value).length >= MIN_BYTES) return value;
  throw new HdError('SECRET_TOO_SHORT', `the secret ${spec.id} has fewer than ${MIN_BYTES} bytes`, { hint: 'something that short cannot be told from ordinary output; if it is no secret, put it into `env`' });
}

function readVariable(id: string, variable: string, { env }: SecretHost): Buffer {
  const value = env[variable];
  if (value !== undefined && value !== '') return Buffer.from(value);
  throw new HdError('SECRET_MISSING', `the secret ${id} comes from the variable ${variable}, which is not set`, { hint: `set it and start again: ${variable}=… hd up` });
}

function readSecretFile(id: string, file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    const what = isErrno(cause, 'ENOENT', 'ENOTDIR') ? 'which is not there' : 'which cannot be read';
    throw new HdError('SECRET_MISSING', `the secret ${id} comes from the file ${file}, ${what}`, { cause, hint: `put the file there, or name another one in [secrets] ${id}` });
  }
}

function secretFile(file: string, { env, projectDir }: SecretHost): string {
  return file.startsWith('~/') ? join(env['HOME'] ?? homedir(), file.slice(2)) : resolve(projectDir, file);
}

/** Patterns that keep the files of secrets out of the project's, where they lie inside it: what is ingested is stored. */
export function secretExclusions(specs: readonly SecretSpec[], host: SecretHost): string[] {
  const files = specs.flatMap((spec) => (spec.kind === 'file' ? [secretFile(spec.file, host)] : []));
  const inside = files.flatMap((file) => [file, realPath(file)]).map((file) => relative(host.projectDir, file)).filter((path) => path !== '' && !path.startsWith('..'));
  return [...new Set(inside)].map((path) => `/${path.replace(/[\\*?[\]{}()!+@]/g, '\\$&')}`);
}

function realPath(file: string): string {
  try {
    return realpathSync(file);
  } catch {
    return file;
  }
}

/** Secrets as one step gets them: files in memory, which only its user may read and nobody may write. */
export interface MountedSecrets extends AsyncDisposable {
  mounts: ContainerMount[];
}

/** @param dir is made, and is empty again afterwards. */
export async function mountSecrets(uses: readonly SecretUse[], values: SecretValues, user: ContainerUser, dir: string): Promise<MountedSecrets> {
  if (uses.length === 0) return { mounts: [], [Symbol.asyncDispose]: async () => {} };
  mkdirSync(dir, { mode: 0o700 });
  mountMemory(dir);
  const mounts = uses.map(({ id, file, access = { mode: 0o400, uid: user.uid, gid: user.gid } }, index): ContainerMount => {
    const source = join(dir, String(index));
    writeFileSync(source, values.get(id) ?? '', { mode: 0o400 });
    chownSync(source, access.uid, access.gid);
    chmodSync(source, access.mode);
    return { source, destination: file, readonly: true };
  });
  return { mounts, [Symbol.asyncDispose]: () => unmountScratch(dir) };
}

/**
 * The arguments that run a command with its secrets in variables. The runtime writes what it is told into files, the environment too:
 * so it is told the names alone, and a shell inside reads the values from the mounted files.
 */
export function withSecretVariables(command: string, uses: readonly SecretUse[]): string[] {
  const variables = uses.flatMap(({ env, file }) => (env === undefined ? [] : [env, file]));
  return variables.length === 0 ? ['/bin/sh', '-c', command] : ['/bin/sh', '-c', READ_VARIABLES, 'sh', command, ...variables];
}

/** Only builtins: the image need not have any program but the shell. */
const READ_VARIABLES = `
hd_command=$1; shift
while [ $# -gt 0 ]; do
  hd_value=; hd_between=
  while IFS= read -r hd_line || [ -n "$hd_line" ]; do hd_value=$hd_value$hd_between$hd_line; hd_between='
'; done < "$2" || exit 125
  export "$1=$hd_value"
  shift 2
done
exec /bin/sh -c "$hd_command"`;

/** As most tools read a file of one line. */
export function withoutLineEnd(value: Buffer): Buffer {
  let end = value.length;
  while (end > 0 && (value[end - 1] === 0x0a || value[end - 1] === 0x0d)) end--;
  return value.subarray(0, end);
}
