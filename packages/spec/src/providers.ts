/** `packages`: a list, or a table with `file`. `runtime`: a version string. `both`: any of these. */
export interface Provider {
  form: 'packages' | 'runtime' | 'both';
  description: string;
}

/** The keys of [dependencies]. */
export const dependencyProviders: Record<string, Provider> = {
  apt: { form: 'packages', description: 'Debian packages.' },
  apk: { form: 'packages', description: 'Alpine packages.' },
  brew: { form: 'packages', description: 'Homebrew formulae.' },
  cargo: { form: 'packages', description: 'Rust crates.' },
  gem: { form: 'packages', description: 'Ruby gems.' },
  npm: { form: 'packages', description: 'npm packages.' },
  oci: { form: 'packages', description: 'OCI images.' },
  pip: { form: 'packages', description: 'Python packages.' },
  go: { form: 'both', description: 'The Go toolchain by version, or Go modules.' },
  java: { form: 'runtime', description: 'The Java runtime.' },
  node: { form: 'runtime', description: 'The Node.js runtime.' },
  python: { form: 'runtime', description: 'The Python runtime.' },
  ruby: { form: 'runtime', description: 'The Ruby runtime.' },
  rust: { form: 'runtime', description: 'The Rust toolchain.' },
};
