import type { NodeDigest, TreeDigest } from '@hyperdocker/base';
import type { EnvSpec } from '@hyperdocker/spec';
import type { Filter } from '@hyperdocker/watch';
import type { Build } from './build.ts';
import type { EnvironmentNetwork } from './environment-network.ts';
import type { Ingest, Ingested } from './ingest.ts';
import type { LiveRoot } from './live-root.ts';
import type { Plan } from './plan.ts';
import type { ServiceSet } from './service-set.ts';
import type { SyncBack } from './sync-back.ts';

/** All that a spec gives rise to, until the next spec: first what was built, then, one after the other, what runs on it. */
export interface Session extends Partial<Running> {
  spec: EnvSpec;
  /** Of hd.toml, as it was last seen. */
  text: string;
  /** The last one that says what this environment is. */
  madeBy: string;
  plan: Plan;
  filter: Filter;
  ingest: Ingest;
  ingested: Ingested;
  /** What the live root shows of the project, where that is ahead of `ingested`. */
  first?: TreeDigest | undefined;
  build: Build;
  root: NodeDigest;
}

export interface Running {
  network: EnvironmentNetwork;
  live: LiveRoot;
  syncBack: SyncBack;
  services: ServiceSet;
}

/** One whose root is there: what containers are made in, each as it is then. */
export type Inhabited = Session & Pick<Running, 'network' | 'live'>;

/** One with everything, whether or not its services have started. */
export type LiveSession = Session & Running;

export function isLive(session: Session | undefined): session is LiveSession {
  return session?.live !== undefined && session.services !== undefined;
}
