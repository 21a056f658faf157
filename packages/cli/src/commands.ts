import type { CommandSpec } from './command.ts';

const CHILD_EXITS: [string, string][] = [
  ['125', 'the command could not be started, for example for want of the user'],
  ['126', 'the command cannot be executed'],
  ['127', 'the command was not found'],
  ['other', "the command's own exit code"],
];

const EXEC_FLAGS: CommandSpec['flags'] = {
  env: { type: 'list', short: 'e', value: 'NAME=VALUE', help: 'set a variable; NAME alone passes on the one that is set here' },
  user: { type: 'text', short: 'u', value: 'USER', help: 'name or number of the user, as user or user:group' },
  workdir: { type: 'text', short: 'w', value: 'DIR', help: 'absolute path inside to start in' },
  tty: { type: 'boolean', short: 't', help: 'a terminal (default: where input and output are one)' },
  'no-tty': { type: 'boolean', short: 'T', help: 'no terminal, even where there is one' },
  interactive: { type: 'boolean', short: 'i', help: 'for those used to typing it: standard input is always passed on' },
};
const DETACH: CommandSpec['flags'] = { detach: { type: 'boolean', short: 'd', help: 'return at once; the command runs on without its output being kept, until the environment stops' } };

const PLATFORM: CommandSpec['flags'][string] = { type: 'text', value: 'OS/ARCH', help: "for another platform than this machine's, such as linux/arm64" };

/** The one list of commands: what they are called, take and say of themselves. Their code is loaded when they run. */
export const COMMANDS: readonly CommandSpec[] = [
  {
    name: 'init', group: 'Project', summary: 'Write a starter hd.toml for the project in a directory.', usage: '[dir]', takes: [0, 1], flags: {
      name: { type: 'text', value: 'NAME', help: 'name of the environment (default: of the directory)' },
    },
    examples: [['hd init', 'for the project here'], ['hd init services/api', 'for the one in services/api']],
    load: () => import('./commands/init.ts'),
  },
  {
    name: 'up', group: 'Common', summary: 'Build the environment, run its services, and keep both right while files change.', usage: '[dir]', takes: [0, 1],
    flags: {
      detach: { type: 'boolean', short: 'd', help: 'return when it is up; `hd down` stops it' },
      wait: { type: 'boolean', help: 'the same as --detach' },
      'wait-timeout': { type: 'number', value: 'SECONDS', help: 'with --detach: give up waiting after this time (exit code 5)' },
      'no-watch': { type: 'boolean', help: 'do not follow changes of files' },
      profile: { type: 'list', value: 'NAME', help: 'run also the services of this profile; may be given more than once' },
      pull: { type: 'boolean', help: 'look for a newer base image' },
      'no-cache': { type: 'boolean', help: 'run every build step, also those whose results are known' },
    },
    examples: [['hd up', 'run in the foreground; Ctrl-C stops it'], ['hd up examples/flask-demo', 'the project of another directory'], ['hd up -d && hd logs -f', 'run in the background, follow the logs'], ['hd up --json', 'one line of JSON for each event']],
    load: () => import('./commands/up.ts'),
  },
  {
    name: 'build', group: 'Common', summary: 'Bring the build up to date without running services; or build a Dockerfile into an image (-f, -t).', usage: '[dir|context]', takes: [0, 1],
    flags: {
      pull: { type: 'boolean', help: 'look for newer base images' },
      'no-cache': { type: 'boolean', help: 'run every build step, also those whose results are known' },
      'dry-run': { type: 'boolean', help: 'only say which steps would run, and why' },
      file: { type: 'text', short: 'f', value: 'FILE', help: 'build this Dockerfile into an image; - reads it from standard input' },
      tag: { type: 'list', short: 't', value: 'NAME', help: 'name of the image; without -f, the Dockerfile of the context is built' },
      target: { type: 'text', value: 'STAGE', help: 'build up to this stage' },
      'build-arg': { type: 'list', value: 'NAME=VALUE', help: 'value of an ARG; NAME alone passes on the variable that is set here' },
      'build-context': { type: 'list', value: 'NAME=DIR', help: 'what COPY --from=NAME and FROM NAME mean: a directory, docker-image://… or oci-layout://…' },
      secret: { type: 'list', value: 'id=ID,src=FILE', help: 'for RUN --mount=type=secret; or id=ID,env=VARIABLE' },
      ssh: { type: 'list', value: 'ID[=SOCKET]', help: 'for RUN --mount=type=ssh: the SSH agent' },
      label: { type: 'list', value: 'NAME=VALUE', help: 'label of the image' },
      platform: { type: 'text', value: 'PLATFORM', help: 'such as linux/arm64 (default: of this machine)' },
      network: { type: 'text', value: 'WHICH', help: 'of a RUN that does not say: default, host or none' },
      allow: { type: 'list', value: 'RIGHT', help: 'security.insecure: what RUN --security=insecure asks for' },
      output: { type: 'text', short: 'o', value: 'type=…,dest=…', help: 'where to write the image, as buildx has it' },
      oci: { type: 'text', value: 'DIR', help: 'write the image as an OCI image layout' },
      archive: { type: 'text', value: 'FILE', help: 'write it as one file, for `docker load`, podman and skopeo' },
      push: { type: 'text', value: 'REF', help: 'push it to a registry' },
    },
    examples: [['hd build', 'run the steps that have to run'], ['hd build --dry-run', 'which these are, and why'], ['hd build -f Dockerfile -t app:1 .', 'an image of a Dockerfile, which `hd image ls` lists'], ['hd build -f Dockerfile --dry-run .', 'which RUNs would run, and why'], ['hd build -t app --target test --build-arg V=2', ''], ['hd build --json', 'one line of JSON for each event']],
    load: () => import('./commands/build.ts'),
  },
  {
    name: 'why', group: 'Common', summary: 'Say why steps ran or did not, why a service restarted, or what a file has to do with either.', usage: '[step|service|file]', takes: [0, 1],
    flags: {
      file: { type: 'text', short: 'f', value: 'FILE', help: 'of the last build of this Dockerfile' },
      tag: { type: 'text', short: 't', value: 'NAME', help: 'of the build from a Dockerfile that this image came from' },
    },
    examples: [['hd why', 'all steps of the last build'], ['hd why 2', 'the second step'], ['hd why -f Dockerfile', 'all RUNs of its last build'], ['hd why -t app:1 2', 'the second RUN of an image'], ['hd why "pip install"', 'the step whose command begins so'], ['hd why web', 'a service'], ['hd why src/app.py', 'a file']],
    load: () => import('./commands/why.ts'),
  },
  {
    name: 'down', group: 'Common', summary: 'Stop the environment and all its services.', usage: '[dir]', takes: [0, 1],
    flags: { kill: { type: 'boolean', help: 'at once, without the time to end' }, volumes: { type: 'boolean', short: 'v', help: 'remove its volumes too, with all that is in them' } },
    examples: [['hd down', 'stop the environment of this project'], ['hd down --kill', 'do not wait for services to end']],
    load: () => import('./commands/down.ts'),
  },
  {
    name: 'status', aliases: ['ps'], group: 'Common', summary: 'Show the configuration of the environment and the state of its services.', usage: '[dir]', takes: [0, 1],
    flags: { all: { type: 'boolean', short: 'a', help: 'a line for every environment: its name, state, ports and directory' } },
    examples: [['hd status', 'of this project'], ['hd ps --all', 'every environment'], ['hd status --json', 'for programs']],
    load: () => import('./commands/status.ts'),
  },
  {
    name: 'logs', group: 'Common', summary: 'Show what the services printed.', usage: '[service...]', takes: [0, Infinity],
    flags: {
      follow: { type: 'boolean', short: 'f', help: 'go on until the environment stops' },
      tail: { type: 'number', short: 'n', value: 'N', help: 'only the last N lines of each service' },
      since: { type: 'text', value: 'TIME', help: 'only what is younger: 30s, 10m, 2h, or a date such as 2026-01-31T12:00' },
    },
    examples: [['hd logs', 'of all services'], ['hd logs -f --tail 20 web', 'follow one']],
    load: () => import('./commands/logs.ts'),
  },
  {
    name: 'events', group: 'Common', summary: 'Print what happens in the environment, a line of JSON for each event.', usage: '[dir]', takes: [0, 1],
    flags: { all: { type: 'boolean', help: 'also what has happened before, as far as it is kept' } },
    examples: [['hd events', 'from now on, until it stops'], ['hd events --all', 'from its beginning']],
    load: () => import('./commands/events.ts'),
  },
  {
    name: 'ui', group: 'Common', summary: 'Show the environment in a browser: services, logs, what was built and why, the store.', usage: '[dir]', takes: [0, 1],
    flags: {
      port: { type: 'number', value: 'N', help: 'port of 127.0.0.1 to serve it on (default: any that is free)' },
      'no-open': { type: 'boolean', help: 'only print the address; open no browser' },
    },
    examples: [['hd ui', 'print the address, and open it where there is a desktop'], ['hd ui --no-open --port 4321', 'to be reached through ssh -L 4321:127.0.0.1:4321']],
    load: () => import('./commands/ui.ts'),
  },
  {
    name: 'exec', group: 'Common', summary: 'Run a command inside the running environment.', usage: '[--] <command> [args...]', takes: [1, Infinity], passThrough: true, flags: { ...EXEC_FLAGS, ...DETACH },
    examples: [['hd exec npm test', ''], ['hd exec -e DEBUG=1 -- python3 -m pytest -x', 'with a variable'], ['hd exec sh -c "echo hello"', '']],
    exits: CHILD_EXITS,
    load: () => import('./commands/exec.ts'),
  },
  {
    name: 'shell', group: 'Common', summary: 'Open a shell inside the running environment.', usage: '', takes: [0, 0], flags: EXEC_FLAGS,
    examples: [['hd shell', 'the one that the image names for the user, else bash, else sh'], ['hd shell -u root -w /', '']],
    exits: CHILD_EXITS,
    load: () => import('./commands/shell.ts'),
  },
  {
    name: 'start', group: 'Common', summary: 'Start services of the running environment.', usage: '[service...]', takes: [0, Infinity], flags: {},
    examples: [['hd start', 'those that `hd up` runs'], ['hd start worker', 'one, also of a profile that is not in use, and what it depends on']],
    load: () => import('./commands/start.ts'),
  },
  {
    name: 'stop', group: 'Common', summary: 'Stop services; the environment stays up.', usage: '[service...]', takes: [0, Infinity], flags: {},
    examples: [['hd stop', 'all services'], ['hd stop web', 'one, and what depends on it']],
    load: () => import('./commands/stop.ts'),
  },
  {
    name: 'restart', group: 'Common', summary: 'Restart services.', usage: '[service...]', takes: [0, Infinity], flags: {},
    examples: [['hd restart', 'all of them'], ['hd restart web', 'one']],
    load: () => import('./commands/restart.ts'),
  },
  {
    name: 'pull', group: 'Common', summary: 'Bring files that were written inside the running environment to the host.', usage: '[path...]', takes: [0, Infinity], flags: {
      'dry-run': { type: 'boolean', help: 'only say what would be written' },
      overwrite: { type: 'boolean', help: 'where both sides have changed, take the file inside; the host\'s is kept aside' },
    },
    examples: [['hd pull', 'what `sync_back` in [files] names'], ['hd pull package-lock.json', ''], ['hd pull coverage', 'a directory'], ['hd pull --dry-run "src/**/*.snap"', 'patterns are those of hd.toml']],
    load: () => import('./commands/pull.ts'),
  },
  {
    name: 'reset', group: 'Common', summary: 'Drop what services and commands have written inside, and restart the services.', usage: '[dir]', takes: [0, 1], flags: {},
    examples: [['hd diff --live', 'what would be dropped'], ['hd reset', '']],
    load: () => import('./commands/reset.ts'),
  },
  {
    name: 'volume ls', group: 'Project', summary: 'List the volumes of the environment: directories that stay when it goes down.', usage: '[dir]', takes: [0, 1],
    flags: { all: { type: 'boolean', short: 'a', help: 'of all environments, also of projects that are gone' } },
    examples: [['hd volume ls', ''], ['hd volume ls --all', 'of all environments, with what they take']],
    load: () => import('./commands/volume-ls.ts'),
  },
  {
    name: 'volume rm', group: 'Project', summary: 'Remove volumes, with all that is in them. The environment must be down.', usage: '<name>...', takes: [1, Infinity],
    flags: { project: { type: 'text', value: 'DIR', help: 'of the environment of this directory, which need not be there any more' } },
    examples: [['hd volume rm data', ''], ['hd volume rm --project /home/me/old data', 'of a project that is gone']],
    load: () => import('./commands/volume-rm.ts'),
  },
  {
    name: 'export', group: 'Project', summary: 'Write the environment as an OCI image.', usage: '[dir]', takes: [0, 1], flags: {
      oci: { type: 'text', value: 'DIR', help: 'as an OCI image layout; images that are in it stay' },
      archive: { type: 'text', value: 'FILE', help: 'as one file, for `docker load`, podman and skopeo' },
      push: { type: 'text', value: 'REF', help: 'to a registry, such as registry.example/app:1.0; sends only the layers that it lacks' },
      tag: { type: 'text', short: 't', value: 'NAME', help: 'name of the image, in the store too; alone, only there' },
      service: { type: 'text', value: 'NAME', help: 'whose command the image runs (default: the only service)' },
      label: { type: 'list', value: 'NAME=VALUE', help: 'a label of the image' },
      'no-build': { type: 'boolean', help: 'export what was built last' },
    },
    examples: [['hd export -t app:1.0', 'into the store: `hd image ls` has it, and other environments can have it as their base'], ['hd export --archive app.tar -t app:1.0', 'then `docker load -i app.tar`'], ['hd export --push localhost:5000/app:1.0', ''], ['hd export --oci image', 'a directory']],
    load: () => import('./commands/export.ts'),
  },
  {
    name: 'watch', group: 'Project', summary: 'Say which rule decides whether a file is watched and brought in.', usage: '', takes: [0, 0], flags: {
      explain: { type: 'list', value: 'PATH', help: 'the file or directory; it need not be there' },
    },
    examples: [['hd watch --explain src/app.log', 'the pattern that decides, and its line'], ['hd watch --explain dist --json', 'for programs']],
    load: () => import('./commands/watch.ts'),
  },
  {
    name: 'config', group: 'Project', summary: 'Show hd.toml as it is understood, with every default.', usage: '[dir]', takes: [0, 1], flags: {},
    examples: [['hd config', 'as TOML'], ['hd config --json', ''], ['hd config -q', 'only check it: exits with 2 where it has errors']],
    load: () => import('./commands/config.ts'),
  },
  {
    name: 'lock', group: 'Project', summary: 'Write hd.lock: the exact versions that the dependencies came to.', usage: '[dir]', takes: [0, 1],
    flags: { check: { type: 'boolean', help: 'write nothing; exit with 3 if hd.lock is out of date' } },
    examples: [['hd lock', ''], ['hd lock --check', 'in CI']],
    load: () => import('./commands/lock.ts'),
  },
  {
    name: 'ingest', group: 'Project', summary: 'Translate a Dockerfile, a compose.yaml or a devcontainer.json into an hd.toml.', usage: '<file>', takes: [1, 1],
    flags: {
      output: { type: 'text', short: 'o', value: 'FILE', help: 'where to write (default: hd.toml of the project); - prints it' },
      name: { type: 'text', value: 'NAME', help: 'name of the environment (default: of the directory)' },
      service: { type: 'text', value: 'NAME', help: 'of a Compose file: the service whose image it is, with those of the same one' },
    },
    examples: [['hd ingest Dockerfile', 'write hd.toml, and say what needs a look'], ['hd ingest compose.yaml', ''], ['hd ingest --service api -o api/hd.toml compose.yaml', 'one of several images'], ['hd ingest .devcontainer/devcontainer.json', ''], ['hd ingest -o - Dockerfile', 'print it']],
    load: () => import('./commands/ingest.ts'),
  },
  {
    name: 'image ls', aliases: ['images'], group: 'Images', summary: 'List the images that are here: bases of environments, and those that were pulled, imported, built or exported under a name.', usage: '', takes: [0, 0], flags: {},
    examples: [['hd image ls', ''], ['hd image ls -q', 'only their names'], ['hd image ls --json', 'for programs']],
    load: () => import('./commands/image-ls.ts'),
  },
  {
    name: 'image pull', group: 'Images', summary: 'Fetch an image from a registry: what its name means there now.', usage: '<name>', takes: [1, 1],
    flags: { platform: PLATFORM },
    examples: [['hd image pull python:3.11-slim', ''], ['hd image pull ghcr.io/a/b@sha256:…', 'by its digest'], ['hd image pull --platform linux/arm64 alpine', '']],
    load: () => import('./commands/image-pull.ts'),
  },
  {
    name: 'image push', group: 'Images', summary: 'Send an image to a registry, under its own name or another one.', usage: '<image> [name]', takes: [1, 2], flags: {},
    examples: [['hd image push registry.example/app:1', ''], ['hd image push app:1 localhost:5000/app:1', 'under another name']],
    load: () => import('./commands/image-push.ts'),
  },
  {
    name: 'image rm', group: 'Images', summary: 'Forget the names of images. What nothing else needs goes with the next `hd cas gc`.', usage: '<image>...', takes: [1, Infinity],
    flags: { force: { type: 'boolean', short: 'f', help: 'also where an environment has it as its base' } },
    examples: [['hd image rm app:1', ''], ['hd image rm 3f9a2c81d0e7', 'by the first digits of its digest']],
    load: () => import('./commands/image-rm.ts'),
  },
  {
    name: 'image inspect', group: 'Images', summary: 'Show the configuration of images, as `docker image inspect` does.', usage: '<image>...', takes: [1, Infinity], flags: {},
    examples: [['hd image inspect app:1', ''], ['hd image inspect --json app:1 | jq .[0].Config.Env', '']],
    load: () => import('./commands/image-inspect.ts'),
  },
  {
    name: 'image import', group: 'Images', summary: 'Make images of a file: a `docker save` archive, an OCI layout or archive, or the tar of a root file system.', usage: '<file|dir|-> [name]', takes: [1, 2],
    flags: { platform: PLATFORM },
    examples: [['hd image import app.tar', 'all that is in the archive, under the names that it has there'], ['hd image import saved.tar app:2', 'of several images that one; an only one is called so from now on'], ['hd image import rootfs.tar.zst base:1', 'the files of a root'], ['docker export web | hd image import - web:1', '']],
    load: () => import('./commands/image-import.ts'),
  },
  {
    name: 'image export', group: 'Images', summary: 'Write an image to a file: its files as one tar, an archive for `docker load`, or an OCI layout.', usage: '<image>', takes: [1, 1],
    flags: {
      tar: { type: 'text', value: 'FILE', help: 'the files of the image, as `docker export`; - writes to standard output' },
      archive: { type: 'text', value: 'FILE', help: 'as one file, for `docker load`, podman and skopeo' },
      oci: { type: 'text', value: 'DIR', help: 'as an OCI image layout; images that are in it stay' },
      tag: { type: 'text', short: 't', value: 'NAME', help: 'what it is called there (default: the name that it has here)' },
    },
    examples: [['hd image export app:1 --tar root.tar', ''], ['hd image export app:1 --archive app.tar', 'then `docker load -i app.tar`'], ['hd image export app:1 --tar - | tar -t', '']],
    load: () => import('./commands/image-export.ts'),
  },
  {
    name: 'dag show', group: 'Graph and store', summary: 'Show the graph of the environment, and what is new in it since the build before.', usage: '[dir]', takes: [0, 1],
    flags: { all: { type: 'boolean', help: 'open large unchanged directories too' } },
    examples: [['hd dag show', ''], ['hd dag show --json', 'for programs']],
    load: () => import('./commands/dag-show.ts'),
  },
  {
    name: 'dag diff', group: 'Graph and store', summary: 'Show the nodes that differ between two roots.', usage: '[root [root]]', takes: [0, 2], flags: {},
    examples: [['hd dag diff', 'the previous root and the current one'], ['hd dag diff 3f9a2c current', 'any root that this environment has had']],
    load: () => import('./commands/dag-diff.ts'),
  },
  {
    name: 'diff', group: 'Graph and store', summary: 'Show what differs in the inputs of two roots, or what was written inside the running environment.', usage: '[root [root]]', takes: [0, 2],
    flags: { live: { type: 'boolean', help: 'what services and commands have written, as `docker diff`: A added, C changed, D deleted' } },
    examples: [['hd diff previous current', ''], ['hd diff --live', 'what `hd reset` would drop'], ['hd diff 3f9a2c 81d0e7 --json', 'for programs']],
    load: () => import('./commands/diff.ts'),
  },
  {
    name: 'cas stats', group: 'Graph and store', summary: 'Show what the content-addressed store holds, and for whom.', usage: '', takes: [0, 0],
    flags: { explain: { type: 'boolean', help: 'tell what each chunking profile would cost; reads everything' } },
    examples: [['hd cas stats', ''], ['hd cas stats --explain', 'what another way of cutting large files would take']],
    load: () => import('./commands/cas-stats.ts'),
  },
  {
    name: 'cas gc', group: 'Graph and store', summary: 'Remove from the store what no environment, image or recent build result needs.', usage: '', takes: [0, 0],
    flags: {
      'dry-run': { type: 'boolean', help: 'only say what would go' },
      max: { type: 'text', value: 'SIZE', help: 'how large the store may be; what was used longest ago goes first (default: HD_STORE_MAX, else 20GB or a tenth of the disk)' },
      partial: { type: 'boolean', help: 'also parts of downloads that were cut off, whatever their age' },
      caches: { type: 'boolean', help: 'also the directories of RUN --mount=type=cache' },
      'drop-lost': { type: 'boolean', help: 'give up what is no longer whole, where a repair could not help' },
    },
    examples: [['hd cas gc --dry-run', ''], ['hd cas gc', ''], ['hd cas gc --max 5GB', 'down to 5 GB; environments that run never go']],
    load: () => import('./commands/cas-gc.ts'),
  },
  {
    name: 'cas fsck', group: 'Graph and store', summary: 'Check every object of the store.', usage: '', takes: [0, 0],
    flags: {
      repair: { type: 'boolean', help: 'put right what can be: from another copy, or from the files of the projects' },
      'rebuild-index': { type: 'boolean', help: 'make the index again from the objects first' },
      sample: { type: 'text', value: 'N%', help: 'read only so many of the objects, chosen at random' },
    },
    examples: [['hd cas fsck', ''], ['hd cas fsck --repair', ''], ['hd cas fsck --sample 5%', 'every day'], ['hd cas fsck --rebuild-index', '']],
    load: () => import('./commands/cas-fsck.ts'),
  },
  {
    name: 'doctor', group: 'Other', summary: 'Check what this machine offers and what is missing.', usage: '', takes: [0, 0], flags: {},
    examples: [['hd doctor', ''], ['hd doctor --json', 'for a bug report']],
    load: () => import('./commands/doctor.ts'),
  },
  {
    name: 'demo', group: 'Other', summary: 'Measure hd beside Docker on copies of a project, until a response shows the new code.', usage: '[dir]', takes: [0, 1],
    flags: {
      rounds: { type: 'number', value: 'N', help: 'measured rounds of each scenario (default: 5)' },
      plot: { type: 'text', value: 'FILE', help: 'draw the result, as SVG' },
      'no-docker': { type: 'boolean', help: 'only the figures of hd' },
    },
    examples: [['hd demo', 'the project here; where there is none, the Flask demo that comes with hd'], ['hd demo my-project --plot demo.svg', 'any project with a service that answers HTTP'], ['hd demo --json --rounds 9', 'for programs']],
    load: () => import('./commands/demo.ts'),
  },
  {
    name: 'completion', group: 'Other', summary: 'Print a completion script for a shell.', usage: '<bash|zsh|fish>', takes: [1, 1], flags: {},
    examples: [['source <(hd completion bash)', ''], ['hd completion fish > ~/.config/fish/completions/hd.fish', '']],
    load: () => import('./commands/completion.ts'),
  },
  {
    name: 'version', group: 'Other', summary: 'Show the version.', usage: '', takes: [0, 0], flags: {},
    examples: [['hd version', ''], ['hd version --json', '']],
    load: () => import('./commands/version.ts'),
  },
  {
    name: 'help', group: 'Other', summary: 'Show help, or that of one command.', usage: '[command]', takes: [0, 2], flags: {},
    examples: [['hd help', ''], ['hd help up', '']],
    load: () => import('./commands/help.ts'),
  },
];
