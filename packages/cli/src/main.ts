import { runCommandLine } from './cli.ts';

// Writing to files, pipes and terminals is synchronous here: nothing is lost by exit, and nothing left open can hold it up.
process.exit(await runCommandLine(process.argv.slice(2)));
