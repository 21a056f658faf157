import type { Store } from '@hyperdocker/cas';
import { putNamedImage } from '../named-images.ts';
import type { DockerfileBuilt, DockerfileRequest } from './request.ts';

/** The image gets its names: from here on it is what they mean. @throws HdError IMAGE_REFERENCE */
export function nameImage(store: Store, request: DockerfileRequest, built: DockerfileBuilt): DockerfileBuilt {
  using _lease = store.lease(`hd build ${request.name}`);
  const { tree, document } = built;
  const names = request.tags.map((tag) => putNamedImage(store, tag, { tree, document, source: request.name }, request.platform).name);
  return { ...built, names };
}
