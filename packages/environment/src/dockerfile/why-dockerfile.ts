import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { HdError } from '@hyperdocker/base';
import { formatFamiliar, parseReference } from '@hyperdocker/oci';
import type { BuildRecord } from '../build-record.ts';
import { readBuildRecord } from '../build-record.ts';
import type { Home } from '../home.ts';
import type { StepWhy } from '../why.ts';
import { whyRecord } from '../why.ts';
import { RECORD_END, buildsDir, recordFileOf } from './build-files.ts';

/** Which build from a Dockerfile is meant: by the file, or by a name that its image got. */
export type BuildAsked = { path: string | undefined; contextDir: string } | { image: string };

/** What the last build from a Dockerfile did, and why. @throws HdError NOT_BUILT, IMAGE_REFERENCE */
export function whyDockerfile(home: Home, asked: BuildAsked): { name: string; atMs: number; steps: StepWhy[] } {
  const record = 'image' in asked ? newestOf(home, formatFamiliar(parseReference(asked.image))) : readBuildRecord(recordFileOf(home, asked));
  if (record === undefined) {
    const what = 'image' in asked ? `no image ${asked.image} has been built from a Dockerfile` : `${asked.path ?? 'the Dockerfile from standard input'} has not been built`;
    throw new HdError('NOT_BUILT', `${what} yet`, { hint: 'build it with `hd build -f Dockerfile -t NAME`' });
  }
  return { name: record.dockerfile?.name ?? 'Dockerfile', atMs: record.atMs, steps: whyRecord(home, record) };
}

function newestOf(home: Home, image: string): BuildRecord | undefined {
  const dir = buildsDir(home);
  const records = readdirSync(dir).filter((name) => name.endsWith(RECORD_END)).map((name) => readBuildRecord(join(dir, name)));
  return records.filter((record) => record?.dockerfile?.images.includes(image)).sort((a, b) => (b?.atMs ?? 0) - (a?.atMs ?? 0))[0];
}
