/**
 * What was done to a disk, in order. The log holds all that a power cut can tear apart: data by file, names by directory, and the syncs between them.
 * Inodes are numbers, so that names and data can survive apart from each other.
 */
export type Operation =
  | { kind: 'create'; dir: number; name: string; ino: number; type: 'file' | 'dir' | 'symlink'; mode: number; target: string }
  | { kind: 'link'; dir: number; name: string; ino: number }
  /** Also rmdir. */
  | { kind: 'unlink'; dir: number; name: string }
  | { kind: 'rename'; dir: number; name: string; toDir: number; toName: string; ino: number }
  | { kind: 'write'; ino: number; offset: number; bytes: Uint8Array }
  | { kind: 'truncate'; ino: number; sizeBytes: number }
  | { kind: 'mode'; ino: number; mode: number }
  /** fsync or fdatasync of a file, or fsync of a directory, that succeeded. */
  | { kind: 'sync'; ino: number }
  /** One that failed. Linux forgets then which pages were dirty: what was not on the disk never gets there, whatever later syncs say. */
  | { kind: 'sync-failed'; ino: number }
  /** Written by the program under test, to tell how far it had come. */
  | { kind: 'mark'; text: string };

/**
 * A disk that does not do as it is told, from its `at`th change on (counted from 0; see `MemoryDisk.changes`).
 *
 * - `EIO`: this change alone fails. A failed sync loses what it was to keep.
 * - `torn`: a write fails after its first half; anything else as with `EIO`.
 * - `ENOSPC`: whatever needs room fails until `repair`.
 * - `short`: a write takes half of its bytes and says so; then as `ENOSPC`.
 * - `EROFS`: every change fails until `repair`, as on a file system that has made itself read-only.
 */
export interface Fault {
  kind: FaultKind;
  at: number;
}
export const FAULT_KINDS = ['EIO', 'torn', 'ENOSPC', 'short', 'EROFS'] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

/** Whoever looks up such a name in the root directory gives an order: see `tellDisk`. */
export const CONTROL_PREFIX = '.disk:';
