import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { text as readAll } from 'node:stream/consumers';
import { HdError, isErrno } from '@hyperdocker/base';
import type { DockerfileBuilt, DockerfileRequest, ImageDestination } from '@hyperdocker/environment';
import { HOST_PLATFORM, buildImage, ensureSystemPackages, openHome } from '@hyperdocker/environment';
import type { SecretSpec } from '@hyperdocker/spec';
import { usageError } from '../args.ts';
import { BUILD_SERVER_PROGRAM } from '../build-server-program.ts';
import type { Invocation } from '../command.ts';
import { EventDisplay } from '../event-display.ts';
import { EXIT } from '../exit-code.ts';
import { formatCount, formatDuration } from '../format.ts';
import { Interrupts } from '../interrupts.ts';

/** `hd build -f Dockerfile -t NAME [CONTEXT]`. */
export async function run(invocation: Invocation): Promise<number> {
  const { env, flags, terminal } = invocation;
  const to = destinationOf(invocation);
  const request = await requestOf(invocation, to);
  const home = openHome(env);
  if (flags.bool('dry-run')) {
    return await (await import('../plan-image.ts')).planImage(invocation, request, home);
  }
  const stop = new AbortController();
  terminal.closed.addEventListener('abort', () => stop.abort(terminal.closed.reason));
  const built = await (async () => {
    using display = new EventDisplay(invocation, { services: [], specText: request.text, buildOnly: true });
    using _interrupts = new Interrupts(() => stop.abort(new HdError('INTERRUPTED', 'the build was stopped')));
    return await buildImage(request, {
      home, env, program: BUILD_SERVER_PROGRAM, emit: (event) => display.show(event), signal: stop.signal,
      beforeRun: () => ensureSystemPackages({ needs: { runtime: true, mmdebstrap: request.text.includes('apt://') }, allowInstall: env['HD_NO_INSTALL'] !== '1', onMessage: (message) => terminal.err(`${message}\n`) }),
    });
  })();
  tellBuilt(invocation, built);
  if (to !== undefined) await (await import('../send-built.ts')).sendBuilt(invocation, home, built, to);
  return EXIT.ok;
}

export function tellBuilt({ json, quiet, terminal }: Invocation, { names, tree, ran, cached, ms }: DockerfileBuilt): void {
  if (json) return terminal.out(`${JSON.stringify({ type: 'image-built', schema: 'hd.image.build/1', names, tree, ran, cached, ms })}\n`);
  if (quiet) return terminal.out(`${tree}\n`);
  const steps = ran + cached === 0 ? '' : `\nSteps: ${formatCount(ran)} ran, ${formatCount(cached)} cached`;
  terminal.out(`Image '${names.join("', '")}' built in ${formatDuration(ms)}\nTree: ${tree}${steps}\n`);
}

export async function requestOf({ flags, args, cwd, env }: Invocation, to: ImageDestination | undefined): Promise<DockerfileRequest> {
  const contextDir = resolve(cwd, args[0] ?? '.');
  const file = flags.text('file') ?? join(contextDir, 'Dockerfile');
  const path = file === '-' ? undefined : resolve(cwd, file);
  const tags = [...flags.list('tag'), ...(to?.kind === 'push' ? [to.reference] : [])];
  const platform = flags.text('platform') ?? HOST_PLATFORM;
  if (!/^[a-z0-9]+\/[a-z0-9_]+(\/[a-z0-9.]+)?$/.test(platform)) throw usageError(`--platform is one such as linux/amd64, not ${platform}`, 'several platforms are several builds');
  const network = flags.text('network') ?? 'default';
  if (!['default', 'host', 'none'].includes(network)) throw usageError(`--network is default, host or none, not ${network}`);
  const allowed = flags.list('allow');
  const unknown = allowed.find((name) => !['security.insecure', 'network.host'].includes(name));
  if (unknown !== undefined) throw usageError(`--allow takes security.insecure or network.host, not ${unknown}`);
  return {
    name: file === '-' ? 'Dockerfile' : shownName(path ?? '', contextDir), text: path === undefined ? await readAll(process.stdin) : readDockerfile(path), path, contextDir,
    tags: tags.length > 0 ? tags : [nameOf(contextDir)],
    target: flags.text('target'),
    buildArgs: flags.list('build-arg').map((text) => argumentOf(text, env)),
    contexts: flags.list('build-context').map((text) => contextOf(text, cwd)),
    labels: flags.list('label').map((text) => pair(text, '--label')),
    secrets: flags.list('secret').map((text) => secretOf(text, cwd)),
    ssh: flags.list('ssh').map((text) => agentOf(text, cwd, env)),
    platform, noCache: flags.bool('no-cache'), pull: flags.bool('pull'), network: network !== 'none', allowInsecure: allowed.includes('security.insecure'),
    jobs: availableParallelism(),
  };
}

function readDockerfile(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new HdError('DOCKERFILE_UNREADABLE', isErrno(cause, 'ENOENT') ? `there is no ${path}` : `cannot read ${path}`, { cause, hint: 'name one with `-f`' });
  }
}

function shownName(path: string, contextDir: string): string {
  return path.startsWith(`${contextDir}/`) ? path.slice(contextDir.length + 1) : path;
}

/** What an image is called that nobody named: as the directory. */
function nameOf(contextDir: string): string {
  return basename(contextDir).toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-+|-+$/g, '') || 'image';
}

/** Without a value, the variable of that name is passed on. */
function argumentOf(text: string, env: NodeJS.ProcessEnv): [string, string] {
  return text.includes('=') ? pair(text, '--build-arg') : [text, env[text] ?? ''];
}

function pair(text: string, flag: string): [string, string] {
  const equals = text.indexOf('=');
  if (equals <= 0) throw usageError(`${flag} takes NAME=VALUE, not ${text}`);
  return [text.slice(0, equals), text.slice(equals + 1)];
}

function contextOf(text: string, cwd: string): [string, string] {
  const [name, value] = pair(text, '--build-context');
  if (/^(docker-image|oci-layout):\/\//.test(value)) return [name, value.startsWith('oci-layout://') ? `oci-layout://${resolve(cwd, value.slice('oci-layout://'.length))}` : value];
  if (/^[a-z+]+:\/\//.test(value)) throw usageError(`--build-context takes a directory, docker-image:// or oci-layout://, not ${value}`);
  return [name, resolve(cwd, value)];
}

/** `id=npm,src=.npmrc`, `id=token,env=TOKEN`. */
function secretOf(text: string, cwd: string): SecretSpec {
  const fields = new Map(text.split(',').map((part) => pair(part, '--secret')));
  const id = fields.get('id');
  if (id === undefined) throw usageError(`--secret needs an id: id=NAME,src=FILE`);
  const file = fields.get('src') ?? fields.get('source');
  const variable = fields.get('env');
  if (variable !== undefined || (file === undefined && fields.get('type') === 'env')) return { kind: 'env', id, variable: variable ?? id };
  return { kind: 'file', id, file: resolve(cwd, file ?? id) };
}

function agentOf(text: string, cwd: string, env: NodeJS.ProcessEnv): [string, string] {
  const [id = '', socket] = text.split('=');
  const path = socket ?? env['SSH_AUTH_SOCK'];
  if (path === undefined || path === '') throw usageError(`--ssh ${id}: there is no SSH agent here`, 'start one (SSH_AUTH_SOCK), or give its socket: --ssh default=SOCKET');
  return [id, resolve(cwd, path)];
}

/** @throws HdError USAGE */
export function destinationOf({ flags, cwd }: Invocation): ImageDestination | undefined {
  const output = flags.text('output');
  const [dir, file, reference] = [flags.text('oci'), flags.text('archive'), flags.text('push')];
  if ([output, dir, file, reference].filter((value) => value !== undefined).length > 1) throw usageError('one of --output, --oci, --archive and --push at a time');
  const name = flags.list('tag')[0];
  const named = name === undefined ? {} : { name };
  if (output !== undefined) return fromOutput(output, cwd, named);
  if (dir !== undefined) return { kind: 'oci', dir: resolve(cwd, dir), ...named };
  if (file !== undefined) return { kind: 'archive', file: resolve(cwd, file), ...named };
  return reference === undefined ? undefined : { kind: 'push', reference };
}

/** As buildx has it: `type=oci,dest=FILE`, `type=docker,dest=FILE`, `type=oci,tar=false,dest=DIR`, `type=registry,name=REF`. */
function fromOutput(text: string, cwd: string, named: { name?: string }): ImageDestination {
  const fields = new Map(text.split(',').map((part) => pair(part, '--output')));
  const [type, dest, name] = ['type', 'dest', 'name'].map((field) => fields.get(field));
  if ((type === 'registry' || (type === 'image' && fields.get('push') === 'true')) && name !== undefined) return { kind: 'push', reference: name };
  if (dest !== undefined && (type === 'oci' || type === 'docker')) return fields.get('tar') === 'false' ? { kind: 'oci', dir: resolve(cwd, dest), ...named } : { kind: 'archive', file: resolve(cwd, dest), ...named };
  throw usageError(`--output ${text} is not supported`, 'type=oci,dest=FILE, type=oci,tar=false,dest=DIR, type=docker,dest=FILE or type=registry,name=REF');
}
