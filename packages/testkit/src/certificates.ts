import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Can certificates be made here? */
export const hasOpenssl: boolean = spawnSync('openssl', ['version']).status === 0;

export interface TestCertificates { ca: string; cert: string; key: string }

/** An authority, and a server's certificate of it for `names` and 127.0.0.1. Paths of PEM files in `dir`. */
export function makeCertificates(dir: string, names: readonly string[]): TestCertificates {
  mkdirSync(dir, { recursive: true });
  const at = (name: string): string => join(dir, name);
  const openssl = (...args: string[]): Buffer => execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const keyType = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl('req', '-x509', ...keyType, '-keyout', at('ca.key'), '-out', at('ca.crt'), '-days', '2', '-subj', '/CN=Test authority');
  openssl('req', ...keyType, '-keyout', at('server.key'), '-out', at('server.csr'), '-subj', `/CN=${names[0]}`);
  writeFileSync(at('ext'), `subjectAltName=IP:127.0.0.1${names.map((name) => `,DNS:${name}`).join('')}\n`);
  openssl('x509', '-req', '-in', at('server.csr'), '-CA', at('ca.crt'), '-CAkey', at('ca.key'), '-CAcreateserial', '-out', at('server.crt'), '-days', '2', '-extfile', at('ext'));
  return { ca: at('ca.crt'), cert: at('server.crt'), key: at('server.key') };
}
