import { HdError } from '@hyperdocker/base';
import { viewGraph } from '@hyperdocker/engine';
import type { GraphView } from '@hyperdocker/engine';
import type { StatusReply, StepWhy, StoreReport, SupervisorClient } from '@hyperdocker/environment';
import { connect, findLeft, reportStore, specOrThrow, storeLimit, whySteps } from '@hyperdocker/environment';
import type { LogEntry } from '../log-file.ts';
import { LogFile } from '../log-file.ts';
import type { ProjectPlace } from '../project.ts';
import { openRoots } from '../roots.ts';
import { printable } from '../terminal.ts';

/** What the page shows of one environment, as it asks for it. */
export interface Overview {
  name: string;
  base: string;
  project: string;
  state: StatusReply['phase'] | 'left' | 'not running';
  /** Null while it is not running. */
  status: StatusReply | null;
}

export interface BuildView {
  atMs: number;
  steps: StepWhy[];
  root: string;
  graph: PrunedGraph;
}

/** A node of the graph. `hidden`: how many lie below it that are left out, since nothing of them has changed. */
export interface PrunedGraph extends Omit<GraphView, 'children'> { children: PrunedGraph[]; hidden: number }

export interface StoreView extends Omit<StoreReport, 'profiles'> { limitBytes: number | null; location: string; /** Whose page this is, as `shares` has it. */ project: string }

const OPEN_LIMIT = 40;
const STORE_KEPT_MS = 5_000;
const LOG_LINES = 400;

/** Reads what is there; keeps nothing but the report of the store, which takes a while to make, for some seconds. */
export class Dashboard {
  readonly #place: ProjectPlace;
  readonly #env: NodeJS.ProcessEnv;
  #store: { atMs: number; view: StoreView } | undefined;

  constructor(place: ProjectPlace, env: NodeJS.ProcessEnv) {
    this.#place = place;
    this.#env = env;
  }

  async overview(): Promise<Overview> {
    const { project, paths } = this.#place;
    const { environment: { name, base } } = specOrThrow(project).spec;
    const status = (await this.#status()) ?? null;
    return { name, base, project: project.dir, state: status?.phase ?? (findLeft(paths) === undefined ? 'not running' : 'left'), status };
  }

  /** @throws HdError NOT_BUILT */
  build(): BuildView {
    using roots = openRoots(this.#place);
    const graph = prune(viewGraph(roots.store, roots.current, roots.previous), 0);
    return { ...whySteps(this.#place), root: roots.current, graph };
  }

  store(): StoreView {
    const { home, project } = this.#place;
    const nowMs = Date.now();
    if (this.#store === undefined || nowMs - this.#store.atMs > STORE_KEPT_MS) {
      const limitBytes = storeLimit(home, this.#env);
      this.#store = { atMs: nowMs, view: { ...reportStore(home), limitBytes: limitBytes === Infinity ? null : limitBytes, location: home.storeDir, project: project.dir } };
    }
    return this.#store.view;
  }

  /** The last lines of all services, in the order of their time. Without what only terminals understand. */
  logs(): LogEntry[] {
    const { project, paths } = this.#place;
    const entries = specOrThrow(project).spec.services.flatMap(({ name }) => new LogFile(name, paths.logsDir).read().slice(-LOG_LINES));
    return entries.toSorted((a, b) => a.t - b.t).map((entry) => ({ ...entry, text: printable(entry.text) }));
  }

  /** @throws HdError NOT_RUNNING */
  async client(): Promise<SupervisorClient> {
    const client = await connect(this.#place.paths);
    if (client === undefined) throw new HdError('NOT_RUNNING', 'the environment is not running', { hint: 'start it with `hd up`' });
    return client;
  }

  async #status(): Promise<StatusReply | undefined> {
    try {
      return await (await connect(this.#place.paths))?.status();
    } catch (error) {
      if (error instanceof HdError && error.code === 'NOT_RUNNING') return undefined;
      throw error;
    }
  }
}

/** A large directory in which nothing has changed is one node: nobody reads ten thousand of them. */
function prune(view: GraphView, depth: number): PrunedGraph {
  const below = countBelow(view);
  const closed = depth > 1 && view.status === 'ok' && below > OPEN_LIMIT;
  return { ...view, hidden: closed ? below : 0, children: closed ? [] : view.children.map((child) => prune(child, depth + 1)) };
}

function countBelow({ children }: GraphView): number {
  return children.reduce((sum, child) => sum + 1 + countBelow(child), 0);
}
