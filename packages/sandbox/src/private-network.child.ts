/** Has a private network, with a published port, until it is killed: `<way> <port>`. Prints the way out that it came to, and why it was not the one that was wanted. */
import { assert } from '@hyperdocker/base';
import { claimPort } from './claim-port.ts';
import { PrivateNetwork, WAYS_OUT } from './private-network.ts';

const [, , wanted, port] = process.argv;
const network = await PrivateNetwork.open({ ways: WAYS_OUT.filter((way) => way === wanted), seed: process.pid });
const claim = claimPort(['127.0.0.1', '::1'], Number(port));
assert(claim.kind === 'claimed', 'the port is free');
await network.forward('it', claim.fds, 80);
process.stdout.write(`${[network.way, ...network.refused.map(({ reason }) => reason)].join(' ')}\n`);
process.stdin.resume();
