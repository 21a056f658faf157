import type { ReachSpec } from './spec.ts';

/** A port, or that of the host and that of the services. Expects a text of the form. */
export function lowerReach(value: number | string): Omit<ReachSpec, 'name'> {
  const [hostPort = 0, port = hostPort] = String(value).split(':').map(Number);
  return { hostPort, port };
}
