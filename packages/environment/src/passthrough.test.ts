import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { hostPassthrough } from './passthrough.ts';

const dir = mkdtempSync(join(tmpdir(), 'hd-passthrough-'));
after(() => rmSync(dir, { recursive: true, force: true }));
const bundle = join(dir, 'ca.crt');
writeFileSync(bundle, 'certificate');

test('of the host, only proxies pass', () => {
  const { env } = hostPassthrough({ HTTPS_PROXY: 'http://proxy:3128', no_proxy: 'localhost', http_proxy: '', HOME: '/home/me', SECRET_TOKEN: 's', PATH: '/bin' });
  assert.deepEqual(env, { HTTPS_PROXY: 'http://proxy:3128', no_proxy: 'localhost' });
});

test('HD_PASSTHROUGH=off leaves the resolver alone', () => {
  const { env, mounts } = hostPassthrough({ HD_PASSTHROUGH: 'off', HTTPS_PROXY: 'http://proxy:3128', HD_CA_BUNDLE: bundle });
  assert.deepEqual(env, {});
  assert(mounts.every(({ source }) => source.startsWith('/etc/')));
});

test('a bundle of certificates is mounted read-only, and every usual tool is told of it', () => {
  const { env, mounts } = hostPassthrough({ NODE_EXTRA_CA_CERTS: bundle });
  const mount = mounts.find(({ source }) => source === bundle);
  assert.equal(mount?.readonly, true);
  for (const name of ['SSL_CERT_FILE', 'NODE_EXTRA_CA_CERTS', 'REQUESTS_CA_BUNDLE', 'CURL_CA_BUNDLE', 'PIP_CERT', 'GIT_SSL_CAINFO', 'CARGO_HTTP_CAINFO']) assert.equal(env[name], mount?.destination);
});

test('the first bundle that exists is taken, and one that does not is not', () => {
  const first = join(dir, 'first.crt');
  writeFileSync(first, '');
  assert(hostPassthrough({ HD_CA_BUNDLE: first, SSL_CERT_FILE: bundle }).mounts.some(({ source }) => source === first));
  const { env, mounts } = hostPassthrough({ SSL_CERT_FILE: join(dir, 'gone') });
  assert.deepEqual(env, {});
  assert(mounts.every(({ source, readonly }) => source.startsWith('/etc/') && readonly === true));
});
