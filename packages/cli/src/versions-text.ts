import { shortDigest } from './format.ts';

/** What a file was and is, in short: digests, or words for what has none. One side alone, where only that is given. */
export function versionsText(versions: { host?: string | null | undefined; inside?: string | null | undefined }): string {
  return (['host', 'inside'] as const).filter((side) => side in versions).map((side) => sideText(versions[side])).join(' → ');
}

function sideText(version: string | null | undefined): string {
  if (version === null || version === undefined) return 'nothing';
  return /^[0-9a-f]{64}/.test(version) ? `${shortDigest(version.slice(0, 64))}${version.slice(64)}` : version;
}
