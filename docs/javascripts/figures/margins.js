/* Three margins on the circle, and the boundaries they leave in the plane of both angles. */
"use strict";

tuplet.figures.margins = (host) => {
  const { choice, frame, handle, number, plot, range, say, slider } = tuplet.draw;
  const { boundary, marginLoss, targetScore } = tuplet.formulas;
  const PRESETS = {
    softmax: [1, 0, 0], sphereface: [4, 0, 0], cosface: [1, 0, 0.35], arcface: [1, 0.5, 0], combined: [1, 0.3, 0.2],
  };
  const degrees = (angle) => (angle * 180) / Math.PI;
  const state = { m: [...PRESETS.arcface], apart: Math.PI / 2, angle: 0.45, scale: 8 };
  const circle = plot({ title: "Drag the example along the circle", x: [-1.35, 1.35], y: [-1.35, 1.35], height: 372, axes: false, isGroup: true });
  const curve = plot({ title: "Target score by the angle", x: [0, 180], y: [-4, 1.1], xLabel: "θ, degrees", yLabel: "T(θ)" });
  const plane = plot({ title: "Boundaries, class 1 against class 2", x: [0, 180], y: [0, 180], xLabel: "θ₁, degrees", yLabel: "θ₂, degrees" });
  const grip = handle(circle, {
    label: "example of class 1", name: "is-ink",
    moved: ([x, y]) => { state.angle = Math.atan2(y, x); draw(); },
  });
  const margin = (i, label, max, step) => slider({
    label, min: i === 0 ? 1 : 0, max, step, value: state.m[i], changed: (v) => { state.m[i] = v; preset.set("own"); draw(); },
  });
  const sliders = [margin(0, "m₁, times θ", 4, 0.1), margin(1, "m₂, added to θ", 1.2, 0.05), margin(2, "m₃, off the score", 1, 0.05)];
  const preset = choice({
    label: "loss", value: "arcface",
    options: {
      softmax: "softmax, no margin", sphereface: "A-Softmax: m₁ = 4", cosface: "CosFace: m₃ = 0.35",
      arcface: "ArcFace: m₂ = 0.5", combined: "combined: 1, 0.3, 0.2", own: "your own margins",
    },
    changed: (name) => {
      if (!PRESETS[name]) return;
      state.m = [...PRESETS[name]];
      sliders.forEach((one, i) => one.set(state.m[i]));
      draw();
    },
  });
  const apart = slider({
    label: "between the classes", min: 40, max: 180, step: 5, value: 90, shown: (v) => `${v}°`,
    changed: (v) => { state.apart = (v * Math.PI) / 180; draw(); },
  });
  const { tell } = frame(host, {
    lead: "Coloured arcs are the angles at which a class wins against the other with its margin; the margins push the arcs apart.",
    plots: [circle, curve, plane], controls: [preset, ...sliders, apart],
  });

  const on = (angle, radius = 1) => [radius * Math.cos(angle), radius * Math.sin(angle)];
  const wins = (own, other) => targetScore(own, ...state.m).score >= Math.cos(other);
  const between = (a, b) => Math.acos(Math.max(-1, Math.min(1, Math.cos(a - b))));

  function draw() {
    const weights = [on(0), on(state.apart)];
    const angles = range(-Math.PI, Math.PI, 721);
    const arc = (own, other, radius) => angles.map((t) => (wins(between(t, own), between(t, other)) ? on(t, radius) : [NaN, NaN]));
    const example = on(state.angle);
    const found = marginLoss(example, weights, 0, { m1: state.m[0], m2: state.m[1], m3: state.m[2], scale: state.scale });
    const [first, second] = [between(state.angle, 0), between(state.angle, state.apart)];
    circle.layer.replaceChildren(
      circle.line(angles.map((t) => on(t)), "is-quiet"),
      circle.line(arc(0, state.apart, 0.93), "is-near is-wide"), circle.line(arc(state.apart, 0, 0.93), "is-far is-wide"),
      circle.line([[0, 0], weights[0]], "is-near"), circle.line([[0, 0], weights[1]], "is-far"),
      circle.text(1.06, -0.12, "w₁"), circle.text(...on(state.apart, 1.16), "w₂", { "text-anchor": "middle" }),
      circle.line([[0, 0], example], "is-ink is-dashed"),
    );
    grip.show(example, degrees(first), `θ₁ = ${number(degrees(first), 0)}°, θ₂ = ${number(degrees(second), 0)}°`);
    const all = range(0, Math.PI, 361);
    curve.layer.replaceChildren(
      curve.line(all.map((t) => [degrees(t), Math.cos(t)]), "is-quiet is-dashed"),
      curve.line(all.map((t) => [degrees(t), targetScore(t, ...state.m).score]), "is-near"),
      curve.dot(degrees(first), targetScore(first, ...state.m).score, "is-ink", 6),
    );
    const edge = all.map((t) => [degrees(t), boundary(t, ...state.m)]).filter(([, other]) => other !== null);
    const line = edge.map(([own, other]) => [own, degrees(other)]);
    plane.layer.replaceChildren(
      plane.area([...line, [line.at(-1)?.[0] ?? 0, 180], [0, 180]], "is-near-soft"),
      plane.area([...line.map(([a, b]) => [b, a]), [180, line.at(-1)?.[0] ?? 0], [180, 0]], "is-far-soft"),
      plane.line([[0, 0], [180, 180]], "is-quiet is-dashed"),
      plane.line(line, "is-near"), plane.line(line.map(([a, b]) => [b, a]), "is-far"),
      plane.text(8, 164, "class 1"), plane.text(128, 12, "class 2"),
      plane.dot(degrees(first), degrees(second), "is-ink", 6),
    );
    tell([
      ["θ₁", `${number(degrees(first), 1)}°`], ["θ₂", `${number(degrees(second), 1)}°`],
      ["T(θ₁)", number(targetScore(first, ...state.m).score, 3)], ["cos θ₂", number(Math.cos(second), 3)],
      ["class 1 wins with its margin", say(wins(first, second) ? "yes" : "no")], ["loss at scale 8", number(found.value, 3)],
    ]);
  }
  draw();
};
