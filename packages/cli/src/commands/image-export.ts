import { createWriteStream, renameSync, rmSync } from 'node:fs';
import { resolve } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { HdError } from '@hyperdocker/base';
import type { ImageDestination } from '@hyperdocker/environment';
import { exportRoot, openHome, sendImage } from '@hyperdocker/environment';
import { usageError } from '../args.ts';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { sayLayer, sentLines, sentSummary } from '../sent-image.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { env, args: [asked = ''], flags, cwd, json, terminal } = invocation;
  const [tar, archive, oci] = ['tar', 'archive', 'oci'].map((flag) => flags.text(flag));
  if ([tar, archive, oci].filter((target) => target !== undefined).length !== 1) throw usageError('hd image export needs one of --tar FILE, --archive FILE and --oci DIR', 'such as hd image export app:1 --tar root.tar; --tar - writes to standard output');
  const home = openHome(env);
  if (tar !== undefined) {
    const file = tar === '-' ? undefined : resolve(cwd, tar);
    const image = await exportRoot(home, asked, (chunks) => (file === undefined ? pipeline(Readable.from(chunks), process.stdout, { end: false }) : writeFileOf(chunks, file)));
    if (file !== undefined) terminal.out(json ? `${JSON.stringify({ schema: 'hd.image.export/1', to: { kind: 'tar', file }, tree: image.tree })}\n` : `Wrote ${file}\n`);
    return EXIT.ok;
  }
  const name = flags.text('tag') ?? asked;
  const to: ImageDestination = archive === undefined ? { kind: 'oci', dir: resolve(cwd, oci ?? ''), name } : { kind: 'archive', file: resolve(cwd, archive), name };
  const { exported } = await sendImage(home, asked, to, { signal: terminal.closed, onLayer: sayLayer(invocation) });
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.image.export/1', to, ...sentSummary(exported) })}\n`);
  else terminal.out(`Wrote ${to.kind === 'oci' ? to.dir : to.file}: ${exported.digest}\n${sentLines(exported)}`);
  return EXIT.ok;
}

/** The file is there whole, or not at all. @throws HdError EXPORT_WRITE */
async function writeFileOf(chunks: Iterable<Uint8Array>, file: string): Promise<void> {
  const partial = `${file}.${process.pid}.partial`;
  try {
    await pipeline(Readable.from(chunks), createWriteStream(partial, { flags: 'wx', mode: 0o644 }));
    renameSync(partial, file);
  } catch (cause) {
    rmSync(partial, { force: true });
    throw new HdError('EXPORT_WRITE', `cannot write ${file}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}
