// Scales, ticks, and panes with axes.

// Places between two ends of a canvas for numbers between two ends of a range.
function scale(low, high, log, from, to) {
  if (!(high > low)) {
    const width = log ? low * 0.1 : Math.abs(low) * 0.1 || 1;
    [low, high] = [low - width, high + width];
  }
  const [a, b] = log ? [Math.log(low), Math.log(high)] : [low, high];
  const at = (value) => from + (((log ? Math.log(value) : value) - a) / (b - a)) * (to - from);
  const value = (place) => {
    const found = a + ((place - from) / (to - from)) * (b - a);
    return log ? Math.exp(found) : found;
  };
  return { low, high, log, from, to, at, value };
}

function ticks(axis, wanted) {
  const { low, high, log } = axis;
  const found = [];
  if (log) {
    const decades = Math.log10(high / low);
    const factors = decades < 1.2 ? [1, 2, 3, 5, 7] : decades < 2.5 ? [1, 3] : [1];
    const stride = Math.max(1, Math.ceil(decades / wanted));
    for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++) {
      if (stride > 1 && ((p % stride) + stride) % stride) continue;
      for (const factor of factors) {
        const tick = Number(`${factor}e${p}`);
        if (tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9)) found.push(tick);
      }
    }
    if (found.length > 1) return found;
    found.length = 0;
  }
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * (rough < 1.5 * power ? 1 : rough < 3.2 * power ? 2 : rough < 7 * power ? 5 : 10);
  if (!(step > 0) || !Number.isFinite(step)) return [low];
  for (let k = Math.ceil(low / step - 1e-9); k <= high / step + 1e-9; k++) found.push(Number((k * step).toPrecision(12)));
  return found;
}

// Draw the frame of a pane: grid and labels. `box` has left, right, top, bottom.
function frame(context, box, x, y, options) {
  context.save();
  context.strokeStyle = colours.grid;
  context.fillStyle = colours.dim;
  context.lineWidth = 1;
  context.textBaseline = 'middle';
  context.textAlign = 'right';
  for (const tick of ticks(y, Math.max(3, Math.floor((box.bottom - box.top) / 28)))) {
    const place = Math.round(y.at(tick)) + 0.5;
    context.beginPath();
    context.moveTo(box.left, place);
    context.lineTo(box.right, place);
    context.stroke();
    context.fillText(options.percent ? shown(Number((100 * tick).toPrecision(6))) + ' %' : shown(tick), box.left - 5, place);
  }
  context.textBaseline = 'top';
  context.textAlign = 'center';
  for (const tick of ticks(x, Math.max(2, Math.floor((box.right - box.left) / 60)))) {
    if (options.whole && !Number.isInteger(tick)) continue;
    const place = Math.round(x.at(tick)) + 0.5;
    context.beginPath();
    context.moveTo(place, box.top);
    context.lineTo(place, box.bottom);
    context.stroke();
    if (options.labels) context.fillText(shown(tick), Math.min(place, box.right - 8), box.bottom + 4);
  }
  context.strokeStyle = colours.line;
  context.beginPath();
  context.moveTo(box.left + 0.5, box.top);
  context.lineTo(box.left + 0.5, box.bottom + 0.5);
  context.lineTo(box.right, box.bottom + 0.5);
  context.stroke();
  if (options.title) {
    context.fillStyle = colours.dim;
    context.textAlign = 'left';
    context.textBaseline = 'bottom';
    context.fillText(options.title, box.left, box.top - 3);
  }
  context.restore();
}

// Text that is no wider than it may be.
function fitted(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let end = text.length;
  while (end > 1 && context.measureText(text.slice(0, end) + '\u2026').width > width) end--;
  return text.slice(0, end) + '\u2026';
}

// An axis for a parameter of a search: numbers between two ends, or names at equal distances.
function parameterAxis(parameter, from, to) {
  if (parameter.isScore) return scoreScale(parameter, from, to);
  if (!parameter.values) {
    const { low, high, log } = parameter;
    // A little room: marks at an end are to be seen as a whole.
    const room = log ? (high / low) ** 0.05 : (high - low) * 0.05;
    const axis = log ? scale(low / room, high * room, true, from, to) : scale(low - room, high + room, false, from, to);
    const place = (run) => {
      const value = runs[run].params[parameter.name];
      return typeof value === 'number' && (!log || value > 0) ? axis.at(value) : NaN;
    };
    return { ...axis, place, labels: ticks(axis, 6).map((tick) => [axis.at(tick), shown(tick)]) };
  }
  const step = (to - from) / parameter.values.length;
  const at = (k) => from + (k + 0.5) * step;
  const place = (run) => (parameter.at[run] == null ? NaN : at(parameter.at[run]));
  return { place, labels: parameter.values.map((value, k) => [at(k), value]) };
}
