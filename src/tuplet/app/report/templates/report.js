"use strict";

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const charts = read("charts");
const map = read("map-data");
const theme = window.matchMedia("(prefers-color-scheme: dark)");
const isNarrow = window.matchMedia("(max-width: 40rem)").matches;
const hasWebGL = Boolean(document.createElement("canvas").getContext("webgl"));

/** Replace `var(--name)` by the colour that the theme gives it, everywhere in a figure. */
function coloured(value, style = getComputedStyle(document.documentElement)) {
  if (typeof value === "string") {
    return value.replace(/^var\((--[\w-]+)\)$/, (_, name) => style.getPropertyValue(name).trim());
  }
  if (Array.isArray(value)) {
    return typeof value[0] === "number" ? value : value.map((part) => coloured(part, style));
  }
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, coloured(part, style)]));
  }
  return value;
}

function draw() {
  for (const chart of charts) {
    const data = coloured(chart.data);
    for (const trace of data) {
      if (trace.type === "scattergl" && !hasWebGL) trace.type = "scatter";
      if (chart.name === "map" && isNarrow) trace.marker.size *= 0.6;
    }
    Plotly.react(`chart-${chart.name}`, data, coloured(chart.layout), {
      displaylogo: false,
      displayModeBar: chart.name === "map" ? undefined : false,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
      responsive: true,
      scrollZoom: chart.name === "map",
    });
  }
}

function startMap() {
  const plot = document.getElementById("chart-map");
  const wrap = document.getElementById("map-wrap");
  const tip = document.getElementById("tip");
  const found = document.getElementById("found");
  const field = document.getElementById("find-class");
  const ringed = charts.find((chart) => chart.name === "map").data.length - 1;
  const members = new Map();
  const groups = map.named ? map.classes : map.ids.map((_, point) => point);
  groups.forEach((label, point) => {
    if (!members.has(label)) members.set(label, []);
    members.get(label).push(point);
  });
  const names = new Map(map.named ? [...members.keys()].map((label) => [map.names[label], label]) : []);
  const order = [...members.keys()].sort((a, b) => a - b).flatMap((label) => members.get(label));
  let current = -1;

  document.getElementById("class-names").append(
    ...[...names.keys()].map((name) => Object.assign(document.createElement("option"), { value: name })),
  );

  const ring = (points) =>
    Plotly.restyle(plot, { x: [points.map((point) => map.x[point])], y: [points.map((point) => map.y[point])] }, [ringed]);

  function describe(point) {
    const note = map.notes ? [map.notes[point]] : [];
    if (!map.named) return [...note, map.ids[point]].filter(Boolean);
    const [own, nearest] = [map.names[map.classes[point]], map.names[map.nearest[point]]];
    return [own, ...note, map.ids[point], own === nearest ? "✓ nearest neighbour of its class" : `✕ nearest neighbour: ${nearest}`];
  }

  function showTip(point) {
    tip.replaceChildren();
    if (map.columns) {
      const picture = document.createElement("span");
      picture.className = "thumb small";
      picture.style.setProperty("--x", point % map.columns);
      picture.style.setProperty("--y", Math.floor(point / map.columns));
      tip.append(picture);
    }
    const words = describe(point);
    for (const text of words) {
      tip.append(Object.assign(document.createElement("span"), { textContent: text }));
    }
    tip.hidden = false;
    const frame = plot.getBoundingClientRect();
    const outer = wrap.getBoundingClientRect();
    const { xaxis, yaxis } = plot._fullLayout;
    const x = frame.left - outer.left + xaxis._offset + xaxis.l2p(map.x[point]);
    const y = frame.top - outer.top + yaxis._offset + yaxis.l2p(map.y[point]);
    const left = x + tip.offsetWidth + 16 > outer.width ? x - tip.offsetWidth - 12 : x + 12;
    tip.style.left = `${Math.max(0, left)}px`;
    tip.style.top = `${Math.min(Math.max(0, y - tip.offsetHeight / 2), outer.height - tip.offsetHeight)}px`;
    return words.join(", ");
  }

  function leave() {
    tip.hidden = true;
    showClass();
  }

  function showClass() {
    const label = names.get(field.value);
    const points = label === undefined ? [] : members.get(label);
    ring(points);
    found.textContent = points.length ? `${points.length} examples, ringed on the map` : "";
  }

  plot.on("plotly_hover", ({ points: [hit] }) => {
    if (hit.customdata === undefined) return;
    showTip(hit.customdata);
    ring(members.get(groups[hit.customdata]));
  });
  plot.on("plotly_unhover", leave);
  plot.on("plotly_relayout", () => { tip.hidden = true; });
  field.addEventListener("input", showClass);
  wrap.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") leave();
    if (!move || event.target !== wrap) return;
    event.preventDefault();
    current = (current + move + order.length) % order.length;
    found.textContent = showTip(order[current]);
    ring(members.get(groups[order[current]]));
  });
  wrap.addEventListener("blur", leave);
}

draw();
theme.addEventListener("change", draw);
if (map) startMap();
