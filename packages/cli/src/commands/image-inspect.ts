import { findListed, imagesHere, openHome } from '@hyperdocker/environment';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { dockerInspect } from '../image-document.ts';

/** Always JSON, an array, as `docker image inspect`. */
export async function run({ env, args, json, terminal }: Invocation): Promise<number> {
  const images = imagesHere(openHome(env));
  const sizes = new Map(images.map(({ key, sizeBytes }) => [key, sizeBytes]));
  const found = args.map((asked) => findListed(images, asked)).map((image) => dockerInspect({ ...image, sizeBytes: sizes.get(image.key) ?? 0 }));
  terminal.out(`${json ? JSON.stringify(found) : JSON.stringify(found, undefined, 4)}\n`);
  return EXIT.ok;
}
