/** A TOML string: basic, or multi-line where the text has lines; literal where that can say it. */
export function tomlString(text: string): string {
  if (!text.includes('\n')) return `"${escaped(text).replaceAll('"', '\\"')}"`;
  // oxlint-disable-next-line no-control-regex
  if (!/'''|'$|[\u0000-\u0008\u000b-\u001f\u007f]|[\ud800-\udfff]/.test(text)) return `'''\n${text}'''`;
  const lines = text.split('\n').map((line) => escaped(line).replaceAll('"""', '""\\"'));
  // A quote at the very end would run into the closing ones.
  return `"""\n${lines.join('\n').replace(/"$/, '\\"')}"""`;
}

/** A bare key where TOML allows one. */
export function tomlKey(key: string): string {
  return /^[A-Za-z0-9_-]+$/.test(key) ? key : tomlString(key);
}

export function tomlComment(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return `# ${text.replace(/[\u0000-\u001f\u007f]+/g, ' ')}`;
}

function escaped(line: string): string {
  const short: Record<string, string> = { '\\': '\\\\', '\t': '\\t', '\r': '\\r', '\b': '\\b', '\f': '\\f' };
  // oxlint-disable-next-line no-control-regex
  return line.replace(/[\\\u0000-\u001f\u007f]/g, (char) => short[char] ?? `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`).replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, '\ufffd');
}
