import ms from 'ms';

/** The text of the page. Change it while `hd up` runs: the build step runs again, and the service restarts. */
export function greet(name: string, uptimeMs: number): string {
  return `Hello, ${name}! Up for ${ms(uptimeMs, { long: true })}.\n`;
}
