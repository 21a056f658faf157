import { writeFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { HdError } from '@hyperdocker/base';
import type { Docker, DockerBuild } from './docker.ts';
import type { Edit, Turn } from './hd-side.ts';
import { waitForPage } from './process.ts';

export interface DockerSideOptions {
  docker: Docker;
  name: string;
  /** Of the image and of the container. */
  tag: string;
  label: string;
  /** A copy of the project of its own. */
  projectDir: string;
  dockerfilePath: string;
  /** @param round another one for each cold build */
  dockerfile: (round: number) => string;
  port: number;
  env: Record<string, string>;
  /** Where the project lies inside. */
  workdir: string;
}

/** `docker build` and `docker run` of one Dockerfile. All containers are in the machine's network, one at a time. */
export class DockerSide {
  readonly #options: DockerSideOptions;

  constructor(options: DockerSideOptions) {
    this.#options = options;
    writeFileSync(options.dockerfilePath, options.dockerfile(0));
  }

  get name(): string {
    return this.#options.name;
  }

  /** Nothing but the base image counts as there. */
  async cold(text: string, round: number): Promise<Turn> {
    writeFileSync(this.#options.dockerfilePath, this.#options.dockerfile(round));
    return this.#served(text, { noCache: true });
  }

  /** Nothing is up, all is built. */
  async noop(text: string): Promise<Turn> {
    return this.#served(text, {});
  }

  /** A container of what was built last runs; it is replaced. */
  async edit({ files, shows }: Edit, before: string): Promise<Turn> {
    const { docker, tag, env, label, port } = this.#options;
    await docker.run(tag, tag, env, { label, init: true });
    try {
      await this.#answers(before);
      const startedMs = performance.now();
      this.write(files);
      const build = await this.#build({});
      await docker.remove(tag);
      await docker.run(tag, tag, env, { label, init: true });
      await waitForPage(port, shows);
      return { ms: performance.now() - startedMs, ...countRuns(build) };
    } finally {
      await docker.remove(tag);
    }
  }

  write(files: Readonly<Record<string, string>>): void {
    for (const [path, text] of Object.entries(files)) writeFileSync(join(this.#options.projectDir, path), text);
  }

  async #served(text: string, choices: { noCache?: boolean }): Promise<Turn> {
    const { docker, tag, env, label } = this.#options;
    const startedMs = performance.now();
    const build = await this.#build(choices);
    await docker.run(tag, tag, env, { label, init: true });
    try {
      await this.#answers(text);
      return { ms: performance.now() - startedMs, ...countRuns(build) };
    } finally {
      await docker.remove(tag);
    }
  }

  #build(choices: { noCache?: boolean }): Promise<DockerBuild> {
    const { docker, tag, projectDir, dockerfilePath, label } = this.#options;
    return docker.build(projectDir, tag, { ...choices, file: dockerfilePath, label });
  }

  /** @throws HdError DEMO_DOCKER with what the container said */
  async #answers(text: string): Promise<void> {
    const { docker, tag, port } = this.#options;
    try {
      await waitForPage(port, text);
    } catch (cause) {
      throw new HdError('DEMO_DOCKER', `the container does not answer as it should at port ${port}:\n${await docker.logs(tag)}`, { cause });
    }
  }
}

/**
 * What `docker compose watch` does for `action: sync+restart`: the file is copied into the container, and the container restarted. By the same two calls of the
 * engine, without compose, which waits half a second for further changes first.
 */
export class WatchSide {
  readonly name = 'compose watch';
  readonly #options: DockerSideOptions;
  #made = false;

  /** @param options of a side whose image is built */
  constructor(options: DockerSideOptions) {
    this.#options = options;
  }

  get #container(): string {
    return `${this.#options.tag}-watch`;
  }

  async edit({ files, shows }: Edit, before: string): Promise<Turn> {
    const { docker, tag, env, label, port, projectDir, workdir } = this.#options;
    if (this.#made) await docker.startAgain(this.#container);
    else await docker.run(tag, this.#container, env, { label, init: true });
    this.#made = true;
    try {
      await waitForPage(port, before);
      const startedMs = performance.now();
      this.write(files);
      for (const path of Object.keys(files)) await docker.copy(join(projectDir, path), this.#container, posix.join(workdir, path));
      await docker.restart(this.#container);
      await waitForPage(port, shows);
      return { ms: performance.now() - startedMs, ran: 0, steps: 0 };
    } finally {
      await docker.stop(this.#container);
    }
  }

  write(files: Readonly<Record<string, string>>): void {
    for (const [path, text] of Object.entries(files)) writeFileSync(join(this.#options.projectDir, path), text);
  }
}

function countRuns({ commands }: DockerBuild): { ran: number; steps: number } {
  return { ran: commands.filter(Boolean).length, steps: commands.length };
}
