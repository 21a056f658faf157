/** Plain forms of numbers, for people. None depends on the language of the machine. */

/** `1.2ms`, `412ms`, `3.2s`, `2m05s`. `gap` goes between number and unit. */
export function formatDuration(ms: number, gap = ''): string {
  if (ms < 9.95) return `${ms.toFixed(1)}${gap}ms`;
  if (ms < 999.5) return `${ms.toFixed(0)}${gap}ms`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)}${gap}s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)}m${String(seconds % 60).padStart(2, '0')}s`;
}

/** `5 s ago`, `3 min ago`, `2 h ago`, `4 days ago` */
export function formatAgo(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 2 * 86_400) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86_400)} days ago`;
}

/** `312 B`, `1.8 KB`: units of 1024. */
export function formatBytes(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const units = ['KB', 'MB', 'GB', 'TB', 'PB'];
  let value = bytes / 1024;
  let unit = 0;
  while (value >= 1023.95 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value.toFixed(1)} ${units[unit] ?? ''}`;
}

/** `1,247` */
export function formatCount(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ',');
}

/** `1 step`, `2 steps` */
export function plural(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? '' : 's'}`;
}

/** A command on one line. */
export function oneLine(command: string): string {
  return command.trim().replace(/\s*\n\s*/g, ' ');
}

export function shorten(text: string, most: number): string {
  const chars = [...text];
  return chars.length <= most ? text : `${chars.slice(0, most - 1).join('')}…`;
}

/** `3.2s`, `2m05s`: of something that goes on. */
export function formatElapsed(ms: number): string {
  return ms < 59_950 ? `${(Math.max(0, ms) / 1000).toFixed(1)}s` : formatDuration(ms);
}

/** `shorten` by the columns that a terminal gives a text, not by its characters. */
export function fit(text: string, columns: number): string {
  if (displayWidth(text) <= columns) return text;
  let width = 1;
  const kept: string[] = [];
  for (const char of text) {
    width += charWidth(char);
    if (width > columns) break;
    kept.push(char);
  }
  return `${kept.join('')}…`;
}

/** How many columns a terminal gives a text without control characters. */
export function displayWidth(text: string): number {
  let width = 0;
  for (const char of text) width += charWidth(char);
  return width;
}

/** A line for each row, its cells in columns as wide as the widest of them, `gap` between them. The first row has a cell in each column. */
export function inColumns(rows: readonly (readonly string[])[], gap = '  '): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => displayWidth(row[column] ?? ''))));
  return rows.map((row) => row.map((cell, column) => cell + ' '.repeat(Math.max(0, (widths[column] ?? 0) - displayWidth(cell)))).join(gap).trimEnd());
}

function charWidth(char: string): number {
  if (char < '\u0300') return 1;
  if (/[\p{Mark}\p{Cf}]/u.test(char)) return 0;
  return WIDE.test(char) ? 2 : 1;
}

/** East Asian wide and full-width forms, and pictures. */
const WIDE = /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\u{1f000}-\u{1faff}\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}/u;

export function shortDigest(digest: string): string {
  return digest.slice(0, 12);
}
