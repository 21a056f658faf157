import type { PulledFile } from './api.ts';
import type { HdEvent } from './events.ts';

/** What is to be told of files that came out, or did not. */
export function pullEvents(files: readonly PulledFile[]): HdEvent[] {
  const written = files.flatMap((file) => (file.outcome === 'written' ? [{ path: file.path, change: file.change, before: file.host ?? null, after: file.inside ?? null }] : []));
  return [
    ...(written.length === 0 ? [] : [{ type: 'pulled' as const, files: written }]),
    ...files.flatMap((file): HdEvent[] => {
      if (file.outcome === 'written') return [];
      if (file.outcome === 'refused') return [{ type: 'warning', code: 'NOT_PULLED', message: `${file.path} is not brought to the host: ${file.reason}` }];
      const { path, host, inside, keptAt = '' } = file;
      return [{ type: 'clash', path, keptAt, pulled: true, ...(typeof inside === 'string' ? { inside } : {}), ...(typeof host === 'string' ? { host } : {}) }];
    }),
  ];
}
