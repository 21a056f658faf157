import type { Diagnostic } from './diagnostic.ts';

const MAX_EXCERPT = 160;
const LEAST_EXCERPT = 20;

/**
 * A diagnostic for a terminal, without a final newline:
 *
 *     hd.toml:12:1: error: unknown key "prot" in [services.web]
 *     12 | prot = 3000
 *        | ~~~~
 *        = did you mean "port"?
 *
 * @param columns the line of the file and what is below it are kept within as many
 */
export function renderDiagnostic(diagnostic: Diagnostic, fileName: string, text: string, { color = false, columns = Infinity }: { color?: boolean; columns?: number } = {}): string {
  const { severity, line, column, message, hint } = diagnostic;
  const paint = color ? styles[severity] : plain;
  const gutter = String(line);
  const margin = ' '.repeat(gutter.length);
  const room = Math.max(LEAST_EXCERPT, Math.min(MAX_EXCERPT, columns - gutter.length - 6));
  const { excerpt, squiggle } = excerptOf(text.split(/\r?\n/)[line - 1] ?? '', column, diagnostic.length, room);
  return [
    `${paint.bold(`${fileName}:${line}:${column}:`)} ${paint.accent(`${severity}:`)} ${visible(message)}`,
    `${paint.faint(`${gutter} |`)} ${excerpt}`,
    `${paint.faint(`${margin} |`)} ${squiggle.indent}${paint.accent(squiggle.marks)}`,
    ...(hint === undefined ? [] : [`${paint.faint(`${margin} =`)} ${visible(hint)}`]),
  ].join('\n');
}

/** The part of a line around the column, and what goes below it. Tabs stay, so that both lines have the same width. */
function excerptOf(line: string, column: number, length: number, room: number) {
  const start = line.length <= room ? 0 : Math.max(0, Math.min(column - 1 - Math.floor(room / 4), line.length - room));
  const end = Math.min(line.length, start + room);
  const indent = line.slice(start, column - 1).replace(/[^\t]/g, ' ');
  const marks = '~'.repeat(Math.max(1, Math.min(length, end - (column - 1))));
  const [before, after] = [start > 0 ? '…' : '', end < line.length ? '…' : ''];
  return {
    excerpt: visible(`${before}${line.slice(start, end)}${after}`),
    squiggle: { indent: (start > 0 ? ' ' : '') + indent, marks },
  };
}

/** Control characters of the file must not reach the terminal. */
function visible(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return text.replace(/[\u0000-\u0008\u000a-\u001f\u007f-\u009f]/g, '\ufffd');
}

const plain = { bold: String, faint: String, accent: String };
const faint = escape('2', '22');
const bold = escape('1', '22');
const styles = {
  error: { bold, faint, accent: escape('1;31', '22;39') },
  warning: { bold, faint, accent: escape('1;33', '22;39') },
};

function escape(on: string, off: string) {
  return (text: string) => `\u001b[${on}m${text}\u001b[${off}m`;
}
