export * from './action-cache.ts';
export * from './action.ts';
export * from './explain.ts';
export * from './facts.ts';
export * from './graph.ts';
export * from './variables.ts';
