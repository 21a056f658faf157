/** A collection in a process of its own, behind everybody else: `collect-main.ts <home> <bytes>`. Prints what it did, or why it could not, as JSON. */
import { setPriority } from 'node:os';
import { HdError, describeError } from '@hyperdocker/base';
import { collect } from './collect.ts';
import { openHome } from './home.ts';

const [dir = '', maxBytes = ''] = process.argv.slice(2);
const LOW_PRIORITY = 10;
setPriority(LOW_PRIORITY);
process.stdout.write(JSON.stringify(answer()));

function answer(): object {
  try {
    return { collected: collect(openHome({ HD_HOME: dir }), { maxBytes: Number(maxBytes) }) };
  } catch (error) {
    return { error: (error instanceof HdError ? error : new HdError('INTERNAL', describeError(error))).toJSON() };
  }
}
