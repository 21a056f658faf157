export * from './assert.ts';
export * from './brand.ts';
export * from './bytes.ts';
export * from './digest.ts';
export * from './encode.ts';
export * from './error.ts';
export * from './sys.ts';
export * from './suggest.ts';
