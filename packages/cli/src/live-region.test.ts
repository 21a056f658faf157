import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openLiveRegion } from './live-region.ts';

test('lines are printed above a region that is drawn again, and nothing is left of it', () => {
  let written = '';
  let now: string[] = ['one', 'two'];
  const widths: number[] = [];
  const output = { write: (text: string) => void (written += text), columns: () => 40, rows: () => 10 };
  {
    using region = openLiveRegion(output, (columns) => {
      widths.push(columns);
      return now;
    });
    region.refresh();
    assert.equal(written, 'one\ntwo\n');
    now = ['three'];
    region.print(() => output.write('kept\n'));
    assert.equal(written, 'one\ntwo\n\r\u001b[2A\u001b[Jkept\nthree\n');
    now = [];
    region.refresh();
    written = '';
    region.print(() => output.write('plain\n'));
    assert.equal(written, 'plain\n');
    now = ['last'];
    region.refresh();
    written = '';
  }
  assert.equal(written, '\r\u001b[1A\u001b[J');
  assert(widths.every((width) => width === 39));
});

test('a region is never higher than the terminal: what has left it at the top could not be drawn over', () => {
  let written = '';
  const output = { write: (text: string) => void (written += text), columns: () => 40, rows: () => 4 };
  using region = openLiveRegion(output, () => ['one', 'two', 'three', 'four', 'five']);
  region.refresh();
  region.refresh();
  assert.equal(written, 'one\ntwo\nthree\n\r\u001b[3A\u001b[Jone\ntwo\nthree\n');
});
