/* A training in the page: free points in the plane, moved by Adam under one loss after the other. */
"use strict";

tuplet.figures.losses = (host) => {
  const { button, choice, frame, number, plot, slider } = tuplet.draw;
  const { random, unit } = tuplet.formulas;
  const { LOSSES, optimizer, recallAtOne } = tuplet.training;
  const margin = (value, max = 2) => ({ option: "margin m", min: 0.05, max, step: 0.05, value });
  const KINDS = {
    contrastive: { text: "contrastive", geometry: "euclidean", ...margin(1) },
    triplet: { text: "triplet, all", geometry: "squared_euclidean", ...margin(0.5) },
    triplet_easy: { text: "triplet, easy only", geometry: "squared_euclidean", ...margin(0.5) },
    triplet_semihard: { text: "triplet, semi-hard only", geometry: "squared_euclidean", ...margin(0.5) },
    triplet_hard: { text: "triplet, hard only", geometry: "squared_euclidean", ...margin(0.5) },
    triplet_batch_hard: { text: "triplet, hardest of each anchor", geometry: "squared_euclidean", ...margin(0.5) },
    npair: { text: "N-pair", geometry: "dot", option: "norm penalty", min: 0, max: 0.2, step: 0.01, value: 0.05 },
    supcon: { text: "SupCon", geometry: "cosine", option: "temperature τ", min: 0.05, max: 1, step: 0.05, value: 0.1 },
    softmax: { text: "softmax on the circle", geometry: "cosine", hasWeights: true, option: "scale s", min: 1, max: 32, step: 1, value: 8 },
    cosface: { text: "CosFace, scale 8", geometry: "cosine", hasWeights: true, ...margin(0.35, 1) },
    arcface: { text: "ArcFace, scale 8", geometry: "cosine", hasWeights: true, ...margin(0.5, 1) },
    log_ratio: { text: "log-ratio, labels 0 to 1", geometry: "squared_euclidean", isGraded: true, option: "ε, power of ten", min: -8, max: -2, step: 1, value: -6 },
  };
  const CLASSES = 4;
  const state = { name: "triplet", option: KINDS.triplet.value, seed: 1, steps: 0, set: null, step: null, timer: null };
  const plane = plot({ title: "Twenty-four points, four classes", x: [-2, 2], y: [-2, 2], height: 378, axes: false });
  const history = plot({ title: "Loss by step", x: [0, 300], y: [0, 1.15], height: 378, xLabel: "step", yLabel: "loss / first loss" });
  let losses = [];

  const option = slider({ label: "margin m", min: 0.05, max: 2, step: 0.05, value: 0.5, changed: (v) => { state.option = v; begin(); } });
  const loss = choice({
    label: "loss", value: state.name, options: Object.fromEntries(Object.entries(KINDS).map(([name, kind]) => [name, kind.text])),
    changed: (name) => { state.name = name; fit(); begin(); },
  });
  const play = button("Train", () => (state.timer ? stop() : start()));
  const controls = [
    loss, option, play,
    button("One step", () => { stop(); advance(1); draw(); }),
    button("Begin again", begin), button("Other points", () => { state.seed += 1; begin(); }),
  ];
  const { tell } = frame(host, {
    lead: "Press Train: each step computes the loss of all points and moves them down its gradient. On the circle only the direction of a point counts.",
    plots: [plane, history], controls,
  });

  function fit() {
    const kind = KINDS[state.name];
    for (const name of ["min", "max", "step"]) option.input.setAttribute(name, kind[name]);
    option.node.firstChild.textContent = tuplet.draw.say(kind.option);
    option.set(kind.value);
    state.option = kind.value;
  }

  function begin() {
    stop();
    const { normal } = random(state.seed);
    const labels = Array.from({ length: 24 }, (_, i) => i % CLASSES);
    // classes begin near each other, so that there are easy, semi-hard and hard triplets
    const centre = (label) => [0.35 * Math.cos(label * 1.6), 0.35 * Math.sin(label * 1.6)];
    const points = labels.map((label) => centre(label).map((at) => at + 0.45 * normal()));
    const weights = Array.from({ length: CLASSES }, () => [normal(), normal()]);
    const targets = labels.map((_, i) => i / 23);
    state.set = { points, labels, weights, targets };
    state.step = optimizer(0.02);
    state.steps = 0;
    losses = [measure().value];
    draw();
  }

  const measure = () => LOSSES[state.name](state.set, KINDS[state.name].isGraded ? 10 ** state.option : state.option);

  function advance(count) {
    for (let i = 0; i < count; i += 1) {
      state.step(state.set, measure());
      state.steps += 1;
      losses.push(measure().value);
    }
  }

  function start() {
    play.textContent = tuplet.draw.say("Pause");
    state.timer = setInterval(() => {
      advance(2);
      draw();
      if (state.steps >= 300) stop();
    }, 40);
  }

  function stop() {
    clearInterval(state.timer);
    state.timer = null;
    play.textContent = tuplet.draw.say("Train");
  }

  function draw() {
    const kind = KINDS[state.name];
    const isRound = kind.geometry === "cosine";
    const shown = isRound ? state.set.points.map((point) => unit(point).map((one) => 1.5 * one)) : fitted(state.set.points);
    const ring = Array.from({ length: 121 }, (_, i) => [1.5 * Math.cos((i * Math.PI) / 60), 1.5 * Math.sin((i * Math.PI) / 60)]);
    const colour = (i) => (kind.isGraded ? { style: `fill: color-mix(in oklab, var(--tf-near) ${Math.round(100 * state.set.targets[i])}%, var(--tf-far))` } : {});
    const marks = shown.map(([x, y], i) => {
      const dot = plane.dot(x, y, kind.isGraded ? "is-own" : `is-class-${state.set.labels[i]}`, 7);
      for (const [name, value] of Object.entries(colour(i))) dot.setAttribute(name, value);
      return dot;
    });
    plane.layer.replaceChildren(
      ...(isRound ? [plane.line(ring, "is-quiet")] : []),
      ...(kind.hasWeights ? state.set.weights.map((weight, j) => plane.line([[0, 0], unit(weight).map((one) => 1.3 * one)], `is-class-${j}`)) : []),
      ...marks,
    );
    const first = losses[0] || 1;
    history.layer.replaceChildren(history.line(losses.map((value, i) => [i, value / first]), "is-near"));
    tell([
      ["step", String(state.steps)], ["loss", number(losses.at(-1), 4)],
      ...(kind.isGraded ? [] : [["R@1", number(recallAtOne(state.set, kind.geometry))]]),
    ]);
  }

  /* Points that leave the plane are drawn smaller together, so that all stay in sight. */
  function fitted(points) {
    const far = Math.max(1.8, ...points.map(([x, y]) => Math.max(Math.abs(x), Math.abs(y))));
    return points.map((point) => point.map((one) => (1.8 * one) / far));
  }

  begin();
};
