/* How much of the mutual information the best critic shows among N candidates. */
"use strict";

tuplet.figures.bound = (host) => {
  const { frame, number, plot, range, slider } = tuplet.draw;
  const { estimate } = tuplet.formulas;
  const state = { information: 4, power: 5 };
  const powers = range(1, 10, 10);
  const chart = plot({
    title: "log N − L by the number of candidates", x: [1, 10], y: [0, 8], height: 320, xLabel: "candidates N", yLabel: "nats",
    ticks: { x: powers.map((p) => [p, String(2 ** p)]) },
  });
  let curve = [];
  const controls = [
    slider({
      label: "I, nats", min: 0.5, max: 7.5, step: 0.25, value: state.information,
      changed: (v) => { state.information = v; measure(); draw(); },
    }),
    slider({
      label: "candidates N", min: 1, max: 10, step: 1, value: state.power, shown: (v) => String(2 ** v),
      changed: (v) => { state.power = v; draw(); },
    }),
  ];
  const { tell } = frame(host, {
    lead: "Points are log N − L of the best critic on pairs of correlated Gaussians, computed here. They stay below log N and below I.",
    plots: [chart], controls,
  });
  const measure = () => { curve = powers.map((p) => [p, estimate(state.information, 2 ** p)]); };

  function draw() {
    const size = 2 ** state.power;
    const [, found] = curve[state.power - 1];
    chart.layer.replaceChildren(
      chart.line([[1, state.information], [10, state.information]], "is-third is-dashed"),
      chart.line(powers.map((p) => [p, p * Math.log(2)]), "is-ink is-dashed"),
      chart.line([[state.information / Math.log(2), 0], [state.information / Math.log(2), state.information]], "is-quiet is-dashed"),
      chart.line(curve, "is-near"), ...curve.map((point) => chart.dot(...point, "is-near", 4)),
      chart.text(1.15, state.information + 0.15, "I"), chart.text(8.5, 6.35, "log N", { "text-anchor": "end" }),
      chart.text(state.information / Math.log(2) + 0.1, 0.15, "N = eᴵ"),
      chart.dot(state.power, found, "is-far", 7),
    );
    tell([
      ["log N", number(Math.log(size))], ["log N − L", number(found)], ["I", number(state.information)],
      ["share of I that shows", `${number((100 * found) / state.information, 0)} %`],
      ["N = eᴵ", number(Math.exp(state.information), 0)],
    ]);
  }
  measure();
  draw();
};
