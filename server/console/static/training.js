// The charts of a training run. Their numbers stand in #standing, which htmx replaces while the run goes on; a chart is
// made once and then given new numbers. Colours are the style sheet's, so they are read again when the scheme changes.
"use strict";
(() => {
  const COLOURS = 8;
  const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3]];
  const HEIGHT = 220;
  const LABEL_ROWS = 5;
  const held = document.getElementById("charts");
  const live = document.getElementById("live");
  const charts = new Map();
  let marks = [];

  function colour(name) {
    const probe = document.createElement("i");
    probe.className = name;
    held.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  }

  const shown = (value) => (value === null || value === undefined ? "–" : String(Number(value.toPrecision(4))).replace("-", "−"));
  const widthOf = (figure) => Math.max(200, figure.clientWidth - 32);
  const namesOf = (chart) => chart.lines.map((line) => line.name).join("\n");

  function line(each, place) {
    return {
      label: each.name,
      stroke: colour(`line-${place % COLOURS}`),
      dash: DASHES[Math.floor(place / COLOURS + place) % DASHES.length],
      width: 2,
      spanGaps: true,
      points: { show: each.values.filter((value) => value !== null).length < 40, size: 5 },
      value: (_, value) => shown(value),
    };
  }

  function options(chart, figure) {
    const axis = { stroke: colour("axis"), grid: { stroke: colour("gridline"), width: 1 }, ticks: { stroke: colour("gridline") } };
    return {
      width: widthOf(figure),
      height: HEIGHT,
      scales: { x: { time: false } },
      cursor: { sync: { key: "run" }, drag: { x: false, y: false } },
      axes: [axis, { ...axis, size: 64, values: (_, ticks) => ticks.map(shown) }],
      series: [{ label: "step", value: (_, value) => shown(value) }, ...chart.lines.map(line)],
      hooks: { draw: [mark] },
    };
  }

  // Marks lie over the drawing as elements, so that they have a text.
  function mark(plot) {
    for (const old of plot.over.querySelectorAll(".mark")) old.remove();
    const { min, max } = plot.scales.x;
    marks.forEach((each, place) => {
      if (each.step < min || each.step > max) return;
      const element = document.createElement("div");
      element.className = `mark ${each.kind}`;
      element.style.left = `${plot.valToPos(each.step, "x")}px`;
      const text = document.createElement("span");
      text.textContent = each.text;
      text.style.top = `${(place % LABEL_ROWS) * 1.3}rem`; // so that none lies over its neighbour
      element.append(text);
      plot.over.append(element);
    });
  }

  function said(chart, steps) {
    const lines = chart.lines.map((each) => {
      const values = each.values.filter((value) => value !== null);
      return `${each.name} from ${shown(values[0])} to ${shown(values.at(-1))}`;
    });
    return `Chart of ${chart.title} over ${steps.length} points up to step ${shown(steps.at(-1))}: ${lines.join("; ")}`;
  }

  function make(chart, steps) {
    const figure = document.createElement("figure");
    figure.className = "card curve";
    const title = document.createElement("figcaption");
    const name = document.createElement("strong");
    name.textContent = chart.title;
    const unit = document.createElement("span");
    unit.className = "note";
    unit.textContent = chart.unit;
    title.append(name, " ", unit);
    const drawing = document.createElement("div");
    drawing.setAttribute("role", "img");
    figure.append(title, drawing);
    held.append(figure);
    const plot = new uPlot(options(chart, figure), [steps, ...chart.lines.map((each) => each.values)], drawing);
    charts.set(chart.title, { figure, drawing, plot, names: namesOf(chart) });
  }

  function draw() {
    const run = JSON.parse(document.getElementById("standing").dataset.run);
    marks = run.marks;
    for (const chart of run.charts) {
      const known = charts.get(chart.title);
      if (known?.names === namesOf(chart)) {
        known.plot.setData([run.steps, ...chart.lines.map((each) => each.values)]);
      } else if (known) {
        again();
        return;
      } else {
        make(chart, run.steps);
      }
      charts.get(chart.title).drawing.setAttribute("aria-label", said(chart, run.steps));
    }
  }

  function again() {
    for (const { figure, plot } of charts.values()) {
      plot.destroy();
      figure.remove();
    }
    charts.clear();
    draw();
  }

  draw();
  new MutationObserver(draw).observe(live, { childList: true });
  new MutationObserver(again).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  new ResizeObserver(() => {
    for (const { figure, plot } of charts.values()) {
      if (plot.width !== widthOf(figure)) plot.setSize({ width: widthOf(figure), height: HEIGHT });
    }
  }).observe(held);
})();
