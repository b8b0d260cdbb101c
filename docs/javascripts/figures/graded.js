/* Embedding distances against labels: the log-ratio loss beside triplets whose labels are cut into bins. */
"use strict";

tuplet.figures.graded = (host) => {
  const { button, frame, handle, number, plot, shape, slider } = tuplet.draw;
  const { binned, logRatio } = tuplet.formulas;
  const { optimizer } = tuplet.training;
  const LABELS = [8, 22, 37, 49, 68, 79, 94, 112];
  const START = [0.7, 1.5, 0.6, 1.2, 0.5, 1.7, 0.9, 1.4];
  const [reach, width] = [2.4, 120];
  const state = { anchor: 57, bins: 4, margin: 0.4, points: null, steps: 0 };
  const axes = { x: [0, width], y: [0, reach], height: 330, xLabel: "label, degrees", yLabel: "distance to the anchor", isGroup: true };
  const panels = {
    ratio: { on: plot({ title: "Log-ratio", ...axes }), loss: (points) => logRatio(points, targets()) },
    bins: { on: plot({ title: "Triplets on bins", ...axes }), loss: (points) => binned(points, positives(), state.margin) },
  };
  for (const panel of Object.values(panels)) {
    panel.grips = LABELS.map((label, j) => handle(panel.on, {
      label: `${label}°`, name: "is-near", step: 0.1,
      moved: ([, y]) => { state.points[panel.name][j] = Math.max(0.05, Math.min(reach - 0.05, y)); panel.step = optimizer(0.03); draw(); },
    }));
  }
  const controls = [
    slider({ label: "label of the anchor", min: 3, max: 117, step: 6, value: state.anchor, shown: (v) => `${v}°`, changed: (v) => { state.anchor = v; begin(); } }),
    slider({ label: "bins", min: 2, max: 12, step: 1, value: state.bins, shown: String, changed: (v) => { state.bins = v; begin(); } }),
    slider({ label: "margin m", min: 0, max: 1, step: 0.05, value: state.margin, changed: (v) => { state.margin = v; begin(); } }),
    button("Take 10 steps", () => advance(10)), button("Take 300 steps", () => advance(300)), button("Begin again", begin),
  ];
  const { tell } = frame(host, {
    lead: "Each point is another example: move it up or down, or take steps. On the left distances seek the dashed lines, proportional to the label distance; on the right green points share the bin of the anchor and red ones are only kept farther away.",
    plots: [panels.ratio.on, panels.bins.on], controls,
  });

  const targets = () => LABELS.map((label) => Math.abs(label - state.anchor) / 60);
  const bin = (label) => Math.min(Math.floor((label / width) * state.bins), state.bins - 1);
  const positives = () => LABELS.map((label) => bin(label) === bin(state.anchor));

  function begin() {
    state.points = { ratio: [...START], bins: [...START] };
    for (const [name, panel] of Object.entries(panels)) Object.assign(panel, { name, step: optimizer(0.03) });
    state.steps = 0;
    draw();
  }

  function advance(count) {
    for (const [name, panel] of Object.entries(panels)) {
      for (let i = 0; i < count; i += 1) {
        const set = { points: state.points[name].map((one) => [one, 0]) };
        panel.step(set, { gradient: panel.loss(state.points[name]).gradient.map((one) => [one, 0]) });
        state.points[name] = set.points.map(([one]) => Math.max(0.05, Math.min(reach - 0.05, one)));
      }
    }
    state.steps += count;
    draw();
  }

  /* Pairs of examples whose distances are in the order of their label distances. */
  function ordered(points) {
    const wanted = targets();
    let [right, all] = [0, 0];
    points.forEach((one, i) => points.slice(0, i).forEach((other, j) => {
      if (wanted[i] === wanted[j]) return;
      all += 1;
      if (one < other === wanted[i] < wanted[j]) right += 1;
    }));
    return `${right} / ${all}`;
  }

  function draw() {
    const same = positives();
    const found = Object.fromEntries(Object.entries(panels).map(([name, panel]) => [name, panel.loss(state.points[name])]));
    const { factor } = found.ratio;
    const edges = [bin(state.anchor), bin(state.anchor) + 1].map((one) => (one * width) / state.bins);
    for (const [name, { on, grips }] of Object.entries(panels)) {
      const back = name === "ratio"
        ? [on.line([[0, (factor * state.anchor) / 60], [state.anchor, 0], [width, (factor * (width - state.anchor)) / 60]], "is-third is-dashed")]
        : [on.band(...edges, "is-semihard"), ...edges.map((edge) => on.line([[edge, 0], [edge, reach]], "is-quiet is-dashed"))];
      const points = state.points[name];
      on.layer.replaceChildren(
        ...back,
        shape("path", { class: "tf-axis", d: `M${on.X(state.anchor)} ${on.Y(0)}v-12` }), on.dot(state.anchor, 0.06, "is-ink", 7),
        ...points.map((y, j) => {
          const move = -0.25 * found[name].gradient[j];
          return on.arrow([LABELS[j], y], [LABELS[j], y + Math.max(-0.5, Math.min(0.5, move))], "is-ink");
        }),
      );
      grips.forEach((grip, j) => {
        grip.node.lastChild.setAttribute("class", `tf-dot ${name === "bins" && !same[j] ? "is-far" : "is-near"}`);
        grip.show([LABELS[j], points[j]], points[j], `${LABELS[j]}°: D = ${number(points[j])}`);
      });
    }
    tell([
      ["step", String(state.steps)],
      ["log-ratio loss", number(found.ratio.value, 3)], ["in the right order", ordered(state.points.ratio)],
      ["triplet loss", number(found.bins.value, 3)], ["in the right order", ordered(state.points.bins)],
    ]);
  }
  begin();
};
