import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

/** What keeps a browser from doing harm with what it is given. */
export const SAFE_HEADERS = {
  'content-security-policy': "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'cache-control': 'no-store',
} as const;

/** Why a request is turned away, with the status to say so. */
export interface Refusal { status: 401 | 403; why: string }

/** A name that somebody else's server has made point at 127.0.0.1 is in `Host` as it is. */
export function refuseOtherNames({ headers: { host } }: Pick<IncomingMessage, 'headers'>, port: number): Refusal | undefined {
  return ['127.0.0.1', 'localhost'].some((name) => host === `${name}:${port}`) ? undefined : { status: 403, why: 'this page has no such name' };
}

/** What another page sends has that page's `Origin`: it is not let through, even with the token. */
export function refuseOtherPages({ headers }: Pick<IncomingMessage, 'headers'>): Refusal | undefined {
  const { host, origin } = headers;
  if (origin !== undefined && origin !== `http://${host}`) return { status: 403, why: 'another page may not ask this' };
  const site = headers['sec-fetch-site'];
  if (site !== undefined && site !== 'same-origin' && site !== 'none') return { status: 403, why: 'another page may not ask this' };
  return undefined;
}

/** Whether it has the token, as `Authorization: Bearer …`: never in a cookie, which a browser sends along by itself. Takes as long for any wrong one. */
export function refuseWithoutToken({ headers }: Pick<IncomingMessage, 'headers'>, token: string): Refusal | undefined {
  const given = /^Bearer (.+)$/.exec(headers.authorization ?? '')?.[1] ?? '';
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(token)) ? undefined : { status: 401, why: 'the token is missing or wrong: open the address that `hd ui` prints' };
}
