/* A triplet whose negative is dragged. */
"use strict";

tuplet.figures.triplet = (host) => {
  const { choice, frame, handle, number, plot, range, say, shape, slider } = tuplet.draw;
  const { norm, triplet } = tuplet.formulas;
  const WORDS = { easy: "easy", semihard: "semi-hard", hard: "hard" };
  const reach = 2.4;
  const state = { negative: [-0.9, 0.75], near: 1, margin: 0.5, geometry: "euclidean" };
  const plane = plot({ title: "Drag the negative", x: [-reach, reach], y: [-reach, reach], height: 372, axes: false, isGroup: true });
  const curve = plot({ title: "Loss by its distance", x: [0, reach], y: [0, 3], height: 372, xLabel: "distance of the negative", yLabel: "loss" });
  const grip = handle(plane, {
    label: "negative", name: "is-far", moved: (place) => { state.negative = inside(place); draw(); },
  });
  const controls = [
    slider({ label: "margin m", min: 0, max: 1.5, step: 0.05, value: state.margin, changed: (v) => { state.margin = v; draw(); } }),
    slider({ label: "distance of the positive", min: 0.1, max: 1.8, step: 0.05, value: state.near, changed: (v) => { state.near = v; draw(); } }),
    choice({
      label: "distance D", value: state.geometry, changed: (v) => { state.geometry = v; draw(); },
      options: { euclidean: "Euclidean", squared_euclidean: "squared Euclidean" },
    }),
  ];
  const { tell } = frame(host, {
    lead: "Drag the red point, touch the plane, or press the arrow keys while the point has the focus. Arrows show where a step of gradient descent moves each point.",
    plots: [plane, curve], controls,
  });
  plane.node.addEventListener("click", (event) => {
    if (!grip.node.contains(event.target)) { state.negative = inside(plane.at(event)); draw(); }
  });
  const inside = (place) => {
    const far = norm(place);
    return far > reach - 0.1 ? place.map((one) => (one * (reach - 0.1)) / far) : place;
  };

  function draw() {
    const anchor = [0, 0];
    const positive = [state.near * Math.cos(0.6), state.near * Math.sin(0.6)];
    const found = triplet(anchor, positive, state.negative, state.margin, state.geometry);
    const isSquared = state.geometry === "squared_euclidean";
    const easyFrom = isSquared ? Math.sqrt(state.near ** 2 + state.margin) : state.near + state.margin;
    const disc = (radius, name) => shape("circle", { cx: plane.X(0), cy: plane.Y(0), r: plane.X(radius) - plane.X(0), class: `tf-area ${name}` });
    const step = 0.45 / Math.max(...found.gradients.map(norm), 1);
    plane.layer.replaceChildren(
      disc(reach, "is-easy"), disc(Math.min(easyFrom, reach), "is-semihard"), disc(state.near, "is-hard"),
      plane.text(0, -state.near + 0.1, "hard", { "text-anchor": "middle" }),
      ...(easyFrom < reach && easyFrom - state.near > 0.2 ? [plane.text(0, -easyFrom + 0.08, "semi-hard", { "text-anchor": "middle" })] : []),
      ...(easyFrom < reach - 0.3 ? [plane.text(0, -reach + 0.12, "easy", { "text-anchor": "middle" })] : []),
      plane.line([anchor, positive], "is-quiet"), plane.line([anchor, state.negative], "is-quiet"),
      ...[anchor, positive, state.negative].map((point, i) => {
        const g = found.gradients[i];
        return plane.arrow(point, [point[0] - step * g[0], point[1] - step * g[1]], "is-ink");
      }),
      plane.dot(0, 0, "is-ink", 7), plane.text(-0.12, -0.24, "anchor", { "text-anchor": "end" }),
      plane.dot(...positive, "is-near", 8), plane.text(positive[0] + 0.16, positive[1] + 0.1, "positive"),
    );
    const distance = norm(state.negative);
    const ofDistance = (d) => triplet(anchor, positive, [-d, 0], state.margin, state.geometry).value;
    curve.layer.replaceChildren(
      curve.band(0, state.near, "is-hard"), curve.band(state.near, Math.min(easyFrom, reach), "is-semihard"),
      curve.band(Math.min(easyFrom, reach), reach, "is-easy"),
      curve.line(range(0.001, reach, 300).map((d) => [d, ofDistance(d)]), "is-ink"),
      curve.dot(distance, found.value, "is-far", 8),
    );
    grip.show(state.negative, distance, `${say(WORDS[found.kind])}, D = ${number(found.far)}`);
    tell([
      ["D to the positive", number(found.near)], ["D to the negative", number(found.far)],
      ["the negative is", say(WORDS[found.kind])], ["loss", number(found.value, 3)],
      ["gradient of the negative", number(norm(found.gradients[2]), 3)],
    ]);
  }
  draw();
};
