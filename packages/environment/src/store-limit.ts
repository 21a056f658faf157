import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { HdError, NODE_FLAGS } from '@hyperdocker/base';
import { storeBytes } from '@hyperdocker/cas';
import type { Collected } from './collect.ts';
import type { Emit } from './events.ts';
import type { Home } from './home.ts';
import { storeLimit } from './size-limit.ts';

/** What a collection brings the store down to, of its limit: so that not every build needs one. */
const TARGET_SHARE = 0.9;
/** A collection that could not reach the target is worth another one when so much has come on top. */
const GROWTH = 1.1;

export interface StoreLimitOptions {
  home: Home;
  env: NodeJS.ProcessEnv;
  emit: Emit;
  /** Ends a collection that is under way; nothing is lost by it. */
  signal: AbortSignal;
}

/** Keeps the store within its limit, by collections in a process of their own: they take long, and wait for others. */
export class StoreLimit {
  readonly #options: StoreLimitOptions;
  /** Below this, nothing is done. */
  #leastBytes = 0;

  constructor(options: StoreLimitOptions) {
    this.#options = options;
  }

  /** Collects if the store is over its limit, and tells. What goes wrong is a warning. */
  async keep(): Promise<void> {
    const { home, env, emit, signal } = this.#options;
    try {
      const limitBytes = storeLimit(home, env);
      if (limitBytes === Infinity) return;
      const usedBytes = storeBytes(home.storeDir) + storeBytes(home.materializedDir);
      if (usedBytes <= Math.max(limitBytes, this.#leastBytes)) return;
      const collected = await collectApart(home, Math.floor(limitBytes * TARGET_SHARE), signal);
      this.#leastBytes = (collected.storedBytes + storeBytes(home.materializedDir)) * GROWTH;
      emit({ type: 'warning', code: 'STORE_LIMIT', message: messageOf(usedBytes, limitBytes, collected) });
    } catch (error) {
      if (signal.aborted) return;
      const { code, message } = error instanceof HdError ? error : new HdError('INTERNAL', String(error));
      emit({ type: 'warning', code, message: `the store could not be brought within its limit: ${message}` });
    }
  }
}

async function collectApart(home: Home, maxBytes: number, signal: AbortSignal): Promise<Collected> {
  const child = spawn(process.execPath, [...NODE_FLAGS, fileURLToPath(new URL('./collect-main.ts', import.meta.url)), home.dir, String(maxBytes)], {
    stdio: ['ignore', 'pipe', 'inherit'], signal,
  });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (part: string) => (text += part));
  await new Promise<void>((resolve, reject) => child.once('error', reject).once('close', () => resolve()));
  if (text === '') throw new HdError('STORE_LIMIT', 'the collection ended without a result');
  const answer = JSON.parse(text) as { collected: Collected } | { error: ReturnType<HdError['toJSON']> };
  if ('error' in answer) throw HdError.fromJSON(answer.error);
  return answer.collected;
}

function messageOf(usedBytes: number, limitBytes: number, { bytesFreed, copiesFreed, storedBytes, gaveUp }: Collected): string {
  const environments = gaveUp.flatMap(({ kind, name, project }) => (kind === 'environment' ? [project ?? name] : []));
  const images = gaveUp.flatMap(({ kind, name }) => (kind === 'image' ? [name] : []));
  const parts = [
    ...(environments.length === 0 ? [] : [`environments not used for longest, which are built anew when they are needed: ${environments.join(', ')}`]),
    ...(images.length === 0 ? [] : [`images: ${images.join(', ')}`]),
  ];
  const over = storedBytes > limitBytes ? '; the rest is in use (HD_STORE_MAX raises the limit)' : '';
  return `the store had ${inGb(usedBytes)}, over its limit of ${inGb(limitBytes)}: removed ${inGb(bytesFreed + copiesFreed)}${over}${parts.length === 0 ? '' : `; gave up ${parts.join('; ')}`}`;
}

function inGb(bytes: number): string {
  return bytes < 2 ** 30 ? `${(bytes / 2 ** 20).toFixed(1)} MB` : `${(bytes / 2 ** 30).toFixed(1)} GB`;
}
