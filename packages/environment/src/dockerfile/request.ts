import { lstatSync, statSync } from 'node:fs';
import type { TreeDigest } from '@hyperdocker/base';
import { HdError } from '@hyperdocker/base';
import type { ImageDocument } from '@hyperdocker/oci';
import type { SecretSpec } from '@hyperdocker/spec';

/** One `hd build -f`. Plain data: it goes to the process that builds. Paths are absolute. */
export interface DockerfileRequest {
  /** As errors and progress name it. */
  name: string;
  text: string;
  /** Where it lies; undefined for one from standard input. Next to it may lie its own .dockerignore. */
  path: string | undefined;
  contextDir: string;
  /** Names that the image gets. */
  tags: string[];
  target: string | undefined;
  buildArgs: [name: string, value: string][];
  /** `--build-context`: a directory, `docker-image://…` or `oci-layout://…`. */
  contexts: [name: string, value: string][];
  labels: [name: string, value: string][];
  secrets: SecretSpec[];
  /** Sockets of SSH agents by their ids. */
  ssh: [id: string, socket: string][];
  /** Such as `linux/amd64`. */
  platform: string;
  /** Run every RUN. */
  noCache: boolean;
  /** Ask for newer base images. */
  pull: boolean;
  /** Of a RUN that says nothing of it. */
  network: boolean;
  /** RUN --security=insecure may have what it asks for. */
  allowInsecure: boolean;
  /** How many commands run at once. */
  jobs: number;
}

export interface DockerfileBuilt {
  tree: TreeDigest;
  document: ImageDocument;
  names: string[];
  /** RUNs. */
  ran: number;
  cached: number;
  ms: number;
}

/** Whether a build can take its files from there. @throws HdError CONTEXT_UNREADABLE */
export function requireContext(dir: string): void {
  let isDirectory = false;
  try {
    isDirectory = lstatSync(dir).isDirectory() || statSync(dir).isDirectory();
  } catch (cause) {
    throw new HdError('CONTEXT_UNREADABLE', `there is no directory ${dir}`, { cause, hint: 'name the directory that COPY takes files from, as the last argument' });
  }
  if (!isDirectory) throw new HdError('CONTEXT_UNREADABLE', `${dir} is no directory`, { hint: 'name the directory that COPY takes files from, as the last argument' });
}
