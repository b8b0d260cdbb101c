/* A ranking that the reader reorders, and what measures make of it. */
"use strict";

tuplet.figures.ranking = (host) => {
  const { choice, frame, handle, number, plot, range, shape, slider } = tuplet.draw;
  const { expectedMeasures } = tuplet.formulas;
  const LENGTH = 12;
  const RANKINGS = {
    mixed: [2, 4, 5, 9], first: [1, 10, 11, 12], late: [2, 3, 4, 5], perfect: [1, 2, 3, 4], last: [9, 10, 11, 12],
  };
  const state = { ranks: [...RANKINGS.mixed], tied: 1, top: 1 };
  const chart = plot({
    title: "Drag a green result to another rank", x: [0.4, LENGTH + 0.6], y: [-0.24, 1.05], height: 330, isGroup: true,
    xLabel: "rank", yLabel: "precision down to the rank",
    ticks: { x: range(1, LENGTH, LENGTH).map((i) => [i, String(i)]), y: range(0, 1, 3).map((p) => [p, String(p)]) },
  });
  const grips = state.ranks.map((_, i) => handle(chart, {
    label: "relevant result", name: "is-near", step: 1, moved: ([x]) => move(i, Math.max(1, Math.min(LENGTH, Math.round(x)))),
  }));
  const order = choice({
    label: "ranking",
    value: "mixed",
    options: {
      mixed: "mixed", first: "one first, the others last", late: "one miss, then all", perfect: "all first", last: "all last",
      own: "your own order",
    },
    changed: (name) => { if (RANKINGS[name]) { state.ranks = [...RANKINGS[name]]; draw(); } },
  });
  const controls = [
    order,
    slider({ label: "K", min: 1, max: LENGTH, step: 1, value: state.top, shown: String, changed: (v) => { state.top = v; draw(); } }),
    slider({ label: "first ranks of one score", min: 1, max: LENGTH, step: 1, value: state.tied, shown: (v) => (v > 1 ? String(v) : "0"), changed: (v) => { state.tied = v; draw(); } }),
  ];
  const { tell } = frame(host, {
    lead: "Twelve results of one query, of which the four green ones are relevant. MAP@R adds up the green bars within the shaded first R = 4 ranks, and divides by 4. Equal scores have no order: measures are then means over all orders.",
    plots: [chart], controls,
  });

  /* The results between move up or down by one, as in any list. */
  function move(i, rank) {
    const from = state.ranks[i];
    const shift = (one) => (one > from && one <= rank ? -1 : 0) + (one < from && one >= rank ? 1 : 0);
    state.ranks = state.ranks.map((one, j) => (j === i ? rank : one + shift(one)));
    order.set("own");
    draw();
  }

  function draw() {
    const hits = range(1, LENGTH, LENGTH).map((rank) => state.ranks.includes(rank));
    const found = expectedMeasures(hits, state.top, state.tied);
    const bar = (p, i) => shape("rect", {
      x: chart.X(i + 0.7), width: chart.X(0.6) - chart.X(0), y: chart.Y(p), height: chart.Y(0) - chart.Y(p),
      class: `tf-area ${hits[i] && !(state.tied > 1 && i < state.tied) ? "is-near" : "is-bar"}`,
    });
    const edge = state.tied + 0.5;
    chart.layer.replaceChildren(
      chart.band(0.4, state.ranks.length + 0.5, "is-easy"),
      ...found.precisions.map(bar),
      chart.line([[0.4, 0], [LENGTH + 0.6, 0]], "is-quiet"),
      ...hits.flatMap((hit, i) => (hit ? [] : [chart.dot(i + 1, -0.11, "is-far", 6)])),
      ...(state.tied > 1 ? [chart.line([[0.6, -0.2], [edge - 0.1, -0.2]], "is-third")] : []),
    );
    grips.forEach((grip, i) => grip.show([state.ranks[i], -0.11], state.ranks[i], String(state.ranks[i])));
    tell([
      ["relevant at the ranks", [...state.ranks].sort((a, b) => a - b).join(", ")],
      [`Recall@${state.top}`, number(found.recall, 3)], ["MAP@R", number(found.mapAtR, 3)],
      ["R-Precision", number(found.rPrecision, 3)], ["MAP", number(found.map, 3)], ["MRR", number(found.mrr, 3)],
    ]);
  }
  draw();
};
