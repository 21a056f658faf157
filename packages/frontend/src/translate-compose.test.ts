import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from 'smol-toml';
import { HdError } from '@hyperdocker/base';
import { translateCompose, translateDevcontainer } from './index.ts';
import type { Translated } from './index.ts';

const DOCKERFILE = 'ARG V=1\nFROM python:3.11-slim AS base\nWORKDIR /app\nARG V\nRUN install $V\nCOPY . .\nENV A=1\nEXPOSE 8000\nUSER web\nCMD ["serve", "it"]\nFROM base AS dev\nCMD ["serve", "--reload"]\n';

function read(translated: Translated): { toml: Record<string, unknown>; notes: string[] } {
  for (const { instruction, message } of translated.notes) assert(translated.toml.includes(`${instruction}: ${message}\n`), translated.toml);
  return { toml: JSON.parse(JSON.stringify(parse(translated.toml))) as Record<string, unknown>, notes: translated.notes.map(({ line, instruction }) => `${line} ${instruction}`) };
}

function compose(text: string, files: Record<string, string> = { Dockerfile: DOCKERFILE }, variables: Record<string, string> = {}, choices: { service?: string; projectDir?: string } = {}): ReturnType<typeof read> {
  return read(translateCompose(text, { ...choices, name: 'demo', variables: new Map(Object.entries(variables)), readFile: (path) => files[path] }));
}

function devcontainer(text: string, files: Record<string, string> = {}, variables: Record<string, string> = {}): ReturnType<typeof read> {
  return read(translateDevcontainer(text, { name: 'demo', variables: new Map(Object.entries(variables)), readFile: (path) => files[path] }));
}

test('a Compose file: services of one image, with all that they may say', () => {
  const { toml, notes } = compose(`
services:
  web:
    build: { context: ., target: dev, args: { V: "2" } }
    ports: ["8080:8000", "53:53/udp"]
    environment: { LEVEL: debug, EMPTY: }
    env_file: [./.env.web, ../outside]
    volumes: [".:/app", "data:/var/lib/x", "./conf:/etc/conf:ro", "/anonymous/dir"]
    depends_on:
      migrate: { condition: service_completed_successfully }
      cache: { condition: service_healthy }
    healthcheck: { test: ["CMD", "curl", "-f", "http://localhost:8000"], interval: 5s }
    restart: unless-stopped
    stop_signal: SIGINT
    stop_grace_period: 10s
    deploy: { resources: { limits: { memory: 512m, cpus: "1.5" } } }
    develop: { watch: [{ action: sync, path: ./src, target: /app/src }, { action: sync+restart, path: ./config, target: /x }] }
  migrate:
    build: { context: ., target: dev, args: { V: "2" } }
    command: ./manage.py migrate --name 'two words'
    profiles: [setup]
    user: "1000"
    working_dir: /app/sub
  cache:
    image: redis:7
volumes:
  data: { driver: local }
`);
  assert.deepEqual(toml, {
    environment: { name: 'demo', base: 'python:3.11-slim', workdir: '/app', env: { A: '1' }, reach: { cache: 6379 } },
    build: { steps: ['export V=2 && install $V'] },
    volumes: { data: {}, dir: {} },
    services: {
      web: {
        user: 'web', command: 'serve --reload', port: 8000, publish: 8080, depends_on: { migrate: 'completed' }, restart_policy: 'always', env_file: ['.env.web'], env: { LEVEL: 'debug' },
        ready: { command: 'curl -f http://localhost:8000' }, memory: '512MB', cpus: 1.5, volumes: ['data:/var/lib/x', './conf:/etc/conf:ro', 'dir:/anonymous/dir'], stop_signal: 'SIGINT', restart_grace: '10s', watch: ['config/**'],
      },
      migrate: { user: '1000', command: `./manage.py migrate --name 'two words'`, restart_policy: 'never', cwd: '/app/sub', profiles: ['setup'] },
    },
  });
  assert.deepEqual(notes.filter((note) => !note.startsWith('0 ')), [
    '5 services.web.ports', '6 services.web.environment', '7 services.web.env_file', '8 services.web.volumes', '9 services.web.depends_on', '12 services.web.healthcheck', '24 services.cache', '27 volumes.data',
  ]);
});

test('a Compose file without a build: the first image, its variables, what is not known', () => {
  const { toml, notes } = compose('services:\n  app:\n    image: ${IMAGE:-node:18}\n    command: ["npm", "start"]\n    cap_add: [ALL]\n    container_name: x\n    ports: ["127.0.0.1:3000:3000"]\n  same:\n    image: node:18\n    command: npm test\n    ports: ["3001:3000"]\n  silent:\n    image: node:18\n  db:\n    image: docker.io/library/postgres:16\nsecrets: {}\n');
  assert.deepEqual(toml['environment'], { name: 'demo', base: 'node:18', reach: { db: 5432 } });
  assert.deepEqual(toml['services'], { app: { command: 'npm start', port: 3000, publish: '127.0.0.1:3000', restart_policy: 'never' }, same: { command: 'npm test', restart_policy: 'never' } });
  assert.deepEqual(notes, ['3 services.app.image', '5 services.app.cap_add', '11 services.same.ports', '12 services.silent', '14 services.db', '16 secrets']);
});

test('a Compose file that is none is an error with its line', () => {
  for (const [text, message] of [['services:\n  a: [\n', /^compose\.yaml:\d+: /], ['x: 1\n', /^compose\.yaml:1: there are no services/], ['services:\n  a:\n    build: ./api\n', /^compose\.yaml:3: api\/Dockerfile, which builds the service a, is not there/], ['services:\n  a: {}\n', /neither image nor build/]] as const) {
    assert.throws(() => compose(text), (error) => error instanceof HdError && error.code === 'COMPOSE_INVALID' && message.test(error.message), text);
  }
});

test('a devcontainer.json: image, variables, features, lifecycle', () => {
  const { toml, notes } = devcontainer(`// comment
{
  "name": "Demo",
  "image": "debian:bookworm",
  "workspaceFolder": "/workspaces/demo",
  "features": { "ghcr.io/devcontainers/features/node:1": { "version": "20" }, "ghcr.io/other/feature:1": {} },
  "containerEnv": { "A": "\${containerWorkspaceFolder}/x", "B": "\${localEnv:HERE:none}" },
  "remoteUser": "vscode",
  "forwardPorts": [3000],
  "mounts": ["source=cache,target=/cache,type=volume", { "type": "bind", "source": "\${localWorkspaceFolder}/data", "target": "/data" }],
  "onCreateCommand": "first",
  "postCreateCommand": { "a": "npm ci", "b": ["pip", "install", "x y"] },
  "postStartCommand": "start it",
  "postAttachCommand": "greet",
  "customizations": { "vscode": {} },
}`, {}, { HERE: 'home' });
  assert.deepEqual(toml, {
    environment: { name: 'demo', base: 'debian:bookworm', workdir: '/workspaces/demo', env: { A: '/workspaces/demo/x', B: 'home' } },
    dependencies: { apt: ['nodejs', 'npm'] },
    build: { steps: ['first', 'npm ci', `pip install 'x y'`] },
    volumes: { cache: {} },
    services: { 'post-start': { command: 'start it', restart_policy: 'on_failure', user: 'vscode', volumes: ['cache:/cache', './data:/data'] } },
  });
  assert.deepEqual(notes, ['6 features.ghcr.io/devcontainers/features/node:1', '6 features.ghcr.io/other/feature:1', '7 containerEnv.B', '8 remoteUser', '9 forwardPorts', '13 postStartCommand', '14 postAttachCommand']);
});

test('a devcontainer.json of a Dockerfile, and of a Compose file', () => {
  const build = devcontainer('{ "build": { "dockerfile": "../Dockerfile", "target": "base", "args": { "V": "9" } }, "postCreateCommand": "make" }', { '../Dockerfile': DOCKERFILE });
  assert.deepEqual([build.toml['environment'], build.toml['build'], build.toml['services']], [{ name: 'demo', base: 'python:3.11-slim', workdir: '/app', env: { A: '1' } }, { steps: ['export V=9 && install $V', 'make'] }, undefined]);
  const composed = devcontainer('{ "dockerComposeFile": ["../compose.yaml", "x.yaml"], "service": "web" }', { '../compose.yaml': 'services:\n  web:\n    image: a\n    command: run\n' });
  assert.deepEqual(composed.toml['services'], { web: { command: 'run', restart_policy: 'never' } });
  for (const text of ['[]', '{', '{}', '{ "build": { "dockerfile": "absent" } }']) assert.throws(() => devcontainer(text), (error) => error instanceof HdError && error.code === 'DEVCONTAINER_INVALID' && /^devcontainer\.json:\d+: /.test(error.message), text);
});

test('of several images each is an environment of its own, whose paths are from where its hd.toml lies', () => {
  const text = `
services:
  frontend:
    build: ./frontend
    ports: ["3000:3000"]
    volumes: ["./frontend:/app", "./frontend/keep:/app/keep"]
    depends_on: [backend]
  backend:
    build: { context: backend, target: dev }
    env_file: [backend/.env, .env]
    volumes: ["./backend:/app", "./conf:/etc/conf:ro", "db:/var/lib/db"]
  db:
    image: postgres:16
volumes: { db: {} }
`;
  const files = { 'frontend/Dockerfile': DOCKERFILE, 'backend/Dockerfile': DOCKERFILE };
  const translated = translateCompose(text, { name: 'demo', variables: new Map(), readFile: (path) => files[path as keyof typeof files] });
  assert.match(translated.toml, /services\.backend: not carried over: .*`hd ingest --service backend -o backend\/hd\.toml compose\.yaml`/);
  assert.match(translated.toml, /services\.db: not carried over: .*postgresql.*`hd ingest --service db -o db\/hd\.toml compose\.yaml`/);
  const own = compose(text, files, {}, { service: 'backend', projectDir: 'backend' }).toml as { services: Record<string, unknown> };
  assert.deepEqual(own.services, { backend: { user: 'web', command: 'serve --reload', port: 8000, restart_policy: 'never', env_file: ['.env'], volumes: ['../conf:/etc/conf:ro', 'db:/var/lib/db'] } });
  assert.deepEqual((own as unknown as { environment: { reach: unknown } }).environment.reach, { frontend: 3000, db: 5432 }, 'what EXPOSE, ports and the image say');
  const other = compose(text, files, {}, { service: 'frontend', projectDir: 'frontend' });
  assert.deepEqual((other.toml as typeof own).services['frontend'], { user: 'web', command: 'serve --reload', port: 3000, restart_policy: 'never', volumes: ['./keep:/app/keep'] });
  assert(!other.notes.some((note) => note.endsWith('services.frontend.build')), 'COPY takes its paths from where the hd.toml lies');
  assert.throws(() => compose(text, files, {}, { service: 'api' }), (error: unknown) => error instanceof HdError && error.code === 'SERVICE_UNKNOWN' && error.hint === 'there are: frontend, backend, db');
});

test('those of other environments are found by name, at the port that they are asked at', () => {
  const text = `
services:
  web: { image: node:20, command: run, ports: ["80:3000"] }
  same: { image: node:20, command: other }
  mapped: { image: a, command: x, ports: ["127.0.0.1:15432:5432", "9:9"] }
  exposed: { image: b, command: x, expose: ["7000"] }
  clashing: { image: c, command: x, ports: ["3001:3000"] }
  unknown: { image: d, command: x }
`;
  const { toml, notes } = compose(text, {});
  assert.deepEqual((toml as { environment: { reach: unknown } }).environment.reach, { mapped: '15432:5432', exposed: 7000 });
  assert.deepEqual(notes, ['5 services.mapped', '6 services.exposed', '7 services.clashing', '7 services.clashing', '8 services.unknown', '8 services.unknown']);
  const own = compose(text, {}, {}, { service: 'exposed' }).toml as { services: unknown };
  assert.deepEqual(own.services, { exposed: { command: 'x', port: 7000, restart_policy: 'never' } }, 'published, for the others to find it');
});
