import { serveBuilds } from '@hyperdocker/environment';
import { answerCall } from './answer-call.ts';
import { BUILD_SERVER_PROGRAM } from './build-server-program.ts';

await serveBuilds({ program: BUILD_SERVER_PROGRAM, answer: answerCall });
