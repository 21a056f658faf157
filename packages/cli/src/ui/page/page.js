// The page of `hd ui`. Text from the environment is only ever set as text, never as markup.

const TOKEN_KEY = 'hd-ui-token';
const MAX_LOG_LINES = 4_000;
const MAX_ACTIVITY = 300;
const ASK_AGAIN_MS = 2_000;
const $ = (id) => document.getElementById(id);

/** Only this tab has it, and no server log: what is after the # is never sent. */
function takeToken() {
  const given = /[#&]token=([^&]+)/.exec(location.hash)?.[1];
  if (given !== undefined) {
    sessionStorage.setItem(TOKEN_KEY, given);
    history.replaceState(null, '', location.pathname);
  }
  return sessionStorage.getItem(TOKEN_KEY) ?? '';
}

const token = takeToken();

async function ask(path, options = {}) {
  const response = await fetch(path, { ...options, headers: { authorization: `Bearer ${token}`, ...(options.body === undefined ? {} : { 'content-type': 'application/json' }) } });
  if (response.status === 401) throw Object.assign(new Error('This tab has no valid token. Open the address that `hd ui` has printed.'), { isFinal: true });
  if (!response.ok) throw new Error((await response.json().catch(() => undefined))?.error?.message ?? `${response.status}`);
  return response;
}

const read = async (path) => (await ask(path)).json();

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === 'class') element.className = value;
    else if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== ''));
  return element;
}

const pad = (number) => String(number).padStart(2, '0');
const clock = (ms) => {
  const date = new Date(ms);
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
};
const time = (ms) => make('time', { datetime: new Date(ms).toISOString() }, clock(ms));
const duration = (ms) => (ms < 10 ? `${ms.toFixed(1)} ms` : ms < 1000 ? `${Math.round(ms)} ms` : ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.floor(ms / 60_000)} min ${pad(Math.round((ms % 60_000) / 1000))} s`);
const ago = (ms) => {
  const seconds = Math.max(0, Math.round((Date.now() - ms) / 1000));
  return seconds < 60 ? `${seconds} s` : seconds < 3600 ? `${Math.round(seconds / 60)} min` : seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
};
const size = (bytes) => {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  const unit = bytes < 1 ? 0 : Math.min(4, Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** unit).toFixed(unit === 0 ? 0 : 1)} ${units[unit]}`;
};
const count = (number, noun) => `${number.toLocaleString('en')} ${noun}${number === 1 ? '' : 's'}`;
const moodOf = (state) => (['up', 'ready'].includes(state) ? 'good' : ['failed', 'backing-off'].includes(state) ? 'bad' : ['not running', 'stopped'].includes(state) ? '' : 'busy');

function setPill(pill, state) {
  pill.className = `pill ${moodOf(state)}`;
  pill.textContent = state;
}

function notice(text) {
  $('notice').hidden = text === '';
  $('notice').textContent = text;
}

// --- services ---------------------------------------------------------------------------------------------------------------------------------------

function showOverview({ name, base, project, state, status }) {
  document.title = `${name} · Hyperdocker`;
  $('name').textContent = name;
  setPill($('state'), state);
  const facts = [['Root', status?.root?.slice(0, 12) ?? 'none', status?.root], ['Base', base, base], ['Project', project, project]];
  $('facts').replaceChildren(...facts.map(([term, text, title]) => make('div', {}, make('dt', {}, term), make('dd', { title, class: term === 'Root' ? 'mono' : '' }, text))));
  showServices(status?.services ?? []);
  if (state === 'not running') notice('The environment is not running. Start it with hd up; this page goes on by itself.');
  else if (state === 'left') notice('The supervisor ended unexpectedly, and the services with it. hd up goes on with the files, hd down drops them.');
  else notice('');
}

let serviceNames = [];

function showServices(services) {
  const focused = document.activeElement?.dataset?.action;
  $('services').replaceChildren(...(services.length === 0 ? [make('li', { class: 'empty' }, 'None are running.')] : services.map(serviceCard)));
  if (focused !== undefined) document.querySelector(`[data-action="${CSS.escape(focused)}"]`)?.focus();
  const names = services.map((service) => service.name);
  if (names.length > 0) serviceNames = names;
  $('logs').style.setProperty('--who', `${Math.max(4, ...serviceNames.map((name) => name.length))}ch`);
  const select = $('log-service');
  if (names.join() !== [...select.options].slice(1).map((option) => option.value).join()) {
    const chosen = select.value;
    select.replaceChildren(make('option', { value: '' }, 'all'), ...names.map((name) => make('option', { value: name }, name)));
    select.value = names.includes(chosen) ? chosen : '';
  }
}

function serviceCard(service) {
  const pill = make('span');
  setPill(pill, service.status);
  const runs = !['stopped', 'failed', 'waiting'].includes(service.status);
  const button = (action, label) => make('button', { type: 'button', 'data-action': `${action}-${service.name}`, 'aria-label': `${label} ${service.name}`, onclick: (event) => act(event.currentTarget, action, service.name) }, label);
  const why = service.lastRestart === undefined ? '' : `${runs ? 'restarted' : 'ended'}: ${service.lastRestart.cause}`;
  return make('li', {},
    make('div', { class: 'card-head' }, make('strong', { class: `who-${hue(service.name)}` }, service.name), pill, make('span', { class: 'actions' }, runs ? button('restart', 'Restart') : '', runs ? button('stop', 'Stop') : button('start', 'Start'))),
    make('div', { class: 'card-rows' },
      service.url === undefined ? '' : make('span', {}, make('a', { href: service.url, target: '_blank', rel: 'noreferrer' }, service.url.replace('http://', ''))),
      make('code', { class: 'dim', title: service.command }, service.command),
      make('span', { class: 'dim' }, `${service.sinceMs === 0 ? '' : `for ${ago(service.sinceMs)}`}${service.restarts === 0 ? '' : ` · ${count(service.restarts, 'restart')}`}`),
      why === '' ? '' : make('span', { class: 'dim', title: why }, why)));
}

async function act(button, action, service) {
  button.disabled = true;
  try {
    await ask('/api/services', { method: 'POST', body: JSON.stringify({ action, services: [service] }) });
  } catch (error) {
    notice(error.message);
  } finally {
    button.disabled = false;
    refreshOverview();
  }
}

// --- activity ---------------------------------------------------------------------------------------------------------------------------------------

const some = (changes) => {
  const signs = { added: '+', removed: '−', changed: '~' };
  const shown = changes.slice(0, 3).map(({ path, change }) => `${signs[change]} ${path}`).join(', ');
  return changes.length > 3 ? `${shown} and ${changes.length - 3} more` : shown;
};

/** What an event says, or nothing: [words, how long it took, mood]. */
function told(event) {
  switch (event.type) {
    case 'change': return [some(event.changes), event.ms, 'edit'];
    case 'built': return [`built: ${count(event.ran, 'step')} ran, ${event.cached} cached`, event.ms, ''];
    case 'up': return [event.failed.length === 0 ? 'up' : `up, without ${event.failed.join(', ')}`, event.ms, event.failed.length === 0 ? 'good' : 'bad'];
    case 'step':
      if (event.status === 'running') return [`${event.step.command} runs: ${event.reason}`, undefined, ''];
      if (event.status === 'ran') return [`${event.step.command} done`, event.ms, ''];
      return event.status === 'failed' ? [`${event.step.command} failed with ${event.exitCode}`, event.ms, 'bad'] : undefined;
    case 'service': {
      const mood = event.status === 'ready' ? 'good' : ['failed', 'backing-off'].includes(event.status) ? 'bad' : '';
      return ['starting', 'waiting'].includes(event.status) ? undefined : [`${event.name} ${event.status}${event.cause === undefined ? '' : ` (${event.cause})`}`, event.ms, mood];
    }
    case 'signalled': return [`${event.service} was sent ${event.signal} (${event.cause})`, undefined, ''];
    case 'clash': return [`${event.path} was changed inside as well: that is kept at ${event.keptAt}`, undefined, 'bad'];
    case 'warning': return [event.message, undefined, 'bad'];
    case 'failed': return [event.error.message, undefined, 'bad'];
    case 'adopted': return ['went on with the files of a supervisor that had ended', undefined, ''];
    case 'stopped': return ['stopped', undefined, ''];
    default: return undefined;
  }
}

function addActivity(event) {
  const words = told(event);
  if (words === undefined) return;
  const [text, ms, mood] = words;
  const list = $('activity');
  list.prepend(make('li', {}, time(event.atMs), make('span', { class: `what ${mood}` }, text), make('span', { class: 'took' }, ms === undefined ? '' : duration(ms))));
  while (list.children.length > MAX_ACTIVITY) list.lastElementChild.remove();
}

// --- logs -------------------------------------------------------------------------------------------------------------------------------------------

const lines = [];
let shownSoon = false;

function addLog(entry) {
  lines.push(entry);
  if (lines.length > MAX_LOG_LINES) lines.splice(0, lines.length - MAX_LOG_LINES);
  if (!shownSoon) {
    shownSoon = true;
    requestAnimationFrame(showNewLogs);
  }
}

let shownUpTo;

function matches({ service, text }) {
  const wanted = $('log-service').value;
  return (wanted === '' || service === wanted) && text.toLowerCase().includes($('log-search').value.toLowerCase());
}

function showNewLogs() {
  shownSoon = false;
  const from = shownUpTo === undefined ? 0 : lines.indexOf(shownUpTo) + 1;
  const box = $('logs');
  box.append(...lines.slice(from).filter(matches).map(logLine));
  shownUpTo = lines.at(-1);
  while (box.children.length > MAX_LOG_LINES) box.firstElementChild.remove();
  if ($('log-follow').checked) box.scrollTop = box.scrollHeight;
}

const HUES = 6;
/** The same service has the same colour wherever it stands. */
const hue = (service) => Math.max(0, serviceNames.indexOf(service)) % HUES;

function showAllLogs() {
  $('logs').replaceChildren();
  shownUpTo = undefined;
  showNewLogs();
}

function logLine({ service, stream, t, text }) {
  return make('div', { class: `line ${stream}` }, time(t), make('span', { class: `who who-${hue(service)}` }, service), make('span', { class: 'text' }, ...marked(text, $('log-search').value)));
}

function marked(text, wanted) {
  if (wanted === '') return [text];
  const parts = [];
  let from = 0;
  for (let at = text.toLowerCase().indexOf(wanted.toLowerCase()); at >= 0; at = text.toLowerCase().indexOf(wanted.toLowerCase(), from)) {
    parts.push(text.slice(from, at), make('mark', {}, text.slice(at, at + wanted.length)));
    from = at + wanted.length;
  }
  return [...parts, text.slice(from)];
}

// --- build ------------------------------------------------------------------------------------------------------------------------------------------

let graph;
const opened = new Map();

function showBuild({ atMs, steps, graph: root }) {
  $('build-when').textContent = `${ago(atMs)} ago`;
  $('steps').replaceChildren(...(steps.length === 0 ? [make('li', { class: 'empty' }, 'There are no steps.')] : steps.map(stepItem)));
  graph = root;
  showGraph();
}

function stepItem({ step, outcome, lastRun, facts, savedMs }) {
  const why = outcome === 'ran' || outcome === 'failed' ? lastRun?.why ?? '' : outcome === 'cached' ? `nothing that it looked at changed${savedMs === undefined ? '' : `: ${duration(savedMs)} saved`}` : 'a step before it failed';
  const past = lastRun === undefined ? '' : `${outcome === 'ran' ? 'ran' : 'last ran'} ${ago(lastRun.atMs)} ago in ${duration(lastRun.durationMs)}${outcome === 'cached' ? `: ${lastRun.why}` : ''}`;
  const looked = facts === undefined ? '' : `stands on ${count(facts.paths, 'path')}: ${facts.content} read, ${facts.listing} listed`;
  return make('li', {},
    make('div', { class: 'step-head' }, make('span', { class: `tag ${outcome}` }, outcome), make('code', {}, step.command), make('span', { class: 'nth dim' }, `${step.index}/${step.total}`)),
    make('p', { class: 'step-why' }, why),
    ...[past, looked].filter((part) => part !== '').map((part) => make('p', { class: 'step-facts' }, part)));
}

function showGraph() {
  const box = $('graph');
  const focused = document.activeElement?.dataset?.key;
  const onlyChanged = $('graph-changed').checked;
  const rows = [];
  const walk = (view, depth, above) => {
    if (onlyChanged && view.status === 'ok' && depth > 0) return;
    const key = `${above}/${view.label}`;
    const isOpen = view.children.length > 0 && (opened.get(key) ?? (depth === 0 || view.status !== 'ok' || (view.kind === 'Dir' && depth === 1)));
    rows.push(graphRow(view, depth, key, isOpen, rows.length === 0));
    if (isOpen) for (const child of view.children) walk(child, depth + 1, key);
  };
  if (graph !== undefined) walk(graph, 0, '');
  box.replaceChildren(...rows);
  if (focused !== undefined) box.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

function graphRow(view, depth, key, isOpen, isFirst) {
  const leaf = view.children.length === 0;
  const row = make('div', {
    class: `node ${view.status}`, role: 'treeitem', tabindex: isFirst ? '0' : '-1', 'aria-level': String(depth + 1), 'aria-expanded': leaf ? undefined : String(isOpen), 'data-key': key, title: view.label,
    onclick: () => leaf || toggle(key, !isOpen),
  }, make('span', { class: 'twist', 'aria-hidden': 'true' }, leaf ? '' : '▶'), make('span', { class: `tag ${view.status}` }, view.status), make('span', { class: 'label' }, view.label, view.hidden === 0 ? '' : ` · ${count(view.hidden, 'node')}`),
  make('span', { class: 'digest' }, view.digest.slice(0, 8)));
  row.style.paddingLeft = `${14 + depth * 18}px`;
  return row;
}

function toggle(key, isOpen) {
  opened.set(key, isOpen);
  showGraph();
}

function onGraphKey(event) {
  const rows = [...$('graph').children];
  const at = rows.indexOf(document.activeElement);
  const row = rows[at];
  const go = (to) => {
    event.preventDefault();
    rows[to]?.focus();
  };
  if (event.key === 'ArrowDown') go(at + 1);
  else if (event.key === 'ArrowUp') go(Math.max(0, at - 1));
  else if (event.key === 'Home') go(0);
  else if (event.key === 'End') go(rows.length - 1);
  else if (row !== undefined && ['ArrowRight', 'ArrowLeft', 'Enter', ' '].includes(event.key)) {
    const expanded = row.getAttribute('aria-expanded');
    event.preventDefault();
    if (event.key === 'ArrowLeft' && expanded !== 'true') go(rows.findLastIndex((other, index) => index < at && Number(other.ariaLevel) < Number(row.ariaLevel)));
    else if (expanded !== null) toggle(row.dataset.key, event.key === 'ArrowRight' ? true : event.key === 'ArrowLeft' ? false : expanded !== 'true');
  }
}

// --- store ------------------------------------------------------------------------------------------------------------------------------------------

function showStore({ storedBytes, limitBytes, dedupRatio, compressionRatio, shares, project }) {
  const own = shares.find((share) => share.kind === 'environment' && share.project === project);
  const all = Math.max(1, storedBytes);
  const [unique, shared] = [own?.uniqueBytes ?? 0, own?.sharedBytes ?? 0];
  const others = Math.max(0, storedBytes - unique - shared);
  const part = (name, bytes) => {
    const bar = make('span', { class: name });
    bar.style.width = `${(bytes / all) * 100}%`;
    return bar;
  };
  const key = (name, color, opacity, bytes) => {
    const swatch = make('i');
    swatch.style.cssText = `background: var(${color}); opacity: ${opacity}`;
    return make('span', {}, swatch, `${name} ${size(bytes)}`);
  };
  const ratios = [dedupRatio === undefined ? '' : `dedup ${dedupRatio.toFixed(1)} ×`, compressionRatio === undefined ? '' : `compression ${compressionRatio.toFixed(1)} ×`].filter((text) => text !== '').join(' · ');
  $('store').replaceChildren(
    make('div', {}, make('span', { class: 'big' }, size(storedBytes)), make('span', { class: 'dim' }, limitBytes === null ? ' stored' : ` stored, ${size(limitBytes)} at most`)),
    make('div', { class: 'meter', role: 'img', 'aria-label': `This environment alone ${size(unique)}, shared ${size(shared)}, others ${size(others)}` }, part('own', unique), part('shared', shared), part('others', others)),
    make('div', { class: 'legend' }, key('this alone', '--accent', 1, unique), key('shared', '--accent', 0.45, shared), key('others', '--dim', 0.45, others)),
    make('div', { class: 'legend' }, ratios));
}

// --- life -------------------------------------------------------------------------------------------------------------------------------------------

/** Calls that come while one is under way become one more. */
function calmly(work) {
  let running = false;
  let again = false;
  return async function run() {
    if (running) {
      again = true;
      return;
    }
    running = true;
    try {
      await work();
    } catch (error) {
      if (error.isFinal === true) notice(error.message);
    }
    running = false;
    if (again) {
      again = false;
      run();
    }
  };
}

const refreshOverview = calmly(async () => showOverview(await read('/api/overview')));
const refreshBuild = calmly(async () => showBuild(await read('/api/build')));
const refreshStore = calmly(async () => showStore(await read('/api/store')));

function onEvent(event) {
  if (event.type === 'log') addLog({ service: event.service, stream: event.stream, t: event.atMs, text: event.text });
  else addActivity(event);
  if (['service', 'built', 'change', 'up', 'failed', 'stopped'].includes(event.type)) refreshOverview();
  if (event.type === 'built' || event.type === 'change' || (event.type === 'step' && event.status === 'failed')) {
    refreshBuild();
    refreshStore();
  }
}

/** Events as they come, until the environment stops. What was printed before is in the log files already. */
async function follow() {
  const [{ status }, logs] = await Promise.all([read('/api/overview'), read('/api/logs')]);
  lines.length = 0;
  lines.push(...logs);
  showAllLogs();
  $('activity').replaceChildren();
  if (status === null) return;
  const response = await ask('/api/events?since=0');
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of response.body) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = parts.pop();
    for (const part of parts) {
      const event = JSON.parse(part);
      // The log files had these.
      if (event.type === 'log' && event.seq <= status.last) continue;
      onEvent(event);
    }
  }
}

async function live() {
  for (;;) {
    try {
      await Promise.all([refreshOverview(), refreshBuild(), refreshStore()]);
      await follow();
    } catch (error) {
      if (error.isFinal === true) {
        setPill($('state'), 'no token');
        return notice(error.message);
      }
      if (error instanceof TypeError) notice('hd ui has ended. Start it again, and open the new address.');
    }
    await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS));
  }
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
}

function toggleTheme() {
  const theme = document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark';
  localStorage.setItem('hd-ui-theme', theme);
  setTheme(theme);
}

const KEYS = {
  '/': () => $('log-search').focus(),
  'f': () => $('log-follow').click(),
  't': toggleTheme,
  '?': () => $('help').showModal(),
  '1': () => ($('services').querySelector('a, button') ?? $('services')).focus(),
  '2': () => $('activity').focus(),
  '3': () => $('logs').focus(),
  '4': () => $('steps').focus(),
  '5': () => ($('graph').firstElementChild ?? $('graph')).focus(),
};

document.addEventListener('keydown', (event) => {
  const isTyping = event.target instanceof HTMLInputElement && event.target.type === 'search';
  if (isTyping && event.key === 'Escape') {
    event.target.value = '';
    showAllLogs();
    $('logs').focus();
  }
  if (isTyping || event.target instanceof HTMLSelectElement || event.ctrlKey || event.metaKey || event.altKey || $('help').open) return;
  const action = KEYS[event.key];
  if (action === undefined) return;
  event.preventDefault();
  action();
});
$('theme').addEventListener('click', toggleTheme);
$('help-open').addEventListener('click', () => $('help').showModal());
$('log-search').addEventListener('input', showAllLogs);
$('log-service').addEventListener('change', showAllLogs);
$('log-follow').addEventListener('change', showNewLogs);
$('logs').addEventListener('wheel', (event) => {
  if (event.deltaY < 0) $('log-follow').checked = false;
}, { passive: true });
$('graph-changed').addEventListener('change', showGraph);
$('graph').addEventListener('keydown', onGraphKey);
const darkness = matchMedia('(prefers-color-scheme: dark)');
setTheme(localStorage.getItem('hd-ui-theme') ?? (darkness.matches ? 'dark' : 'light'));
darkness.addEventListener('change', () => {
  if (localStorage.getItem('hd-ui-theme') === null) setTheme(darkness.matches ? 'dark' : 'light');
});
setInterval(() => {
  if (!document.hidden) refreshOverview();
}, 5_000);
live();
