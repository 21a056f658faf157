import assert from 'node:assert/strict';
import { priceOf } from './price.mjs';

assert.equal(priceOf({ id: 'mug', grams: 350 }), 1590);
assert.equal(priceOf({ id: 'lamp', grams: 900 }), 5490);
console.log('prices are in order');
