/* An anchor against the positives of all other classes, and what a step costs with negatives shared or its own. */
"use strict";

tuplet.figures.npair = (host) => {
  const { choice, frame, handle, number, plot, range, shape, slider } = tuplet.draw;
  const { nPair, norm, random, sum } = tuplet.formulas;
  const reach = 2.6;
  const SIZES = [2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];
  const state = { anchor: [0.9, 0.9], size: 8, form: "all" };
  const { normal } = random(11);
  // the positives of the other classes lie around the origin; those of a smaller batch are the first of them
  const others = Array.from({ length: SIZES.at(-1) - 1 }, (_, i) => {
    const angle = 2.4 * (i + 1) + 0.5;
    return [1.7 * Math.cos(angle) + 0.2 * normal(), 1.7 * Math.sin(angle) + 0.2 * normal()];
  });
  const positive = [1.6, 0.75];
  const plane = plot({ title: "Drag the anchor", x: [-reach, reach], y: [-reach, reach], height: 372, axes: false, isGroup: true });
  const cost = plot({
    title: "Embeddings in a step", x: [1, 6], y: [0.5, 3.8], height: 372, xLabel: "classes N in the batch", yLabel: "embeddings",
    ticks: { x: range(1, 6, 6).map((p) => [p, String(2 ** p)]), y: [1, 2, 3].map((p) => [p, (10 ** p).toLocaleString("en")]) },
  });
  const grip = handle(plane, {
    label: "anchor", name: "is-ink", step: 0.1,
    moved: (place) => { state.anchor = place.map((one) => Math.max(-2.4, Math.min(2.4, one))); draw(); },
  });
  const controls = [
    slider({
      label: "classes N", min: 0, max: SIZES.length - 1, step: 1, value: SIZES.indexOf(state.size), shown: (v) => String(SIZES[v]),
      changed: (v) => { state.size = SIZES[v]; draw(); },
    }),
    choice({
      label: "form", value: state.form, changed: (v) => { state.form = v; draw(); },
      options: { all: "one against all (mc)", one: "one against one (ovo)" },
    }),
  ];
  const { tell } = frame(host, {
    lead: "The anchor is black, its positive green, the positives of the other classes, its negatives, red: the larger a red point, the larger its share of the push. Arrows show a step of gradient descent.",
    plots: [plane, cost], controls,
  });

  function draw() {
    const negatives = others.slice(0, state.size - 1);
    const found = nPair(state.anchor, positive, negatives, state.form === "one");
    const moves = [[state.anchor, found.anchor], [positive, found.positive], ...negatives.map((point, j) => [point, found.negatives[j]])];
    const step = 0.6 / Math.max(...moves.map(([, g]) => norm(g)), 0.6);
    const shares = found.pushes.map((push) => push / sum(found.pushes));
    plane.layer.replaceChildren(
      plane.line([[-reach, 0], [reach, 0]], "is-quiet"), plane.line([[0, -reach], [0, reach]], "is-quiet"),
      plane.line([[0, 0], state.anchor], "is-ink is-dashed"),
      ...negatives.map((point, j) => plane.dot(...point, "is-far", 3 + 8 * Math.sqrt(shares[j]))),
      plane.dot(...positive, "is-near", 9),
      ...moves.map(([point, g]) => plane.arrow(point, [point[0] - step * g[0], point[1] - step * g[1]], "is-ink")),
      plane.text(positive[0], positive[1] - 0.34, "positive", { "text-anchor": "middle" }),
    );
    const [shared, own] = [2 * state.size, state.size * (state.size + 1)];
    const at = Math.log2(state.size);
    const sizes = range(1, 6, 60);
    cost.layer.replaceChildren(
      cost.line(sizes.map((p) => [p, Math.log10(2 ** p * (2 ** p + 1))]), "is-far"),
      cost.line(sizes.map((p) => [p, Math.log10(2 ** (p + 1))]), "is-near"),
      cost.text(4.1, 2.95, "own: N(N + 1)", { "text-anchor": "end" }), cost.text(4.3, 1.3, "shared: 2N"),
      shape("path", { class: "tf-line is-quiet is-dashed", d: `M${cost.X(at)} ${cost.Y(Math.log10(own))}V${cost.Y(Math.log10(shared))}` }),
      cost.dot(at, Math.log10(own), "is-far", 7), cost.dot(at, Math.log10(shared), "is-near", 7),
    );
    grip.show(state.anchor, norm(state.anchor), `${state.anchor.map((one) => number(one, 1)).join(", ")}; L = ${number(found.value, 3)}`);
    tell([
      ["loss", number(found.value, 3)], ["share of the hardest negative", `${number(100 * Math.max(...shares), 0)} %`],
      ["shared negatives", String(shared)], ["own negatives", own.toLocaleString("en")],
      ["steps for 7,680 embeddings", `${Math.floor(7680 / shared).toLocaleString("en")} / ${Math.floor(7680 / own).toLocaleString("en")}`],
    ]);
  }
  draw();
};
