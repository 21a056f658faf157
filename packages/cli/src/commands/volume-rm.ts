import { resolve } from 'node:path';
import { HdError } from '@hyperdocker/base';
import type { EnvPaths } from '@hyperdocker/environment';
import { connect, environmentOf, findLeft, openHome, removeVolumes } from '@hyperdocker/environment';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { locateProject } from '../project.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { terminal, json, quiet, args } = invocation;
  const paths = pathsFor(invocation);
  if ((await connect(paths)) !== undefined || findLeft(paths) !== undefined) throw new HdError('VOLUME_IN_USE', 'the environment is running, and may use its volumes', { hint: 'stop it first: `hd down`' });
  removeVolumes(paths, args);
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.volume.rm/1', removed: args })}\n`);
  else if (!quiet) terminal.out(`Removed ${args.join(', ')}\n`);
  return EXIT.ok;
}

/** With `--project`, also of a project that is not there any more. @throws HdError NO_PROJECT */
function pathsFor(invocation: Invocation): EnvPaths {
  const { flags, env, cwd } = invocation;
  const dir = flags.text('project');
  if (dir === undefined) return locateProject(invocation).paths;
  const paths = environmentOf(openHome(env), resolve(cwd, dir));
  if (paths === undefined) throw new HdError('NO_PROJECT', `no environment of ${resolve(cwd, dir)} is known`, { hint: '`hd volume ls --all` names those with volumes' });
  return paths;
}
