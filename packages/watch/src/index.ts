export * from './debounce.ts';
export * from './filter.ts';
export { readIgnoreFiles } from './ignore-files.ts';
export type { IgnoreFile } from './ignore-files.ts';
export { createSelection } from './selection.ts';
export type { Selection } from './selection.ts';
export * from './watcher.ts';
