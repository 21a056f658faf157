import { inUserNamespace } from '@hyperdocker/base';
import { cgroupMode, limitsWithoutEffect } from '@hyperdocker/sandbox';
import type { EnvSpec } from '@hyperdocker/spec';
import type { HdEvent } from './events.ts';

/** @param what runs again */
export function withoutFuse(problem: string, what: string): HdEvent {
  return { type: 'warning', code: 'NO_FUSE', message: `no FUSE: ${problem}. Files are written out to disk, and tracing is off: ${what} runs again whenever anything in its tree has changed` };
}

/** Nobody shall believe in a limit that nothing enforces. */
export function limitWarnings({ build: { limits: ofSteps }, services }: EnvSpec): HdEvent[] {
  const without = [ofSteps, ...services.map(({ limits }) => limits)].flatMap((limits) => limitsWithoutEffect(limits, cgroupMode()));
  const privileged = services.filter((service) => service.privileged).map(({ name }) => name);
  return [
    ...(without.length === 0 ? [] : [{ type: 'warning' as const, code: 'LIMITS_WITHOUT_EFFECT', message: `${[...new Set(without)].join(', ')} in hd.toml: this machine gives hd no control groups to enforce them (see \`hd doctor\`)` }]),
    ...(privileged.length === 0 || !inUserNamespace() ? [] : [{ type: 'warning' as const, code: 'NOT_PRIVILEGED', message: `${privileged.join(', ')}: only root can run privileged services; without it they are like the others` }]),
  ];
}
