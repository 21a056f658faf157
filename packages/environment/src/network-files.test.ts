import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostsFile, loopbackProxies, resolverFile, withoutProxyFor } from './network-files.ts';

const HOSTS = '# the machine\n127.0.0.1\tlocalhost\n127.0.1.1 laptop\n::1 localhost ip6-localhost\n\n10.0.0.7 git.example db\n';

test('names of services in a private network: at loopback, with what the host knows of others', () => {
  assert.equal(hostsFile({ text: HOSTS, hostname: 'shop', services: ['web', 'db'], isPrivate: true }), `127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
127.0.0.1 shop
127.0.0.1 web db
10.0.0.7 git.example db
`);
});

test('names of services in the network of the host: after its own', () => {
  assert.equal(hostsFile({ text: '127.0.0.1 localhost laptop\n', hostname: 'shop', services: ['web'], isPrivate: false }), '127.0.0.1 localhost laptop\n127.0.0.1 web\n');
  assert.equal(hostsFile({ text: '', hostname: 'shop', services: [], isPrivate: false }), '\n');
  assert.equal(hostsFile({ text: '', hostname: 'shop', services: ['web'], others: [{ address: '127.1.0.1', name: 'db' }, { address: '127.1.0.2', name: 'api' }], isPrivate: false }), '127.0.0.1 web\n127.1.0.1 db\n127.1.0.2 api\n');
});

test('resolvers: those that can be reached, or one that is relayed', () => {
  const isV4 = (address: string): boolean => !address.includes(':');
  assert.deepEqual(resolverFile('search corp\nnameserver 127.0.0.53\nnameserver 10.0.0.1\noptions ndots:2\n', isV4), { text: 'nameserver 10.0.0.1\nsearch corp\noptions ndots:2\n' });
  assert.deepEqual(resolverFile('nameserver 127.0.0.53\noptions edns0\n', isV4), { text: 'nameserver 127.0.0.53\noptions edns0\n', relayTo: '127.0.0.53' });
  assert.deepEqual(resolverFile('nameserver fd00::1\n', isV4), { text: 'nameserver 127.0.0.53\n', relayTo: 'fd00::1' });
  assert.deepEqual(resolverFile('', isV4), { text: 'nameserver 127.0.0.53\n', relayTo: '127.0.0.1' });
});

test('proxies of the machine itself', () => {
  const env = { http_proxy: 'http://localhost:3128', HTTPS_PROXY: 'http://127.0.0.1:3128/', all_proxy: 'socks5://[::1]', no_proxy: '127.0.0.1', ftp_proxy: 'http://proxy.example:80', OTHER: 'http://localhost:1' };
  assert.deepEqual(loopbackProxies(env), [{ address: '127.0.0.1', port: 3128 }, { address: '::1', port: 1080 }]);
  assert.deepEqual(loopbackProxies({ http_proxy: 'not a url at all' }), []);
});

test('no proxy is asked for services', () => {
  assert.deepEqual(withoutProxyFor({ http_proxy: 'http://p:1', no_proxy: 'corp, web' }, ['web', 'api']), { http_proxy: 'http://p:1', no_proxy: 'corp,web,localhost,127.0.0.1,::1,api', NO_PROXY: 'corp,web,localhost,127.0.0.1,::1,api' });
  assert.deepEqual(withoutProxyFor({ LANG: 'C' }, ['web']), { LANG: 'C' });
});
