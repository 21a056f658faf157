import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parse } from 'smol-toml';
import * as z from 'zod';
import { initTemplate } from './init-template.ts';
import { parseSpec } from './parse.ts';
import { renderDiagnostic } from './render.ts';
import { specJsonSchema } from './schema.ts';
import type { EnvSpec } from './spec.ts';

const HEAD = '[environment]\nname = "app"\nbase = "node:20-alpine"\n';

const FULL = `[environment]
name = "myapp"
base = "apt://bookworm?include=python3"
workdir = "/work"
env = { LANG = "C.UTF-8" }

[dependencies]
node = "20.x"
apt = ["curl", "git"]

[dependencies.npm]
file = "package.json"

[build]
steps = [
  "npm ci", # fetch
  """
npm run build
npm run docs""",
  { run = "npm test", name = "test", workdir = "web", inputs = ["src/**", "!src/old"], outputs = ["out"], env = { CI = "1" }, network = true, cache = [".c"], secrets = ["key", { id = "token", env = "TOKEN", file = "/root/token" }] },
]
cache = ["node_modules", "/root/.npm"]
network = false
jobs = 3
memory = "1GiB"

[secrets]
token = { env = "NPM_TOKEN" }
key.file = "~/.key"

[services.web]
command = "npm run dev"
watch = ["src/**/*.ts"]
port = 3000
ready = { http = "/health" }
user = "web:www-data"
memory = "512MB"
cpus = 1.5
pids = 200
socket = true

[services.8080]
privileged = true
command = "node worker.js"
depends_on = ["web"]
restart_policy = "on-failure"
cwd = "sub"
env.LEVEL = "debug"

[files]
include = ["src", "package.json"]
exclude = [".git", "*.log"]
sync_back = ["*.lock"]
ignore_files = [".gitignore"]

[options]
restart_grace = "1.5s"
overlay = "memory"
debounce = "2s"

[environment.reach]
db = 5432
mail = "8025:25"
`;

const plainStep = { env: {}, network: true, cache: [], secrets: [] };

test('every section and key arrives in the specification', () => {
  const expected: EnvSpec = {
    environment: { name: 'myapp', base: 'apt://bookworm?include=python3', workdir: '/work', network: 'private', reach: [{ name: 'db', hostPort: 5432, port: 5432 }, { name: 'mail', hostPort: 8025, port: 25 }] },
    dependencies: [
      { provider: 'apt', kind: 'packages', packages: ['curl', 'git'] },
      { provider: 'node', kind: 'version', version: '20.x' },
      { provider: 'npm', kind: 'file', file: 'package.json' },
    ],
    build: {
      steps: [
        { run: 'npm ci', line: 16, ...plainStep, network: false },
        { run: 'npm run build\nnpm run docs', line: 17, ...plainStep, network: false },
        {
          run: 'npm test', line: 20, name: 'test', workdir: 'web', inputs: ['src/**', '!src/old'], outputs: ['out'], env: { CI: '1' }, network: true, cache: ['.c'],
          secrets: [{ id: 'key', file: '/run/secrets/key' }, { id: 'token', file: '/root/token', env: 'TOKEN' }],
        },
      ],
      cache: ['node_modules', '/root/.npm'],
      network: false,
      jobs: 3,
      limits: { memoryBytes: 2 ** 30 },
    },
    secrets: [{ id: 'token', kind: 'env', variable: 'NPM_TOKEN' }, { id: 'key', kind: 'file', file: '~/.key' }],
    services: [
      {
        name: 'web',
        command: 'npm run dev',
        watch: ['src/**/*.ts'],
        port: 3000,
        socket: true,
        publish: { address: 'loopback', port: 3000 },
        dependsOn: [],
        restartPolicy: 'always',
        env: {},
        stopSignal: 'SIGTERM',
        onChange: 'restart',
        reloadSignal: 'SIGHUP',
        profiles: [],
        envFiles: [],
        restartGraceMs: 1500,
        ready: { kind: 'http', port: 3000, path: '/health' },
        user: 'web:www-data',
        volumes: [],
        limits: { memoryBytes: 512 * 2 ** 20, cpus: 1.5, pids: 200 },
        privileged: false,
        line: 31,
      },
      {
        name: '8080',
        command: 'node worker.js',
        watch: [],
        socket: false,
        dependsOn: [{ name: 'web', condition: 'healthy' }],
        stopSignal: 'SIGTERM',
        onChange: 'restart',
        reloadSignal: 'SIGHUP',
        profiles: [],
        envFiles: [],
        restartGraceMs: 1500,
        restartPolicy: 'on_failure',
        env: { LEVEL: 'debug' },
        cwd: 'sub',
        ready: { kind: 'started' },
        volumes: [],
        limits: {},
        privileged: true,
        line: 42,
      },
    ],
    volumes: [],
    files: { include: ['src', 'package.json'], exclude: ['.git', '*.log'], syncBack: ['*.lock'], ignoreFiles: ['.gitignore'] },
    options: { restartGraceMs: 1500, env: { LANG: 'C.UTF-8' }, overlay: 'memory', debounceMs: 2000, debounceMaxMs: 2000 },
  };
  assert.deepEqual(accept(FULL), { spec: expected, warnings: [] });
});

test('what is left out has its default', () => {
  const { spec } = accept(`${HEAD}[services.web]\ncommand = "run"\nport = 80\n`);
  assert.deepEqual(spec.dependencies, []);
  assert.deepEqual(spec.build, { steps: [], cache: [], network: true, limits: {} });
  assert.deepEqual(spec.secrets, []);
  assert.deepEqual(spec.files, { include: [], exclude: [], syncBack: [], ignoreFiles: [] });
  assert.deepEqual(spec.options, { restartGraceMs: 5000, env: {}, overlay: 'disk', debounceMs: 50, debounceMaxMs: 1000 });
  assert.deepEqual(spec.services[0]?.ready, { kind: 'port', port: 80 });
  assert.equal(spec.services[0]?.restartPolicy, 'always');
  assert.deepEqual([spec.services[0]?.limits, spec.services[0]?.privileged], [{}, false]);
});

test('volumes, and what is mounted for services', () => {
  const { spec } = accept(`${HEAD}[volumes]\nlogs = {}\ndata = {}\n${'[services.db]\ncommand = "run"\nvolumes = ["data:/var/lib/db", "./conf:/etc/conf:ro", "~/.cache:/cache:rw", "/dev/shm:/shm"]\n'}`);
  assert.deepEqual(spec.volumes, ['logs', 'data']);
  assert.deepEqual(spec.services[0]?.volumes, [
    { kind: 'volume', name: 'data', target: '/var/lib/db', readonly: false }, { kind: 'bind', source: './conf', target: '/etc/conf', readonly: true },
    { kind: 'bind', source: '~/.cache', target: '/cache', readonly: false }, { kind: 'bind', source: '/dev/shm', target: '/shm', readonly: false },
  ]);
});

test('steps as tables of their own, each with its line', () => {
  const { spec } = accept(`${HEAD}[[build.steps]]\nrun = "a"\n\n[[build.steps]]\nname = "second"\nrun = "b"\nenv.A = "1"\n`);
  assert.deepEqual(spec.build.steps, [{ run: 'a', line: 4, ...plainStep }, { run: 'b', line: 7, name: 'second', ...plainStep, env: { A: '1' } }]);
  assert.deepEqual(findings(`${HEAD}[[build.steps]]\nrun = "a"\n[[build.steps]]\nrum = "b"`), ['6:9 MISSING_KEY', '7:1 UNKNOWN_KEY']);
});

const service = (name: string, rest = '') => `[services.${name}]\ncommand = "run"\n${rest}\n`;

/** [what, what follows HEAD, the position and code of every error; nothing when it is accepted] */
const table: [string, string, ...string[]][] = [
  ['restart policy never', service('a', 'restart_policy = "never"')],
  ['restart policy no', service('a', 'restart_policy = "no"')],
  ['restart policy unless-stopped', service('a', 'restart_policy = "unless-stopped"')],
  ['restart policy unknown', service('a', 'restart_policy = "allways"'), '6:18 INVALID_VALUE'],
  ['service name with all it may hold', service('"A9_.-"')],
  ['service name with a space', service('"a b"'), '4:11 INVALID_NAME'],
  ['service name that starts with a dash', service('-a'), '4:11 INVALID_NAME'],
  ['service named __proto__', service('__proto__'), '4:11 INVALID_NAME'],
  ['service that is no table', '[services]\nweb = "run"', '5:7 WRONG_TYPE'],
  ['services as an array of tables', '[[services]]\ncommand = "run"', '4:3 WRONG_TYPE'],
  ['service without command', '[services.web]\nport = 1', '4:11 MISSING_KEY'],
  ['service with an empty command', '[services.web]\ncommand = " "', '5:11 INVALID_VALUE'],
  ['unknown key', service('web', 'prot = 3000'), '6:1 UNKNOWN_KEY'],
  ['mount without a place', service('web', 'volumes = ["data"]'), '6:12 INVALID_VALUE'],
  ['mount at a relative place', service('web', 'volumes = ["./a:b"]'), '6:12 INVALID_VALUE'],
  ['volume with a key', '[volumes]\ndata = { driver = "local" }', '5:10 UNKNOWN_KEY'],
  ['unknown section', '[service.web]\ncommand = "run"', '4:2 UNKNOWN_SECTION'],
  ['port 1', service('a', 'port = 1')],
  ['port 65535', service('a', 'port = 65535')],
  ['port 0', service('a', 'port = 0'), '6:8 INVALID_VALUE'],
  ['port 65536', service('a', 'port = 65536'), '6:8 INVALID_VALUE'],
  ['port as text', service('a', 'port = "80"'), '6:8 WRONG_TYPE'],
  ['port as float', service('a', 'port = 80.5'), '6:8 WRONG_TYPE'],
  ['port as date', service('a', 'port = 1979-05-27'), '6:8 WRONG_TYPE'],
  ['two ready forms', service('a', 'ready = { command = "x", log = "y" }'), '6:9 INVALID_VALUE'],
  ['no ready form', service('a', 'ready = {}'), '6:9 INVALID_VALUE'],
  ['ready by http at a port', service('a', 'port = 1\nready.http = "/"')],
  ['ready by a path without slash', service('a', 'port = 1\nready.http = "x"'), '7:14 INVALID_VALUE'],
  ['variable with a bad name', service('a', 'env = { "A-B" = "x" }'), '6:9 INVALID_NAME'],
  ['variable that is no string', service('a', 'env = { A = 1 }'), '6:13 WRONG_TYPE'],
  ['variable that is empty', service('a', 'env = { A = "" }')],
  ['package list', '[dependencies]\napt = ["curl"]\npip = ["flask >= 2"]'],
  ['package list as text', '[dependencies]\napt = "curl"', '5:7 WRONG_TYPE'],
  ['package that looks like an option', '[dependencies]\napt = ["-y"]', '5:8 INVALID_VALUE'],
  ['package that is no string', '[dependencies]\napt = ["a", 1]', '5:13 WRONG_TYPE'],
  ['runtime version', '[dependencies]\nnode = "20.x"\ngo = "1.22"'],
  ['runtime as list', '[dependencies]\nnode = ["20"]', '5:8 WRONG_TYPE'],
  ['manifest', '[dependencies.npm]\nfile = "web/package.json"'],
  ['manifest outside', '[dependencies.npm]\nfile = "../package.json"', '5:8 INVALID_PATH'],
  ['manifest with an unknown key', '[dependencies.npm]\nfile = "a"\nx = 1', '6:1 UNKNOWN_KEY'],
  ['unknown provider', '[dependencies]\nyum = ["curl"]', '5:1 UNKNOWN_PROVIDER'],
  ['step that is no string', '[build]\nsteps = ["a", 1]', '5:15 WRONG_TYPE'],
  ['step that is empty', '[build]\nsteps = [""]', '5:10 INVALID_VALUE'],
  ['step table with an unknown key', '[build]\nsteps = [{ run = "a", input = [] }]', '5:23 UNKNOWN_KEY'],
  ['steps of both forms', '[build]\nsteps = ["a", { run = "b", name = "two", inputs = [], outputs = [] }]'],
  ['step table without run', '[build]\nsteps = [{ name = "a" }]', '5:10 MISSING_KEY'],
  ['step directory outside', '[build]\nsteps = [{ run = "a", workdir = "../b" }]', '5:33 INVALID_PATH'],
  ['step output outside', '[build]\nsteps = [{ run = "a", outputs = ["b", "../c"] }]', '5:39 INVALID_PATH'],
  ['step inputs as text', '[build]\nsteps = [{ run = "a", inputs = "src" }]', '5:32 WRONG_TYPE'],
  ['step variable that is no string', '[build]\nsteps = [{ run = "a", env = { A = 1 } }]', '5:35 WRONG_TYPE'],
  ['step variable with a bad name', '[build]\nsteps = [{ run = "a", env = { "A B" = "1" } }]', '5:31 INVALID_NAME'],
  ['step network as text', '[build]\nsteps = [{ run = "a", network = "no" }]', '5:33 WRONG_TYPE'],
  ['step cache', '[build]\nsteps = [{ run = "a", cache = ["target", "/root/.npm"] }]'],
  ['secret with an unknown key', '[build]\nsteps = [{ run = "a", secrets = [{ id = "s", target = "/x" }] }]\n[secrets.s]\nenv = "S"', '5:46 UNKNOWN_KEY'],
  ['secret at a relative path', '[build]\nsteps = [{ run = "a", secrets = [{ id = "s", file = "x" }] }]\n[secrets.s]\nenv = "S"', '5:53 INVALID_PATH'],
  ['secret from two places', '[secrets.s]\nenv = "S"\nfile = "/s"', '4:10 INVALID_VALUE'],
  ['secret from nowhere', '[secrets]\ns = {}', '5:5 INVALID_VALUE'],
  ['secret as text', '[secrets]\ns = "value"', '5:5 WRONG_TYPE'],
  ['secret with a bad name', '[secrets]\n"a/b" = { env = "S" }', '5:1 INVALID_NAME'],
  ['jobs', '[build]\njobs = 4'],
  ['no jobs', '[build]\njobs = 0', '5:8 INVALID_VALUE'],
  ['jobs as text', '[build]\njobs = "4"', '5:8 WRONG_TYPE'],
  ['steps as text', '[build]\nsteps = "make"', '5:9 WRONG_TYPE'],
  ['cache outside', '[build]\ncache = ["a/../../b"]', '5:10 INVALID_PATH'],
  ['cache with dots in names', '[build]\ncache = ["a..b/...", "/root/.cache"]'],
  ['network as text', '[build]\nnetwork = "no"', '5:11 WRONG_TYPE'],
  ['published nowhere, everywhere, at a port, and at both', `${service('a', 'port = 1\npublish = false')}${service('b', 'port = 2\npublish = "0.0.0.0"')}${service('c', 'port = 3\npublish = 8080')}${service('d', 'port = 4\npublish = "[::1]:81"')}`],
  ['reach as a list', '[environment.reach]\ndb = [5432]', '5:6 WRONG_TYPE'],
  ['reach at a host', '[environment.reach]\ndb = "db.example:5432"', '5:6 INVALID_VALUE'],
  ['reach by no name', '[environment.reach]\n"a b" = 5432', '5:1 INVALID_NAME'],
  ['published at a name', service('a', 'port = 1\npublish = "example.org:80"'), '7:11 INVALID_VALUE'],
  ['published as a list', service('a', 'port = 1\npublish = [80]'), '7:11 WRONG_TYPE'],
  ['include absolute', '[files]\ninclude = ["/etc"]', '5:12 INVALID_PATH'],
  ['include outside', '[files]\ninclude = ["src/.."]', '5:12 INVALID_PATH'],
  ['include here', '[files]\ninclude = [".", "./src"]'],
  ['an ignore file elsewhere', '[files]\nignore_files = ["a/.gitignore"]', '5:17 INVALID_VALUE'],
  ['debounce without unit', '[options]\ndebounce = "50"', '5:12 INVALID_VALUE'],
  ['grace in every unit', '[options]\nrestart_grace = "500ms"'],
  ['grace without unit', '[options]\nrestart_grace = "5"', '5:17 INVALID_VALUE'],
  ['grace as number', '[options]\nrestart_grace = 5', '5:17 WRONG_TYPE'],
  ['overlay unknown', '[options]\noverlay = "tmpfs"', '5:11 INVALID_VALUE'],
];

/** Accept or reject through keys together, which JSON Schema cannot say. */
const meaningTable: [string, string, ...string[]][] = [
  ['two services at one port', service('a', 'port = 80') + service('b', 'port = 80'), '9:8 PORT_CONFLICT'],
  ['a socket without a port', service('a', 'socket = true'), '6:10 MISSING_KEY'],
  ['reach at no port', '[environment.reach]\ndb = "5432:70000"', '5:6 INVALID_VALUE'],
  ['reach by the name of a service', `${service('db', 'port = 1')}[environment.reach]\ndb = 5432`, '8:1 INVALID_VALUE'],
  ['reach at the port of a service', `${service('web', 'port = 5432')}[environment.reach]\ndb = "15432:5432"`, '8:6 PORT_CONFLICT'],
  ['published without a port', service('a', 'publish = 80'), '6:11 MISSING_KEY'],
  ['published at no address', service('a', 'port = 1\npublish = "300.0.0.1"'), '7:11 INVALID_VALUE'],
  ['published at no port', service('a', 'port = 1\npublish = "127.0.0.1:70000"'), '7:11 INVALID_VALUE'],
  ['a dependency that is not there', service('web') + service('b', 'depends_on = ["wbe"]'), '9:15 UNKNOWN_SERVICE'],
  ['a service that depends on itself', service('a', 'depends_on = ["a"]'), '6:15 DEPENDENCY_CYCLE'],
  [
    'a diamond',
    service('a', 'depends_on = ["b", "c"]') + service('b', 'depends_on = ["d"]') + service('c', 'depends_on = ["d"]') + service('d'),
  ],
  ['ready by http without port', service('a', 'ready.http = "/"'), '6:14 MISSING_KEY'],
  ['ready by a broken pattern', service('a', 'ready.log = "("'), '6:13 INVALID_VALUE'],
  ['secret that is not there', '[build]\nsteps = [{ run = "a", secrets = ["s", { id = "t" }] }]\n[secrets.t]\nenv = "T"', '5:34 UNKNOWN_SECRET'],
  ['volume that is not there', '[volumes]\ndata = {}\n' + service('a', 'volumes = ["./x:/x", "dta:/y"]'), '8:22 UNKNOWN_VOLUME'],
  ['two things at one place', service('a', 'volumes = ["./x:/x", "./y:/x:ro"]'), '6:22 INVALID_VALUE'],
  ['grace over a day', '[options]\nrestart_grace = "1441m"', '5:17 INVALID_VALUE'],
];

const jsonSchema = z.fromJSONSchema(specJsonSchema() as Parameters<typeof z.fromJSONSchema>[0]);

for (const [what, tail, ...errors] of [...table, ...meaningTable]) {
  test(`${errors.length === 0 ? 'accepts' : 'rejects'}: ${what}`, () => {
    assert.deepEqual(findings(HEAD + tail), errors);
  });
}

// `__proto__` is lost on the way into any validator that works on objects.
for (const [what, tail, ...errors] of table.filter(([what]) => !what.includes('__proto__'))) {
  test(`the JSON Schema ${errors.length === 0 ? 'accepts' : 'rejects'}: ${what}`, () => {
    const document: unknown = JSON.parse(JSON.stringify(parse(HEAD + tail)));
    assert.equal(jsonSchema.safeParse(document).success, errors.length === 0);
  });
}

test('the environment section is required, with name and base', () => {
  assert.deepEqual(messages(''), ['missing section [environment]']);
  assert.deepEqual(messages('[environment]'), ['missing key "name" in [environment]', 'missing key "base" in [environment]']);
  assert.deepEqual(findings('[environment]\nname = "a"'), ['1:2 MISSING_KEY']);
  assert.deepEqual(messages('environment = "x"'), ['"environment" must be a table, not a string']);
});

test('messages name the place, the services and the way out', () => {
  assert.deepEqual(messages(HEAD + service('a', 'port = 80') + service('b', 'port = 80')), ['services "a" and "b" both use port 80']);
  const cycle = service('web', 'depends_on = ["api"]') + service('api', 'depends_on = ["web"]');
  assert.deepEqual(messages(HEAD + cycle), ['services depend on each other in a circle: web -> api -> web']);
  assert.deepEqual(hints(HEAD + service('web') + service('b', 'depends_on = ["wbe"]')), ['did you mean "web"?']);
  assert.deepEqual(hints(`${HEAD}[dependencies]\napt = "curl"`), ['write ["curl"]']);
  assert.deepEqual(hints(`${HEAD}[dependencies]\nnod = "20"`), ['did you mean "node"?']);
  assert.deepEqual(hints(`${HEAD}[build]\nsteps = [{ run = "a", input = [] }]`), ['did you mean "inputs"?']);
  assert.deepEqual(hints(`${HEAD}[build]\nsteps = [{ run = "a", secrets = ["tokn"] }]\n[secrets.token]\nenv = "T"`), ['did you mean "token"?']);
  assert.deepEqual(messages(`${HEAD}[secrets]\ns = {}`), ['[secrets.s] must have exactly one key, not 0']);
  assert.deepEqual(hints(`${HEAD}steps = ["make"]`), ['"steps" belongs in [build]']);
  assert.deepEqual(messages(`${HEAD}[build]\nsteps = ["a", 1]`), ['item 2 of "steps" in [build] must be a string or a table, not an integer']);
});

test('several errors are reported at once, in the order of the text', () => {
  const text = `${HEAD}[biuld]\n${service('a b', '').replace('a b', '"a b"')}${service('c', 'port = 0\ndepends_on = ["d"]\nwhatch = []')}`;
  assert.deepEqual(findings(text), ['4:2 UNKNOWN_SECTION', '5:11 INVALID_NAME', '10:8 INVALID_VALUE', '11:15 UNKNOWN_SERVICE', '12:1 UNKNOWN_KEY']);
});

test('warnings come with the specification', () => {
  const { spec, warnings } = accept(`${HEAD}[dependencies]\napt = ["a", "a"]\n${service('s', 'watch = ["../x/**"]')}[build]\nsteps = [{ run = "r", inputs = ["../y"], secrets = ["k", "k"] }]\n[secrets.k]\nenv = "K"\n`);
  assert.deepEqual(spec.dependencies, [{ provider: 'apt', kind: 'packages', packages: ['a'] }]);
  assert.deepEqual(warnings.map(({ code, line, column }) => `${line}:${column} ${code}`), ['5:13 DUPLICATE_VALUE', '8:10 NEVER_MATCHES', '10:33 NEVER_MATCHES', '10:58 DUPLICATE_VALUE']);
});

test('broken TOML is one error with a position', () => {
  assert.deepEqual(findings(`${HEAD}name = "again"`), ['4:1 TOML_SYNTAX']);
  assert.deepEqual(findings(`${HEAD}[build]\nsteps = ["a"`), ['5:13 TOML_SYNTAX']);
  assert.deepEqual(hints(`${HEAD}<<<<<<< HEAD\n`), ['this looks like a merge conflict: keep one side and remove the markers']);
});

test('a byte order mark and Windows line ends are no matter', () => {
  const { spec } = accept(`\ufeff${FULL.replaceAll('\n', '\r\n')}`);
  assert.equal(spec.services[1]?.line, 42);
  assert.equal(spec.build.steps[2]?.line, 20);
});

test('no text makes it throw, and every diagnostic points into the text', () => {
  const seeds = [FULL, initTemplate({ name: 'x', kind: 'node' }), ...[...table, ...meaningTable].map(([, tail]) => HEAD + tail)];
  const mutated = fc
    .tuple(
      fc.constantFrom(...seeds),
      fc.array(
        fc.record({
          at: fc.double({ min: 0, max: 1, noNaN: true }),
          cut: fc.nat(12),
          put: fc.oneof(fc.constantFrom('"', "'", '[', ']', '{', '}', '.', '=', '\n', '#', ',', '__proto__', '"""', '[[services]]'), fc.string({ unit: 'binary' })),
        }),
        { maxLength: 4 },
      ),
    )
    .map(([text, edits]) => edits.reduce((now, { at, cut, put }) => splice(now, Math.floor(at * now.length), cut, put), text));
  fc.assert(
    fc.property(fc.oneof(fc.string({ unit: 'binary', maxLength: 200 }), mutated), (text) => {
      const result = parseSpec(text);
      const lines = text.split(/\r?\n/);
      for (const diagnostic of result.ok ? result.warnings : result.diagnostics) {
        assert.ok(diagnostic.line >= 1 && diagnostic.line <= lines.length);
        assert.ok(diagnostic.column >= 1 && diagnostic.column <= (lines[diagnostic.line - 1] ?? '').length + 2);
        assert.ok(diagnostic.length >= 1);
        renderDiagnostic(diagnostic, 'hd.toml', text);
      }
      if (!result.ok) assert.ok(result.diagnostics.some(({ severity }) => severity === 'error'));
    }),
    { numRuns: 2000 },
  );
});

test('deep nesting is refused, not a stack overflow', () => {
  for (const text of ['a = ' + '['.repeat(50_000), 'a = ' + '{b='.repeat(50_000), `environment.${'a.'.repeat(50_000)}b = 1`]) {
    assert.equal(parseSpec(text).ok, false);
  }
});

function splice(text: string, at: number, cut: number, put: string): string {
  return text.slice(0, at) + put + text.slice(at + cut);
}

function accept(text: string) {
  const result = parseSpec(text);
  assert.ok(result.ok, result.ok ? '' : result.diagnostics.map((diagnostic) => renderDiagnostic(diagnostic, 'hd.toml', text)).join('\n'));
  return { spec: result.spec, warnings: result.warnings };
}

function errorsOf(text: string) {
  const result = parseSpec(text);
  return result.ok ? [] : result.diagnostics;
}

function findings(text: string): string[] {
  return errorsOf(text).map(({ line, column, code }) => `${line}:${column} ${code}`);
}

function messages(text: string): string[] {
  return errorsOf(text).map(({ message }) => message);
}

function hints(text: string): (string | undefined)[] {
  return errorsOf(text).map(({ hint }) => hint);
}
