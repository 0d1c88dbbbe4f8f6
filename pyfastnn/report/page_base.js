// Elements, numbers, colours and packed data. Text from runs enters the page as text nodes and canvas text alone, never as markup.

const data = JSON.parse(document.getElementById('data').textContent);
const runs = data.runs;
const NONE = '\u2013';
const MISSING = 65535;

const byId = (id) => document.getElementById(id);

function el(tag, properties, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) made.setAttribute(name, value === true ? '' : value);
  }
  made.append(...children);
  return made;
}

function shape(kind, attributes) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// A number as people write it: four digits, powers of ten where it is far from 1.
function shown(value) {
  if (value == null || value === '') return NONE;
  if (typeof value === 'boolean') return String(value);
  if (typeof value !== 'number') return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replace(/\.?0+e/, 'e').replace('e+', 'e');
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
}

function clock(seconds) {
  if (seconds == null) return NONE;
  if (seconds > 0 && seconds < 1) return shown(Number((1000 * seconds).toPrecision(3))) + ' ms';
  if (seconds < 90) return shown(Number(seconds.toPrecision(3))) + ' s';
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? minutes + ' min' : Math.floor(minutes / 60) + ' h ' + String(minutes % 60).padStart(2, '0') + ' min';
}

function bytes(text) {
  const raw = atob(text);
  const found = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) found[i] = raw.charCodeAt(i);
  return found;
}

function words(text) {
  const raw = bytes(text);
  const found = new Uint16Array(raw.length / 2);
  for (let i = 0; i < found.length; i++) found[i] = raw[2 * i] | (raw[2 * i + 1] << 8);
  return found;
}

// The points of a curve: epochs and values, NaN where there is none. A long curve has two points in each column of pixels.
const decoded = new Map();
function points(curve) {
  let found = decoded.get(curve);
  if (found) return found;
  const codes = words(curve.codes);
  const low = curve.log ? Math.log(curve.low) : curve.low;
  const high = curve.log ? Math.log(curve.high) : curve.high;
  const dense = codes.length !== curve.rows;
  const columns = codes.length / 2;
  const x = new Float64Array(codes.length);
  const y = new Float64Array(codes.length);
  for (let i = 0; i < codes.length; i++) {
    x[i] = dense ? 1 + (((i >> 1) + 0.5) * (curve.rows - 1)) / columns : i + 1;
    const part = codes[i] / (MISSING - 1);
    const place = low * (1 - part) + high * part;
    y[i] = codes[i] === MISSING ? NaN : curve.log ? Math.exp(place) : place;
  }
  found = { x, y, dense, rows: curve.rows };
  decoded.set(curve, found);
  return found;
}

// The value in an epoch as text; of a long curve the least and largest around it.
function valueAt(curve, epoch, text) {
  const found = points(curve);
  if (epoch < 1 || epoch > found.rows) return NONE;
  if (!found.dense) return text(found.y[epoch - 1]);
  const columns = found.x.length / 2;
  const column = Math.min(columns - 1, Math.floor(((epoch - 1) * columns) / found.rows));
  const [a, b] = [found.y[2 * column], found.y[2 * column + 1]];
  if (Number.isNaN(a)) return NONE;
  const [least, most] = [text(Math.min(a, b)), text(Math.max(a, b))];
  return least === most ? least : least + ' to ' + most;
}

// Colours of the page's scheme, read again when it changes.
let colours = {};
function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ['ground', 'card', 'ink', 'dim', 'line', 'grid', 'train', 'val', 'gap', 'mark', 'focus', 'low', 'high', 'even', 'bar'];
  colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue('--' + name).trim()]));
}

// Blue to yellow over grey: rises evenly in lightness, and is told apart with every kind of colour vision.
const SCALE = [[0, 34, 78], [52, 70, 109], [124, 123, 120], [188, 174, 108], [254, 232, 56]];
const SCALE_DARK = [[64, 104, 176], [98, 122, 160], [143, 141, 133], [196, 181, 106], [254, 232, 56]];
const isDark = () => matchMedia('(prefers-color-scheme: dark)').matches;
function heat(part) {
  const stops = isDark() ? SCALE_DARK : SCALE;
  const place = Math.min(1, Math.max(0, part)) * (stops.length - 1);
  const at = Math.min(stops.length - 2, Math.floor(place));
  const mixed = stops[at].map((value, k) => Math.round(value + (stops[at + 1][k] - value) * (place - at)));
  return `rgb(${mixed.join(',')})`;
}

function rgb(colour) {
  const hex = /^#(..)(..)(..)$/.exec(colour);
  return hex ? hex.slice(1).map((part) => parseInt(part, 16)) : [128, 128, 128];
}

// A canvas as sharp as the screen; null while it is hidden.
function sheet(canvas) {
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (!width || !height) return null;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.font = '11px system-ui, "DejaVu Sans", sans-serif';
  return { context, width, height };
}
