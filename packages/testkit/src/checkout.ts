import { join } from 'node:path';

/** The root directory of the checkout that these tests belong to. */
export const checkout: string = join(import.meta.dirname, '../../..');
