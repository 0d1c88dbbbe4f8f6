// The state of the page, which its address keeps: a page that loads itself anew comes back as it was left.

const LOOKS = ['filter', 'sort', 'across', 'up'];
const SWITCHES = ['down', 'log', 'shared', 'layers', 'pause'];
const state = { filter: '', sort: '', down: false, log: true, shared: true, layers: runs.length < 3, pause: false, across: '', up: '', chosen: null, shownRuns: [] };

function readState() {
  const kept = new URLSearchParams(location.hash.slice(1));
  for (const name of LOOKS) if (kept.has(name)) state[name] = kept.get(name);
  for (const name of SWITCHES) if (kept.has(name)) state[name] = kept.get(name) === '1';
  const chosen = runs.findIndex((run) => run.name === kept.get('run'));
  state.chosen = chosen < 0 ? null : chosen;
}

function keepState() {
  const kept = new URLSearchParams();
  for (const name of LOOKS) if (state[name]) kept.set(name, state[name]);
  for (const name of SWITCHES) kept.set(name, state[name] ? '1' : '0');
  if (state.chosen != null) kept.set('run', runs[state.chosen].name);
  try {
    history.replaceState(null, '', '#' + kept);
  } catch { /* where addresses must not change, the page forgets */ }
}

function change(news) {
  Object.assign(state, news);
  keepState();
  show();
}

function choose(i) {
  state.chosen = i;
  keepState();
  for (const [k, row] of rowsOf) row.classList.toggle('chosen', k === i);
  for (const [k, { card }] of cards) card.classList.toggle('chosen', k === i);
  drawSearch();
}

function goTo(i) {
  const { card } = cards.get(i);
  card.focus({ preventScroll: true });
  card.scrollIntoView({ block: 'start', behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth' });
}

function show() {
  const { test, unclear } = parseFilter(state.filter);
  const found = runs.map((_, i) => i).filter((i) => test(runs[i]));
  state.shownRuns = sortedRuns(found);
  byId('shown').textContent = [state.filter ? `${found.length} of ${runs.length} runs` : '', ...unclear].filter(Boolean).join('; ');
  showTable(state.shownRuns);
  showCards(state.shownRuns);
  for (const { layers } of cards.values()) if (!layers.hidden && layers.open !== state.layers) layers.open = state.layers;
  choose(state.chosen);
}

function begin() {
  readColours();
  byId('title').textContent = data.title;
  const running = runs.filter((run) => run.status === 'running').length;
  const bad = runs.filter((run) => !GOOD.has(run.status)).length;
  const best = search.best == null || runs.length < 2 ? '' : `best ${scoreName} ${shown(search.scores[search.best])} (${runs[search.best].name})`;
  byId('summary').textContent = [`${runs.length} ${runs.length === 1 ? 'run' : 'runs'}`, running && `${running} running`, bad && `${bad} stopped, failed or killed`, best]
    .filter(Boolean).join(', ');
  byId('foot').textContent = `Written ${data.written.replace('T', ' ').replace('+00:00', '')} UTC by pyfastnn ${data.version}.`;
  byId('unread').hidden = !data.unread.length;
  byId('unread').append(...data.unread.map((text) => el('li', {}, text)));
  state.log = runs.length > 0 && usesLog(range(runs, 0));
  if (search.params.length && search.best != null) [state.sort, state.down] = [search.score, search.higher];
  readState();
  makeTable();
  makeSearch();
  makeCards();
  drawLegend();
  byId('filter').value = state.filter;
  byId('filter').addEventListener('input', (event) => change({ filter: event.target.value }));
  byId('controls').addEventListener('submit', (event) => event.preventDefault());
  for (const name of ['log', 'shared', 'layers', 'pause']) {
    byId(name).checked = state[name];
    byId(name).addEventListener('change', (event) => change({ [name]: event.target.checked }));
  }
  show();
  follow();
}

// While runs are followed the page loads itself anew, unless it is being used.
function follow() {
  if (!data.reload) return;
  byId('live').hidden = false;
  let used = 0;
  for (const kind of ['pointerdown', 'pointermove', 'keydown', 'wheel', 'scroll', 'input']) addEventListener(kind, () => { used = Date.now(); }, { passive: true });
  const told = () => { byId('live-text').textContent = state.pause ? 'following paused' : `following: loads itself anew every ${shown(data.reload)} s`; };
  told();
  byId('pause').addEventListener('change', told);
  setInterval(() => {
    if (state.pause || document.hidden || Date.now() - used < 2000) return;
    location.reload();
  }, 1000 * data.reload);
}

let waiting = 0;
function redraw() {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    readColours();
    redrawCards();
    for (const [i, { layers }] of cards) if (layers.open) drawStrips(layers, runs[i]);
    drawSearch();
  }, 60);
}

begin();
addEventListener('resize', redraw);
addEventListener('beforeprint', drawAllCards);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
window.pyfastnn = { drawAll: () => { drawAllCards(); drawSearch(); } };
