import { spawn } from 'node:child_process';
import { once } from 'node:events';

export interface Cleanup {
  /** Homes of hd, one directory each, whose environments of `projectDir` are stopped. */
  homesDir: string;
  projectDir: string;
  /** How `hd` is called. */
  hd: readonly string[];
  /** Containers and images with this label are removed. */
  docker?: { label: string; env: NodeJS.ProcessEnv };
  /** Removed last. */
  dir: string;
}

/** Single arguments: the directory, the homes, the project, the label or nothing; then how hd is called. */
const SCRIPT = `
cat > /dev/null
dir=$1 homes=$2 project=$3 label=$4
shift 4
for home in "$homes"/*/; do
  [ -d "$home" ] && HD_HOME=$home "$@" -C "$project" down --kill
done
if [ -n "$label" ]; then
  containers=$(docker ps --all --quiet --filter "label=$label")
  [ -z "$containers" ] || docker rm --force $containers
  images=$(docker images --quiet --filter "label=$label" | sort -u)
  [ -z "$images" ] || docker rmi --force $images
fi
rm -rf --one-file-system -- "$dir"
`;

/**
 * Cleans up when this process ends, however it ends: a shell that waits for the end of a pipe. What is to be cleaned up has to be there by then, not now.
 * Disposing of it cleans up at once, and waits.
 */
export class CleanupGuard implements AsyncDisposable {
  readonly #end: () => Promise<void>;

  constructor({ homesDir, projectDir, hd, docker, dir }: Cleanup) {
    const child = spawn('sh', ['-c', SCRIPT, 'hd-demo-cleanup', dir, homesDir, projectDir, docker?.label ?? '', ...hd], {
      // A Ctrl-C in the terminal is not for it.
      detached: true, stdio: ['pipe', 'ignore', 'ignore'], env: docker?.env ?? process.env, cwd: '/',
    });
    child.unref();
    this.#end = async () => {
      child.ref();
      const exited = child.exitCode === null ? once(child, 'exit') : undefined;
      child.stdin.end();
      await exited;
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end();
  }
}
