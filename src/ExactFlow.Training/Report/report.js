'use strict';
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const page = document.getElementById('page');
  const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colorName = i => `--c${i % Number(css('--colors'))}`;
  const color = i => css(colorName(i));

  function element(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes ?? {})) node.setAttribute(key, value);
    node.append(...children.filter(child => child !== null && child !== undefined));
    return node;
  }

  const swatch = i => element('span', { class: 'swatch', style: `background: var(${colorName(i)})` });
  const section = title => page.appendChild(element('section', {}, element('h2', {}, title)));

  // ---- head and table
  page.replaceChildren();
  page.append(element('h1', {}, data.title), element('p', { class: 'quiet' }, data.subtitle));
  function table(title, columns, entries, notes) {
    const results = section(title);
    const head = element('tr', {}, ...columns.map(name => element('th', {}, name)));
    const rows = entries.map(row => element('tr', row.run < 0 ? { class: 'baseline' } : {},
      ...row.cells.map((cell, column) => element('td', {},
        column === 0 && row.run >= 0 ? swatch(row.run) : null,
        cell.text,
        cell.spread ? element('span', { class: 'spread' }, ' ± ' + cell.spread) : null))));
    results.append(element('div', { class: 'scroll' },
      element('table', {}, element('thead', {}, head), element('tbody', {}, ...rows))));
    for (const note of notes) results.append(element('p', { class: 'quiet' }, note));
  }

  if (data.columns.length > 0) table('Results', data.columns, data.rows, data.notes);
  for (const more of data.tables) table(more.title, more.columns, more.rows, more.caption ? [more.caption] : []);

  // ---- curves
  // A smoothed value is the exponentially weighted mean of what came before and after, so a falling curve is not drawn late; gaps (skipped steps) are passed over.
  function smooth(values, weight) {
    const sums = new Float64Array(values.length), masses = new Float64Array(values.length);
    for (const forwards of [true, false]) {
      let sum = 0, mass = 0;
      for (let n = 0; n < values.length; n++) {
        const i = forwards ? n : values.length - 1 - n;
        sums[i] += sum;
        masses[i] += mass;
        const here = values[i] === null ? 0 : 1;
        if (forwards && here) { sums[i] += values[i]; masses[i] += 1; }
        sum = weight * (sum + (here ? values[i] : 0));
        mass = weight * (mass + here);
      }
    }
    return values.map((value, i) => value === null || masses[i] === 0 ? null : sums[i] / masses[i]);
  }

  const mean = list => list.length === 0 ? null : list.reduce((a, b) => a + b, 0) / list.length;
  const across = (columns, pick) => columns[0].map((_, i) => pick(columns.map(column => column[i]).filter(value => value !== null)));

  // All curves of a chart share one x axis: the sorted union of their steps.
  function align(curves) {
    const steps = [...new Set(curves.flatMap(curve => curve.x))].sort((a, b) => a - b);
    const index = new Map(steps.map((step, i) => [step, i]));
    const columns = curves.map(curve => {
      const column = new Array(steps.length).fill(null);
      curve.x.forEach((step, i) => { column[index.get(step)] = curve.y[i]; });
      return column;
    });
    return [steps, ...columns];
  }

  function draw(host, curves, bands, options) {
    const axis = { stroke: css('--quiet'), grid: { stroke: css('--grid'), width: 1 }, ticks: { stroke: css('--grid'), width: 1 },
      font: '12px ui-sans-serif, system-ui, sans-serif' };
    const format = value => value === null || value === undefined ? '–' : value.toFixed(options.digits);
    const series = curves.map(curve => ({
      label: curve.label, stroke: curve.stroke, width: curve.width, dash: curve.dash, class: curve.unlisted ? 'unlisted' : undefined, spanGaps: true, value: (_, value) => format(value),
      points: curve.points ? { show: true, size: 7, fill: curve.stroke, stroke: css('--paper') } : { show: false },
    }));
    const x = options.xLabel ?? 'step';
    return new uPlot({
      width: host.clientWidth, height: options.height,
      scales: { x: { time: false, distr: options.logX ? 3 : 1 }, y: { distr: options.logY ? 3 : 1, ...(options.range ? { range: options.range } : {}) } },
      axes: [{ ...axis, label: x, size: 34, labelSize: 18, labelFont: axis.font }, { ...axis, size: 64, ...(options.yLabel ? { label: options.yLabel, labelSize: 18, labelFont: axis.font } : {}) }],
      series: [{ label: x, value: (_, value) => value ?? '–' }, ...series], bands,
      cursor: { drag: { x: true, y: false } },
    }, align(curves), host);
  }

  function lossCurves(weight) {
    const curves = [], bands = [];
    data.runs.forEach((run, i) => {
      const stroke = color(i);
      const smoothed = run.seeds.map(seed => smooth(seed.loss, weight));
      const x = run.seeds[0].step;
      if (run.seeds.length > 1) {
        curves.push({ label: `${run.label} highest seed`, x, y: across(smoothed, l => l.length ? Math.max(...l) : null), stroke: 'transparent', width: 0, unlisted: true });
        curves.push({ label: `${run.label} lowest seed`, x, y: across(smoothed, l => l.length ? Math.min(...l) : null), stroke: 'transparent', width: 0, unlisted: true });
        bands.push({ series: [curves.length - 1, curves.length], fill: stroke + '33' });
      } else if (weight > 0) {
        curves.push({ label: `${run.label} each step`, x, y: run.seeds[0].loss, stroke: stroke + '40', width: 1, unlisted: true });
      }
      curves.push({ label: `${run.label} training`, x, y: across(smoothed, mean), stroke, width: 1.8 });
      const validated = run.seeds[0].validation_step;
      if (validated.length > 0) {
        curves.push({ label: `${run.label} validation`, x: validated, y: across(run.seeds.map(seed => seed.validation_loss), mean), stroke, width: 1.2, dash: [5, 4], points: true });
      }
    });
    return [curves, bands];
  }

  // The same batches in the same order: the difference at a step is free of the noise of which text came up.
  function differenceCurves(weight) {
    const base = data.runs[0];
    return [data.runs.slice(1).map((run, i) => {
      const pairs = run.seeds.map((seed, s) => smooth(seed.loss.map((loss, t) =>
        loss === null || (base.seeds[s]?.loss[t] ?? null) === null ? null : loss - base.seeds[s].loss[t]), weight));
      return { label: `${run.label} − ${base.label}`, x: run.seeds[0].step, y: across(pairs, mean), stroke: color(i + 1), width: 1.8 };
    }), []];
  }

  function normCurves(weight) {
    return [data.runs.map((run, i) => ({ label: run.label, x: run.seeds[0].step,
      y: across(run.seeds.map(seed => smooth(seed.grad_norm, weight)), mean), stroke: color(i), width: 1.5 })), []];
  }

  const charts = [];
  function chart(title, caption, curvesOf, options) {
    const host = element('div', { class: 'chart' });
    section(title).append(element('figure', {}, options.controls ?? null, host, element('figcaption', {}, caption)));
    charts.push({ host, curvesOf, options, plot: null });
  }

  // The first steps fall from log(vocabulary); the rest of the curve is what one wants to see, so the top is cut there (drag to zoom, double-click to return).
  function lossRange(plot, low, high) {
    const all = data.runs.flatMap(run => run.seeds.flatMap(seed => [...seed.loss.slice(Math.floor(seed.loss.length / 25)), ...seed.validation_loss])).filter(v => v !== null);
    if (all.length === 0) return [low, high];
    const bottom = Math.min(...all), top = Math.max(...all), margin = 0.04 * (top - bottom || 1);
    return [bottom - margin, top + margin];
  }

  const longest = Math.max(1, ...data.runs.flatMap(run => run.seeds.map(seed => seed.step.length)));
  const weight = Math.min(0.9, Math.max(0, 1 - 12 / longest)).toFixed(2);
  const slider = element('input', { type: 'range', min: '0', max: '0.99', step: '0.01', value: weight, 'aria-label': 'smoothing' });
  if (data.runs.some(run => run.seeds.length > 0 && run.seeds[0].step.length > 0)) {
    const controls = element('div', { class: 'controls' }, element('label', {}, 'smoothing', slider));
    const many = data.runs.some(run => run.seeds.length > 1);
    chart('Loss', 'Nats per token. Solid: training loss, smoothed; ' + (many ? 'the band spans the seeds; ' : 'faint: every step; ')
      + 'dashed with dots: validation. Drag to zoom, double-click to return.', lossCurves, { height: 380, digits: 3, range: lossRange, controls });
    if (data.runs.length > 1) {
      chart('Difference in training loss', `Nats per token against ${data.runs[0].label} on the same batches; below zero is better than ${data.runs[0].label}.`, differenceCurves, { height: 240, digits: 4 });
    }
    chart('Gradient norm', 'Global norm before clipping.', normCurves, { height: 220, digits: 3 });
  }

  // Charts whose lines are given point by point, each perhaps in a band.
  function givenCurves(given) {
    const positive = values => given.log_y ? values.map(value => value > 0 ? value : null) : values;
    const curves = [], bands = [];
    given.series.forEach((line, i) => {
      const stroke = color(line.color ?? i);
      if (line.low && line.high) {
        curves.push({ label: `${line.label} highest`, x: line.x, y: positive(line.high), stroke: 'transparent', width: 0, unlisted: true });
        curves.push({ label: `${line.label} lowest`, x: line.x, y: positive(line.low), stroke: 'transparent', width: 0, unlisted: true });
        bands.push({ series: [curves.length - 1, curves.length], fill: stroke + '2b' });
      }
      curves.push({ label: line.label, x: line.x, y: positive(line.y), stroke, width: 1.8, points: line.marked, dash: line.dashed ? [6, 4] : undefined });
    });
    return [curves, bands];
  }

  for (const given of data.charts) {
    chart(given.title, given.caption, () => givenCurves(given),
      { height: 340, digits: 3, xLabel: given.x_label, yLabel: given.y_label, logX: given.log_x, logY: given.log_y });
  }

  for (const figure of data.figures) {
    const host = element('div', { class: 'scroll' });
    host.innerHTML = figure.svg;
    section(figure.title).append(element('figure', {}, host, element('figcaption', {}, figure.caption)));
  }

  function redraw() {
    for (const chart of charts) {
      chart.plot?.destroy();
      const [curves, bands] = chart.curvesOf(Number(slider.value));
      chart.plot = draw(chart.host, curves, bands, chart.options);
    }
  }

  // ---- samples
  if (data.runs.some(run => run.samples.length > 0)) {
    const samples = section('Early words');
    samples.append(element('p', { class: 'quiet' }, 'What each model wrote while it learned; the prompt is grey.'));
    const grid = samples.appendChild(element('div', { class: 'samples' }));
    data.runs.forEach((run, i) => grid.append(element('div', { class: 'sample' }, element('h3', {}, swatch(i), run.label),
      ...run.samples.map(sample => element('p', {}, element('span', { class: 'step' }, `step ${sample.step}`),
        element('span', { class: 'prompt' }, sample.prompt), sample.text)))));
  }

  // ---- how it was made
  const made = section('How it was made');
  made.append(element('pre', {}, data.command));
  made.append(element('dl', {}, ...data.facts.flatMap(({ key, value }) => [element('dt', {}, key), element('dd', {}, value)])));
  if (data.settings) {
    made.append(element('p', {}), element('details', {}, element('summary', {}, 'All settings'), element('pre', {}, data.settings)));
  }

  redraw();
  slider.addEventListener('input', redraw);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
  let pending = 0;
  addEventListener('resize', () => { cancelAnimationFrame(pending); pending = requestAnimationFrame(redraw); });
})();
