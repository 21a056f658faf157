import { resolve } from 'node:path';
import type { ExportTo } from '@hyperdocker/environment';
import { exportEnvironment } from '@hyperdocker/environment';
import { usageError } from '../args.ts';
import { buildProject } from '../build-project.ts';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { locateProject } from '../project.ts';
import { sayLayer, sentLines, sentSummary } from '../sent-image.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { flags, args, env, json, terminal } = invocation;
  const to = targetOf(invocation);
  if (!flags.bool('no-build')) {
    const code = await buildProject(invocation, { refreshImage: false, noCache: false });
    if (code !== EXIT.ok) return code;
  }
  const service = flags.text('service');
  const exported = await exportEnvironment(locateProject(invocation, args[0]), to, { env, signal: terminal.closed, labels: labelsOf(flags.list('label')), onLayer: sayLayer(invocation), ...(service === undefined ? {} : { service }) });
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.export/1', to, ...sentSummary(exported) })}\n`);
  else terminal.out(to.kind === 'here' ? `${to.name} is in the store: tree ${exported.digest}\n` : `${WORDS[to.kind]} ${nameOf(to)}: ${exported.digest}\n${sentLines(exported)}`);
  return EXIT.ok;
}

const WORDS = { oci: 'Wrote', archive: 'Wrote', push: 'Pushed' } as const;

/** @throws HdError USAGE */
function labelsOf(texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(texts.map((text) => {
    const equals = text.indexOf('=');
    if (equals < 1) throw usageError(`--label needs NAME=VALUE, not "${text}"`);
    return [text.slice(0, equals), text.slice(equals + 1)];
  }));
}

/** @throws HdError USAGE */
function targetOf({ flags, cwd }: Invocation): ExportTo {
  const [dir, file, reference, name] = ['oci', 'archive', 'push', 'tag'].map((flag) => flags.text(flag));
  const targets = [dir, file, reference].filter((target) => target !== undefined).length;
  if (targets > 1 || (targets === 0 && name === undefined)) throw usageError('hd export needs one of --oci DIR, --archive FILE and --push REF, or --tag NAME', 'such as hd export --archive app.tar --tag app:1.0');
  if (targets === 0 && name !== undefined) return { kind: 'here', name };
  const named = name === undefined ? {} : { name };
  if (dir !== undefined) return { kind: 'oci', dir: resolve(cwd, dir), ...named };
  if (file !== undefined) return { kind: 'archive', file: resolve(cwd, file), ...named };
  if (name !== undefined) throw usageError('--tag does not go with --push', 'with --push, the tag is part of the reference: --push registry.example/app:1.0');
  return { kind: 'push', reference: reference ?? '' };
}

function nameOf(to: Exclude<ExportTo, { kind: 'here' }>): string {
  return to.kind === 'oci' ? to.dir : to.kind === 'archive' ? to.file : to.reference;
}
