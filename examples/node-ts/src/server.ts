import { createServer } from 'node:http';
import { greet } from './greet.js';

const host = process.env.HOST ?? '127.0.0.1';
const port = Number(process.env.PORT ?? 3000);
const startedMs = Date.now();

const server = createServer((request, response) => {
  const name = new URL(request.url ?? '/', 'http://localhost').searchParams.get('name') ?? 'Hyperdocker';
  response.setHeader('content-type', 'text/plain; charset=utf-8');
  response.end(greet(name, Date.now() - startedMs));
});

server.listen(port, host, () => console.log(`listening on http://${host}:${port}`));
process.on('SIGTERM', () => {
  server.close();
  server.closeAllConnections();
});
