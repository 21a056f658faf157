import { closeSync, openSync, readFileSync, readSync } from 'node:fs';

/** What `/proc` says of a process besides its arguments. `image` changes when it executes another program. */
interface ProcessState { command: string; image: string }

/** Open files of `/proc`: one a process that asked lately. */
const MAX_OPEN = 32;
/** Words of a command line that are kept: enough for `python3 -m pip install`. */
const MAX_ARGUMENTS = 3;
const MAX_NAME_LENGTH = 60;
/** In `/proc/<pid>/stat`, counted from the end of the command: where the stack starts. Random for each program that is executed. */
const STACK_FIELD = 26;

/**
 * Names the programs behind process ids, for people. A process may execute another program at any time, so that it is looked
 * at each time (4 µs); its arguments are asked for only when it has.
 */
export class ProgramNames {
  readonly #argumentsOf: (pid: number) => Uint8Array | undefined;
  readonly #known = new Map<number, { fd: number; image: string; name: string }>();
  readonly #buffer = Buffer.alloc(1024);

  /** @param argumentsOf what `/proc/<pid>/cmdline` holds; undefined when that cannot be told in time */
  constructor(argumentsOf: (pid: number) => Uint8Array | undefined) {
    this.#argumentsOf = argumentsOf;
  }

  /** Undefined when the process is gone, or is none (0: of another PID namespace). */
  of(pid: number): string | undefined {
    if (pid === 0) return undefined;
    const known = this.#known.get(pid);
    if (known !== undefined) {
      const state = this.#state(known.fd);
      if (state?.image === known.image) return known.name;
      this.#forget(pid, known.fd);
    }
    return this.#learn(pid);
  }

  close(): void {
    for (const [pid, { fd }] of this.#known) this.#forget(pid, fd);
  }

  #learn(pid: number): string | undefined {
    let fd: number;
    try {
      fd = openSync(`/proc/${pid}/stat`, 'r');
    } catch {
      return undefined;
    }
    const state = this.#state(fd);
    if (state === undefined) {
      closeSync(fd);
      return undefined;
    }
    const name = programName(this.#argumentsOf(pid) ?? new Uint8Array(), state.command);
    const oldest = this.#known.size < MAX_OPEN ? undefined : this.#known.entries().next().value;
    if (oldest !== undefined) this.#forget(oldest[0], oldest[1].fd);
    this.#known.set(pid, { fd, image: state.image, name });
    return name;
  }

  #state(fd: number): ProcessState | undefined {
    try {
      return parseState(this.#buffer, readSync(fd, this.#buffer, 0, this.#buffer.length, 0));
    } catch {
      return undefined; // it has ended
    }
  }

  #forget(pid: number, fd: number): void {
    closeSync(fd);
    this.#known.delete(pid);
  }
}

/** `12 (the command) S 1 …`: the command may hold anything. */
function parseState(stat: Buffer, length: number): ProcessState | undefined {
  const end = stat.lastIndexOf(0x29, length - 1);
  if (end < 0) return undefined;
  let start = end;
  for (let field = 0; field < STACK_FIELD && start < length; field++) start = stat.indexOf(0x20, start + 1);
  const command = stat.toString('utf8', stat.indexOf(0x28) + 1, end);
  return { command, image: `${command} ${stat.toString('latin1', start, stat.indexOf(0x20, start + 1))}` };
}

/**
 * The beginning of a command line. It is stored, and arguments may hold secrets: it ends before the first that is no plain word.
 * @param command what the kernel calls the process, for one without arguments
 */
export function programName(cmdline: Uint8Array, command: string): string {
  const words = Buffer.from(cmdline).toString('utf8').split('\0').slice(0, -1);
  // Some programs write a title over their arguments: "npm ci", "postgres: writer".
  const [program = '', ...title] = (words[0] ?? '').split(' ');
  const base = program.slice(program.lastIndexOf('/') + 1).replace(/[^\x21-\x7e]/g, '?');
  if (base === '') return command;
  let name = base.slice(0, MAX_NAME_LENGTH);
  const rest = [...title, ...words.slice(1)].filter((word) => word !== '');
  for (const [index, word] of rest.entries()) {
    if (index === MAX_ARGUMENTS || name.length + word.length >= MAX_NAME_LENGTH || !/^[\w+,./@-]+$/.test(word)) return `${name} …`;
    name += ` ${word}`;
  }
  return name;
}

/**
 * How a serving thread asks another for the arguments of a process. It must not read them itself: the kernel takes a lock of that
 * process for it, which may be held by one of its threads that waits for us.
 */
export class ArgumentsExchange {
  readonly shared: SharedArrayBuffer;
  readonly #state: Int32Array;
  readonly #bytes: Uint8Array;

  constructor(shared = new SharedArrayBuffer(8 + MAX_ARGUMENT_BYTES)) {
    this.shared = shared;
    this.#state = new Int32Array(shared, 0, 2);
    this.#bytes = new Uint8Array(shared, 8);
  }

  /** For the serving thread: sends the question and waits. Undefined when no answer comes in time. */
  ask(pid: number, send: (question: ArgumentsQuestion) => void): Uint8Array | undefined {
    const number = ++this.#asked;
    send({ pid, number });
    const deadline = performance.now() + ANSWER_TIMEOUT_MS;
    // An answer that came too late for the question before wakes us too.
    for (let last = Atomics.load(this.#state, 0); last !== number; last = Atomics.load(this.#state, 0)) {
      const left = deadline - performance.now();
      if (left <= 0) return undefined;
      Atomics.wait(this.#state, 0, last, left);
    }
    return this.#bytes.slice(0, this.#state[1]);
  }

  /** For the other. */
  answer({ pid, number }: ArgumentsQuestion): void {
    let found: Buffer;
    try {
      found = readFileSync(`/proc/${pid}/cmdline`);
    } catch {
      found = Buffer.alloc(0);
    }
    const kept = found.subarray(0, MAX_ARGUMENT_BYTES);
    this.#bytes.set(kept);
    this.#state[1] = kept.length;
    Atomics.store(this.#state, 0, number);
    Atomics.notify(this.#state, 0);
  }

  #asked = 0;
}

export interface ArgumentsQuestion { pid: number; number: number }

const MAX_ARGUMENT_BYTES = 512;
const ANSWER_TIMEOUT_MS = 20;
