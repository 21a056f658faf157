import type { PublishSpec } from './spec.ts';

/** What `publish` says for a service that listens on `port`: undefined for nowhere. Expects a checked value. */
export function lowerPublish(value: boolean | number | string, port: number): PublishSpec | undefined {
  if (value === false) return undefined;
  if (value === true) return { address: 'loopback', port };
  if (typeof value === 'number') return { address: 'loopback', port: value };
  const parts = publishParts(value);
  return { address: parts.address === undefined || parts.address === 'localhost' ? 'loopback' : parts.address, port: parts.port ?? port };
}

/** Why a text that has the form is none all the same, or undefined. */
export function publishProblem(value: string): string | undefined {
  const { address = 'localhost', port = 1 } = publishParts(value);
  if (port < 1 || port > 65_535) return `${port} is no port`;
  const isAddress = address.includes(':') ? URL.canParse(`http://[${address}]/`) : address === 'localhost' || address.split('.').every((part) => Number(part) <= 255);
  return isAddress ? undefined : `${address} is no address`;
}

function publishParts(value: string): { address?: string; port?: number } {
  if (/^[0-9]+$/.test(value)) return { port: Number(value) };
  const [, bracketed, plain, port] = /^(?:\[(.*)\]|([^:]*))(?::([0-9]+))?$/.exec(value) ?? [];
  const address = bracketed ?? plain;
  return { ...(address === undefined ? {} : { address }), ...(port === undefined ? {} : { port: Number(port) }) };
}
