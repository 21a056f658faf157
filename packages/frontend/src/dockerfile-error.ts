import { HdError } from '@hyperdocker/base';

/** Where in a Dockerfile. */
export interface DockerfilePlace {
  /** As the user named it. */
  file: string;
  /** 1-based. */
  line: number;
  /** The text of the line. */
  source: string | undefined;
}

/** `Dockerfile:3: why`, and below it the line. */
export function invalidDockerfile({ file, line, source }: DockerfilePlace, why: string, code = 'DOCKERFILE_INVALID', hint = 'correct it so that `docker build` takes it'): HdError {
  const shown = source === undefined || source.trim() === '' ? '' : `\n  ${line} | ${source.trimEnd()}`;
  return new HdError(code, `${file}:${line}: ${why}${shown}`, { hint, details: { file, line } });
}
