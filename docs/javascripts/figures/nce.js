/* Noise samples: how the gradient of NCE becomes that of the softmax over all words. */
"use strict";

tuplet.figures.nce = (host) => {
  const { button, frame, number, plot, shape, slider } = tuplet.draw;
  const { expectedNCE, expectedSoftmax, logSumExp, nce, random, sum } = tuplet.formulas;
  const words = 12;
  const normalised = (values) => values.map((value) => value / sum(values));
  const data = normalised(Array.from({ length: words }, (_, w) => 1 / (w + 1)));
  // a model that is not yet right: the scores are log probabilities of a flatter distribution
  const rough = Array.from({ length: words }, (_, w) => -0.35 * Math.log(w + 1) + 0.5 * Math.cos(2.1 * w));
  const scores = rough.map((score) => score - logSumExp(rough));
  const state = { samples: 5, power: 0.75, seed: 1 };
  const chart = plot({
    title: "Gradient of each word's score", x: [0, words], y: [-0.3, 0.2], height: 320, xLabel: "word, by frequency", yLabel: "gradient",
    ticks: { x: [0, 3, 6, 9, 11].map((w) => [w + 0.5, String(w + 1)]) },
  });
  const controls = [
    slider({ label: "noise words k", min: 0, max: 8, step: 1, value: 2, shown: (v) => String(kOf(v)), changed: (v) => { state.samples = kOf(v); draw(); } }),
    slider({ label: "noise: counts to the power", min: 0, max: 1, step: 0.05, value: state.power, changed: (v) => { state.power = v; draw(); } }),
    button("Draw other noise words", () => { state.seed += 1; draw(); }),
  ];
  state.samples = kOf(2);
  const { tell } = frame(host, {
    lead: "Grey bars are the gradient of the full softmax, green points that of NCE on average, red crosses that of one draw of k noise words for each of 200 targets.",
    plots: [chart], controls,
  });

  function kOf(step) {
    return [1, 2, 5, 10, 25, 50, 100, 400, 1000][step];
  }

  function pick(probabilities, uniform) {
    let rest = uniform();
    const found = probabilities.findIndex((p) => { rest -= p; return rest < 0; });
    return found < 0 ? probabilities.length - 1 : found;
  }

  /* Mean over 200 targets, each with noise words of its own; value and derivative by the scores. */
  function sampled(noise) {
    const { uniform } = random(state.seed);
    const log = noise.map(Math.log);
    const gradient = Array.from({ length: words }, () => 0);
    const sigmoid = (z) => 1 / (1 + Math.exp(-z));
    const delta = (word) => scores[word] - Math.log(state.samples) - log[word];
    let value = 0;
    for (let row = 0; row < 200; row += 1) {
      const target = pick(data, uniform);
      const chosen = Array.from({ length: state.samples }, () => pick(noise, uniform));
      value += nce({ score: scores[target], word: target }, chosen.map((word) => ({ score: scores[word], word })), log, state.samples) / 200;
      gradient[target] -= sigmoid(-delta(target)) / 200;
      for (const word of chosen) gradient[word] += sigmoid(delta(word)) / 200;
    }
    return { value, gradient };
  }

  function cosine(a, b) {
    const product = (p, q) => sum(p.map((one, i) => one * q[i]));
    return product(a, b) / Math.sqrt(product(a, a) * product(b, b));
  }

  function draw() {
    const noise = normalised(data.map((p) => p ** state.power));
    const exact = expectedSoftmax(scores, data);
    const expected = expectedNCE(scores, data, noise, state.samples);
    const { value, gradient } = sampled(noise);
    const cross = (w, y) => shape("path", { class: "tf-line is-far", d: `M${chart.X(w + 0.5) - 5} ${chart.Y(y) - 5}l10 10m0 -10l-10 10` });
    chart.layer.replaceChildren(
      ...exact.map((y, w) => shape("rect", {
        x: chart.X(w + 0.18), width: chart.X(0.64) - chart.X(0), y: chart.Y(Math.max(y, 0)), height: Math.abs(chart.Y(y) - chart.Y(0)), class: "tf-area is-bar",
      })),
      chart.line([[0, 0], [words, 0]], "is-quiet"),
      ...expected.map((y, w) => chart.dot(w + 0.5, y, "is-near", 6)),
      ...gradient.map((y, w) => cross(w, y)),
    );
    tell([
      ["k", String(state.samples)], ["loss of the draw", number(value, 3)],
      ["cosine with the softmax, on average", number(cosine(expected, exact), 3)],
      ["of one draw", number(cosine(gradient, exact), 3)],
      ["scores per target", String(state.samples + 1)],
    ]);
  }
  draw();
};
