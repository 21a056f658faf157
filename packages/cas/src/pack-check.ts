import { hasher } from '@hyperdocker/base';
import { locationOf } from './object-index.ts';
import type { ByteRange, IndexRow, Location } from './object-index.ts';
import { PACK_HEADER, RECORD_HEADER_BYTES, decodePayload, scanRecords } from './pack-format.ts';
import type { RecordHeader, RecordKind } from './pack-format.ts';
import { decodeRecipe } from './recipe.ts';
import { decodeTree } from './tree-codec.ts';

type Place = Omit<Location & { place: 'pack' }, 'place' | 'pack'>;

export interface PackedRecord { kind: RecordKind; digest: string; place: Place }

export interface PackCheck {
  /** Whole records, with the bytes that their digests promise. */
  records: PackedRecord[];
  /** Rows of which the pack does not have what they say. */
  damaged: { row: IndexRow; problem: string }[];
  /** Rows in the place of another record, which is whole. */
  wrong: { row: IndexRow; record: PackedRecord }[];
  /** Bytes that are no whole record, and that no row claims. */
  stray: string[];
  /** Not all of it are whole records. */
  hasGap: boolean;
}

/**
 * Compares the bytes of a pack with what the index has of it. Every byte belongs to the pack's header or to a record, and each record has a checksum over all of
 * itself. Something else may be only what comes after the last record that a row claims, and in `knownGaps`, between records that were found after a crash: writes that were
 * never synced, of which a power cut leaves any part.
 */
export function checkPack(bytes: Buffer, rows: readonly IndexRow[], knownGaps: readonly ByteRange[] = []): PackCheck {
  const result: PackCheck = { records: [], damaged: [], wrong: [], stray: [], hasGap: false };
  if (rows.length > 0 && !bytes.subarray(0, PACK_HEADER.length).equals(PACK_HEADER)) {
    result.hasGap = true;
    result.stray.push('its header is damaged');
  }
  const gaps: ByteRange[] = [];
  let end = Math.min(PACK_HEADER.length, bytes.length);
  for (const { offset, header } of scanRecords(bytes, end)) {
    if (offset > end) gaps.push({ start: end, stop: offset });
    end = offset + RECORD_HEADER_BYTES + header.storedBytes;
    const place = placeOf(bytes, offset, header);
    if (place === undefined) gaps.push({ start: offset, stop: end });
    else result.records.push({ kind: header.kind, digest: header.digest, place });
  }
  if (end < bytes.length) gaps.push({ start: end, stop: bytes.length });
  result.hasGap ||= gaps.length > 0;
  compareRows(result, rows);
  const lastClaimed = rows.reduce((last, { location }) => (location.place === 'pack' ? Math.max(last, location.offset) : last), -1);
  for (const { start, stop } of gaps) {
    const isClaimed = rows.some(({ location }) => location.place === 'pack' && location.offset >= start && location.offset < stop);
    const isKnown = knownGaps.some((gap) => gap.start <= start && gap.stop >= stop);
    if (!isClaimed && !isKnown && start < lastClaimed) result.stray.push(`bytes ${start} to ${stop} are damaged`);
  }
  return result;
}

function compareRows(result: PackCheck, rows: readonly IndexRow[]): void {
  const byOffset = new Map(result.records.map((record) => [record.place.offset, record]));
  for (const row of rows) {
    const { location } = row;
    if (location.place !== 'pack') continue;
    const record = byOffset.get(location.offset);
    if (record === undefined) result.damaged.push({ row, problem: `its record at ${location.offset} is damaged` });
    else if (record.kind !== row.kind || record.digest !== row.digest || !samePlace(record.place, location)) result.wrong.push({ row, record });
  }
}

function samePlace(a: Place, b: Place): boolean {
  return a.storedBytes === b.storedBytes && a.rawBytes === b.rawBytes && a.codec === b.codec;
}

/** Undefined: the record is as it was written, but not what its digest promises. */
function placeOf(bytes: Buffer, offset: number, header: RecordHeader): Place | undefined {
  const { kind, digest } = header;
  const payload = bytes.subarray(offset + RECORD_HEADER_BYTES, offset + RECORD_HEADER_BYTES + header.storedBytes);
  try {
    const object = decodePayload(header, payload);
    const recipe = kind === 'recipe' ? decodeRecipe(digest, object) : undefined;
    if (kind === 'recipe' ? recipe === undefined : hasher.hash(object) !== digest) return undefined;
    if (kind === 'tree') decodeTree(object);
    const { place: _, pack: __, ...place } = locationOf('', offset, header, recipe?.sizeBytes) as Location & { place: 'pack' };
    return place;
  } catch {
    // Whatever the decoders say, these are not the bytes that were put.
    return undefined;
  }
}
