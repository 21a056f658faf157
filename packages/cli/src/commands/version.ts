import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { hdVersion } from '../version.ts';

export async function run({ terminal, json }: Invocation): Promise<number> {
  terminal.out(json ? `${JSON.stringify({ schema: 'hd.version/1', version: hdVersion(), node: process.version })}\n` : `hd ${hdVersion()}\n`);
  return EXIT.ok;
}
