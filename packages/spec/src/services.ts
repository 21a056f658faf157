/** What the order of services depends on. */
export interface Dependent {
  name: string;
  dependsOn: readonly string[];
}

/**
 * The services in the order of starting: each after those that it depends on, otherwise in the given order. Stop them in
 * reverse. Expects a checked specification: names that are not there are ignored, and a cycle is cut where it closes.
 */
export function serviceOrder<T extends Dependent>(services: readonly T[]): T[] {
  const byName = new Map(services.map((service) => [service.name, service]));
  const order = new Set<T>();
  const entered = new Set<T>();
  const visit = (service: T) => {
    if (entered.has(service)) return;
    entered.add(service);
    for (const name of service.dependsOn) {
      const dependency = byName.get(name);
      if (dependency !== undefined) visit(dependency);
    }
    order.add(service);
  };
  services.forEach(visit);
  return [...order];
}

/** Every cycle that a depth-first walk closes, as `['web', 'api', 'web']`. Diamonds are none. */
export function serviceCycles(services: readonly Dependent[]): string[][] {
  const byName = new Map(services.map((service) => [service.name, service]));
  const done = new Set<string>();
  const cycles: string[][] = [];
  const visit = (service: Dependent, trail: string[]) => {
    const start = trail.indexOf(service.name);
    if (start !== -1) cycles.push([...trail.slice(start), service.name]);
    if (start !== -1 || done.has(service.name)) return;
    trail.push(service.name);
    for (const name of service.dependsOn) {
      const dependency = byName.get(name);
      if (dependency !== undefined) visit(dependency, trail);
    }
    trail.pop();
    done.add(service.name);
  };
  for (const service of services) visit(service, []);
  return cycles;
}
