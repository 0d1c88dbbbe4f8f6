// Strips of a run's layers over time: how far updates move weights, and the histograms of activations.

const RATIO_LOW = -6;
const RATIO_HIGH = 0;
const RATIO_WANTED = -3;
const RATIO_FAR = 2; // decades off the wanted ratio that have the full colour

function mixed(from, to, part) {
  const [a, b] = [rgb(from), rgb(to)];
  return a.map((value, k) => Math.round(value + (b[k] - value) * part));
}

function ratioColour(code) {
  const decades = RATIO_LOW + ((code - 1) / 254) * (RATIO_HIGH - RATIO_LOW) - RATIO_WANTED;
  // Within a factor of about three all is well: one colour.
  const part = Math.min(1, Math.max(0, (Math.abs(decades) - 0.5) / (RATIO_FAR - 0.5)));
  return mixed(colours.even, decades < 0 ? colours.low : colours.high, part);
}

function paint(canvas, columns, rows, colourAt) {
  canvas.width = columns;
  canvas.height = rows;
  canvas.style.imageRendering = 'pixelated';
  const context = canvas.getContext('2d');
  const image = context.createImageData(columns, rows);
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const colour = colourAt(x, y);
      if (colour) image.data.set([...colour, 255], 4 * (y * columns + x));
    }
  }
  context.putImageData(image, 0, 0);
}

function ratioStrip(ratio) {
  const codes = bytes(ratio.codes);
  const canvas = el('canvas', { role: 'img', 'aria-label': `update ratio of ${ratio.name}, ${shown(ratio.last)} at the end` });
  canvas.style.height = '13px';
  paint(canvas, codes.length, 1, (x) => (codes[x] ? ratioColour(codes[x]) : null));
  return canvas;
}

const STRIP_ROWS = 48;
function histogramStrip(layer) {
  const ends = words(layer.ends);
  const heights = bytes(layer.heights);
  const columns = ends.length / 2;
  const [ground, ink] = [colours.card, colours.bar];
  const canvas = el('canvas', { role: 'img', 'aria-label': `histograms of ${layer.name}, from ${shown(layer.low)} to ${shown(layer.high)}` });
  canvas.style.height = `${STRIP_ROWS}px`;
  paint(canvas, columns, STRIP_ROWS, (x, y) => {
    const [low, high] = [ends[2 * x], ends[2 * x + 1]];
    if (low === MISSING || high === MISSING) return null;
    const value = ((STRIP_ROWS - 0.5 - y) / STRIP_ROWS) * (MISSING - 1);
    const width = Math.max(high - low, (MISSING - 1) / STRIP_ROWS);
    if (value < low - 1 || value > low + width + 1) return null;
    if (high - low < width) return rgb(ink); // all values are the same, or nearly
    const bin = Math.min(layer.bins - 1, Math.max(0, Math.floor(((value - low) / width) * layer.bins)));
    // The root lets thin tails be seen.
    return mixed(ground, ink, Math.sqrt(heights[x * layer.bins + bin] / 255));
  });
  return canvas;
}

function drawStrips(box, run) {
  box.querySelectorAll('h4, dl, p').forEach((old) => old.remove());
  const [first, last] = run.span || [null, null];
  const when = first == null ? '' : `, epoch ${Math.ceil(first)} to ${Math.ceil(last)}`;
  if (run.ratios.length) {
    const list = el('dl');
    for (const ratio of run.ratios) {
      list.append(el('dt', { title: ratio.name }, ratio.name), el('dd', {}, ratioStrip(ratio), shown(ratio.last)));
    }
    const keys = [['fill-low', '1e-5 or less'], ['fill-even', 'about 1e-3: wanted'], ['fill-high', '0.1 or more']].map(([kind, text]) => {
      const swatch = shape('svg', { viewBox: '0 0 12 12', 'aria-hidden': 'true', class: 'swatch' });
      swatch.append(shape('rect', { class: kind, x: 0, y: 1, width: 12, height: 10 }));
      return el('span', { class: 'key' }, swatch, text);
    });
    box.append(el('h4', {}, 'update over weight' + when), list, el('p', {}, ...keys));
  }
  if (run.histograms.length) {
    const list = el('dl');
    for (const layer of run.histograms) {
      const notes = [];
      if (layer.dead) notes.push(`${shown(Number((100 * layer.dead).toPrecision(2)))} % dead`);
      if (layer.saturated) notes.push(`${shown(Number((100 * layer.saturated).toPrecision(2)))} % saturated`);
      if (!notes.length && layer.std != null) notes.push(`std ${shown(Number(layer.std.toPrecision(2)))}`);
      list.append(el('dt', { title: layer.name }, layer.name), el('dd', {}, histogramStrip(layer), notes.join(' ')));
    }
    box.append(el('h4', {}, 'activations' + when), list);
  }
}
