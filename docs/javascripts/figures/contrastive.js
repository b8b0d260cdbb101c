/* One pair: its loss and gradient by distance, for a margin and a convention. */
"use strict";

tuplet.figures.contrastive = (host) => {
  const { choice, frame, number, plot, range, slider } = tuplet.draw;
  const { contrastive } = tuplet.formulas;
  const state = { distance: 0.6, margin: 1, convention: "sohn" };
  const reach = 2;
  const value = plot({ title: "Loss of one pair", x: [0, reach], y: [0, 2.5], xLabel: "distance", yLabel: "loss" });
  const force = plot({ title: "Its gradient by the distance", x: [0, reach], y: [-3, 4], xLabel: "distance", yLabel: "dL / dD" });
  const controls = [
    slider({ label: "distance", min: 0.02, max: reach, step: 0.02, value: state.distance, changed: (v) => { state.distance = v; draw(); } }),
    slider({ label: "margin m", min: 0.1, max: 1.8, step: 0.05, value: state.margin, changed: (v) => { state.margin = v; draw(); } }),
    choice({
      label: "convention", value: state.convention, changed: (v) => { state.convention = v; draw(); },
      options: { sohn: "sohn", hadsell: "hadsell", note: "note (squared distance)" },
    }),
  ];
  const { tell } = frame(host, {
    lead: "Green is a pair of one class, red a pair of two. A positive gradient moves the pair together, a negative one apart.",
    plots: [value, force], controls,
  });

  function draw() {
    const at = range(0.001, reach, 400);
    const curve = (same, part) => {
      const points = at.map((d) => [d, contrastive(d, same, state.margin, state.convention)[part]]);
      // a jump, where the margin ends, is not drawn as a line
      return points.map(([d, y], i) => [d, i > 0 && Math.abs(y - points[i - 1][1]) > 0.15 ? NaN : y]);
    };
    const [near, far] = [true, false].map((same) => contrastive(state.distance, same, state.margin, state.convention));
    for (const [panel, part] of [[value, "value"], [force, "gradient"]]) {
      const edge = state.convention === "note" ? Math.sqrt(state.margin) : state.margin;
      panel.layer.replaceChildren(
        panel.line([[0, 0], [reach, 0]], "is-quiet"),
        panel.line([[edge, -9], [edge, 9]], "is-quiet is-dashed"),
        panel.line(curve(true, part), "is-near"), panel.line(curve(false, part), "is-far"),
        panel.dot(state.distance, near[part], "is-near", 7), panel.dot(state.distance, far[part], "is-far", 7),
      );
    }
    tell([
      ["same class: loss", number(near.value, 3)], ["gradient", number(near.gradient, 3)],
      ["other class: loss", number(far.value, 3)], ["gradient", number(far.gradient, 3)],
    ]);
  }
  draw();
};
