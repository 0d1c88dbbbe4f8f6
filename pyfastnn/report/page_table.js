// The table of runs: sorted by any column, filtered by words and comparisons.

const COLUMNS = makeColumns();
const SHORT = { lr: 'learning_rate', rate: 'learning_rate', reg: 'weight_decay', validation: 'val_loss' };
const rowsOf = new Map();

function makeColumns() {
  const some = (key) => runs.some((run) => run.last[key] != null);
  const found = [{ key: 'run', label: 'run', text: true, of: (run) => run.name }];
  found.push({ key: 'status', label: 'status', text: true, of: (run) => run.status });
  found.push({ key: 'epochs', label: 'epochs', of: (run) => run.epochs });
  for (const [key, label] of [['loss', 'loss'], ['val_loss', 'val. loss'], ['accuracy', 'accuracy'], ['val_accuracy', 'val. accuracy']]) {
    if (some(key)) found.push({ key, label, of: (run) => run.last[key] });
  }
  if (some('accuracy') && some('val_accuracy')) {
    const of = (run) => (run.last.accuracy == null || run.last.val_accuracy == null ? null : Number((run.last.accuracy - run.last.val_accuracy).toPrecision(12)));
    found.push({ key: 'gap', label: 'gap', of });
  }
  for (const name of new Set(runs.flatMap((run) => Object.keys(run.params)))) {
    const text = runs.some((run) => typeof run.params[name] === 'string');
    found.push({ key: name, label: name, text, of: (run) => run.params[name] });
  }
  found.push({ key: 'seconds', label: 'time', of: (run) => run.seconds, show: clock });
  if (runs.some((run) => run.verdicts.length)) found.push({ key: 'verdicts', label: 'verdicts', text: true, of: (run) => run.verdicts.map((v) => v.kind).join(', ') });
  if (runs.some((run) => run.optimizer !== runs[0].optimizer)) found.push({ key: 'optimizer', label: 'optimizer', text: true, of: (run) => run.optimizer });
  if (runs.some((run) => run.network.parameters !== runs[0].network.parameters)) {
    found.push({ key: 'parameters', label: 'parameters', of: (run) => run.network.parameters });
  }
  found.push({ key: 'begun', label: 'begun', text: true, of: (run) => run.begun, show: (text) => text.replace('T', ' ').replace('+00:00', '') });
  return found;
}

function columnNamed(text) {
  const wanted = text.toLowerCase();
  const named = (name) => COLUMNS.find((column) => column.key.toLowerCase() === name || column.label.toLowerCase() === name);
  const begins = COLUMNS.filter((column) => column.key.toLowerCase().startsWith(wanted));
  return named(wanted) || (SHORT[wanted] && named(SHORT[wanted])) || (begins.length === 1 ? begins[0] : undefined);
}

const COMPARE = {
  '<': (a, b) => a < b, '>': (a, b) => a > b, '<=': (a, b) => a <= b, '>=': (a, b) => a >= b, '=': (a, b) => a === b, '!=': (a, b) => a !== b,
};

// Return a test of runs, and what was not understood.
function parseFilter(text) {
  const tests = [];
  const unclear = [];
  for (const part of text.trim().split(/\s+/).filter(Boolean)) {
    const found = /^([^<>=!]+)(<=|>=|!=|=|<|>)(.+)$/.exec(part);
    if (!found) {
      const word = part.toLowerCase();
      tests.push((run) => haystack(run).includes(word));
      continue;
    }
    const column = columnNamed(found[1]);
    if (!column) { unclear.push(`no column '${found[1]}'`); continue; }
    const [operation, wanted] = [found[2], found[3]];
    if (column.text || !Number.isFinite(Number(wanted))) {
      if (operation !== '=' && operation !== '!=') { unclear.push(`'${wanted}' is no number`); continue; }
      tests.push((run) => String(column.of(run)).toLowerCase().includes(wanted.toLowerCase()) === (operation === '='));
    } else tests.push((run) => typeof column.of(run) === 'number' && COMPARE[operation](column.of(run), Number(wanted)));
  }
  return { test: (run) => tests.every((test) => test(run)), unclear };
}

function haystack(run) {
  run.haystack ??= [run.name, run.status, run.error, run.optimizer, ...run.network.layers, ...run.verdicts.map((v) => `${v.kind} ${v.text}`),
    ...Object.values(run.params).map(String)].join('\n').toLowerCase();
  return run.haystack;
}

function sortedRuns(some) {
  const column = COLUMNS.find(({ key }) => key === state.sort);
  if (!column) return some;
  const value = (i) => column.of(runs[i]);
  const empty = (v) => v == null || v === '';
  return [...some].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (empty(x) || empty(y)) return empty(x) - empty(y) || a - b;
    const order = typeof x === 'number' && typeof y === 'number' ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true });
    return (state.down ? -order : order) || a - b;
  });
}

function makeTable() {
  const head = el('tr');
  for (const column of COLUMNS) {
    const button = el('button', { type: 'button', onclick: () => sortBy(column) }, column.label);
    column.head = el('th', { scope: 'col', class: column.text ? 'text' : false }, button);
    head.append(column.head);
  }
  const body = el('tbody');
  runs.forEach((run, i) => {
    const name = el('button', { type: 'button', title: run.name, onclick: () => { choose(i); goTo(i); } }, run.name);
    const row = el('tr', {}, el('th', { scope: 'row', class: 'text' }, name));
    for (const column of COLUMNS.slice(1)) {
      row.append(el('td', { class: column.text ? 'text' : false }, (column.show || shown)(column.of(run))));
    }
    rowsOf.set(i, row);
    body.append(row);
  });
  byId('table').append(el('thead', {}, head), body);
}

// Numbers begin with the best at the top: accuracies fall, everything else rises.
function sortBy(column) {
  const isFirst = state.sort !== column.key;
  change({ sort: column.key, down: isFirst ? column.key.endsWith('accuracy') : !state.down });
}

function showTable(shownRuns) {
  for (const column of COLUMNS) {
    const isSorted = column.key === state.sort;
    column.head.setAttribute('aria-sort', isSorted ? (state.down ? 'descending' : 'ascending') : 'none');
    column.head.firstChild.textContent = column.label + (isSorted ? (state.down ? ' \u25bc' : ' \u25b2') : '');
  }
  const body = byId('table').tBodies[0];
  const isShown = new Set(shownRuns);
  for (const [i, row] of rowsOf) row.hidden = !isShown.has(i);
  body.append(...shownRuns.map((i) => rowsOf.get(i)));
}
