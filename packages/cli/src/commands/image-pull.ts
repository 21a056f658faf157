import { openHome, pullImage } from '@hyperdocker/environment';
import { usageError } from '../args.ts';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { imageEntry } from '../image-document.ts';
import { ImageProgressView } from '../image-progress.ts';
import { Interrupts } from '../interrupts.ts';
import { printable } from '../terminal.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { env, args, flags, json, quiet, terminal } = invocation;
  const [name = ''] = args;
  const platform = platformFlag(flags.text('platform'));
  const stop = new AbortController();
  using _interrupts = new Interrupts(() => stop.abort());
  try {
    const { image, changed } = await withProgress(invocation, (onProgress) => pullImage(openHome(env), name, { signal: stop.signal, onProgress, ...(platform === undefined ? {} : { platform }) }));
    if (json) terminal.out(`${JSON.stringify({ schema: 'hd.image.pull/1', changed, image: imageEntry(image) })}\n`);
    else if (quiet) terminal.out(`${image.id}\n`);
    else terminal.out(`${changed ? 'Pulled' : 'Up to date:'} ${printable(image.name)}\n  digest: ${image.resolved}\n`);
    return EXIT.ok;
  } catch (error) {
    // What has come so far is kept, and the next pull goes on from there.
    if (stop.signal.aborted) return EXIT.interrupted;
    throw error;
  }
}

async function withProgress<T>(invocation: Invocation, work: (onProgress: ImageProgressView['show']) => Promise<T>): Promise<T> {
  using view = new ImageProgressView(invocation);
  return await work((progress) => view.show(progress));
}

/** @throws HdError USAGE */
export function platformFlag(text: string | undefined): string | undefined {
  if (text !== undefined && !/^[a-z0-9]+\/[a-z0-9_]+(\/[a-z0-9]+)?$/.test(text)) throw usageError(`--platform needs a platform, not "${text}"`, 'such as linux/arm64');
  return text;
}
