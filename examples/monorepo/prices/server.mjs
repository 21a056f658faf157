/** GET /<id>: what a thing costs. Asks the catalog what it weighs. */
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { priceOf } from './price.mjs';

const { symbol, decimals } = JSON.parse(readFileSync(new URL('../shared/currency.json', import.meta.url), 'utf8'));

createServer(async (request, response) => {
  if (request.url === '/') return response.end('prices\n');
  const answer = await fetch(`${process.env.CATALOG_URL}${request.url}`);
  if (!answer.ok) return response.writeHead(404).end();
  response.end(JSON.stringify({ price: `${symbol}${(priceOf(await answer.json()) / 100).toFixed(decimals)}` }));
}).listen(Number(process.env.PORT ?? 7002), '127.0.0.1');
