import type { Names } from './names.ts';
import { LINK_TARGETS, TOOLS, WORDS, quoted } from './names.ts';
import type { Random } from './random.ts';

/**
 * Build steps at random: shell programs that read, probe, list, write, move and delete among a few names, nested and chained. Each is a function of the
 * files alone: nothing asks for the time, for inode numbers or for the order in which a directory happens to be read, and no two processes of a pipe print to
 * one stream. Each ends: no output is its own input
 * without a limit, and nothing is copied into itself.
 */
export function randomStep(random: Random, names: Names): string {
  const writer = new StepWriter(random, names);
  const lines = random.some(1, 4, () => writer.statement(2));
  const cd = random.chance(0.1) ? [`cd ${writer.dir()} || cd /`] : [];
  const strict = random.chance(0.03) ? ['set -e'] : [];
  return [PRELUDE, ...cd, ...strict, ...lines, ...(strict.length > 0 ? [] : [':'])].join('\n');
}

/**
 * One stream, or what a step prints would come in any order. `put`: a limited copy by way of a file that no name here means. `cpdir`: not into itself, also not
 * through a link.
 */
const PRELUDE = `exec 2>&1
put() { head -c 20000 > /tmp/.put; cat /tmp/.put > "$1"; rm -f /tmp/.put; }
cpdir() { s=$(readlink -f "$1"); d=$(readlink -f "$2"); case "$d/" in "$s/"*) echo inside;; *) cp -a "$1" "$2";; esac; }`;

class StepWriter {
  readonly #random: Random;
  readonly #names: Names;
  #copies = 0;

  constructor(random: Random, names: Names) {
    this.#random = random;
    this.#names = names;
  }

  /** @param depth how deep conditionals and loops may still nest */
  statement(depth: number): string {
    const random = this.#random;
    const roll = random.next();
    if (depth > 0 && roll < 0.18) return this.#nested(depth - 1);
    if (roll < 0.5) return random.pick(READS)(this);
    if (roll < 0.53) return random.chance(0.2) ? `${this.condition()} && exit ${random.int(1, 5)}` : ':';
    return random.pick(WRITES)(this);
  }

  #nested(depth: number): string {
    const random = this.#random;
    const inner = (): string => random.some(1, 2, () => this.statement(depth)).join('\n');
    switch (random.int(0, 3)) {
      case 0:
        return `if ${this.condition()}; then\n${inner()}\nelse\n${inner()}\nfi`;
      case 1:
        return `if ${this.condition()}; then\n${inner()}\nfi`;
      case 2:
        return `(cd ${this.dir()} && {\n${inner()}\n})`;
      default:
        return `${this.condition()} || {\n${inner()}\n}`;
    }
  }

  condition(): string {
    const random = this.#random;
    const test = `[ -${random.pick(['e', 'f', 'd', 'L', 's', 'x', 'r', 'w', 'h', 'p'])} ${this.path()} ]`;
    return random.pick([
      test, test, `! ${test}`, `grep -q ${random.pick(['one', 'needle', 't'])} ${this.path()}`, `cmp -s ${this.path()} ${this.path()}`, `[ "$(cat ${this.path()})" = one ]`,
      `[ -n "$(ls -A ${this.dir()})" ]`, `[ "$(ls ${this.dir()} 2> /dev/null | wc -l)" -gt 1 ]`, `[ ${this.path()} -ef ${this.path()} ]`, `${test} && [ -e ${this.path()} ]`,
      `[ "$(readlink ${this.path()})" = ../a.txt ]`,
    ]);
  }

  dir(): string {
    return quoted(this.#random.chance(0.15) ? '.' : this.#random.pick(this.#names.dirs));
  }

  subdir(): string {
    return quoted(this.#random.pick(this.#names.dirs));
  }

  file(): string {
    return quoted(this.#random.pick(this.#names.files));
  }

  path(): string {
    return this.#random.chance(0.25) ? this.dir() : this.file();
  }

  /** A path that may be moved or removed: never the working directory. */
  loose(): string {
    return quoted(this.#random.pick(this.#random.chance(0.3) ? this.#names.dirs : this.#names.files));
  }

  /** Somewhere to write: mostly among outputs. */
  output(): string {
    return quoted(this.#random.pick(this.#random.chance(0.6) ? OUTPUTS : this.#names.files));
  }

  glob(): string {
    return this.#random.pick(['*.txt', '*', 'src/*.txt', 'src/*', '*/x.txt', '*/*', 'conf.d/*.conf', 'out/*', 'gen/g*', 'd*/*', '/opt/base/*', '[abc].*', '.*']);
  }

  tools(): string {
    return TOOLS.filter(() => this.#random.chance(0.8)).join(' ');
  }

  word(): string {
    return quoted(this.#random.pick(WORDS));
  }

  target(): string {
    return quoted(this.#random.pick(LINK_TARGETS));
  }

  pick<T>(values: readonly T[]): T {
    return this.#random.pick(values);
  }

  /** Whole directories are copied twice a step at most: each may double what is there. */
  mayCopy(): boolean {
    return ++this.#copies <= 2;
  }

  /** Where what a statement prints goes. Through `put` where it may read what it writes. */
  sink(command: string): string {
    const piped = `{ ${command}; } 2>&1`;
    return this.#random.pick([command, `mkdir -p out; ${piped} | put out/o1.txt`, `${piped} | put ${this.output()}`, `${piped} | wc -l`, `${piped} | sha256sum`, `${command} > /dev/null`]);
  }
}

const OUTPUTS = ['out/o1.txt', 'out/sub/o3.txt', 'gen/g1.txt', 'gen/inv\xff.txt'];

type Make = (step: StepWriter) => string;

const READS: readonly Make[] = [
  (s) => s.sink(`cat ${s.file()}`),
  (s) => s.sink(`cat ${s.file()} ${s.file()} ${s.file()}`),
  (s) => s.sink(`for f in ${s.glob()}; do [ -f "$f" ] && cat "$f"; done`),
  (s) => s.sink(`for f in ${s.glob()}; do echo "$f"; done`),
  (s) => s.sink(`for f in ${s.glob()}; do [ -x "$f" ] && echo "$f"; done`),
  (s) => s.sink(`ls -R ${s.dir()}`),
  (s) => s.sink(`ls -a1p ${s.dir()}`),
  (s) => s.sink(`find ${s.dir()} -name ${s.pick(["'*.txt'", "'x*'", "'o?.txt'", 'link', "'*'"])} 2>&1 | sort`),
  (s) => s.sink(`find ${s.dir()} -type ${s.pick(['f', 'd', 'l'])} ${s.pick(['', '-size +0', '-perm -100', '-maxdepth 1', '-user 0'])} 2>&1 | sort`),
  (s) => s.sink(`find ${s.dir()} -type f -exec sha256sum {} + 2>&1 | sort`),
  (s) => s.sink(`{ for t in e f d L s x; do [ -$t ${s.path()} ] && echo $t; done; }`),
  (s) => `[ -${s.pick(['e', 'f', 'd', 'L', 's', 'x'])} ${s.path()} ] && echo yes | put ${s.output()}`,
  (s) => s.sink(`stat -c '%F %s %a %u:%g %h' ${s.file()} 2>&1 | grep -v ^directory`),
  (s) => s.sink(`stat -L -c '%F %a' ${s.path()}`),
  (s) => s.sink(`wc -c ${s.file()}`),
  (s) => s.sink(`sha256sum ${s.file()} ${s.file()}`),
  (s) => s.sink(`readlink ${s.path()}`),
  (s) => s.sink(`readlink -f ${s.path()}`),
  (s) => s.sink(`grep -l ${s.pick(['one', 'needle'])} ${s.glob()}`),
  (s) => s.sink(`grep -rc t ${s.dir()} 2>&1 | sort`),
  (s) => s.sink(`diff ${s.file()} ${s.file()}`),
  (s) => s.sink(`tar cf - ${s.path()} 2> /dev/null | tar tf - 2>&1 | sort`),
  (s) => s.sink(`head -c ${s.pick([0, 1, 3])} ${s.file()}`),
  (s) => `for d in ${s.dir()} ${s.dir()} ${s.dir()}; do if [ -e "$d/x.txt" ]; then cat "$d/x.txt" 2>&1 | put ${s.output()}; break; fi; done`,
  (s) => `for t in ${s.tools()}; do if [ -x $t ]; then ./$t 2>&1 | put ${s.output()}; break; fi; done`,
  (s) => `PATH="$PWD/lib:$PWD/src:$PWD:$PATH" tool 2>&1 | put ${s.output()}`,
  (s) => `[ -f ${s.file()} ] && head -n 5 ${s.pick(['list.txt', 'list.txt', s.file()])} 2> /dev/null | while read -r n; do n=\${n#:}; if [ -f "$n" ]; then cat "$n"; else echo "no $n"; fi; done 2>&1 | put ${s.output()}`,
  (s) => `getfattr -d ${s.path()}`,
  () => 'pwd; id -u; umask',
];

const WRITES: readonly Make[] = [
  (s) => `mkdir -p ${s.dir()}`,
  (s) => `mkdir -p ${s.dir()} && cd ${s.dir()}; cd - > /dev/null`,
  (s) => `echo ${s.word()} > ${s.output()}`,
  (s) => `echo ${s.word()} >> ${s.path()}`,
  (s) => `cat ${s.file()} > ${s.output()}`,
  (s) => `head -c 100 ${s.file()} >> ${s.output()}`,
  (s) => `p=${s.output()}; echo ${s.word()} > "$p.tmp" && mv "$p.tmp" "$p"`,
  (s) => `p=${s.path()}; cat "$p" 2>&1 | put ${s.output()}; echo ${s.word()} > "$p"`,
  (s) => `p=${s.path()}; echo ${s.word()} > "$p"; cat "$p" 2>&1 | put ${s.output()}`,
  (s) => `p=${s.path()}; rm -rf "$p"; [ -e "$p" ] || echo gone`,
  (s) => `cp ${s.file()} ${s.output()}`,
  (s) => `cp -p ${s.file()} ${s.path()}`,
  (s) => (s.mayCopy() ? `cpdir ${s.path()} ${s.loose()}` : ':'),
  (s) => `mv ${s.loose()} ${s.loose()}`,
  (s) => `mv ${s.loose()} ${s.loose()}`,
  (s) => `d=${s.dir()}; [ "$d" != . ] && mv "$d" "$d.new" && mv "$d.new" "$d"`,
  (s) => `mv -T ${s.subdir()} ${s.subdir()}`,
  (s) => `rm -rf ${s.loose()}`,
  (s) => `rm -f ${s.file()}`,
  (s) => `rmdir ${s.loose()}`,
  (s) => `d=${s.subdir()}; rm -rf "$d"; mkdir -p "$d"; echo ${s.word()} > "$d/x.txt"`,
  (s) => `p=${s.loose()}; rm -rf "$p"; echo ${s.word()} > "$p"`,
  (s) => `ln ${s.file()} ${s.output()}`,
  (s) => `ln -f ${s.file()} ${s.output()}`,
  (s) => `ln -s ${s.target()} ${s.path()}`,
  (s) => `ln -sfn ${s.target()} ${s.loose()}`,
  (s) => `chmod ${s.pick(['700', '755', '644', '600', '4755', '1777', '+x', 'go-rwx'])} ${s.loose()}`,
  (s) => `chmod -R ${s.pick(['go-w', '+x', 'u+w'])} ${s.loose()}`,
  (s) => `chown ${s.pick(['1000:1000', '0:0', '12:34'])} ${s.loose()}`,
  (s) => `chown -h 12 ${s.path()}`,
  (s) => `truncate -s ${s.pick([0, 1, 5000])} ${s.output()}`,
  (s) => `dd if=/dev/zero of=${s.output()} bs=1 count=1 seek=70000 2> /dev/null`,
  (s) => `printf x | dd of=${s.path()} bs=1 seek=1 conv=notrunc 2> /dev/null`,
  (s) => `touch ${s.path()}`,
  (s) => `sed -i s/one/two/ ${s.file()} 2> /dev/null || echo none`,
  (s) => `setfattr -n user.note -v ${s.pick(['v1', 'v2'])} ${s.path()}`,
  (s) => `setfattr -x user.note ${s.path()}`,
  (s) => `for f in ${s.glob()}; do [ -f "$f" ] && chmod 640 "$f"; done`,
  (s) => `mkdir -p out; for f in ${s.glob()}; do [ -f "$f" ] && [ ! -L "$f" ] && cp "$f" "out/c-\${f##*/}"; done`,
  (s) => `for f in ${s.pick(['*.txt', 'src/*.txt', 'gen/*'])}; do [ -f "$f" ] && mv "$f" "$f.moved" && break; done`,
  (s) => `printf '#!/bin/sh\\necho made; cat ${s.pick(['a.txt', 'src/x.txt', 'flag'])}\\n' > ${s.pick(TOOLS)}; chmod +x ${s.pick(TOOLS)}`,
];
