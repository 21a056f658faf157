import { existsSync, mkdirSync } from 'node:fs';
import type { RefName, Store } from '@hyperdocker/cas';
import { readBuildRecord } from './build-record.ts';
import { isBeingBuilt } from './claim.ts';
import type { EnvPaths, Home } from './home.ts';
import { pathsOf } from './home.ts';
import { readJson, writeJson } from './json-file.ts';
import { servedRoot } from './live-record.ts';
import { isAlive, readState } from './state-file.ts';

/** What is kept of an environment while it is down, beside its refs: docs/format/state.md. */
interface EnvironmentNote {
  version: 1;
  project: string;
  /** Beginning of the refs of its base image. */
  image?: string;
  usedMs: number;
}

/** An environment that the store holds something of. */
export interface KnownEnvironment {
  id: string;
  /** Undefined for one that was last used before there were notes. */
  project: string | undefined;
  image: string | undefined;
  refs: RefName[];
  /** Definitions of the steps of its last build. */
  definitions: readonly string[];
  usedMs: number;
  /** `gone`: its project's directory is not there any more. */
  state: 'running' | 'down' | 'gone';
}

/** Notes that the environment is used now. */
export function noteUse({ dir, note }: EnvPaths, { project, image }: { project: string; image?: string }): void {
  const kept = image ?? readNote(note)?.image;
  const content: EnvironmentNote = { version: 1, project, usedMs: Date.now(), ...(kept === undefined ? {} : { image: kept }) };
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  writeJson(note, content);
}

/** The directory of an environment's project, as far as it is known. */
export function projectOf(paths: EnvPaths): string | undefined {
  return readNote(paths.note)?.project ?? readState(paths.stateFile)?.project;
}

/** When it was last used, as far as its note tells; 0 where there is none. */
export function usedMsOf(paths: EnvPaths): number {
  return readNote(paths.note)?.usedMs ?? 0;
}

/** All environments with refs, by their ids. */
export function knownEnvironments(home: Home, store: Store): KnownEnvironment[] {
  const byId = Map.groupBy(store.listRefs('env/'), ({ name }) => name.split('/')[1] ?? '');
  return [...byId].map(([id, refs]): KnownEnvironment => {
    const paths = pathsOf(home, id);
    const note = readNote(paths.note);
    const state = readState(paths.stateFile);
    const project = note?.project ?? state?.project;
    // So is one that could be adopted, or that is being built.
    const isRunning = (state !== undefined && isAlive(state)) || servedRoot(paths) !== undefined || isBeingBuilt(paths);
    return {
      id, project, image: note?.image, refs: refs.map(({ name }) => name),
      definitions: readBuildRecord(paths.buildRecord)?.steps.map(({ key }) => key) ?? [],
      usedMs: Math.max(note?.usedMs ?? 0, ...refs.map(({ ref }) => ref.atMs)),
      state: isRunning ? 'running' : project === undefined || existsSync(project) ? 'down' : 'gone',
    };
  });
}

/** Undefined: none, or one that this version cannot read. */
function readNote(file: string): EnvironmentNote | undefined {
  const note = readJson(file) as Partial<EnvironmentNote> | undefined;
  return note?.version === 1 && typeof note.project === 'string' && typeof note.usedMs === 'number' ? (note as EnvironmentNote) : undefined;
}
