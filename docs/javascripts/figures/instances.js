/* An embedding against the rows of a memory bank: temperature, rows that are old, and the proximal term. */
"use strict";

tuplet.figures.instances = (host) => {
  const { button, frame, handle, number, plot, range, shape, slider } = tuplet.draw;
  const { bankRow, dot, instance, random, sum } = tuplet.formulas;
  const COUNT = 12;
  const OWN = 0;
  const middle = { "text-anchor": "middle", dy: 4 };
  const state = { angle: 0.45, power: -1, turned: 25, proximal: 0, rows: null };
  const { uniform } = random(5);
  const places = Array.from({ length: COUNT }, (_, j) => (2 * Math.PI * (j + 0.6 * uniform())) / COUNT);
  const ages = places.map(uniform); // of an epoch, since the row was written
  const on = (angle, radius = 1) => [radius * Math.cos(angle), radius * Math.sin(angle)];
  const circle = plot({ title: "Drag the embedding along the circle", x: [-1.4, 1.4], y: [-1.4, 1.4], height: 372, axes: false, isGroup: true });
  const chart = plot({
    title: "Probability of each row", x: [0, COUNT], y: [0, 1], height: 372, xLabel: "row of the bank", yLabel: "P(j | f)",
    ticks: { x: range(1, COUNT, COUNT).map((j) => [j - 0.5, String(j)]) },
  });
  const grip = handle(circle, {
    label: "embedding", name: "is-ink", step: 0.1,
    moved: ([x, y]) => { state.angle = Math.atan2(y, x); draw(); },
  });
  const temperature = () => 10 ** state.power;
  const controls = [
    slider({ label: "temperature τ", min: -1.7, max: 0.7, step: 0.1, value: state.power, shown: (v) => number(10 ** v), changed: (v) => { state.power = v; draw(); } }),
    slider({ label: "turned since, degrees", min: 0, max: 90, step: 5, value: state.turned, shown: (v) => `${v}°`, changed: (v) => { state.turned = v; draw(); } }),
    slider({ label: "proximal λ", min: 0, max: 10, step: 0.5, value: state.proximal, changed: (v) => { state.proximal = v; draw(); } }),
    button("Take a step", step), button("Write it into its row", () => { state.rows[OWN] = bankRow(state.rows[OWN], on(state.angle), 0.5); draw(); }),
    button("Begin again", begin),
  ];
  const { tell } = frame(host, {
    lead: "Filled points are the rows of the bank, green the embedding's own. The network has turned since the older rows were written: rings and rings on the bars are what it would give now. The arrow is a step of gradient descent.",
    plots: [circle, chart], controls,
  });

  function begin() {
    Object.assign(state, { angle: 0.45, rows: places.map((angle) => on(angle)) });
    draw();
  }

  /* What the bank would hold if every row were as new as the embedding's own. */
  const fresh = () => state.rows.map((row, j) => {
    if (j === OWN) return row;
    return on(Math.atan2(row[1], row[0]) + (ages[j] * state.turned * Math.PI) / 180);
  });
  const against = (rows) => instance(on(state.angle), rows, OWN, temperature(), state.proximal);
  const along = (gradient) => dot(gradient, on(state.angle + Math.PI / 2)); // the rest is across the circle, and zero

  function step() {
    const turn = along(against(state.rows).gradient);
    state.angle -= Math.max(-0.2, Math.min(0.2, 0.1 * turn));
    draw();
  }

  function draw() {
    const now = fresh();
    const [old, current] = [against(state.rows), against(now)];
    const turn = along(old.gradient);
    const embedding = on(state.angle);
    const others = old.shares.filter((_, j) => j !== OWN);
    const entropy = -sum(others.map((share) => share / sum(others)).map((share) => (share > 0 ? share * Math.log(share) : 0)));
    const name = (j) => (j === OWN ? "is-near" : "is-far");
    const ring = (plane, x, y, radius) => shape("circle", { cx: plane.X(x), cy: plane.Y(y), r: radius, class: "tf-line is-third" });
    circle.layer.replaceChildren(
      circle.line(range(-Math.PI, Math.PI, 181).map((t) => on(t)), "is-quiet"),
      circle.line([[0, 0], embedding], "is-ink is-dashed"),
      ...state.rows.map((row, j) => circle.line([on(Math.atan2(row[1], row[0]), 1), now[j]], "is-quiet")),
      ...state.rows.map((row, j) => circle.dot(...row, name(j), 5 + 7 * Math.sqrt(old.shares[j]))),
      ...now.flatMap((row, j) => (j === OWN || state.turned === 0 ? [] : [ring(circle, ...row, 5)])),
      ...state.rows.map((row, j) => {
        const angle = Math.atan2(row[1], row[0]);
        return circle.text(...on(angle, 1.22), String(j + 1), middle);
      }),
      circle.arrow(embedding, on(state.angle - Math.sign(turn) * Math.min(0.6, 0.12 * Math.abs(turn))), "is-ink"),
    );
    chart.layer.replaceChildren(
      ...old.shares.map((share, j) => shape("rect", {
        x: chart.X(j + 0.18), width: chart.X(0.64) - chart.X(0), y: chart.Y(share), height: chart.Y(0) - chart.Y(share),
        class: `tf-area ${j === OWN ? "is-near" : "is-far"}`,
      })),
      ...(state.turned === 0 ? [] : current.shares.map((share, j) => ring(chart, j + 0.5, share, 5))),
    );
    grip.show(embedding, old.shares[OWN], `P = ${number(old.shares[OWN])}`);
    tell([
      ["loss", number(old.value, 3)], ["P of its own row", number(old.shares[OWN])],
      ["negatives in effect", number(Math.exp(entropy), 1)],
      ["gradient along the circle", number(turn)], ["with rows of now", number(along(current.gradient))],
    ]);
  }
  begin();
};
