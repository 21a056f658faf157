import type { ExportedImage, ExportedLayer } from '@hyperdocker/environment';
import type { Invocation } from './command.ts';
import { formatBytes, plural } from './format.ts';

/** A line for each layer that is where it should be. */
export function sayLayer({ json, quiet, terminal }: Pick<Invocation, 'json' | 'quiet' | 'terminal'>): (layer: ExportedLayer, nth: number, layers: number) => void {
  return ({ digest, size, present }, nth, all) => {
    if (!json && !quiet) terminal.err(`[${nth}/${all}] ${digest.slice(0, 19)} ${formatBytes(size)}${present ? ', is there already' : ''}\n`);
  };
}

export function sentSummary({ digest, layers }: ExportedImage): { digest: string; layers: ExportedLayer[]; written: { layers: number; bytes: number } } {
  const written = layers.filter(({ present }) => !present);
  return { digest, layers, written: { layers: written.length, bytes: sum(written) } };
}

export function sentLines({ layers }: ExportedImage): string {
  const written = layers.filter(({ present }) => !present);
  return `  ${plural(layers.length, 'layer')}, ${formatBytes(sum(layers))}; new: ${written.length}, ${formatBytes(sum(written))}\n`;
}

function sum(layers: readonly ExportedLayer[]): number {
  return layers.reduce((bytes, { size }) => bytes + size, 0);
}
