import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { HdError } from '@hyperdocker/base';
import { GLOBAL_FLAGS, earlyOptions, parseCommandLine } from './args.ts';
import type { CommandLine } from './args.ts';
import { COMMANDS } from './commands.ts';
import { completionScript } from './completion.ts';
import { renderCommandHelp, renderOverview } from './help.ts';
import { nearest } from './suggest.ts';
import { makePaint } from './terminal.ts';

const parse = (...argv: string[]): CommandLine => parseCommandLine(argv, COMMANDS, '/here');

function parseRun(...argv: string[]) {
  const line = parse(...argv);
  assert(line.kind === 'run');
  return line;
}

function usageError(...argv: string[]): HdError {
  try {
    parse(...argv);
  } catch (error) {
    assert(error instanceof HdError);
    assert.equal(error.code, 'USAGE');
    return error;
  }
  assert.fail(`${argv.join(' ')} is no error`);
}

test('options may stand before and after the command, short and long', () => {
  for (const argv of [['-C', 'a', 'up', '-d', 'dir'], ['up', '-d', '-C', 'a', 'dir'], ['--project-directory=a', 'up', 'dir', '--detach']]) {
    const line = parseRun(...argv);
    assert.equal(line.command.name, 'up');
    assert.equal(line.cwd, '/here/a');
    assert.equal(line.flags.bool('detach'), true);
    assert.equal(line.flags.bool('pull'), false);
    assert.deepEqual(line.args, ['dir']);
  }
});

test('commands of two words, and other names', () => {
  assert.equal(parseRun('cas', 'gc', '--dry-run').command.name, 'cas gc');
  assert.equal(parseRun('--json', 'dag', 'show').json, true);
  assert.equal(parseRun('ps').command.name, 'status');
});

test('exec leaves the options of its command alone', () => {
  const line = parseRun('exec', '-e', 'A=1', '-e', 'B=2', '-T', 'npm', 'test', '-e', '--help');
  assert.deepEqual(line.args, ['npm', 'test', '-e', '--help']);
  assert.deepEqual(line.flags.list('env'), ['A=1', 'B=2']);
  assert.equal(line.flags.bool('no-tty'), true);
  assert.deepEqual(parseRun('exec', '-u', 'root', '--', '-weird', '--', 'x').args, ['-weird', '--', 'x']);
});

test('numbers', () => {
  assert.equal(parseRun('logs', '-n', '20', 'web').flags.number('tail'), 20);
  assert.equal(parseRun('up', '--wait-timeout=1.5').flags.number('wait-timeout'), 1.5);
  assert.match(usageError('logs', '--tail', 'x').message, /needs a number/);
  assert.match(usageError('logs', '--tail').message, /needs a value/);
});

test('slips get a suggestion', () => {
  assert.equal(usageError('stats').hint, 'did you mean `hd status`?');
  assert.equal(usageError('exce').hint, 'did you mean `hd exec`?');
  assert.equal(usageError('cas', 'stat').hint, 'did you mean `hd cas stats`?');
  assert.equal(usageError('up', '--detahc').hint, 'did you mean --detach?');
  assert.match(usageError('cas').hint ?? '', /hd cas stats.*hd cas gc/);
  assert.match(usageError('up', 'a', 'b').message, /does not take "b"/);
  assert.match(usageError('exec').message, /needs more arguments/);
  assert.match(usageError('up', '--detach=yes').message, /takes no value/);
  assert.match(usageError('--color', 'pink', 'up').message, /auto, always or never/);
  assert.equal(nearest('entirely-else', ['up', 'down']), undefined);
});

test('help and version', () => {
  assert.deepEqual(parse(), { kind: 'help', topic: undefined, asked: false });
  assert.deepEqual(parse('--help'), { kind: 'help', topic: undefined, asked: true });
  const help = parse('up', '-h');
  assert.equal(help.kind === 'help' ? help.topic?.name : undefined, 'up');
  assert.equal(parse('--version').kind, 'version');
});

test('the table keeps its own rules', () => {
  const shorts = (flags: (typeof COMMANDS)[number]['flags']): string[] => Object.values({ ...GLOBAL_FLAGS, ...flags }).flatMap(({ short }) => (short === undefined ? [] : [short]));
  for (const command of COMMANDS) {
    assert.equal(new Set(shorts(command.flags)).size, shorts(command.flags).length, `${command.name}: one letter for two options`);
    for (const name of Object.keys(command.flags)) assert(!(name in GLOBAL_FLAGS), `${command.name} --${name} is global already`);
    for (const [example] of command.examples) assert(example.includes('hd '), example);
  }
});

test('every command of the table can be loaded', async () => {
  for (const command of COMMANDS) assert.equal(typeof (await command.load()).run, 'function', command.name);
});

test('help names every command and every option, without escape codes where colour is off', () => {
  const overview = renderOverview(COMMANDS, makePaint(false));
  for (const command of COMMANDS) {
    assert(overview.includes(`  ${command.name}`), command.name);
    const text = renderCommandHelp(command, makePaint(false));
    for (const name of Object.keys(command.flags)) assert(text.includes(`--${name}`), name);
    assert(!text.includes('\u001b'));
    assert.match(text, /Usage: hd .*\n[\s\S]*Examples:\n[\s\S]*Exit codes:\n/);
  }
});

test('completion knows every command', () => {
  for (const shell of ['bash', 'zsh', 'fish'] as const) {
    const script = completionScript(shell, COMMANDS);
    for (const { name, flags } of COMMANDS) for (const word of [...name.split(' '), ...Object.keys(flags)]) assert(script.includes(word), `${shell}: ${word}`);
  }
});

test('completion knows the services of the project, in bash itself', { skip: spawnSync('bash', ['--version']).status === 0 ? false : 'no bash on this machine' }, () => {
  const dir = mkdtempSync(join(tmpdir(), 'hd-completion-'));
  try {
    writeFileSync(join(dir, 'hd.toml'), '[services.web]\nport = 1\n  [services.db-1.ready]\n[services.db-1]\n');
    const ask = (...words: string[]): string[] => {
      const script = `${completionScript('bash', COMMANDS)}\nCOMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')})\nCOMP_CWORD=${words.length - 1}\n_hd\nprintf '%s\\n' "\${COMPREPLY[@]}"`;
      return spawnSync('bash', ['-c', script], { cwd: dir, encoding: 'utf8' }).stdout.split('\n').filter((word) => word !== '');
    };
    assert.deepEqual([ask('hd', 'restart', 'w'), ask('hd', 'logs', '-f', 'd'), ask('hd', 'pul')], [['web'], ['db-1'], ['pull']]);
    assert.deepEqual([ask('hd', 'pull', '--dr'), ask('hd', 'watch', '--ex'), ask('hd', 'down', 'w')], [['--dry-run'], ['--explain'], []]);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('colour and debug are known before the rest is understood', () => {
  assert.deepEqual(earlyOptions(['--nonsense', '--color', 'always'], {}), { color: 'always', debug: false });
  assert.deepEqual(earlyOptions(['up'], { HD_DEBUG: '1' }), { color: 'auto', debug: true });
  assert.deepEqual(earlyOptions(['up', '--debug'], { HD_DEBUG: '0' }), { color: 'auto', debug: true });
});
