import { connect, dropLeft, findLeft, listVolumes, removeVolumes } from '@hyperdocker/environment';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { locateProject } from '../project.ts';
import { stopAndWait } from '../running.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { terminal, quiet, json, flags, args } = invocation;
  const { paths, project } = locateProject(invocation, args[0]);
  const client = await connect(paths);
  const dropVolumes = (): string[] => {
    const names = flags.bool('volumes') ? listVolumes(paths).map(({ name }) => name) : [];
    removeVolumes(paths, names);
    if (!json && !quiet && names.length > 0) terminal.out(`Removed ${names.join(', ')}\n`);
    return names;
  };
  if (client === undefined && findLeft(paths) !== undefined) {
    await dropLeft(paths);
  } else if (client === undefined) {
    if (!json && !quiet) terminal.out(`${project.dir} is not running.\n`);
    const removed = dropVolumes();
    if (json) terminal.out(`${JSON.stringify({ schema: 'hd.down/1', stopped: false, ...(removed.length === 0 ? {} : { removed }) })}\n`);
    return EXIT.ok;
  } else {
    await stopAndWait(client, {
      kill: flags.bool('kill'),
      onEvent: (event) => {
        if (!json && !quiet && event.type === 'service' && event.status === 'stopped') terminal.out(`${event.name}  stopped\n`);
      },
    });
  }
  if (!json && !quiet) terminal.out('Stopped.\n');
  const removed = dropVolumes();
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.down/1', stopped: true, ...(removed.length === 0 ? {} : { removed }) })}\n`);
  return EXIT.ok;
}
