import { existsSync } from 'node:fs';
import { enableCompileCache } from 'node:module';
import { compiledDir, homeDir } from '@hyperdocker/environment';

// Before anything else is loaded. A home that is not there yet is made later, by what knows who may look into it.
if (existsSync(homeDir())) enableCompileCache(compiledDir());

const { runCommandLine } = await import('./cli.ts');
// Writing to files, pipes and terminals is synchronous here: nothing is lost by exit, and nothing left open can hold it up.
process.exit(await runCommandLine(process.argv.slice(2)));
