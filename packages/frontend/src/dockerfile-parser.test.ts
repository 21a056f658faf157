import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HdError } from '@hyperdocker/base';
import { expand } from './dockerfile-expand.ts';
import type { DockerConfig, EvaluatedStage } from './dockerfile-evaluate.ts';
import { evaluateGlobals, evaluateStage, platformArguments } from './dockerfile-evaluate.ts';
import { baseOf, neededStages, targetStage } from './dockerfile-graph.ts';
import { ignoreMatcher, readIgnoreFile } from './dockerfile-ignore.ts';
import type { RunInstruction } from './dockerfile-ast.ts';
import { parseDockerfile } from './dockerfile-parser.ts';

function failsAt(text: string, line: number, why: RegExp): void {
  assert.throws(() => parseDockerfile(text, 'Dockerfile.dev'), (error) => error instanceof HdError && error.message.startsWith(`Dockerfile.dev:${line}: `) && why.test(error.message), `${JSON.stringify(text)} has to fail at ${line} with ${String(why)}`);
}

/** The last stage, evaluated. */
function evaluated(text: string, base: DockerConfig = {}, buildArgs: Record<string, string> = {}): EvaluatedStage {
  const dockerfile = parseDockerfile(text);
  const given = new Map(Object.entries(buildArgs));
  const globals = evaluateGlobals(dockerfile, platformArguments('linux/amd64', 'linux/arm/v7', 'default'), given);
  const stage = dockerfile.stages.at(-1);
  assert(stage !== undefined);
  return evaluateStage(dockerfile, stage, base, globals, given);
}

function runs(text: string, base: DockerConfig = {}): string[] {
  return evaluated(text, base).operations.flatMap((operation) => (operation.kind === 'run' ? operation.args.at(-1) ?? '' : []));
}

test('instructions have their lines, with continuations, comments and here-documents', () => {
  const { stages, globals, syntax } = parseDockerfile('# syntax=docker/dockerfile:1\n\nARG A=1\nFROM x AS One\nRUN a \\\n  # comment\n\n  b\nRUN <<EOF\nc\nEOF\nCOPY a b\n');
  assert.deepEqual([syntax, globals[0]?.line, stages[0]?.name, stages[0]?.from.line], ['docker/dockerfile:1', 3, 'one', 4]);
  assert.deepEqual(stages[0]?.instructions.map(({ keyword, line, endLine }) => [keyword, line, endLine]), [['RUN', 5, 8], ['RUN', 9, 11], ['COPY', 12, 12]]);
});

test('the escape character, and only an unescaped one, continues a line', () => {
  assert.deepEqual(runs('# escape=`\nFROM x\nRUN a `\n  c:\\\nRUN b\n'), ['a   c:\\', 'b']);
  assert.deepEqual(runs('FROM x\nRUN a \\\\\nRUN b\n'), ['a \\\\', 'b']);
  failsAt('# escape=x\nFROM x\n', 1, /escape character/);
});

test('every option of every instruction, and none else', () => {
  const [stage] = parseDockerfile('FROM --platform=$BUILDPLATFORM x\nRUN --mount=type=cache,target=/a --mount=type=bind,target=/b --network=none --security=insecure make\nCOPY --from=a --chown=1:2 --chmod=755 --link --parents --exclude=*.md --exclude=x a b/\nADD --checksum=sha256:0 --keep-git-dir=true --unpack=false --chown=a --chmod=1 --link=false --exclude=y a b\n').stages;
  const [run, copy, add] = stage?.instructions ?? [];
  assert.equal(stage?.from.platform, '$BUILDPLATFORM');
  assert(run?.keyword === 'RUN' && copy?.keyword === 'COPY' && add?.keyword === 'ADD');
  assert.deepEqual([run.mounts, run.network, run.security], [['type=cache,target=/a', 'type=bind,target=/b'], 'none', 'insecure']);
  assert.deepEqual([copy.from, copy.chown, copy.chmod, copy.link, copy.parents, copy.exclude, copy.sources, copy.destination], ['a', '1:2', '755', true, true, ['*.md', 'x'], ['a'], 'b/']);
  assert.deepEqual([add.checksum, add.keepGitDir, add.unpack, add.link], ['sha256:0', true, false, false]);
  failsAt('FROM x\nCOPY --form=a a b\n', 2, /did you mean --from\?/);
  failsAt('FROM x\nCOPY --checksum=a a b\n', 2, /no option --checksum/);
  failsAt('FROM x\nRUN --network=some a\n', 2, /default, none or host/);
});

test('what Docker refuses is refused, with its line and its text', () => {
  failsAt('FROM x\nRUNN a\n', 2, /unknown instruction "RUNN"; did you mean RUN\?\n {2}2 \| RUNN a/);
  failsAt('RUN a\n', 1, /before the first FROM/);
  failsAt('# only\n', 1, /no FROM/);
  failsAt('FROM x\nENV a\n', 2, /name and a value/);
  failsAt('FROM x\nENV a=b c\n', 2, /is not NAME=VALUE/);
  failsAt('FROM x\nCOPY a\n', 2, /source and a destination/);
  failsAt('FROM x\nCOPY a b c\n', 2, /end with "\/"/);
  failsAt('FROM x\nRUN <<EOF\na\n', 2, /has no end/);
  failsAt('FROM x\nSHELL bash\n', 2, /JSON list/);
  failsAt('FROM x\nHEALTHCHECK --interval=often CMD a\n', 2, /no duration/);
  failsAt('FROM x\nONBUILD FROM y\n', 2, /not allowed/);
  failsAt('FROM x AS a\nFROM x AS A\n', 2, /already/);
  assert.throws(() => evaluated('FROM x\n\nENV A=${B\n'), /Dockerfile:3: .*closed/);
  assert.throws(() => evaluated('FROM x\nENV A="${B:?not given}"\n'), /Dockerfile:2: B: not given/);
});

test('words are expanded as a shell would', () => {
  const variables = new Map([['A', 'one two'], ['E', ''], ['P', '/usr/local/bin/tool.tar.gz']]);
  const cases: [string, string][] = [
    ['$A', 'one two'], ['${A}x', 'one twox'], ["'$A'", '$A'], ['"$A"', 'one two'], ['\\$A', '$A'], ['a\\ b', 'a b'], ['"\\"q\\" \\n"', '"q" \\n'], ['$', '$'], ['$-', '$-'],
    ['${N:-d}', 'd'], ['${E:-d}', 'd'], ['${E-d}', ''], ['${A:+y}', 'y'], ['${E:+y}', ''], ['${E+y}', 'y'], ['${N:-${A}}', 'one two'], ['${N:-"a } b"}', 'a } b'],
    ['${P#*/}', 'usr/local/bin/tool.tar.gz'], ['${P##*/}', 'tool.tar.gz'], ['${P%.*}', '/usr/local/bin/tool.tar'], ['${P%%.*}', '/usr/local/bin/tool'],
    ['${P/local/other}', '/usr/other/bin/tool.tar.gz'], ['${A//o/0}', '0ne tw0'], ['${A/o*e/}', ' two'],
  ];
  for (const [word, text] of cases) assert.equal(expand(word, variables, { escape: '\\' }).text, text, word);
  assert.deepEqual(expand('a $A"b c" $N', variables, { escape: '\\' }), { text: 'a one twob c ', words: ['a', 'one', 'twob c'], missing: ['N'] });
  assert.equal(expand(`it's "$A" \\$A`, variables, { escape: '\\', rawQuotes: true }).text, `it's "one two" $A`);
  for (const wrong of ['${', '${A', '${A:x}', '"a', "'a", '${}']) assert.throws(() => expand(wrong, variables, { escape: '\\' }), HdError, wrong);
});

test('arguments have the scopes that Docker gives them', () => {
  const text = 'ARG G=global\nARG H=$G-two\nFROM x\nARG G\nARG H=own\nARG NOT\nARG TARGETVARIANT\nENV E=$G-$H-$NOT-$TARGETVARIANT-$TARGETOS\nARG E=argument\nRUN a\n';
  const { operations, config } = evaluated(text, {}, { H: 'given' });
  assert.deepEqual(config.Env, ['E=global-given--v7-']);
  const [run] = operations;
  assert(run?.kind === 'run');
  assert.deepEqual(run.env, { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', G: 'global', H: 'given', TARGETVARIANT: 'v7', E: 'global-given--v7-' });
});

test('a stage begins with the arguments of the one that it is built on', () => {
  const dockerfile = parseDockerfile('FROM x AS a\nARG V=1\nFROM a\nENV E=$V\n');
  const [first, second] = dockerfile.stages;
  assert(first !== undefined && second !== undefined);
  const { args, config } = evaluateStage(dockerfile, first, {}, new Map(), new Map());
  assert.deepEqual(evaluateStage(dockerfile, second, config, new Map(), new Map(), args).config.Env, ['E=1']);
});

test('the configuration is put together as Docker does', () => {
  const base: DockerConfig = { Env: ['PATH=/bin', 'A=1'], Cmd: ['base'], Entrypoint: ['old'], WorkingDir: '/w', ExposedPorts: { '1/tcp': {} }, Labels: { a: 'b' }, OnBuild: ['ENV FROM_BASE=yes', 'RUN prepared'] };
  const text = 'FROM x\nENV A=2 B=$A\nENV OLD form  of it\nWORKDIR sub\nWORKDIR ../other/\nEXPOSE 80 8000-8001/udp\nLABEL c="d e" a=$A\nVOLUME ["/v"]\nSTOPSIGNAL SIGINT\nUSER me\nSHELL ["/bin/bash", "-c"]\nENTRYPOINT run it\nHEALTHCHECK --interval=1m30s --retries=2 CMD check\nONBUILD RUN later\n';
  const { config, operations, history } = evaluated(text, base);
  assert.deepEqual(config, {
    Env: ['PATH=/bin', 'A=2', 'FROM_BASE=yes', 'B=1', 'OLD=form  of it'], Entrypoint: ['/bin/bash', '-c', 'run it'], WorkingDir: '/w/other', ExposedPorts: { '1/tcp': {}, '80/tcp': {}, '8000/udp': {}, '8001/udp': {} },
    Labels: { a: '2', c: 'd e' }, Volumes: { '/v': {} }, StopSignal: 'SIGINT', User: 'me', Shell: ['/bin/bash', '-c'], Healthcheck: { Test: ['CMD-SHELL', 'check'], Interval: 90e9, Retries: 2 }, OnBuild: ['RUN later'],
  });
  assert.deepEqual(operations.map((operation) => (operation.kind === 'run' ? operation.args : operation.kind === 'workdir' ? operation.path : '')), [['/bin/sh', '-c', 'prepared'], '/w/sub', '/w/other']);
  assert.equal(history.length, 15);
  assert.deepEqual(evaluated('FROM x\nHEALTHCHECK NONE\n').config.Healthcheck, { Test: ['NONE'] });
});

test('commands of here-documents: the script itself, an interpreter of its own, or handed to the shell', () => {
  assert.deepEqual(runs('FROM x\nRUN <<EOF\necho $A\nEOF\nRUN <<-E\n\techo tab\n\tE\nRUN cat <<A <<B > /f\n1\nA\n2\nB\nRUN echo <<< word $((1 << 2))\n'), ['echo $A\n', 'echo tab\n', 'cat <<A <<B > /f\n1\nA\n2\nB', 'echo <<< word $((1 << 2))']);
  const [run] = evaluated('FROM x\nRUN <<EOF\n#!/usr/bin/python3\nprint(1)\nEOF\n').operations;
  assert(run?.kind === 'run');
  assert.deepEqual([run.args, run.script], [['/bin/sh', '-c', '/dev/pipes/EOF'], { path: '/dev/pipes/EOF', text: '#!/usr/bin/python3\nprint(1)\n' }]);
});

test('COPY: destinations, here-documents, variables', () => {
  const { operations } = evaluated('FROM x\nENV D=dir\nWORKDIR /w\nCOPY a $D/\nCOPY a .\nCOPY a /\nCOPY ["a b", "c"]\nCOPY <<A <<"B" /e/\n$D\nA\n$D\nB\n');
  const copies = operations.flatMap((operation) => (operation.kind === 'copy' ? [[operation.sources, operation.destination, operation.files.map(({ text }) => text)]] : []));
  assert.deepEqual(copies, [[['a'], '/w/dir/', []], [['a'], '/w/', []], [['a'], '/', []], [['a b'], '/w/c', []], [[], '/e/', ['dir\n', '$D\n']]]);
});

test('mounts', () => {
  const mounts = (text: string) => evaluated(`FROM x\nWORKDIR /w\nENV ID=cache\nRUN ${text} true\n`).operations.flatMap((operation) => (operation.kind === 'run' ? operation.mounts : []));
  assert.deepEqual(mounts('--mount=target=src,source=a,from=b,rw'), [{ type: 'bind', target: '/w/src', source: 'a', from: 'b', readonly: false }]);
  assert.deepEqual(mounts('--mount=type=cache,dst=/c,id=$ID,sharing=locked,uid=1,mode=0700'), [{ type: 'cache', target: '/c', source: '', from: undefined, id: 'cache', sharing: 'locked', readonly: false, mode: 0o700, uid: 1, gid: 0 }]);
  assert.deepEqual(mounts('--mount=type=secret,id=s'), [{ type: 'secret', id: 's', target: '/run/secrets/s', env: undefined, required: false, mode: 0o400, uid: 0, gid: 0 }]);
  assert.deepEqual(mounts('--mount=type=secret,id=s,env=TOKEN,required'), [{ type: 'secret', id: 's', target: undefined, env: 'TOKEN', required: true, mode: 0o400, uid: 0, gid: 0 }]);
  assert.deepEqual(mounts('--mount=type=tmpfs,target=/t,size=64m --mount=type=ssh'), [{ type: 'tmpfs', target: '/t', sizeBytes: 64 * 2 ** 20 }, { type: 'ssh', id: 'default', target: '/run/buildkit/ssh_agent.0', required: false }]);
  for (const [text, why] of [['type=disk,target=/a', /not disk/], ['type=cache', /needs a target/], ['type=cache,target=/a,sharing=all', /sharing is/], ['type=bind,target=/', /nothing can be mounted/], ['type=tmpfs,target=/a,id=b', /has no id/]] as const) {
    assert.throws(() => mounts(`--mount=${text}`), why, text);
  }
});

test('only the stages that the target needs are built, and each names its base', () => {
  const dockerfile = parseDockerfile('ARG B=base\nFROM x AS base\nFROM $B AS tools\nRUN t\nFROM base AS unused\nFROM y\nCOPY --from=0 a b\nRUN --mount=from=tools,target=/t t\nCOPY --from=other c d\n');
  const globals = evaluateGlobals(dockerfile, new Map(), new Map());
  const needed = (target?: string) => neededStages(dockerfile, targetStage(dockerfile, target), globals, new Set()).map(({ index }) => index);
  assert.deepEqual([needed(), needed('tools'), needed('2')], [[0, 1, 3], [0, 1], [0, 2]]);
  const tools = targetStage(dockerfile, 'TOOLS');
  assert.deepEqual(baseOf(dockerfile, tools, globals, new Set()), { kind: 'stage', index: 0 });
  assert.deepEqual(baseOf(dockerfile, tools, globals, new Set(['base'])), { kind: 'context', name: 'base' });
  assert.throws(() => targetStage(dockerfile, 'absent'), (error) => error instanceof HdError && error.hint === 'there are: base, tools, unused');
  assert.throws(() => neededStages(parseDockerfile('FROM x\nCOPY --from=later a b\nFROM x AS later\n'), targetStage(parseDockerfile('FROM x\nCOPY --from=later a b\nFROM x AS later\n'), '0'), new Map(), new Set()), /Dockerfile:2: .*comes only later/);
});

test('.dockerignore: the last pattern that matches decides, for all below it', () => {
  const matcher = ignoreMatcher(readIgnoreFile('# comment\n**/*.log\n/build\n!build/keep\ndocs/*.md\n!docs/README.md\ntemp?\n**/cache/**\na/./b/../c\n'));
  const isIgnored = (path: string): boolean => {
    let above: ReturnType<typeof matcher.match> | undefined;
    for (const [depth] of path.split('/').entries()) above = matcher.match(path.split('/').slice(0, depth + 1).join('/'), above);
    return above?.ignored === true;
  };
  for (const path of ['x.log', 'a/b/x.log', 'build', 'build/out', 'build/deep/out', 'docs/guide.md', 'temp1', 'temp1/x', 'src/cache/x', 'a/c', 'a/c/d']) assert(isIgnored(path), path);
  for (const path of ['x.logs', 'sub/build', 'build/keep', 'build/keep/x', 'docs/README.md', 'docs/deep/guide.md', 'temporary', 'cache', 'a/b']) assert(!isIgnored(path), path);
  assert.equal(matcher.hasExceptions, true);
});

test('an instruction of a base image is parsed where it is used', () => {
  assert.throws(() => evaluated('FROM x\n', { OnBuild: ['COPY a'] }), /Dockerfile:1: ONBUILD COPY a: /);
  const [run] = parseDockerfile('FROM x\nRUN ["a", "b c"]\n').stages[0]?.instructions ?? [];
  assert.deepEqual((run as RunInstruction).command, { form: 'exec', words: ['a', 'b c'] });
});
