import type { Workshop } from './workshop.ts';

/** One thing that users wait for. Named `<project>.<action>`. */
export interface Scenario {
  name: string;
  /** What is timed, from when to when: one sentence for the table's reader. */
  what: string;
  /** Measured rounds; one more, unmeasured, goes before them. */
  rounds: number;
  /** Why it cannot run here, and what to do; undefined when it can. */
  unable?(workshop: Workshop): string | undefined;
  /** @param rounds how many there are going to be, the unmeasured one apart */
  open(workshop: Workshop, rounds: number): Promise<Race>;
}

/** The sides of one comparison, ready to go. They do the same work in turns: A B A B … */
export interface Race extends AsyncDisposable {
  /** The first is the one that the others are compared with. */
  sides: Side[];
  /** Tools that should have a side and are not installed here. */
  absent?: readonly string[];
  /** After all sides had their turn in a round, unmeasured. */
  settle?(round: number): Promise<void>;
  /** After the last round: further tables, in Markdown. */
  report?(): string;
}

export interface Side {
  name: string;
  /** Does the work once. `round` counts from 0, for edits that differ every time. */
  run(round: number): Promise<Sample>;
}

export interface Sample {
  ms: number;
  /** What the side had to do, for example "ran 0 steps". */
  work: string;
}
