import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseSpec } from '@hyperdocker/spec';
import type { DockerPlan } from './dockerfiles.ts';
import { naiveDockerfile, orderedDockerfile } from './dockerfiles.ts';

const parsed = parseSpec('[environment]\nname = "a"\nbase = "scratch"\n[services.web]\ncommand = "run \\"it\\""\nport = 80\ncwd = "sub"\nenv = { A = "b $C" }\n');
assert(parsed.ok);
const [service] = parsed.spec.services;
assert(service !== undefined);
const step = (command: string, reads: string[]): DockerPlan['steps'][number] => ({ command, workdir: '/workspace', env: { PATH: '/bin', HOME: '/root', LANG: 'C' }, cacheDirs: [], secrets: false, reads });
const plan: DockerPlan = {
  from: 'base', workdir: '/workspace', service: { ...service, port: 80 },
  steps: [step('pip install --no-cache-dir -r requirements.txt', ['requirements.txt']), step('make\nmake test', ['Makefile', 'src/a', 'src/b', 'src/c', 'src/d'])],
};

test('the naive one copies everything before anything runs', () => {
  assert.equal(naiveDockerfile(plan), [
    'FROM base', 'ENV LANG="C"', 'WORKDIR /workspace', 'COPY . .', 'RUN pip install --no-cache-dir -r requirements.txt', 'RUN ["/bin/sh","-c","make\\nmake test"]',
    'ENV PORT="80"', 'ENV A="b \\$C"', 'WORKDIR /workspace/sub', 'CMD ["/bin/sh", "-c", "exec run \\"it\\""]', '',
  ].join('\n'));
});

test('the well-ordered one copies what each step reads, and keeps downloads', () => {
  assert.deepEqual(orderedDockerfile(plan, 'id').split('\n').slice(3, 9), [
    'COPY ["requirements.txt", "requirements.txt"]',
    'RUN --mount=type=cache,id=id-root-.cache-pip,target=/root/.cache/pip,sharing=locked pip install -r requirements.txt',
    'COPY ["Makefile", "Makefile"]', 'COPY ["src/", "src/"]', 'RUN ["/bin/sh","-c","make\\nmake test"]', 'COPY . .',
  ]);
});
