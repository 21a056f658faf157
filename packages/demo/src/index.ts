export { runDemo } from './demo.ts';
export type { DemoOptions, DemoReport, DiskReport, ScenarioName, ScenarioReport, SideReport } from './demo.ts';
export { Docker, readBuild } from './docker.ts';
export type { BuildChoices, DockerBuild, DockerFound, RunChoices } from './docker.ts';
export { plotSvg } from './plot.ts';
export * from './process.ts';
export * from './stats.ts';
