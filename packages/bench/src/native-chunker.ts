import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { HdError } from '@hyperdocker/base';
import type { CdcParameters } from '@hyperdocker/cas';
import { run } from '@hyperdocker/demo';

const CRATE_VERSION = '5.0.0';
const MANIFEST = `[package]
name = "native-chunker"
version = "0.0.0"
edition = "2021"

[dependencies]
fastcdc = "=${CRATE_VERSION}"

[profile.release]
lto = true
codegen-units = 1
`;
/** Arguments: file, times, min, average, max, normalization. Prints nanoseconds, chunks, and a check over their lengths. */
const PROGRAM = `use fastcdc::v2020::{FastCDC, Normalization};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |index: usize| args[index].parse::<usize>().unwrap();
    let data = std::fs::read(&args[1]).unwrap();
    let level = [Normalization::Level0, Normalization::Level1, Normalization::Level2, Normalization::Level3][number(6)];
    let (mut chunks, mut check) = (0u64, 0u32);
    let started = std::time::Instant::now();
    for _ in 0..number(2) {
        for chunk in FastCDC::with_level(&data, number(3), number(4), number(5), level) {
            chunks += 1;
            check = check.wrapping_mul(31).wrapping_add(chunk.length as u32);
        }
    }
    println!("{} {} {}", started.elapsed().as_nanos(), chunks, check);
}
`;

export interface Cuts { ms: number; chunks: number; /** Over all lengths in their order, modulo 2^32. */ check: number }
export type NativeFound = { ok: true; name: string; cut(path: string, times: number, parameters: CdcParameters): Promise<Cuts> } | { ok: false; why: string };

/** The Rust crate `fastcdc`, built in the work folder. */
export async function nativeChunker(workDir: string): Promise<NativeFound> {
  const dir = join(workDir, `native-chunker-${CRATE_VERSION}`);
  if (!existsSync(dir)) {
    try {
      await build(`${dir}.new`);
    } catch (error) {
      return { ok: false, why: error instanceof HdError ? error.message : `no cargo: ${String(error)}` };
    }
    renameSync(`${dir}.new`, dir);
  }
  return {
    ok: true,
    name: `Rust crate fastcdc ${CRATE_VERSION}`,
    async cut(path, times, { minBytes, averageBytes, maxBytes, normalization }) {
      const output = await run(join(dir, 'target/release/native-chunker'), [path, ...[times, minBytes, averageBytes, maxBytes, normalization].map(String)]);
      const [ns = Number.NaN, chunks = Number.NaN, check = Number.NaN] = output.trim().split(' ').map(Number);
      return { ms: ns / 1e6, chunks, check };
    },
  };
}

async function build(dir: string): Promise<void> {
  mkdirSync(join(dir, 'src'), { recursive: true });
  writeFileSync(join(dir, 'Cargo.toml'), MANIFEST);
  writeFileSync(join(dir, 'src/main.rs'), PROGRAM);
  await run('cargo', ['build', '--release', '--quiet'], { cwd: dir });
}
