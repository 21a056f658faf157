import * as z from 'zod';
import * as api from './api-schemas.ts';
import { EVENTS_PATH, ROUTES, type CallName } from './calls.ts';
import { DOCUMENTS, logLine } from './documents.ts';

/** What the repository holds of these schemas: path from its root → JSON. Written by `npm run schema`. */
export function publishedSchemas(): Map<string, object> {
  const documents = Object.entries(DOCUMENTS).map(([name, schema]) => [`schema/json/${name.replace('/', '-')}.schema.json`, withHead(name, schema)] as const);
  return new Map<string, object>([
    ...documents,
    ['schema/json/events-1.schema.json', withHead('a line of `hd events`, `hd up --json` and `hd build --json`', api.emitted)],
    ['schema/json/logs-1.schema.json', withHead('a line of `hd logs --json`', logLine)],
    ['docs/format/supervisor-api.openapi.json', openApi()],
  ]);
}

/** Fields may be added in any version: what is written down allows for it, what tests check does not. */
function toJson(schema: z.ZodType): object {
  const { $schema: _dialect, ...json } = z.toJSONSchema(schema, {
    io: 'output',
    override: ({ jsonSchema }) => {
      if (jsonSchema.additionalProperties === false) delete jsonSchema.additionalProperties;
    },
  });
  return json;
}

function withHead(title: string, schema: z.ZodType): object {
  return { $schema: 'https://json-schema.org/draft/2020-12/schema', title, ...toJson(schema) };
}

interface Described { says: string; takes?: z.ZodType; gives: z.ZodType }

const CALLS: Record<CallName, Described> = {
  version: { says: 'Which version of the interface this is.', gives: api.version },
  status: { says: 'The environment and its services.', gives: api.status },
  changes: { says: 'What services and commands have written over the files of the environment.', gives: z.array(api.changedPath) },
  start: { says: 'Starts services and what they depend on; an empty list is what `hd up` starts. Answers once each has come to something, with those that do not run.', takes: api.services, gives: api.failed },
  stop: { says: 'Stops services and what depends on them; an empty list is all. Answers once they have ended.', takes: api.services, gives: api.done },
  restart: { says: 'Restarts services; an empty list is all. Answers once that has begun.', takes: api.services, gives: api.done },
  reset: { says: 'Drops what was written inside. Answers once the services run again on files as they were built.', gives: api.reset },
  pull: { says: 'Brings files that were written inside to the host; no paths: what `sync_back` names.', takes: api.pullRequest, gives: api.pull },
  exec: { says: 'A bundle for the client to run, in the mount namespace of the supervisor; with `detach`, the supervisor runs it, and answers once it runs. No `args`: a shell.', takes: api.execRequest, gives: z.union([api.execReply, api.detached]) },
  down: { says: 'Stops everything. Answers once that is done; the supervisor then ends.', gives: api.done },
  kill: { says: 'The same without grace.', gives: api.done },
};

function openApi(): object {
  const calls = Object.entries(CALLS).map(([name, call]) => [ROUTES[name as CallName].path, { [ROUTES[name as CallName].method.toLowerCase()]: operation(name, call) }]);
  return {
    openapi: '3.1.0',
    info: {
      title: 'The supervisor of an environment', version: '1.0.0',
      description: 'HTTP/1.1 over the Unix socket `s` in the directory of the environment, mode 0600: only its owner can connect. The version is the first part of every path; fields may be added within it.',
    },
    servers: [{ url: 'http://supervisor', description: 'Any host name: the socket is the address.' }],
    paths: { ...Object.fromEntries(calls), [EVENTS_PATH]: { get: events() } },
    components: { schemas: { Error: toJson(api.errorReply), Event: toJson(api.emitted) }, responses: { Error: { description: 'What went wrong: 400, or 500 with the code `INTERNAL` for a bug.', content: json({ $ref: '#/components/schemas/Error' }) } } },
  };
}

function operation(name: string, { says, takes, gives }: Described): object {
  return {
    operationId: name, summary: says, ...(takes === undefined ? {} : { requestBody: { required: true, content: json(toJson(takes)) } }),
    responses: { 200: { description: 'Done.', content: json(toJson(gives)) }, ...ERRORS },
  };
}

function events(): object {
  return {
    operationId: 'events', summary: 'Events after a number, one line of JSON each, until the supervisor ends; 0 for all that are kept.',
    parameters: [{ name: 'since', in: 'query', required: false, schema: { type: 'integer', minimum: 0, default: 0 } }],
    responses: { 200: { description: 'A stream.', content: { 'application/x-ndjson': { schema: { $ref: '#/components/schemas/Event' } } } }, ...ERRORS },
  };
}

const ERRORS = { default: { $ref: '#/components/responses/Error' } };

function json(schema: object): object {
  return { 'application/json': { schema } };
}
