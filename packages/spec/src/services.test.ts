import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { serviceCycles, serviceOrder, type Dependent } from './services.ts';

const services = (table: Record<string, string[]>): Dependent[] => Object.entries(table).map(([name, dependsOn]) => ({ name, dependsOn }));
const names = (list: Dependent[]) => list.map(({ name }) => name);

test('dependencies come first, the rest stays in the order of the file', () => {
  assert.deepEqual(names(serviceOrder(services({ c: [], a: [], b: [] }))), ['c', 'a', 'b']);
  assert.deepEqual(names(serviceOrder(services({ web: ['api'], log: [], api: ['db'], db: [] }))), ['db', 'api', 'web', 'log']);
});

test('diamonds are no cycles; each cycle is named once', () => {
  assert.deepEqual(serviceCycles(services({ a: ['b', 'c'], b: ['d'], c: ['d'], d: [] })), []);
  assert.deepEqual(serviceCycles(services({ web: ['api'], api: ['web'] })), [['web', 'api', 'web']]);
  assert.deepEqual(serviceCycles(services({ x: ['a'], a: ['b'], b: ['a', 'b'] })), [['a', 'b', 'a'], ['b', 'b']]);
});

test('every order keeps every dependency, and every true cycle is found', () => {
  const graph = fc.array(fc.uniqueArray(fc.nat(7), { maxLength: 4 }), { minLength: 8, maxLength: 8 });
  fc.assert(
    fc.property(graph, fc.boolean(), (edges, acyclic) => {
      const list = edges.map((to, from) => ({
        name: String(from),
        dependsOn: to.filter((target) => !acyclic || target > from).map(String),
      }));
      const order = names(serviceOrder(list));
      assert.deepEqual(order.toSorted(), names(list).toSorted());
      const isOrdered = list.every(({ name, dependsOn }) => dependsOn.every((other) => order.indexOf(other) < order.indexOf(name)));
      assert.equal(isOrdered, serviceCycles(list).length === 0);
      if (acyclic) assert.ok(isOrdered);
    }),
  );
});
