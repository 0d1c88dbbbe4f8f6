// The runs of a search: one parameter by another, and all of them side by side, coloured by the score.

const search = data.search;
const RADIUS = 5.5;
const scatterPlaces = new Map();
let parallelLines = [];
let parallelAxes = [];

const scored = search.scores.filter((score) => score != null);
const worst = search.higher ? Math.min(...scored) : Math.max(...scored);
const finest = search.higher ? Math.max(...scored) : Math.min(...scored);

// Where a run stands between the worst and the best, 0 to 1. Losses are compared by their logarithms: bad ones are far off.
function standing(i) {
  const score = search.scores[i];
  if (score == null) return null;
  if (worst === finest) return 1;
  const log = !search.higher && finest > 0;
  const [a, b, s] = log ? [worst, finest, score].map(Math.log) : [worst, finest, score];
  return (s - a) / (b - a);
}

function colourOf(i) {
  const part = standing(i);
  return part == null ? colours.dim : heat(part);
}

const scoreName = search.score.replace('val_', 'validation ');

// Where the lectures' pair is there, rate by regularisation; else the first two.
function firstAxes() {
  const names = search.params.map((parameter) => parameter.name);
  const find = (wanted, other) => names.find((name) => wanted.includes(name.toLowerCase()) && name !== other);
  const across = find(['learning_rate', 'lr', 'rate']) || names[0];
  const up = find(['weight_decay', 'reg', 'decay', 'l2', 'regularization', 'regularisation'], across) || names.find((name) => name !== across) || scoreName;
  return [across, up];
}

// What an axis may show: the parameters, and the score itself.
const scoreAxis = { name: scoreName, isScore: true, log: !search.higher && finest > 0 && worst > 30 * finest };
const axes = [...search.params, scoreAxis];
const axisNamed = (name) => axes.find((parameter) => parameter.name === name);

function drawScatter() {
  const paper = sheet(byId('scatter'));
  scatterPlaces.clear();
  if (!paper) return;
  const { context, width, height } = paper;
  const box = { left: 62, right: width - 14, top: 12, bottom: height - 40 };
  const across = axisNamed(state.across);
  const up = axisNamed(state.up);
  const x = parameterAxis(across, box.left, box.right);
  const y = parameterAxis(up, box.bottom, box.top);
  drawScatterFrame(context, box, x, y, across, up, height);
  const order = [...state.shownRuns].sort((a, b) => (standing(a) ?? -1) - (standing(b) ?? -1));
  for (const i of order) {
    const place = [x.place(i), y.place(i)];
    if (place.some(Number.isNaN)) continue;
    scatterPlaces.set(i, place);
    drawPoint(context, i, place, isNearEnd(across, i) || isNearEnd(up, i));
  }
  if (scatterPlaces.has(state.chosen)) {
    const [a, b] = scatterPlaces.get(state.chosen);
    context.strokeStyle = colours.focus;
    context.lineWidth = 2.5;
    context.beginPath();
    context.arc(a, b, RADIUS + 5, 0, 7);
    context.stroke();
  }
}

function drawScatterFrame(context, box, x, y, across, up, height) {
  context.lineWidth = 1;
  context.strokeStyle = colours.grid;
  context.fillStyle = colours.dim;
  context.textAlign = 'center';
  context.textBaseline = 'top';
  const room = (box.right - box.left) / Math.max(1, x.labels.length);
  for (const [place, text] of x.labels) {
    context.beginPath();
    context.moveTo(place, box.top);
    context.lineTo(place, box.bottom);
    context.stroke();
    context.fillText(fitted(context, text, Math.max(24, room)), place, box.bottom + 5);
  }
  context.fillText(fitted(context, across.name + (across.log ? ' (log)' : ''), box.right - box.left), (box.left + box.right) / 2, box.bottom + 21);
  context.textAlign = 'right';
  context.textBaseline = 'middle';
  for (const [place, text] of y.labels) {
    context.beginPath();
    context.moveTo(box.left, place);
    context.lineTo(box.right, place);
    context.stroke();
    context.fillText(fitted(context, text, 40), box.left - 5, place);
  }
  context.save();
  context.translate(8, (box.top + box.bottom) / 2);
  context.rotate(-Math.PI / 2);
  context.textAlign = 'center';
  context.fillText(fitted(context, up.name + (up.log ? ' (log)' : ''), box.bottom - box.top), 0, 0);
  context.restore();
  context.strokeStyle = colours.dim;
  context.setLineDash([4, 3]);
  context.beginPath();
  if (across.declared) for (const end of [across.low, across.high]) { context.moveTo(x.at(end), box.top); context.lineTo(x.at(end), box.bottom); }
  if (up.declared) for (const end of [up.low, up.high]) { context.moveTo(box.left, y.at(end)); context.lineTo(box.right, y.at(end)); }
  context.stroke();
  context.setLineDash([]);
}

// Within a twentieth of a declared range from one of its ends.
function isNearEnd(parameter, i) {
  const value = runs[i].params[parameter.name];
  if (!parameter.declared || typeof value !== 'number' || (parameter.log && value <= 0)) return false;
  const axis = scale(parameter.low, parameter.high, parameter.log, 0, 1);
  return axis.at(value) < 0.05 || axis.at(value) > 0.95;
}

// A disc; a square near an end of a declared range, a cross without a score, a star for the best.
function drawPoint(context, i, [a, b], isAtEnd) {
  context.fillStyle = colourOf(i);
  context.strokeStyle = colours.ink;
  context.lineWidth = 0.8;
  context.beginPath();
  if (standing(i) == null) {
    context.strokeStyle = colours.dim;
    context.lineWidth = 1.6;
    context.moveTo(a - 4, b - 4); context.lineTo(a + 4, b + 4);
    context.moveTo(a - 4, b + 4); context.lineTo(a + 4, b - 4);
    context.stroke();
    return;
  }
  if (i === search.best) {
    for (let k = 0; k < 10; k++) {
      const far = k % 2 ? 4 : 10;
      context.lineTo(a + far * Math.sin((k * Math.PI) / 5), b - far * Math.cos((k * Math.PI) / 5));
    }
    context.closePath();
  } else if (isAtEnd) context.rect(a - RADIUS + 0.5, b - RADIUS + 0.5, 2 * RADIUS - 1, 2 * RADIUS - 1);
  else context.arc(a, b, RADIUS, 0, 7);
  context.fill();
  context.stroke();
}

function drawParallel() {
  const paper = sheet(byId('parallel'));
  parallelLines = [];
  if (!paper) return;
  const { context, width, height } = paper;
  const box = { left: 40, right: width - 40, top: 30, bottom: height - 14 };
  const step = (box.right - box.left) / (axes.length - 1);
  parallelAxes = axes.map((parameter, k) => {
    return { x: box.left + k * step, name: parameter.name, log: parameter.log, axis: parameterAxis(parameter, box.bottom, box.top) };
  });
  const order = [...state.shownRuns].sort((a, b) => (standing(a) ?? -1) - (standing(b) ?? -1));
  const dense = order.length > 60 ? 0.55 : 0.85;
  for (const i of order) {
    const line = parallelAxes.map(({ x, axis }) => [x, axis.place(i)]);
    parallelLines.push([i, line]);
    if (i !== state.chosen) drawParallelLine(context, line, colourOf(i), 1.3, dense);
  }
  const chosen = parallelLines.find(([i]) => i === state.chosen);
  if (chosen) drawParallelLine(context, chosen[1], colours.focus, 3.5, 1);
  parallelAxes.forEach(({ x, name, log, axis }, k) => {
    context.strokeStyle = colours.dim;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x, box.top);
    context.lineTo(x, box.bottom);
    context.stroke();
    context.textBaseline = 'middle';
    context.textAlign = k ? 'right' : 'left';
    for (const [place, text] of axis.labels) {
      const label = fitted(context, text, step - 14);
      const from = k ? x - 5 : x + 5;
      context.lineWidth = 3;
      context.strokeStyle = colours.card;
      context.strokeText(label, from, place);
      context.fillStyle = colours.ink;
      context.fillText(label, from, place);
    }
    context.textBaseline = 'alphabetic';
    context.textAlign = k === 0 ? 'left' : k === parallelAxes.length - 1 ? 'right' : 'center';
    const room = Math.max(30, step - 6);
    const whole = name + (log ? ' (log)' : '');
    const title = context.measureText(whole).width <= room ? whole : fitted(context, name, room);
    context.fillText(title, k === 0 ? Math.min(x, 4) : k === parallelAxes.length - 1 ? width - 4 : x, box.top - 14);
  });
}

function scoreScale(parameter, from, to) {
  const [low, high] = [Math.min(worst, finest), Math.max(worst, finest)];
  const room = parameter.log ? (high / low) ** 0.04 : (high - low) * 0.04;
  const axis = parameter.log ? scale(low / room, high * room, true, from, to) : scale(low - room, high + room, false, from, to);
  return {
    place: (i) => (search.scores[i] == null ? NaN : axis.at(search.scores[i])),
    labels: ticks(axis, 6).map((tick) => [axis.at(tick), shown(tick)]),
  };
}

function drawParallelLine(context, line, colour, width, alpha) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.globalAlpha = alpha;
  context.beginPath();
  let isOpen = false;
  for (const [x, y] of line) {
    if (Number.isNaN(y)) { isOpen = false; continue; }
    if (isOpen) context.lineTo(x, y); else context.moveTo(x, y);
    isOpen = true;
  }
  context.stroke();
  context.globalAlpha = 1;
}

function nearestPoint(x, y) {
  let [found, least] = [null, 20];
  for (const [i, [a, b]] of scatterPlaces) {
    const far = Math.hypot(a - x, b - y);
    if (far < least) [found, least] = [i, far];
  }
  return found;
}

function nearestLine(x, y) {
  let [found, least] = [null, 10];
  for (const [i, line] of parallelLines) {
    for (let k = 0; k + 1 < line.length; k++) {
      const [[a, b], [c, d]] = [line[k], line[k + 1]];
      if (x < a || x > c || Number.isNaN(b) || Number.isNaN(d)) continue;
      const far = Math.abs(b + ((x - a) / (c - a || 1)) * (d - b) - y);
      if (far < least) [found, least] = [i, far];
    }
  }
  return found;
}

function drawColours() {
  const box = byId('colours');
  box.replaceChildren();
  const canvas = el('canvas', { 'aria-hidden': 'true' });
  paint(canvas, 64, 1, (x) => heat(x / 63).match(/\d+/g).map(Number));
  const notes = ['\u2605 best'];
  if (search.params.some((parameter) => parameter.declared)) notes.push('\u25a0 near an end of a declared range (dashed)');
  if (search.scores.some((score) => score == null)) notes.push('\u2715 no score');
  box.append(el('span', { class: 'key' }, `${scoreName} at the end: ${shown(worst)}`, canvas, shown(finest)), ...notes.map((text) => el('span', {}, text)));
}

function picked(i) {
  if (i == null) return 'Point at a run, or use the arrow keys: from the best run to the worst. Enter goes to its curves.';
  const run = runs[i];
  const parts = Object.entries(run.params).map(([name, value]) => `${name} ${shown(value)}`);
  return `${run.name}: ${scoreName} ${shown(search.scores[i])}; ${parts.join(', ')}`;
}

function drawSearch() {
  if (byId('search').hidden) return;
  drawScatter();
  drawParallel();
  drawColours();
  byId('picked').textContent = picked(state.chosen);
}

function makeSearch() {
  const numbers = search.params.length;
  byId('search').hidden = !(numbers >= 1 && scored.length >= 2);
  if (byId('search').hidden) return;
  byId('edges').hidden = !search.edges.length;
  byId('edges').append(...search.edges.map((text) => el('li', {}, text)));
  const [across, up] = firstAxes();
  if (!axisNamed(state.across)) state.across = across;
  if (!axisNamed(state.up)) state.up = up;
  for (const id of ['across', 'up']) {
    byId(id).append(...axes.map((parameter) => el('option', { value: parameter.name, selected: parameter.name === state[id] }, parameter.name)));
    byId(id).addEventListener('change', (event) => change({ [id]: event.target.value }));
  }
  for (const [id, nearest] of [['scatter', nearestPoint], ['parallel', nearestLine]]) {
    const canvas = byId(id);
    canvas.setAttribute('aria-label', id === 'scatter' ? `Runs by two parameters, coloured by ${scoreName}` : `All parameters of all runs, coloured by ${scoreName}`);
    canvas.addEventListener('pointermove', (event) => {
      const i = nearest(event.offsetX, event.offsetY);
      canvas.style.cursor = i == null ? 'default' : 'pointer';
      byId('picked').textContent = picked(i ?? state.chosen);
    });
    canvas.addEventListener('pointerleave', () => { byId('picked').textContent = picked(state.chosen); });
    canvas.addEventListener('click', (event) => {
      const i = nearest(event.offsetX, event.offsetY);
      choose(i === state.chosen ? null : i);
    });
    canvas.addEventListener('dblclick', () => { if (state.chosen != null) goTo(state.chosen); });
    canvas.addEventListener('keydown', (event) => {
      const order = [...state.shownRuns].sort((a, b) => (standing(b) ?? -1) - (standing(a) ?? -1));
      const at = order.indexOf(state.chosen);
      const moved = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: order.length - 1 }[event.key];
      if (moved !== undefined && order.length) choose(order[Math.min(order.length - 1, Math.max(0, moved))]);
      else if (event.key === 'Enter' && state.chosen != null) goTo(state.chosen);
      else if (event.key === 'Escape') choose(null);
      else return;
      event.preventDefault();
    });
  }
}
