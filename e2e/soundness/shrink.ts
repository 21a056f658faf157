import type { Scenario } from './scenario.ts';

/**
 * A shorter scenario that still fails: rounds, changes, steps, files of the project and lines of steps are left out one by one for as long as that keeps it
 * failing and there is time left.
 */
export async function shrink(scenario: Scenario, fails: (candidate: Scenario) => Promise<boolean>, budgetMs: number): Promise<Scenario> {
  const end = performance.now() + budgetMs;
  const timeLeft = (): boolean => performance.now() < end;
  let shortest = scenario;
  for (let shorter = true; shorter && timeLeft(); ) {
    shorter = false;
    // After a success the list of candidates is a new one: go on at the same place in it.
    for (let at = 0; timeLeft(); ) {
      const candidate = candidates(shortest)[at];
      if (candidate === undefined) break;
      if (await fails(candidate)) {
        shortest = candidate;
        shorter = true;
      } else {
        at++;
      }
    }
  }
  return shortest;
}

function candidates(scenario: Scenario): Scenario[] {
  const { rounds, steps, project } = scenario;
  return [
    ...rounds.map((_, i) => ({ ...scenario, rounds: rounds.toSpliced(i, 1) })),
    ...steps.map((_, i) => ({ ...scenario, steps: steps.toSpliced(i, 1) })).filter((candidate) => candidate.steps.length > 0),
    ...rounds.flatMap((changes, i) => (changes.length < 2 ? [] : changes.map((_, j) => ({ ...scenario, rounds: rounds.with(i, changes.toSpliced(j, 1)) })))),
    ...steps.flatMap((step, i) => shorterPrograms(step).map((program) => ({ ...scenario, steps: steps.with(i, program) }))),
    ...project.map((_, i) => ({ ...scenario, project: project.toSpliced(i, 1) })),
  ];
}

/** Without each of its lines. What is no program any more fails in every build alike, and so is no candidate for long. */
function shorterPrograms(step: string): string[] {
  const lines = step.split('\n');
  return lines.length < 2 ? [] : lines.map((_, i) => lines.toSpliced(i, 1).join('\n'));
}
