import type { DockerfileBuilt, Home, ImageDestination } from '@hyperdocker/environment';
import { sendImage } from '@hyperdocker/environment';
import type { Invocation } from './command.ts';
import { sayLayer, sentLines, sentSummary } from './sent-image.ts';

/** Where `hd build -f` was told to bring what it has built. */
export async function sendBuilt(invocation: Invocation, home: Home, { names }: DockerfileBuilt, to: ImageDestination): Promise<void> {
  const { json, terminal } = invocation;
  const { exported } = await sendImage(home, names[0] ?? '', to, { signal: terminal.closed, onLayer: sayLayer(invocation) });
  if (json) return terminal.out(`${JSON.stringify({ schema: 'hd.image.export/1', to, ...sentSummary(exported) })}\n`);
  terminal.out(`${to.kind === 'push' ? `Pushed ${to.reference}` : `Wrote ${to.kind === 'oci' ? to.dir : to.file}`}: ${exported.digest}\n${sentLines(exported)}`);
}
