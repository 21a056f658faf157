import assert from 'node:assert/strict';
import { test } from 'node:test';
import { resolveUser } from './user.ts';

const PASSWD = 'root:x:0:0:root:/root:/bin/bash\n# comment\nbroken\nweb:x:33:33:web:/var/www:/usr/sbin/nologin\nnohome:x:40:40::\n1000:x:7:7:a number as a name:/home/n:/bin/sh\n';
const GROUP = 'root:x:0:\nweb:x:33:\ndocker:x:999:web,other\naudio:x:29:web\nempty:x:50:\n';

test('users and groups by name and number', () => {
  const brief = (text: string) => {
    const { uid, gid, additionalGids, home, name } = resolveUser(text, PASSWD, GROUP);
    return [uid, gid, additionalGids, home, name];
  };
  assert.deepEqual(brief(''), [0, 0, [], '/root', 'root']);
  assert.deepEqual(brief('web'), [33, 33, [29, 999], '/var/www', 'web']);
  assert.deepEqual(brief('33'), [33, 33, [29, 999], '/var/www', 'web']);
  assert.deepEqual(brief('web:empty'), [33, 50, [], '/var/www', 'web']);
  assert.deepEqual(brief('web:1234'), [33, 1234, [], '/var/www', 'web']);
  assert.deepEqual(brief(':50'), [0, 50, [], '/root', 'root']);
  assert.deepEqual(brief('4242'), [4242, 0, [], '/', undefined]);
  assert.deepEqual(brief('1000'), [7, 7, [], '/home/n', '1000']);
});

test('unknown names are errors', () => {
  assert.throws(() => resolveUser('nobody-here', PASSWD, GROUP), { code: 'USER_NOT_FOUND' });
  assert.throws(() => resolveUser('web:nobody-here', PASSWD, GROUP), { code: 'GROUP_NOT_FOUND' });
  assert.throws(() => resolveUser('-1', PASSWD, GROUP), { code: 'USER_NOT_FOUND' });
});
