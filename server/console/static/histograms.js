// A histogram in every measure's place, of what the page says of the distributions; dragged across, it sets the bounds.
// Their numbers stand in a table of the page, for those who do not see pictures.
"use strict";
(() => {
  const HEIGHT = 92;
  const root = document.documentElement;
  const drawn = new Set();

  const probe = document.createElement("span");
  probe.hidden = true;
  const colour = (name) => {
    probe.style.color = name;
    return getComputedStyle(probe).color;
  };
  const short = (value) => Number(value.toPrecision(3));
  const ends = (field) => [...field.querySelectorAll("input")];

  function marks(plot, field) {
    const { left, top, width, height } = plot.bbox;
    plot.ctx.save();
    plot.ctx.fillStyle = colour("var(--bad)");
    for (const input of ends(field)) {
      if (input.value === "" || !Number.isFinite(Number(input.value))) continue;
      const place = Math.max(left, Math.min(left + width, plot.valToPos(Number(input.value), "x", true)));
      plot.ctx.fillRect(place - devicePixelRatio, top, 2 * devicePixelRatio, height);
    }
    plot.ctx.restore();
  }

  function bound(plot, field) {
    const { left, width } = plot.select;
    if (width < 3) return;
    const values = [plot.posToVal(left, "x"), plot.posToVal(left + width, "x")];
    ends(field).forEach((input, side) => { input.value = short(values[side]); });
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    plot.redraw(false);
  }

  function draw(field, name, told) {
    const box = field.querySelector(".chart");
    const { edges, all, matching } = told;
    const centres = edges.slice(1).map((edge, place) => (edge + edges[place]) / 2);
    const bars = uPlot.paths.bars({ size: [1, Infinity], gap: 1 });
    const plot = new uPlot({
      width: box.clientWidth,
      height: HEIGHT,
      padding: [4, 8, 0, 8],
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { setScale: false } },
      scales: {
        x: { time: false, range: [edges[0], edges.at(-1)] },
        y: { range: (_, __, most) => [0, Math.max(1, most)] },
      },
      axes: [
        { size: 24, space: 50, stroke: () => colour("var(--soft)"), grid: { show: false }, ticks: { show: false }, font: "11px sans-serif" },
        { show: false },
      ],
      series: [
        {},
        { paths: bars, points: { show: false }, width: 0, fill: () => colour("color-mix(in srgb, var(--soft) 45%, var(--card))") },
        { paths: bars, points: { show: false }, width: 0, fill: () => colour("var(--accent)") },
      ],
      hooks: { draw: [(it) => marks(it, field)], setSelect: [(it) => bound(it, field)] },
    }, [centres, all.histogram, matching?.histogram ?? centres.map(() => 0)], box);
    const of = matching ?? all;
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", `Histogram of ${name}: ${of.rows} rows, least ${short(of.quantiles[0])}, median ${short(of.quantiles["0.5"])}, most ${short(of.quantiles[1])}`);
    field.addEventListener("input", () => plot.redraw(false));
    new ResizeObserver(() => plot.setSize({ width: box.clientWidth, height: HEIGHT })).observe(box);
    drawn.add(plot);
  }

  function all() {
    const piece = document.querySelector("[data-distributions]");
    if (!piece || drawn.size) return;
    document.body.append(probe);
    const { measures } = JSON.parse(piece.dataset.distributions);
    for (const field of document.querySelectorAll("fieldset[data-measure]")) {
      const told = measures[field.dataset.measure];
      field.hidden = !told && ends(field).every((input) => input.value === "");
      if (told) draw(field, field.querySelector("legend").textContent, told);
    }
  }

  const again = () => drawn.forEach((plot) => plot.redraw(false));
  document.addEventListener("DOMContentLoaded", all);
  document.addEventListener("htmx:after:swap", all);
  new MutationObserver(again).observe(root, { attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
})();
