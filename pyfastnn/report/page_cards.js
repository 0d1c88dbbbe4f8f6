// A card for every run: its curves on axes that all share, what was said of it, and on request its layers.

const PANES = [['loss', 'val_loss'], ['accuracy', 'val_accuracy']];
const EDGE = { left: 46, right: 12, top: 20, bottom: 18 };
const LOSS_HEIGHT = 132;
const ACCURACY_HEIGHT = 96;
const MARKED = 30; // with so few epochs each one gets a dot
const DASHED = 200; // with more the ends of dashes drown in noise
const GOOD = new Set(['finished', 'running', 'max_steps', 'max_seconds', 'callback', 'interrupted']);

const cards = new Map();
const drawn = new Set();
let common = null; // ranges of the shown runs, while axes are shared

function hasPane(run, pane) {
  return PANES[pane].some((key) => run.curves[key]);
}

// The range of a pane over some runs: from the least value to ten times the largest first one, so that a run that explodes hides no other.
function range(some, pane) {
  let [low, high, cap] = [Infinity, -Infinity, -Infinity];
  for (const run of some) {
    for (const key of PANES[pane]) {
      const curve = run.curves[key];
      if (!curve) continue;
      low = Math.min(low, curve.low);
      high = Math.max(high, curve.high);
      cap = Math.max(cap, curve.first);
    }
  }
  if (pane === 0 && cap > 0) high = Math.min(high, 10 * cap);
  if (pane === 1 && low >= 0 && high <= 1) [low, high] = [Math.min(low, high - 0.1), Math.min(1, high + 0.01)];
  return { low, high: Math.max(low, high) };
}

function ranges(some) {
  return {
    epochs: Math.max(2, ...some.map((run) => run.epochs)),
    loss: range(some, 0),
    accuracy: range(some, 1),
    panes: [some.some((run) => hasPane(run, 0)), some.some((run) => hasPane(run, 1))],
  };
}

function lossScale(found, log, from, to) {
  const { low, high } = found;
  if (!log || !(high > 0)) return scale(Math.min(low, high), high, false, from, to);
  return scale(Math.max(low, high * 1e-10), high, true, from, to);
}

function heightOf(panes) {
  return (panes[0] ? LOSS_HEIGHT : 0) + (panes[1] ? ACCURACY_HEIGHT : 0) + EDGE.bottom;
}

function usesLog(found) {
  return found.low > 0 && found.high > 20 * found.low;
}

function makeCard(i) {
  const run = runs[i];
  const bad = !GOOD.has(run.status);
  const facts = [run.optimizer, ...Object.entries(run.params).map(([name, value]) => `${name} ${shown(value)}`)];
  const canvas = el('canvas', { class: 'curve', tabindex: 0, role: 'img', 'aria-label': spoken(run) });
  const readout = el('p', { class: 'readout' }, lastly(run));
  const layers = el('details', { class: 'layers', hidden: !run.ratios.length && !run.histograms.length }, el('summary', {}, 'layers'));
  layers.addEventListener('toggle', () => { if (layers.open) drawStrips(layers, run); });
  const card = el('article', { class: 'card', tabindex: -1 },
    el('div', { class: 'head' }, el('h3', {}, run.name), el('span', { class: bad ? 'status bad' : 'status' }, run.status)),
    el('p', { class: 'facts' }, `${epochsOf(run)}, ${clock(run.seconds)}; ${facts.filter(Boolean).join(', ')}`),
    canvas, readout);
  if (run.error) card.append(el('p', { class: 'verdicts' }, run.error));
  if (run.verdicts.length) card.append(el('ol', { class: 'verdicts' }, ...run.verdicts.map((said) => el('li', {}, said.text))));
  card.append(layers);
  const made = { card, canvas, readout, layers, cursor: 0 };
  cards.set(i, made);
  const point = (epoch) => {
    made.cursor = Math.min(run.epochs, Math.max(0, epoch));
    readout.textContent = made.cursor ? atEpoch(run, made.cursor) : lastly(run);
    drawCard(i);
  };
  canvas.addEventListener('pointermove', (event) => {
    if (made.axis) point(Math.max(1, Math.round(made.axis.value(event.offsetX))));
  });
  canvas.addEventListener('pointerleave', () => point(0));
  canvas.addEventListener('blur', () => point(0));
  canvas.addEventListener('keydown', (event) => {
    const far = Math.max(1, Math.round(run.epochs / 10));
    const now = made.cursor || run.epochs + 1;
    const moved = { ArrowLeft: now - 1, ArrowRight: now + 1, PageUp: now + far, PageDown: now - far, Home: 1, End: run.epochs }[event.key];
    if (event.key === 'Escape') point(0);
    else if (moved !== undefined) point(Math.max(1, moved));
    else return;
    event.preventDefault();
  });
  return card;
}

function epochsOf(run) {
  const of = run.status === 'running' && run.planned > run.epochs ? ` of ${run.planned}` : '';
  return `${run.epochs}${of} ${run.epochs === 1 && !of ? 'epoch' : 'epochs'}`;
}

function told(value) {
  const parts = PANES.map(([key, other]) => {
    const [own, held] = [value(key), value(other)];
    return own === NONE && held === NONE ? '' : `${key} ${own}${held === NONE ? '' : ` (validation ${held})`}`;
  });
  return parts.filter(Boolean).join(', ');
}

// Accuracies in percent, as their axis has them.
function inUnits(key, value) {
  if (value == null || Number.isNaN(value)) return NONE;
  return key.endsWith('accuracy') ? `${shown(Number((100 * value).toPrecision(3)))} %` : shown(Number(value.toPrecision(3)));
}

const lastly = (run) => (run.epochs ? 'at the end: ' + told((key) => inUnits(key, run.last[key])) : 'no epoch yet');
const atEpoch = (run, epoch) => `epoch ${epoch}: ` + told((key) => (run.curves[key] ? valueAt(run.curves[key], epoch, (value) => inUnits(key, value)) : NONE));
const spoken = (run) => `Curves of ${run.name}; ${epochsOf(run)}, ${lastly(run)}. Arrow keys read single epochs.`;

function drawCard(i) {
  const run = runs[i];
  const made = cards.get(i);
  const found = state.shared && common ? common : ranges([run]);
  const panes = found.panes;
  made.canvas.style.height = `${heightOf(panes)}px`;
  const paper = sheet(made.canvas);
  if (!paper) return;
  drawn.add(i);
  const { context, width, height } = paper;
  const x = scale(1, found.epochs, false, EDGE.left + 2, width - EDGE.right);
  made.axis = x;
  let top = 0;
  for (const pane of [0, 1]) {
    if (!panes[pane]) continue;
    const box = { left: EDGE.left, right: width - EDGE.right, top: top + EDGE.top, bottom: top + (pane ? ACCURACY_HEIGHT : LOSS_HEIGHT) };
    const isLast = pane === 1 || !panes[1];
    const y = pane ? scale(found.accuracy.low, found.accuracy.high, false, box.bottom, box.top)
      : lossScale(found.loss, state.log, box.bottom, box.top);
    const title = pane ? 'accuracy' : state.log ? 'loss (log)' : 'loss';
    frame(context, box, x, y, { title, percent: pane === 1, whole: true, labels: isLast });
    drawPane(context, box, x, y, run, pane);
    top = box.bottom;
  }
  drawMarks(context, run, x, height);
  if (made.cursor) {
    context.strokeStyle = colours.dim;
    context.beginPath();
    context.moveTo(Math.round(x.at(made.cursor)) + 0.5, EDGE.top);
    context.lineTo(Math.round(x.at(made.cursor)) + 0.5, height - EDGE.bottom);
    context.stroke();
  }
}

function drawPane(context, box, x, y, run, pane) {
  const curves = PANES[pane].map((key) => run.curves[key] && points(run.curves[key]));
  const bound = (value) => Math.min(box.bottom + 50, Math.max(box.top - 50, y.at(value)));
  context.save();
  context.beginPath();
  context.rect(box.left, box.top - 1, box.right - box.left + 4, box.bottom - box.top + 2);
  context.clip();
  const dense = curves.map((curve) => curve && spans(curve, x, bound));
  if (pane === 1 && curves[0] && curves[1]) {
    if (dense[0] && dense[1]) shadeSpans(context, dense, box);
    else drawGap(context, curves, x, bound);
  }
  curves.forEach((curve, which) => {
    const colour = which ? colours.val : colours.train;
    if (curve && dense[which]) drawSpans(context, dense[which], colour);
    else if (curve) drawLine(context, curve, x, bound, colour, which === 1);
  });
  context.restore();
  const most = Math.max(...PANES[pane].map((key) => (run.curves[key] ? run.curves[key].high : -Infinity)));
  if (most > y.high * (1 + 1e-9) && pane === 0) {
    context.fillStyle = colours.mark;
    context.textAlign = 'right';
    context.textBaseline = 'bottom';
    context.fillText(`\u2191 up to ${shown(most)}`, box.right, box.top - 3);
  }
}

function drawLine(context, curve, x, y, colour, isDashed) {
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = 1.6;
  context.lineJoin = 'round';
  context.setLineDash(isDashed && curve.rows <= DASHED ? [5, 3] : []);
  context.beginPath();
  let isOpen = false;
  for (let i = 0; i < curve.x.length; i++) {
    if (Number.isNaN(curve.y[i])) { isOpen = false; continue; }
    if (isOpen) context.lineTo(x.at(curve.x[i]), y(curve.y[i]));
    else context.moveTo(x.at(curve.x[i]), y(curve.y[i]));
    isOpen = true;
  }
  context.stroke();
  context.setLineDash([]);
  if (curve.rows > MARKED) return;
  for (let i = 0; i < curve.x.length; i++) {
    if (Number.isNaN(curve.y[i])) continue;
    context.beginPath();
    const [a, b] = [x.at(curve.x[i]), y(curve.y[i])];
    if (isDashed) context.rect(a - 2, b - 2, 4, 4); else context.arc(a, b, 2.2, 0, 7);
    context.fill();
  }
}

// What a curve with more points than columns of pixels covers of each: the same ink as its line, and far quicker to draw.
// Null for a curve with fewer points.
function spans(curve, x, y) {
  const ratio = window.devicePixelRatio || 1;
  const columns = Math.ceil((x.at(curve.rows) - x.from) * ratio) + 1;
  if (curve.x.length < 1.5 * columns) return null;
  const low = new Float64Array(columns).fill(Infinity);
  const high = new Float64Array(columns).fill(-Infinity);
  let before = NaN;
  for (let i = 0; i < curve.x.length; i++) {
    const place = y(curve.y[i]);
    if (!Number.isNaN(place)) {
      const column = Math.min(columns - 1, Math.round((x.at(curve.x[i]) - x.from) * ratio));
      // Where the line comes from belongs to the first column that it enters.
      const from = low[column] === Infinity && !Number.isNaN(before) ? before : place;
      low[column] = Math.min(low[column], place, from);
      high[column] = Math.max(high[column], place, from);
    }
    before = place;
  }
  return { low, high, columns, width: 1 / ratio, left: x.from };
}

function drawSpans(context, { low, high, columns, width, left }, colour) {
  context.fillStyle = colour;
  for (let k = 0; k < columns; k++) {
    if (low[k] <= high[k]) context.fillRect(left + k * width, low[k] - 0.6, width, high[k] - low[k] + 1.2);
  }
}

function shadeSpans(context, [a, b], box) {
  context.fillStyle = colours.gap;
  context.globalAlpha = 0.4;
  for (let k = 0; k < Math.min(a.columns, b.columns); k++) {
    const [p, q] = [(a.low[k] + a.high[k]) / 2, (b.low[k] + b.high[k]) / 2].map((place) => Math.min(box.bottom, Math.max(box.top, place)));
    if (a.low[k] <= a.high[k] && b.low[k] <= b.high[k]) context.fillRect(a.left + k * a.width, Math.min(p, q), a.width, Math.abs(p - q));
  }
  context.globalAlpha = 1;
}

// Shade what lies between training and validation.
function drawGap(context, curves, x, y) {
  const n = Math.min(curves[0].x.length, curves[1].x.length);
  const both = (i) => !Number.isNaN(curves[0].y[i]) && !Number.isNaN(curves[1].y[i]);
  context.fillStyle = colours.gap;
  context.globalAlpha = 0.4;
  for (let from = 0; from < n; from++) {
    if (!both(from)) continue;
    let to = from;
    while (to + 1 < n && both(to + 1)) to++;
    context.beginPath();
    for (let i = from; i <= to; i++) context.lineTo(x.at(curves[0].x[i]), y(curves[0].y[i]));
    for (let i = to; i >= from; i--) context.lineTo(x.at(curves[1].x[i]), y(curves[1].y[i]));
    context.fill();
    from = to;
  }
  context.globalAlpha = 1;
}

// A numbered mark where each verdict was said.
function drawMarks(context, run, x, height) {
  const base = height - EDGE.bottom;
  context.fillStyle = colours.mark;
  context.textAlign = 'center';
  context.textBaseline = 'bottom';
  const marks = []; // those that would hide each other have one place
  run.verdicts.forEach((said, k) => {
    if (said.epoch == null) return;
    const place = Math.min(x.to, Math.max(x.from, x.at(said.epoch)));
    const near = marks.find((mark) => Math.abs(mark.place - place) < 11);
    if (near) near.numbers.push(k + 1); else marks.push({ place, numbers: [k + 1] });
  });
  for (const { place, numbers } of marks) {
    context.beginPath();
    context.moveTo(place, base - 7);
    context.lineTo(place - 5, base + 1);
    context.lineTo(place + 5, base + 1);
    context.fill();
    context.fillText(numbers.join(','), place, base - 7);
  }
}

// Cards are drawn when they come into view; all that were drawn are drawn again where something they share has changed.
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const i = Number(entry.target.dataset.run);
    if (entry.isIntersecting && !drawn.has(i)) drawCard(i);
  }
}, { rootMargin: '300px' });

function showCards(shownRuns) {
  const some = shownRuns.map((i) => runs[i]);
  common = some.length ? ranges(some) : null;
  const isShown = new Set(shownRuns);
  for (const [i, made] of cards) {
    made.card.hidden = !isShown.has(i);
    made.canvas.style.height = `${heightOf(state.shared && common ? common.panes : PANES.map((_, pane) => hasPane(runs[i], pane)))}px`;
  }
  for (const i of shownRuns) byId('cards').append(cards.get(i).card);
  redrawCards();
}

// Watching anew tells at once which are in view.
function redrawCards() {
  drawn.clear();
  watcher.disconnect();
  for (const { card, canvas } of cards.values()) if (!card.hidden) watcher.observe(canvas);
}

function drawAllCards() {
  for (const [i, { card }] of cards) if (!card.hidden) drawCard(i);
}

function makeCards() {
  runs.forEach((run, i) => {
    const card = makeCard(i);
    cards.get(i).canvas.dataset.run = i;
    byId('cards').append(card);
  });
}

function drawLegend() {
  const key = (text, ...shapes) => {
    const picture = shape('svg', { viewBox: '0 0 30 12', 'aria-hidden': 'true' });
    picture.append(...shapes);
    return el('span', { class: 'key' }, picture, text);
  };
  const line = (kind) => shape('path', { class: kind, d: 'M1 6H29' });
  byId('legend').append(
    key('training', line('line-train')), key('validation', line('line-val')),
    key('gap', shape('rect', { class: 'fill-gap', x: 1, y: 1, width: 28, height: 10 })),
    key('verdict', shape('path', { class: 'fill-mark', d: 'M15 1L21 11H9Z' })));
}
