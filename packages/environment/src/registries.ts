import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { HdError } from '@hyperdocker/base';
import type { RegistryConfig } from '@hyperdocker/oci';
import type { Home } from './home.ts';

/**
 * Mirrors and insecure registries: `registries.json` in HD_HOME, `{"mirrors": {"docker.io": ["https://…"]}, "insecure": ["host:5000"], "ca": {"host:5000": "/etc/ca.crt"}}`.
 * Loopback registries need no entry. @throws HdError CONFIG_INVALID
 */
export function registryConfig(home: Home): RegistryConfig {
  const file = join(home.dir, 'registries.json');
  if (!existsSync(file)) return { mirrors: {}, insecure: [] };
  try {
    const { mirrors = {}, insecure = [], ca = {} } = JSON.parse(readFileSync(file, 'utf8')) as Partial<RegistryConfig>;
    return { mirrors, insecure, ca };
  } catch (cause) {
    throw new HdError('CONFIG_INVALID', `${file} is not valid JSON`, { cause, hint: '{"mirrors": {"docker.io": ["https://mirror.example"]}, "insecure": ["registry.local:5000"]}' });
  }
}
