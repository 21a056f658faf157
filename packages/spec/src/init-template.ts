import { SCHEMA_URL } from './schema.ts';

export type ProjectKind = 'python' | 'node' | 'go' | 'rust' | 'c' | 'generic';

interface KindTemplate {
  /** Debian packages of the base. */
  include: string[];
  steps: string[];
  /** Directories worth keeping between runs of the steps. */
  cache: string[];
  exclude: string[];
  /** For the commented-out service. */
  command: string;
  watch: string;
}

/**
 * The text of a new hd.toml, which parses without a warning. `name` may be any text, such as the name of a directory: what an
 * environment's name cannot hold becomes "-".
 */
export function initTemplate({ name, kind = 'python' }: { name: string; kind?: ProjectKind }): string {
  const template = kinds[kind];
  const cache = template.cache.length === 0 ? '# cache = [".cache"]' : `cache = ${list(template.cache)}`;
  return `#:schema ${SCHEMA_URL}

[environment]
name = ${JSON.stringify(environmentName(name))}
# The root file system: packages of a Debian release, or an OCI image such as "node:20-alpine".
base = "apt://bookworm?include=${template.include.join(',')}"
# env = { LANG = "C.UTF-8" }

# What to install on top, by provider: apt, npm, pip, cargo, ...
# [dependencies]
# apt = ["curl", "git"]

[build]
# Shell commands. A step runs again only when something that it looked at has changed.
steps = [${template.steps.map((step) => `\n  ${JSON.stringify(step)},`).join('')}${template.steps.length === 0 ? '' : '\n'}]
# Directories kept between runs of a step.
${cache}

# A process to keep running. It restarts when a file that matches "watch" changes.
# [services.web]
# command = ${JSON.stringify(template.command)}
# watch = ["${template.watch}"]
# port = 8000

[files]
# Path prefixes that belong to the environment; empty means the whole project.
include = []
# Patterns that do not.
exclude = ${list(template.exclude)}

[options]
# From SIGTERM to SIGKILL when a service restarts.
restart_grace = "5s"
`;
}

const kinds: Record<ProjectKind, KindTemplate> = {
  python: {
    include: ['python3', 'python3-pip', 'ca-certificates'],
    steps: ['pip3 install --break-system-packages -r requirements.txt'],
    cache: ['/root/.cache/pip'],
    exclude: ['__pycache__', '.venv', '*.log'],
    command: 'python3 -m http.server 8000',
    watch: '**/*.py',
  },
  node: {
    include: ['nodejs', 'npm', 'ca-certificates'],
    steps: ['npm ci'],
    cache: ['/root/.npm'],
    exclude: ['node_modules', '*.log'],
    command: 'npm start',
    watch: 'src/**',
  },
  go: {
    include: ['golang', 'ca-certificates'],
    steps: ['go build ./...'],
    cache: ['/root/.cache/go-build', '/root/go/pkg/mod'],
    exclude: ['*.log'],
    command: 'go run .',
    watch: '**/*.go',
  },
  rust: {
    include: ['cargo', 'ca-certificates'],
    steps: ['cargo build'],
    cache: ['target', '/root/.cargo/registry'],
    exclude: ['target', '*.log'],
    command: 'cargo run',
    watch: 'src/**/*.rs',
  },
  c: {
    include: ['gcc', 'libc6-dev', 'make'],
    steps: ['make'],
    cache: [],
    exclude: ['*.o', '*.log'],
    command: './server',
    watch: '**/*.[ch]',
  },
  generic: {
    include: ['python3'],
    steps: [],
    cache: [],
    exclude: ['*.log'],
    command: 'python3 -m http.server 8000',
    watch: '**',
  },
};

function environmentName(text: string): string {
  const name = text.replace(/[^A-Za-z0-9_.-]+/g, '-').replace(/^[^A-Za-z0-9]+/, '').replace(/-+$/, '');
  return name === '' ? 'app' : name;
}

function list(items: string[]): string {
  return `[${items.map((item) => JSON.stringify(item)).join(', ')}]`;
}
