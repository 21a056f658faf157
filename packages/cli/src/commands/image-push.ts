import { openHome, sendImage } from '@hyperdocker/environment';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { sayLayer, sentLines, sentSummary } from '../sent-image.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { env, args, json, terminal } = invocation;
  const [asked = '', reference = asked] = args;
  const { exported } = await sendImage(openHome(env), asked, { kind: 'push', reference }, { signal: terminal.closed, onLayer: sayLayer(invocation) });
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.image.push/1', reference, ...sentSummary(exported) })}\n`);
  else terminal.out(`Pushed ${reference}: ${exported.digest}\n${sentLines(exported)}`);
  return EXIT.ok;
}
