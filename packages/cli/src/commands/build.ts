import { usageError } from '../args.ts';
import { buildProject } from '../build-project.ts';
import type { Invocation } from '../command.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { flags } = invocation;
  if (isOfDockerfile(invocation)) return await (await import('./build-image.ts')).run(invocation);
  const noCache = flags.bool('no-cache');
  if (!flags.bool('dry-run')) return await buildProject(invocation, { refreshImage: flags.bool('pull'), noCache });
  const { tellDryRun } = await import('../dry-run.ts');
  return tellDryRun(invocation, { noCache });
}

const DOCKERFILE_FLAGS = { text: ['file', 'target', 'platform', 'network', 'output', 'oci', 'archive', 'push'], list: ['tag', 'build-arg', 'build-context', 'secret', 'ssh', 'label', 'allow'] } as const;

/** @throws HdError USAGE for options of a Dockerfile without one being asked for */
export function isOfDockerfile({ flags }: Invocation): boolean {
  const isAsked = flags.text('file') !== undefined || flags.list('tag').length > 0;
  const given = [...DOCKERFILE_FLAGS.text.filter((name) => flags.text(name) !== undefined), ...DOCKERFILE_FLAGS.list.filter((name) => flags.list(name).length > 0)];
  if (!isAsked && given.length > 0) throw usageError(`--${given[0]} is of builds from a Dockerfile`, 'name the Dockerfile with -f, or the image with -t');
  return isAsked;
}
