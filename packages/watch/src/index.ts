export * from './debounce.ts';
export * from './filter.ts';
export * from './watcher.ts';
