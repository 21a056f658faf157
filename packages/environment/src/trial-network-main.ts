/** Tries each of the ways out of a private network that are named, and prints as JSON what works and why the others do not. Started by `hd doctor`, with the rights that an environment would have. */
import type { Refusal, WayOut } from '@hyperdocker/sandbox';
import { PrivateNetwork, WAYS_OUT } from '@hyperdocker/sandbox';

export interface NetworkTrial {
  works: WayOut[];
  refused: Refusal[];
}

const wanted = process.argv.slice(2);
const trial: NetworkTrial = { works: [], refused: [] };
for (const way of WAYS_OUT.filter((name) => wanted.includes(name))) {
  await using network = await PrivateNetwork.open({ ways: [way] });
  if (network.way === way) trial.works.push(way);
  else trial.refused.push(...network.refused);
}
process.stdout.write(JSON.stringify(trial));
