/**
 * Writes fastcdc-wasm.ts: the inner loop of FastCDC as a WebAssembly module, with its tables. WebAssembly because the hash has 64 bits, which JavaScript
 * does as two halves, ten times slower. Run this file to write it anew; a test holds the two together.
 */
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';

/** Bytes that are looked at by one call. In the module's memory they come after the tables. */
const WINDOW_BYTES = 32 * 1024;
const PAGE_BYTES = 64 * 1024;
const GEAR_AT = 0;
const MASKS_AT = 256 * 8;
const WINDOW_AT = 4096;
const UNROLLED = 8;

/** By the number of one bits, which is the logarithm of how rarely a hash has zeros there. Fewer than 5 are never asked for. */
export const MASKS: readonly bigint[] = [
  0n, 0n, 0n, 0n, 0n,
  0x1804110n, 0x1803110n, 0x18035100n, 0x1800035300n, 0x19000353000n,
  0x590003530000n, 0xd90003530000n, 0xd90103530000n, 0xd90303530000n, 0xd90313530000n,
  0xd90f03530000n, 0xd90303537000n, 0xd90703537000n, 0xd90707537000n, 0xd91707537000n,
  0xd91747537000n, 0xd91767537000n, 0xd93767537000n, 0xd93777537000n, 0xd93777577000n,
  0xdb3777577000n,
];

// Numbers that the binary format gives to types, sections and instructions.
const I32 = 0x7f;
const I64 = 0x7e;
const FUNCTION = 0x60;
const NO_RESULT = 0x40;
const SECTION = { type: 1, function: 3, memory: 5, global: 6, export: 7, code: 10, data: 11 };
const EXPORTED = { function: 0, memory: 2, global: 3 };
const OP = {
  block: 0x02, loop: 0x03, if: 0x04, end: 0x0b, br: 0x0c, brIf: 0x0d, return: 0x0f,
  localGet: 0x20, localSet: 0x21, localTee: 0x22, globalGet: 0x23, globalSet: 0x24,
  i64Load: 0x29, i32Load8u: 0x2d, i32Const: 0x41, i64Const: 0x42,
  i32GtU: 0x4b, i32GeU: 0x4f, i64Eqz: 0x50, i32Add: 0x6a, i32Shl: 0x74, i64Add: 0x7c, i64And: 0x83, i64Shl: 0x86,
};
/** The function's parameters (how many bytes of the window, how many bits in the mask) and its locals. */
const LOCAL = { length: 0, bits: 1, at: 2, hash: 3, mask: 4 };
const HASH_GLOBAL = 0;

/**
 * The module. Exports `memory`; `hash`, a global; and `scan(length, bits)`: rolls `hash` over the window's first `length` bytes (an even number) and
 * returns the index of the first byte after which it has only zeros under MASKS[bits], or -1.
 */
export function assemble(): Uint8Array {
  return Uint8Array.from([
    0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
    ...section(SECTION.type, vector([[FUNCTION, ...vector([[I32], [I32]]), ...vector([[I32]])]])),
    ...section(SECTION.function, vector([[0]])),
    ...section(SECTION.memory, vector([[0, ...unsigned(Math.ceil((WINDOW_AT + WINDOW_BYTES) / PAGE_BYTES))]])),
    ...section(SECTION.global, vector([[I64, 1, OP.i64Const, 0, OP.end]])),
    ...section(SECTION.export, vector([[...name('memory'), EXPORTED.memory, 0], [...name('hash'), EXPORTED.global, 0], [...name('scan'), EXPORTED.function, 0]])),
    ...section(SECTION.code, vector([sized([...vector([[1, I32], [2, I64]]), ...scan(), OP.end])])),
    ...section(SECTION.data, vector([[0, OP.i32Const, GEAR_AT, OP.end, ...sized([...words(gear()), ...words(MASKS)])]])),
  ]);
}

/** As a source file. */
export function moduleSource(): string {
  const lines = Buffer.from(assemble()).toString('base64').match(/.{1,150}/g) ?? [];
  return [
    '// Made by fastcdc-assembler.ts, which says what it is.',
    `export const WINDOW_AT = ${WINDOW_AT};`,
    `export const WINDOW_BYTES = ${WINDOW_BYTES};`,
    `export const FASTCDC_WASM =\n${lines.map((line) => `  '${line}'`).join(' +\n')};`,
    '',
  ].join('\n');
}

/** A number for each byte. */
export function gear(): bigint[] {
  return Array.from({ length: 256 }, (_, byte) => createHash('md5').update(Buffer.alloc(64, byte)).digest().readBigUInt64BE());
}

function scan(): number[] {
  return [
    ...get(LOCAL.bits), ...i32(3), OP.i32Shl, OP.i64Load, 3, ...unsigned(MASKS_AT), ...set(LOCAL.mask),
    OP.globalGet, HASH_GLOBAL, ...set(LOCAL.hash),
    ...steps(UNROLLED),
    ...steps(2),
    ...get(LOCAL.hash), OP.globalSet, HASH_GLOBAL,
    ...i32(-1),
  ];
}

/** `count` bytes in a round, as long as so many are left. */
function steps(count: number): number[] {
  return [
    OP.block, NO_RESULT, OP.loop, NO_RESULT,
    ...get(LOCAL.at), ...i32(count), OP.i32Add, ...get(LOCAL.length), OP.i32GtU, OP.brIf, 1,
    ...Array.from({ length: count }, (_, index) => step(index)).flat(),
    ...get(LOCAL.at), ...i32(count), OP.i32Add, ...set(LOCAL.at),
    OP.br, 0, OP.end, OP.end,
  ];
}

/** hash = (hash << 1) + GEAR[window[at + offset]]; returns at + offset if (hash & mask) == 0. */
function step(offset: number): number[] {
  return [
    ...get(LOCAL.hash), OP.i64Const, 1, OP.i64Shl,
    ...get(LOCAL.at), OP.i32Load8u, 0, ...unsigned(WINDOW_AT + offset), ...i32(3), OP.i32Shl, OP.i64Load, 3, ...unsigned(GEAR_AT),
    OP.i64Add, OP.localTee, LOCAL.hash,
    ...get(LOCAL.mask), OP.i64And, OP.i64Eqz, OP.if, NO_RESULT, ...get(LOCAL.at), ...i32(offset), OP.i32Add, OP.return, OP.end,
  ];
}

function get(local: number): number[] {
  return [OP.localGet, local];
}

function set(local: number): number[] {
  return [OP.localSet, local];
}

/** A constant between -64 and 63, which is one byte. */
function i32(value: number): number[] {
  return [OP.i32Const, value & 0x7f];
}

function section(id: number, content: number[]): number[] {
  return [id, ...sized(content)];
}

function vector(items: number[][]): number[] {
  return [...unsigned(items.length), ...items.flat()];
}

function sized(content: number[]): number[] {
  return [...unsigned(content.length), ...content];
}

function name(text: string): number[] {
  return sized([...Buffer.from(text)]);
}

/** LEB128. */
function unsigned(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(value >>> 7)];
}

function words(values: readonly bigint[]): number[] {
  return [...new Uint8Array(BigUint64Array.from(values).buffer)];
}

if (import.meta.main) writeFileSync(new URL('./fastcdc-wasm.ts', import.meta.url), moduleSource());
