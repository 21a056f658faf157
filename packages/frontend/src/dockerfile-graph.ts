import { HdError } from '@hyperdocker/base';
import type { CopyInstruction, Dockerfile, DockerfileStage, RunInstruction } from './dockerfile-ast.ts';
import { invalidDockerfile } from './dockerfile-error.ts';
import { expandAt } from './dockerfile-evaluate.ts';
import { parseTrigger } from './dockerfile-parser.ts';

/** Where files come from: another stage, a context that the user named, or an image. */
export type Origin = { kind: 'stage'; index: number } | { kind: 'context'; name: string } | { kind: 'image'; text: string };

/** What a FROM names. @param contexts names of `--build-context`, which go before everything. @throws HdError DOCKERFILE_INVALID */
export function baseOf(dockerfile: Dockerfile, stage: DockerfileStage, globals: ReadonlyMap<string, string>, contexts: ReadonlySet<string>): Origin {
  const { line, image } = stage.from;
  const { text, missing } = expandAt(dockerfile, line, image, globals);
  if (text === '') throw failAt(dockerfile, line, `FROM names no image${missing.length === 0 ? '' : `: ${missing.join(', ')} has no value before it`}`);
  if (contexts.has(text)) return { kind: 'context', name: text };
  const index = dockerfile.stages.slice(0, stage.index).findLastIndex(({ name }) => name === text.toLowerCase());
  return index < 0 ? { kind: 'image', text } : { kind: 'stage', index };
}

/** What `--from` and `from=` name, in a stage. @throws HdError DOCKERFILE_INVALID */
export function originOf(dockerfile: Dockerfile, stage: DockerfileStage, line: number, from: string, contexts: ReadonlySet<string>): Origin {
  if (contexts.has(from)) return { kind: 'context', name: from };
  if (from.includes('$')) throw failAt(dockerfile, line, `${from}: variables are not allowed in "from"; name a stage before, "FROM ${from} AS name"`);
  const before = dockerfile.stages.slice(0, stage.index);
  const index = before.findLastIndex(({ name }) => name === from.toLowerCase());
  if (index >= 0) return { kind: 'stage', index };
  if (/^\d+$/.test(from)) {
    if (Number(from) >= stage.index) throw failAt(dockerfile, line, `there is no stage ${from} before this one`);
    return { kind: 'stage', index: Number(from) };
  }
  if (dockerfile.stages.some(({ name }) => name === from.toLowerCase())) throw failAt(dockerfile, line, `the stage ${from} comes only later: a stage can take files from those before it`);
  return { kind: 'image', text: from };
}

/** The stage that is to be built: the last one, or the one of that name or number. @throws HdError STAGE_UNKNOWN */
export function targetStage(dockerfile: Dockerfile, target: string | undefined): DockerfileStage {
  const { stages } = dockerfile;
  const found = target === undefined ? stages.at(-1) : (stages.find(({ name }) => name === target.toLowerCase()) ?? (/^\d+$/.test(target) ? stages[Number(target)] : undefined));
  if (found !== undefined) return found;
  const names = stages.flatMap(({ name }) => name ?? []);
  throw new HdError('STAGE_UNKNOWN', `the Dockerfile has no stage ${target ?? ''}`, { hint: names.length === 0 ? 'no stage has a name: leave out --target' : `there are: ${names.join(', ')}` });
}

/** Stages that `target` needs, itself with them, in their order. @throws HdError DOCKERFILE_INVALID */
export function neededStages(dockerfile: Dockerfile, target: DockerfileStage, globals: ReadonlyMap<string, string>, contexts: ReadonlySet<string>): DockerfileStage[] {
  const needed = new Set<number>();
  const visit = (stage: DockerfileStage): void => {
    if (needed.has(stage.index)) return;
    needed.add(stage.index);
    const origins = [baseOf(dockerfile, stage, globals, contexts), ...stage.instructions.flatMap((instruction) => froms(dockerfile, instruction).map((from) => originOf(dockerfile, stage, instruction.line, from, contexts)))];
    for (const origin of origins) {
      const other = origin.kind === 'stage' ? dockerfile.stages[origin.index] : undefined;
      if (other !== undefined) visit(other);
    }
  };
  visit(target);
  return dockerfile.stages.filter(({ index }) => needed.has(index));
}

function froms(dockerfile: Dockerfile, instruction: DockerfileStage['instructions'][number]): string[] {
  switch (instruction.keyword) {
    case 'COPY':
    case 'ADD':
      return fromsOfCopy(instruction);
    case 'RUN':
      return fromsOfRun(instruction);
    case 'ONBUILD': {
      // Of no use to this build, but wrong here is wrong there.
      parseTrigger(instruction.trigger, { file: dockerfile.file, line: instruction.line, source: dockerfile.lines[instruction.line - 1] });
      return [];
    }
    default:
      return [];
  }
}

function fromsOfCopy({ from }: CopyInstruction): string[] {
  return from === undefined ? [] : [from];
}

function fromsOfRun({ mounts }: RunInstruction): string[] {
  return mounts.flatMap((mount) => /(?:^|,)from=([^,]*)/.exec(mount)?.[1] ?? []).filter((from) => from !== '');
}

function failAt({ file, lines }: Dockerfile, line: number, why: string): HdError {
  return invalidDockerfile({ file, line, source: lines[line - 1] }, why);
}
