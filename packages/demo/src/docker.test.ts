import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readBuild } from './docker.ts';

test('what a docker build ran and what it had is read from its progress', () => {
  const progress = [
    '#1 [internal] load build definition from Dockerfile', '#1 DONE 0.0s',
    '#4 [1/4] FROM docker.io/library/base', '#4 CACHED',
    '#5 [2/4] WORKDIR /app', '#5 CACHED',
    '#6 [3/4] COPY . .', '#6 DONE 0.0s',
    '#7 [4/4] RUN pip install -r requirements.txt', '#7 0.4 Collecting', '#7 DONE 0.8s',
    '#8 exporting to image', '#8 DONE 0.1s',
  ].join('\n');
  assert.deepEqual(readBuild(progress), { ran: ['COPY', 'RUN'], cached: 1, commands: [true] });
  assert.deepEqual(readBuild(progress.replace('#6 DONE 0.0s', '#6 CACHED').replace('#7 DONE 0.8s', '#7 CACHED')), { ran: [], cached: 3, commands: [false] });
});
