import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sizeBytes } from './limits.ts';
import { parseSpec } from './parse.ts';

test('sizes are units of 1024, however they are spelt', () => {
  const sizes: [string, number | undefined][] = [['512MB', 2 ** 29], ['512m', 2 ** 29], ['1.5 GiB', 1.5 * 2 ** 30], ['64K', 65_536], ['1T', 2 ** 40], ['100', 100], ['7B', 7], ['', undefined], ['MB', undefined], ['1 X', undefined], ['-1M', undefined]];
  for (const [text, bytes] of sizes) assert.equal(sizeBytes(text), bytes, text);
});

test('limits that cannot be meant are errors, each at its line', () => {
  const wrong: [line: string, message: RegExp][] = [
    ['memory = "lots"', /"memory" in \[services\.web\] must be a size/],
    ['memory = "512"', /must be at least 4MB/],
    ['memory = 512', /must be a string, not an integer/],
    ['cpus = "2"', /must be a number, not a string/],
    ['cpus = 0', /must be at least 0\.01/],
    ['pids = 1.5', /must be an integer, not a float/],
    ['pids = 0', /must be at least 1/],
    ['user = "a b"', /must be a user or user:group/],
    ['privileged = "yes"', /must be true or false/],
  ];
  for (const [line, message] of wrong) {
    const result = parseSpec(`[environment]\nname = "a"\nbase = "b"\n[services.web]\ncommand = "x"\n${line}\n`);
    assert(!result.ok, line);
    assert.match(result.diagnostics[0]?.message ?? '', message, line);
    assert.equal(result.diagnostics[0]?.line, 6);
  }
});
