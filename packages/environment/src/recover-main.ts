/** Cleans up after an environment that nobody came back to: `recover-main.ts <home> <id>`. Started by the FUSE host when its time is up. */
import { openHome, pathsOf } from './home.ts';
import { recover } from './recover.ts';

const [dir = '', id = ''] = process.argv.slice(2);
await recover(pathsOf(openHome({ HD_HOME: dir }), id), { evenServed: true });
