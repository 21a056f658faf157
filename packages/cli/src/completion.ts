import { GLOBAL_FLAGS, commandWords } from './args.ts';
import type { CommandSpec, FlagSpec } from './command.ts';

const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

export function isShell(text: string): text is Shell {
  return (SHELLS as readonly string[]).includes(text);
}

/** A script that completes commands, options and names of services; other arguments are completed as files. */
export function completionScript(shell: Shell, commands: readonly CommandSpec[]): string {
  if (shell === 'fish') return fishScript(commands);
  // zsh runs bash's completions through its own emulation.
  return shell === 'zsh' ? `autoload -Uz +X compinit bashcompinit\ncompinit\nbashcompinit\n${bashScript(commands)}` : bashScript(commands);
}

function bashScript(commands: readonly CommandSpec[]): string {
  const cases = groupsOf(commands).map(([word, specs]) => {
    const seconds = specs.flatMap(({ name }) => name.split(' ').slice(1));
    const words = [...seconds, ...flagWords({ ...Object.assign({}, ...specs.map(({ flags }) => flags)), ...GLOBAL_FLAGS })];
    const aliases = specs.flatMap(({ aliases: others = [] }) => others);
    return `    ${[word, ...aliases].join('|')}) words="${words.join(' ')}${takesServices(specs) ? ` $(${SERVICES})` : ''}" ;;`;
  });
  return `_hd() {
  local current=\${COMP_WORDS[COMP_CWORD]} command= i words
  for ((i = 1; i < COMP_CWORD; i++)); do
    case \${COMP_WORDS[i]} in
      -C|--project-directory|--color) ((i++)) ;;
      -*) ;;
      *) command=\${COMP_WORDS[i]}; break ;;
    esac
  done
  case $command in
${cases.join('\n')}
    *) words="${[...commandWords(commands), ...flagWords(GLOBAL_FLAGS)].join(' ')}" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _hd hd
`;
}

function fishScript(commands: readonly CommandSpec[]): string {
  const quote = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const option = (condition: string, [name, spec]: [string, FlagSpec]): string =>
    `complete -c hd ${condition}-l ${name}${spec.short === undefined ? '' : ` -s ${spec.short}`}${spec.type === 'boolean' ? '' : ' -r'} -d ${quote(spec.help)}`;
  const lines = groupsOf(commands).flatMap(([word, specs]) => {
    const [first] = specs;
    const isGroup = first?.name.includes(' ') === true;
    return [
      `complete -c hd -n __fish_use_subcommand -a ${word} -d ${quote(isGroup ? specs.map(({ name }) => name).join(', ') : (first?.summary ?? ''))}`,
      ...(isGroup ? specs.map(({ name, summary }) => `complete -c hd -n '__fish_seen_subcommand_from ${word}' -f -a ${name.split(' ')[1] ?? ''} -d ${quote(summary)}`) : []),
      ...(takesServices(specs) ? [`complete -c hd -n '__fish_seen_subcommand_from ${word}' -f -a "(${SERVICES.replaceAll('\\', '\\\\')})"`] : []),
      ...specs.flatMap(({ flags }) => Object.entries(flags).map((flag) => option(`-n '__fish_seen_subcommand_from ${word}' `, flag))),
    ];
  });
  return `${[...Object.entries(GLOBAL_FLAGS).map((flag) => option('', flag)), ...lines].join('\n')}\n`;
}

/** Names of services, as far as the lines of an hd.toml here tell: a shell that completes has no time for more. */
const SERVICES = String.raw`sed -n 's/^[[:space:]]*\[services\.\([A-Za-z0-9_-]*\)\].*/\1/p' hd.toml 2>/dev/null`;

function takesServices(specs: readonly CommandSpec[]): boolean {
  return specs.some(({ usage }) => usage.includes('service'));
}

/** Commands by their first word. */
function groupsOf(commands: readonly CommandSpec[]): [word: string, commands: CommandSpec[]][] {
  return [...Map.groupBy(commands, ({ name }) => name.split(' ')[0] ?? name)];
}

function flagWords(flags: Record<string, FlagSpec>): string[] {
  return Object.entries(flags).flatMap(([name, { short }]) => [`--${name}`, ...(short === undefined ? [] : [`-${short}`])]);
}
