import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parse } from 'smol-toml';
import { HdError } from '@hyperdocker/base';
import { translateDockerfile } from './index.ts';

interface Parsed {
  environment: { name: string; base: string; workdir?: string; env?: Record<string, string> };
  build?: { steps?: (string | { run: string; network: boolean })[]; cache?: string[] };
  services?: Record<string, { command: string; port?: number; user?: string; stop_signal?: string; ready?: { command: string }; volumes?: string[] }>;
  files?: { include: string[] };
}

/** The TOML read back, and the notes as `line INSTRUCTION`. Every note must be in the text too. */
function ingest(text: string): { toml: Parsed; notes: string[]; messages: string } {
  const { toml, notes } = translateDockerfile(text, { name: 'demo' });
  for (const { line, instruction, message } of notes) assert(toml.includes(`# line ${line}: ${instruction}: ${message}\n`), toml);
  return { toml: JSON.parse(JSON.stringify(parse(toml))) as Parsed, notes: notes.map(({ line, instruction }) => `${line} ${instruction}`), messages: notes.map(({ message }) => message).join('\n') };
}

test('the flask demo goes over whole', () => {
  const text = 'FROM python:3.11-slim\nWORKDIR /app\nCOPY requirements.txt .\nRUN pip install --no-cache-dir -r requirements.txt\nCOPY . .\nENV FLASK_APP=app.py\nEXPOSE 5000\nCMD ["python", "app.py"]\n';
  const { toml, notes } = ingest(text);
  assert.deepEqual(toml, {
    environment: { name: 'demo', base: 'python:3.11-slim', workdir: '/app', env: { FLASK_APP: 'app.py' } },
    build: { steps: ['pip install --no-cache-dir -r requirements.txt'] },
    services: { app: { command: 'python app.py', port: 5000 } },
  });
  assert.deepEqual(notes, []);
});

const W = 'FROM a\nWORKDIR /w\n';
const END = '\nCMD run';

for (const [what, run, steps] of [
  ['shell form', 'RUN a && b | c > d', ['a && b | c > d']],
  ['exec form', `RUN ["sh", "-c", "echo 'x, y' $A"]`, [`sh -c 'echo '\\''x, y'\\'' $A'`]],
  ['what only looks like an exec form', 'RUN [ -f x ] && y', ['[ -f x ] && y']],
  ['continuation with comments and blank lines', 'RUN a && \\\n  # why\n\n    b \\\n    c', ['a && b c']],
  ['continuation inside of quotes', "RUN echo 'a \\\n    b'", ["echo 'a     b'"]],
  ['continuation inside of a word', 'RUN ec\\\nho', ['echo']],
  ['heredoc as the script', 'RUN <<EOF\nset -e\necho "$X \\ y"\nEOF', ['set -e\necho "$X \\ y"']],
  ['heredoc with tabs', 'RUN <<-EOF\n\ta\n\t  b\n\tEOF', ['a\n  b']],
  ['heredoc of a command', "RUN python3 - <<'PY' && done\nprint('''x''')\nPY", ["python3 - <<'PY' && done\nprint('''x''')\nPY"]],
  ['two heredocs', 'RUN cat <<A <<B\n1\nA\n2\nB', ['cat <<A <<B\n1\nA\n2\nB']],
  ['no heredoc in quotes or arithmetic', 'RUN echo "<<EOF" $((1<<2))', ['echo "<<EOF" $((1<<2))']],
  ['another directory', 'WORKDIR sub\nRUN a\nWORKDIR /w', ['mkdir -p /w/sub && cd /w/sub && a']],
  ['the root', 'WORKDIR /\nRUN a\nWORKDIR /w', ['cd / && a']],
  ['a script in another directory', 'WORKDIR /x\nRUN <<E\na\nb\nE\nWORKDIR /w', ['mkdir -p /x && cd /x || exit 1\na\nb']],
  ['SHELL', 'SHELL ["/bin/bash", "-o", "pipefail", "-c"]\nRUN a | b', [`/bin/bash -o pipefail -c 'a | b'`]],
  ['quotes, backslashes and control characters', 'RUN printf "a\\tb\\\\" \t\u0001', ['printf "a\\tb\\\\" \t\u0001']],
  ['apt-get stays a step', 'RUN apt-get update && apt-get install -y git', ['apt-get update && apt-get install -y git']],
] as const) {
  test(`RUN: ${what}`, () => {
    const { toml, notes } = ingest(`${W}${run}${END}`);
    assert.deepEqual(toml.build?.steps, steps);
    assert.deepEqual(notes, []);
  });
}

for (const [what, lines, command] of [
  ['shell form', 'CMD npm start -- --port $PORT', 'npm start -- --port $PORT'],
  ['exec form with commas and quotes', 'CMD ["python", "-c", "print(\'a, b\')", "x,y"]', `python -c "print('a, b')" x,y`],
  ['exec form does not expand', 'CMD ["echo", "$HOME"]', "echo '$HOME'"],
  ['the last one', 'CMD a\nCMD b', 'b'],
  ['entrypoint with its arguments', 'ENTRYPOINT ["tini", "--"]\nCMD ["a", "b c"]', "tini -- a 'b c'"],
  ['entrypoint with a shell command', 'ENTRYPOINT ["tini", "--"]\nCMD a b', "tini -- /bin/sh -c 'a b'"],
  ['shell entrypoint ignores CMD', 'CMD ["a"]\nENTRYPOINT b c', 'b c'],
  ['lower case', 'cmd ["a"]', 'a'],
] as const) {
  test(`the service: ${what}`, () => {
    const { toml, notes } = ingest(`${W}${lines}\n`);
    assert.equal(toml.services?.['app']?.command, command);
    assert.deepEqual(notes, []);
  });
}

for (const [what, lines, env] of [
  ['pairs', 'ENV A=1 B="two words" C=a\\ b', { A: '1', B: 'two words', C: 'a b' }],
  ['the old form', 'ENV A one two', { A: 'one two' }],
  ['references', 'ENV A=1\nENV B=${A}2 C=$A-x D=\\$A E=\'$A\' F=${A:+set} G=${Z:-none}', { A: '1', B: '12', C: '1-x', D: '$A', E: '$A', F: 'set', G: 'none' }],
  ['values before the line count', 'ENV A=1\nENV A=2 B=$A', { A: '2', B: '1' }],
  ['values with quotes', 'ENV A="say \\"hi\\""\nENV B=$A', { A: 'say "hi"', B: 'say "hi"' }],
] as const) {
  test(`ENV: ${what}`, () => {
    const { toml, notes } = ingest(`${W}${lines}${END}`);
    assert.deepEqual(toml.environment.env, env);
    assert.deepEqual(notes, []);
  });
}

test('ARG: before FROM, in the stage, and in RUN', () => {
  const { toml, notes } = ingest('ARG V=20\nARG T=${V}-alpine\nFROM node:$T\nARG V\nARG MODE="a b"\nARG NONE\nWORKDIR /srv/$V\nENV V2=$V\nRUN make $MODE\nRUN plain\nCMD x');
  assert.equal(toml.environment.base, 'node:20-alpine');
  assert.equal(toml.environment.workdir, '/srv/20');
  assert.deepEqual(toml.environment.env, { V2: '20' });
  assert.deepEqual(toml.build?.steps, [`export MODE='a b' && make $MODE`, 'plain']);
  assert.deepEqual(notes, ['1 ARG', '2 ARG', '5 ARG', '6 ARG']);
});

test('multi-stage: the last stage, with those below it', () => {
  const { toml, notes, messages } = ingest('FROM debian AS base\nRUN one\nFROM golang AS build\nRUN go build\nFROM base\nWORKDIR /app\nCOPY --from=build /out /usr/bin/out\nRUN two\nCMD ["out"]\n');
  assert.equal(toml.environment.base, 'debian');
  assert.deepEqual(toml.build?.steps, ['one', 'two']);
  assert.deepEqual(notes, ['3 FROM', '7 COPY']);
  assert.match(messages, /stage build \(lines 3 to 4\)/);
});

for (const [what, lines, steps, include, notes] of [
  ['files to where they are', 'COPY package.json yarn.lock ./\nCOPY src/ src/\nCOPY lib /w/lib', undefined, ['package.json', 'yarn.lock', 'src', 'lib'], []],
  ['all of the project', 'COPY a.txt .\nCOPY . /w', undefined, undefined, []],
  ['a JSON list', 'COPY ["a b.txt", "./"]', undefined, ['a b.txt'], []],
  ['a pattern', 'COPY package*.json ./', undefined, undefined, ['3 COPY']],
  ['to elsewhere', 'COPY conf/x.conf /etc/x.conf', ['mkdir -p /etc && cp conf/x.conf /etc/x.conf'], ['conf/x.conf'], ['3 COPY']],
  ['a file or a directory', 'COPY conf /etc/app/app.conf', ['if [ -d conf ]; then mkdir -p /etc/app/app.conf && cp -R conf/. /etc/app/app.conf; else mkdir -p /etc/app && cp conf /etc/app/app.conf; fi'], ['conf'], ['3 COPY']],
  ['several to elsewhere', 'COPY a.x b.x /opt/', ['mkdir -p /opt && cp a.x /opt/ && mkdir -p /opt && cp b.x /opt/'], ['a.x', 'b.x'], ['3 COPY']],
  ['the project to elsewhere', 'COPY . /other', ['mkdir -p /other && cp -R . /other'], undefined, ['3 COPY']],
  ['an archive', 'ADD vendor.tar.gz /opt', ['mkdir -p /opt && tar -xf vendor.tar.gz -C /opt'], ['vendor.tar.gz'], ['3 ADD']],
  ['a URL', 'ADD https://example.invalid/x /x', undefined, undefined, ['3 ADD']],
  ['an owner', 'COPY --chown=1:1 . .', undefined, undefined, ['3 COPY']],
  ['a here-document', 'COPY <<EOF /etc/motd\nhi $USER\nEOF', ["mkdir -p /etc && cat > /etc/motd <<'EOF'\nhi \nEOF"], undefined, ['3 COPY']],
] as const) {
  test(`COPY and ADD: ${what}`, () => {
    const result = ingest(`${W}${lines}${END}`);
    assert.deepEqual(result.toml.build?.steps, steps);
    assert.deepEqual(result.toml.files?.include, include);
    assert.deepEqual(result.notes, notes);
  });
}

test('nothing is dropped without a note', () => {
  const lines = ['LABEL a=b', 'MAINTAINER me', 'VOLUME /data', 'STOPSIGNAL SIGINT', 'ONBUILD RUN x', 'USER nobody', 'HEALTHCHECK CMD curl x', 'EXPOSE 80 81 53/udp 1-5', 'RUN --mount=type=secret,id=s x', 'RUN --network=none y', 'ENV a-b=c', 'ENV Q=$UNSET', 'ENV PATH=/x:$PATH'];
  const { toml, notes } = ingest(`${W}${lines.join('\n')}${END}`);
  assert.deepEqual(notes, ['3 LABEL', '4 MAINTAINER', '7 ONBUILD', '8 USER', '9 HEALTHCHECK', '10 EXPOSE', '10 EXPOSE', '10 EXPOSE', '11 RUN', '13 ENV', '14 ENV', '15 ENV']);
  assert.deepEqual(toml.services?.['app'], { command: 'run', port: 80, user: 'nobody', stop_signal: 'SIGINT', ready: { command: 'curl x' }, volumes: ['data:/data'] });
  assert.deepEqual(toml.build?.steps, ['x', { run: 'y', network: false }]);
});

test('cache mounts become cache directories', () => {
  const { toml, notes } = ingest(`${W}RUN --mount=type=cache,target=/root/.cache/pip --mount=type=cache,target=deps,sharing=locked pip install x${END}`);
  assert.deepEqual(toml.build, { steps: ['pip install x'], cache: ['/root/.cache/pip', '/w/deps'] });
  assert.deepEqual(notes, []);
});

test('no WORKDIR, no CMD', () => {
  const { toml, notes } = ingest('FROM a\nCOPY . /code\nRUN make\nEXPOSE 1\n');
  assert.equal(toml.environment.workdir, '/code');
  assert.equal(toml.services, undefined);
  assert.deepEqual(notes, ['1 FROM', '1 FROM', '4 EXPOSE']);
});

test('the escape directive, CRLF and a byte order mark', () => {
  const { toml } = ingest('\uFEFF# escape=`\r\nFROM a\r\nWORKDIR /w\r\nRUN a `\r\n  b\\\r\nCMD x\r\n');
  assert.deepEqual(toml.build?.steps, ['a b\\']);
});

for (const [what, text, line] of [
  ['nothing', '', 1],
  ['an unknown instruction', 'FROM a\nRUNN x', 2],
  ['something before FROM', 'RUN x\nFROM a', 1],
  ['a base without a value', 'FROM $X', 1],
  ['an endless here-document', 'FROM a\nRUN <<EOF\nx', 2],
  ['COPY with one word', 'FROM a\nCOPY x', 2],
] as const) {
  test(`no Dockerfile: ${what}`, () => {
    assert.throws(() => ingest(text), (error: unknown) => error instanceof HdError && error.code === 'DOCKERFILE_INVALID' && error.details?.['line'] === line);
  });
}

test('whatever stands in a command comes through TOML unchanged', () => {
  fc.assert(fc.property(fc.string({ unit: fc.constantFrom('"', "'", '\\', '\t', ' ', 'a', '#', '$', '\u0007', 'é', '🚀', '\u007f') }), (text) => {
    const body = `x${text}y'`;
    assert.equal(ingest(`${W}RUN <<EOF\nx\n${body}\nEOF${END}`).toml.build?.steps?.[0], `x\n${body}`);
    const words = ['echo', text];
    assert.equal(typeof ingest(`${W}CMD ${JSON.stringify(words)}`).toml.services?.['app']?.command, 'string');
  }));
});

test('any text is a translation or DOCKERFILE_INVALID', () => {
  const word = fc.constantFrom('FROM', 'RUN', 'COPY', 'ENV', 'ARG', 'CMD', 'WORKDIR', 'a', '$A', '${A:-b}', '"', "'", '\\', '\n', ' ', '=', '<<E', 'E', '[', '["x"]', '--from=x', '.', '/');
  fc.assert(fc.property(fc.array(word, { maxLength: 30 }), (words) => {
    try {
      ingest(`FROM a\n${words.join('')}`);
    } catch (error) {
      if (!(error instanceof HdError && error.code === 'DOCKERFILE_INVALID')) throw error;
    }
  }), { numRuns: 1000 });
});
