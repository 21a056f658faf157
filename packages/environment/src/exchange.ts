import { connect } from 'node:net';

export interface Question {
  method: 'GET' | 'POST';
  path: string;
  body?: unknown;
  /** Cuts the connection. */
  signal?: AbortSignal | undefined;
}

export interface Answer {
  status: number;
  /** Ends when the other side closes the connection, or ceases to be. Leaving a loop over it closes the connection. */
  body: AsyncIterable<Buffer>;
}

/**
 * One question and its answer over a Unix socket, in HTTP/1.0: the connection ends with the answer. All that a client needs of HTTP, since Node's own takes
 * 40 ms to load, which is more than the answer takes.
 * Rejects with the socket's error where nobody answers.
 */
export async function exchange(socketPath: string, { method, path, body, signal }: Question): Promise<Answer> {
  const socket = connect(socketPath);
  const cut = (): void => void socket.destroy();
  signal?.addEventListener('abort', cut, { once: true });
  socket.once('close', () => signal?.removeEventListener('abort', cut));
  const text = body === undefined ? '' : JSON.stringify(body);
  socket.write(`${method} ${path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`);
  const chunks = socket[Symbol.asyncIterator]();
  let head = Buffer.alloc(0);
  let end = -1;
  while (end < 0) {
    const { done, value } = await chunks.next();
    if (done === true) throw new Error('the connection was closed before there was an answer');
    head = Buffer.concat([head, value as Buffer]);
    end = head.indexOf('\r\n\r\n');
  }
  const status = Number(/^HTTP\/1\.\d (\d{3})/.exec(head.toString('latin1', 0, end))?.[1]);
  return { status, body: rest(head.subarray(end + 4), chunks) };
}

async function* rest(first: Buffer, chunks: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  try {
    if (first.length > 0) yield first;
    for (let next = await chunks.next(); next.done !== true; next = await chunks.next()) yield next.value;
  } finally {
    await chunks.return?.();
  }
}
