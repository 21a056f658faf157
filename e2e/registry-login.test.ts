/** Registries with TLS of a private authority, and with logins: `docker-registry` itself, with skopeo as the other party. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createPrivateKey, createSign, randomUUID, X509Certificate } from 'node:crypto';
import { chmodSync, copyFileSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import type { HdResult, TestCertificates, World } from '@hyperdocker/testkit';
import { hasOpenssl, makeCertificates, runHd, tempWorld } from '@hyperdocker/testkit';
import { makeBusyboxRoot, noBusybox, writeOciDir } from './busybox.ts';
import { noRegistry, noSkopeo, startRegistry } from './registry.ts';
import type { RunningRegistry } from './registry.ts';

/** Of `secret`: registries take bcrypt alone. */
const HTPASSWD = 'me:$2y$05$z/MHgDe/EhbWSnaBLmv0xu56pgsQFBg7L2OpGxlIJR2cFnakWCh.6\n';
const LOGIN = Buffer.from('me:secret').toString('base64');

describe('registries with TLS and logins', { skip: noRegistry || noSkopeo || noBusybox || (hasOpenssl ? false : 'no openssl on this machine') }, () => {
  let world: World;
  let certificates: TestCertificates;
  const registries: RunningRegistry[] = [];
  const stops: (() => void)[] = [];
  const at = (name: string): string => join(world.dir, name);

  before(() => {
    world = tempWorld();
    certificates = makeCertificates(at('certificates'), ['localhost']);
    makeBusyboxRoot(at('root'));
    writeOciDir(at('layout'), { layers: [at('root')], config: { Cmd: ['sh'] } });
    mkdirSync(at('certs.d'));
    copyFileSync(certificates.ca, at('certs.d/ca.crt'));
    mkdirSync(at('docker'));
  });
  after(async () => {
    for (const registry of registries) await registry.stop();
    for (const stop of stops) stop();
    await world[Symbol.asyncDispose]();
  });

  const hd = (env: Record<string, string>, ...args: string[]): Promise<HdResult> =>
    runHd(args, { cwd: world.dir, env: { ...world.env, SSL_CERT_FILE: '', NODE_EXTRA_CA_CERTS: '', DOCKER_CONFIG: at('docker'), ...env }, timeoutMs: 120_000 });
  /** Not synchronously: the token server is in this process. */
  const skopeo = async (...args: string[]): Promise<string> => (await promisify(execFile)('skopeo', ['--insecure-policy', ...args])).stdout;
  const dockerConfig = (config: object): void => writeFileSync(at('docker/config.json'), JSON.stringify(config));

  /** Pushes with hd, reads it with skopeo, copies it with skopeo, pulls that with hd. */
  async function thereAndBack(host: string): Promise<void> {
    const pushed = await hd({}, 'image', 'push', '--json', 'app:1', `${host}/team/app:1`);
    assert.equal(pushed.code, 0, pushed.stderr);
    const { digest } = JSON.parse(pushed.stdout) as { digest: string };
    assert.equal((JSON.parse(await skopeo('inspect', '--creds', 'me:secret', '--cert-dir', at('certs.d'), `docker://${host}/team/app:1`)) as { Digest: string }).Digest, digest);
    await skopeo('copy', '--quiet', '--src-creds', 'me:secret', '--src-cert-dir', at('certs.d'), '--dest-creds', 'me:secret', '--dest-cert-dir', at('certs.d'), `docker://${host}/team/app:1`, `docker://${host}/other/copy:2`);
    const pulled = await hd({}, 'image', 'pull', '--json', `${host}/other/copy:2`);
    assert.equal(pulled.code, 0, pulled.stderr);
    assert.equal((JSON.parse(pulled.stdout) as { image: { digest: string } }).image.digest, digest);
    assert.deepEqual(readdirSync(join(world.home, 'tmp')), []);
  }

  test('TLS and basic logins: what is missing is said; with it, skopeo and hd read what the other wrote', async () => {
    assert.equal((await hd({}, 'image', 'import', 'layout', 'app:1')).code, 0);
    writeFileSync(at('htpasswd'), HTPASSWD);
    const registry = await startRegistry(at('basic'), { tls: { certificate: certificates.cert, key: certificates.key }, auth: { htpasswd: { realm: 'test', path: at('htpasswd') } } });
    registries.push(registry);
    const { host } = registry;
    dockerConfig({});
    const untrusted = await hd({}, 'image', 'pull', `${host}/team/app:1`);
    assert.equal(untrusted.code, 1);
    assert.match(untrusted.stderr, /certificate is not to be trusted[^]*hint: .*certs\.d\/localhost:\d+\/ca\.crt/);
    writeFileSync(join(world.home, 'registries.json'), JSON.stringify({ ca: { [host]: certificates.ca } }));
    const nobody = await hd({}, 'image', 'push', 'app:1', `${host}/team/app:1`);
    assert.equal(nobody.code, 1);
    assert.match(nobody.stderr, /does not let us (?:read|write) .*\n {2}hint: .*docker login localhost:\d+/);
    dockerConfig({ auths: { [host]: { auth: Buffer.from('me:wrong').toString('base64') } } });
    assert.match((await hd({}, 'image', 'pull', `${host}/team/app:1`)).stderr, /needs another login/);
    dockerConfig({ auths: { [host]: { auth: LOGIN } } });
    await thereAndBack(host);
    const bundle = await hd({ SSL_CERT_FILE: certificates.ca, HD_HOME: at('other-home') }, 'image', 'pull', `${host}/team/app:1`);
    assert.equal(bundle.code, 0, bundle.stderr);
  });

  test('the login of a credential helper', async () => {
    const { host } = registries[0]!;
    mkdirSync(at('bin'));
    writeFileSync(at('bin/docker-credential-test'), `#!/bin/sh\n[ "$1" = get ] && [ "$(cat)" = ${host} ] && echo '{"ServerURL":"x","Username":"me","Secret":"secret"}'\n`);
    chmodSync(at('bin/docker-credential-test'), 0o755);
    dockerConfig({ credHelpers: { [host]: 'test' } });
    const without = await hd({}, 'image', 'pull', `${host}/team/app:1`);
    assert.match(without.stderr, /REGISTRY|login[^]*hint: docker-credential-test.*there is no such program/);
    const helped = await hd({ PATH: `${at('bin')}:${process.env['PATH'] ?? ''}` }, 'image', 'pull', `${host}/team/app:1`);
    assert.equal(helped.code, 0, helped.stderr);
  });

  test('tokens of a server of its own, for what each request needs', async () => {
    const scopes: string[] = [];
    const server = createServer({ cert: readFileSync(certificates.cert), key: readFileSync(certificates.key) }, (request, response) => {
      const url = new URL(request.url ?? '', 'https://x');
      const wanted = url.searchParams.getAll('scope');
      scopes.push(...wanted);
      const known = request.headers.authorization === `Basic ${LOGIN}`;
      response.writeHead(known ? 200 : 401, { 'content-type': 'application/json' }).end(known ? JSON.stringify({ token: signedToken(certificates, wanted) }) : '{}');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    stops.push(() => {
      server.closeAllConnections();
      server.close();
    });
    const realm = `https://localhost:${(server.address() as AddressInfo).port}/token`;
    const registry = await startRegistry(at('token'), { tls: { certificate: certificates.cert, key: certificates.key }, auth: { token: { realm, service: 'test', issuer: 'issuer', rootcertbundle: certificates.ca } } });
    registries.push(registry);
    const { host } = registry;
    writeFileSync(join(world.home, 'registries.json'), JSON.stringify({ ca: { localhost: certificates.ca } }));
    dockerConfig({ auths: { [host]: { auth: LOGIN } } });
    await thereAndBack(host);
    assert(scopes.includes('repository:team/app:pull,push') && scopes.includes('repository:other/copy:pull'), scopes.join('\n'));
    dockerConfig({});
    assert.match((await hd({}, 'image', 'pull', `${host}/team/app:1`)).stderr, /needs a login/);
  });
});

/** As the distribution's token specification has it, signed with the server's key and vouched for by its certificate. */
function signedToken({ cert, key }: TestCertificates, scopes: readonly string[]): string {
  const access = scopes.map((scope) => {
    const [type, name, actions = ''] = scope.split(':');
    return { type, name, actions: actions.split(',') };
  });
  const now = Math.floor(Date.now() / 1000);
  const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const certificate = new X509Certificate(readFileSync(cert)).raw.toString('base64');
  const signed = `${encode({ typ: 'JWT', alg: 'ES256', x5c: [certificate] })}.${encode({ iss: 'issuer', sub: 'me', aud: 'test', exp: now + 300, nbf: now - 10, iat: now, jti: randomUUID(), access })}`;
  const signature = createSign('SHA256').update(signed).sign({ key: createPrivateKey(readFileSync(key)), dsaEncoding: 'ieee-p1363' });
  return `${signed}.${signature.toString('base64url')}`;
}
