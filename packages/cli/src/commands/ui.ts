import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { usageError } from '../args.ts';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { Interrupts } from '../interrupts.ts';
import { loadSpec } from '../load-spec.ts';
import { locateProject } from '../project.ts';
import { Dashboard } from '../ui/dashboard.ts';
import { serveUi } from '../ui/server.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { args, flags, json, terminal, env } = invocation;
  const port = flags.number('port') ?? 0;
  if (!Number.isSafeInteger(port) || port < 0 || port > 65_535) throw usageError('--port needs a number from 1 to 65535, or 0 for any');
  const place = locateProject(invocation, args[0]);
  loadSpec(place.project, terminal);
  const ended = Promise.withResolvers<void>();
  using _interrupts = new Interrupts(() => ended.resolve());
  terminal.closed.addEventListener('abort', () => ended.resolve());
  await using server = await serveUi(new Dashboard(place, env), { token: randomBytes(24).toString('base64url'), port });
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.ui/1', url: server.url, port: server.port })}\n`);
  else terminal.out(`Dashboard: ${terminal.outPaint('cyan', server.url)}\nWhoever has this address can see the environment, and restart its services. Ctrl-C ends it; the environment goes on.\n`);
  using _door = flags.bool('no-open') || json || !terminal.isInteractive || !hasDesktop(env) ? undefined : openBrowser(server.url);
  await ended.promise;
  return EXIT.ok;
}

function hasDesktop(env: NodeJS.ProcessEnv): boolean {
  return env['DISPLAY'] !== undefined || env['WAYLAND_DISPLAY'] !== undefined;
}

/** Through a file that leads there: everybody on the machine sees the arguments of programs, and the address has the token. A browser that fails is no matter, the address has been printed. */
function openBrowser(url: string): Disposable {
  const dir = mkdtempSync(join(tmpdir(), 'hd-ui-'));
  const file = join(dir, 'open.html');
  writeFileSync(file, `<!doctype html><meta http-equiv="refresh" content="0; url=${url}"><title>Hyperdocker</title>`, { mode: 0o600 });
  const opener = spawn('xdg-open', [file], { stdio: 'ignore', detached: true });
  opener.once('error', () => {});
  opener.unref();
  return { [Symbol.dispose]: () => rmSync(dir, { recursive: true, force: true }) };
}
