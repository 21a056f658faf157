import { resolve } from 'node:path';
import type { ExportTo } from '@hyperdocker/environment';
import { exportEnvironment } from '@hyperdocker/environment';
import { usageError } from '../args.ts';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { formatBytes, plural } from '../format.ts';
import { locateProject } from '../project.ts';
import { start } from './up.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { flags, args, env, json, quiet, terminal } = invocation;
  const to = targetOf(invocation);
  if (!flags.bool('no-build')) {
    const code = await start(invocation, { refreshImage: false, watch: false, buildOnly: true, noCache: false, until: 'stopped' });
    if (code !== EXIT.ok) return code;
  }
  const service = flags.text('service');
  const { digest, layers } = await exportEnvironment(locateProject(invocation, args[0]), to, {
    env, signal: terminal.closed, ...(service === undefined ? {} : { service }),
    onLayer: ({ digest: layer, size, present }, nth, all) => {
      if (!json && !quiet) terminal.err(`[${nth}/${all}] ${layer.slice(0, 19)} ${formatBytes(size)}${present ? ', is there already' : ''}\n`);
    },
  });
  const written = layers.filter(({ present }) => !present);
  const sum = (of: typeof layers): number => of.reduce((bytes, { size }) => bytes + size, 0);
  if (json) {
    terminal.out(`${JSON.stringify({ schema: 'hd.export/1', to, digest, layers, written: { layers: written.length, bytes: sum(written) } })}\n`);
    return EXIT.ok;
  }
  terminal.out(`${WORDS[to.kind]} ${nameOf(to)}: ${digest}\n  ${plural(layers.length, 'layer')}, ${formatBytes(sum(layers))}; new: ${written.length}, ${formatBytes(sum(written))}\n`);
  return EXIT.ok;
}

const WORDS = { oci: 'Wrote', archive: 'Wrote', push: 'Pushed' } as const;

/** @throws HdError USAGE */
function targetOf({ flags, cwd }: Invocation): ExportTo {
  const [dir, file, reference, name] = ['oci', 'archive', 'push', 'tag'].map((flag) => flags.text(flag));
  if ([dir, file, reference].filter((target) => target !== undefined).length !== 1) throw usageError('hd export needs one of --oci DIR, --archive FILE and --push REF', 'such as hd export --archive app.tar --tag app:1.0');
  const named = name === undefined ? {} : { name };
  if (dir !== undefined) return { kind: 'oci', dir: resolve(cwd, dir), ...named };
  if (file !== undefined) return { kind: 'archive', file: resolve(cwd, file), ...named };
  if (name !== undefined) throw usageError('--tag goes with --oci and --archive', 'with --push, the tag is part of the reference: --push registry.example/app:1.0');
  return { kind: 'push', reference: reference ?? '' };
}

function nameOf(to: ExportTo): string {
  return to.kind === 'oci' ? to.dir : to.kind === 'archive' ? to.file : to.reference;
}
