/* What the figures are drawn with: plots, sliders, choices and points that are moved by mouse, finger or arrow keys. */
"use strict";

tuplet.draw = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const isKorean = () => document.documentElement.lang.startsWith("ko");

  /* A word of a figure, in the language of the page. */
  const say = (text) => (isKorean() && tuplet.korean?.[text]) || text;

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    return dress(made, attributes, children);
  }

  function shape(tag, attributes = {}, ...children) {
    return dress(document.createElementNS(SVG, tag), attributes, children);
  }

  function dress(made, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined) made.setAttribute(name, value);
    }
    made.append(...children.flat());
    return made;
  }

  const number = (value, digits = 2) => (Object.is(value, -0) || Math.abs(value) < 0.5 * 10 ** -digits
    ? (0).toFixed(digits)
    : value.toFixed(digits).replace("-", "−"));

  function niceTicks(low, high, count = 5) {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((k) => k * power).find((k) => k >= rough - 1e-9);
    const first = Math.ceil(low / step - 1e-9) * step;
    const found = [];
    for (let at = first; at <= high + 1e-9; at += step) found.push(Math.abs(at) < 1e-9 ? 0 : at);
    return found;
  }

  let plots = 0;

  /* A plane of 360 x `height` with axes; what is drawn on `layer` stays inside of it. */
  function plot({ title, x, y, height = 290, axes = true, xLabel = "", yLabel = "", ticks = {}, isGroup = false }) {
    const room = axes ? { left: 48, right: 12, top: 30, bottom: 42 } : { left: 6, right: 6, top: 30, bottom: 6 };
    const [width, inner, tall] = [360, 360 - room.left - room.right, height - room.top - room.bottom];
    const X = (value) => room.left + ((value - x[0]) / (x[1] - x[0])) * inner;
    const Y = (value) => room.top + tall - ((value - y[0]) / (y[1] - y[0])) * tall;
    plots += 1;
    const clip = `tuplet-clip-${plots}`;
    const frame = { x: room.left, y: room.top, width: inner, height: tall };
    const back = shape("g");
    const layer = shape("g", { "clip-path": `url(#${clip})` });
    const front = shape("g");
    const node = shape(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, role: isGroup ? "group" : "img", "aria-label": say(title), class: "tf-plot" },
      shape("defs", {}, shape("clipPath", { id: clip }, shape("rect", frame))),
      shape("text", { x: room.left, y: 18, class: "tf-title" }, say(title)),
      back, layer, front,
    );
    if (axes) back.append(...drawAxes());

    function drawAxes() {
      const bottom = room.top + tall;
      const xTicks = ticks.x ?? niceTicks(...x).map((at) => [at, String(+at.toFixed(6)).replace("-", "−")]);
      const yTicks = ticks.y ?? niceTicks(...y).map((at) => [at, String(+at.toFixed(6)).replace("-", "−")]);
      return [
        shape("path", { class: "tf-axis", d: `M${room.left} ${room.top}V${bottom}H${room.left + inner}` }),
        ...xTicks.map(([at, text]) => shape("text", { x: X(at), y: bottom + 16, class: "tf-tick", "text-anchor": "middle" }, text)),
        ...xTicks.map(([at]) => shape("path", { class: "tf-axis", d: `M${X(at)} ${bottom}v4` })),
        ...yTicks.map(([at, text]) => shape("text", { x: room.left - 8, y: Y(at) + 4, class: "tf-tick", "text-anchor": "end" }, text)),
        ...yTicks.map(([at]) => shape("path", { class: "tf-axis", d: `M${room.left} ${Y(at)}h-4` })),
        shape("text", { x: room.left + inner / 2, y: height - 6, class: "tf-label", "text-anchor": "middle" }, say(xLabel)),
        shape("text", { x: 0, y: 0, class: "tf-label", "text-anchor": "middle", transform: `translate(12 ${room.top + tall / 2}) rotate(-90)` }, say(yLabel)),
      ];
    }

    const path = (points) => {
      let [d, isDown] = ["", false];
      for (const [a, b] of points) {
        if (!Number.isFinite(a) || !Number.isFinite(b)) isDown = false;
        else {
          d += `${isDown ? "L" : "M"}${X(a).toFixed(2)} ${Y(b).toFixed(2)}`;
          isDown = true;
        }
      }
      return d;
    };
    return {
      node, layer, front, back, X, Y,
      /* What is at a place of the screen. */
      at(event) {
        const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(node.getScreenCTM().inverse());
        return [
          x[0] + ((place.x - room.left) / inner) * (x[1] - x[0]),
          y[0] + ((room.top + tall - place.y) / tall) * (y[1] - y[0]),
        ];
      },
      line: (points, name, extra = {}) => shape("path", { d: path(points), class: `tf-line ${name}`, ...extra }),
      area: (points, name) => shape("path", { d: `${path(points)}Z`, class: `tf-area ${name}` }),
      band: (from, to, name) => shape("rect", { x: X(from), y: room.top, width: Math.max(X(to) - X(from), 0), height: tall, class: `tf-area ${name}` }),
      dot: (a, b, name, radius = 6) => shape("circle", { cx: X(a), cy: Y(b), r: radius, class: `tf-dot ${name}` }),
      text: (a, b, words, extra = {}) => shape("text", { x: X(a), y: Y(b), class: "tf-word", ...extra }, say(words)),
      arrow(from, to, name) {
        const [ax, ay, bx, by] = [X(from[0]), Y(from[1]), X(to[0]), Y(to[1])];
        const length = Math.hypot(bx - ax, by - ay);
        if (length < 2) return shape("g");
        const [ux, uy] = [(bx - ax) / length, (by - ay) / length];
        const head = Math.min(9, length);
        const side = (sign) => `${bx - head * ux + sign * 0.5 * head * uy} ${by - head * uy - sign * 0.5 * head * ux}`;
        return shape("path", { class: `tf-arrow ${name}`, d: `M${ax} ${ay}L${bx} ${by}M${side(1)}L${bx} ${by}L${side(-1)}` });
      },
    };
  }

  /* A point that is moved by mouse, finger or arrow keys. `moved` gets the place that is asked for; `show` draws it. */
  function handle(on, { label, name, step = 0.05, moved }) {
    const ring = shape("circle", { r: 22, class: "tf-grip" });
    const mark = shape("circle", { r: 9, class: `tf-dot ${name}` });
    const node = shape("g", { tabindex: 0, role: "slider", "aria-label": say(label), class: "tf-handle" }, ring, mark);
    let [here, isHeld] = [[0, 0], false];
    node.addEventListener("pointerdown", (event) => {
      isHeld = true;
      node.setPointerCapture(event.pointerId);
      node.focus({ preventScroll: true });
      event.preventDefault();
    });
    node.addEventListener("pointermove", (event) => isHeld && moved(on.at(event)));
    for (const end of ["pointerup", "pointercancel"]) node.addEventListener(end, () => { isHeld = false; });
    node.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!way) return;
      event.preventDefault();
      const far = event.shiftKey ? 5 * step : step;
      moved([here[0] + far * way[0], here[1] + far * way[1]]);
    });
    on.front.append(node);
    return {
      node,
      show(place, value, words) {
        here = place;
        node.setAttribute("transform", `translate(${on.X(place[0])} ${on.Y(place[1])})`);
        dress(node, { "aria-valuenow": value.toFixed(3), "aria-valuetext": words }, []);
      },
    };
  }

  function slider({ label, min, max, step, value, shown = (v) => number(v), changed }) {
    const output = element("output", {}, shown(value));
    const input = element("input", {
      type: "range", min, max, step, value, "aria-valuetext": shown(value),
      oninput: () => { tell(); changed(Number(input.value)); },
    });
    const tell = () => {
      output.textContent = shown(Number(input.value));
      input.setAttribute("aria-valuetext", output.textContent);
    };
    const node = element("label", { class: "tf-control" }, element("span", {}, say(label)), input, output);
    return { node, set(to) { input.value = to; tell(); }, input };
  }

  function choice({ label, options, value, changed }) {
    const entries = Object.entries(options).map(([name, text]) => {
      const entry = element("option", { value: name }, say(text));
      entry.selected = name === value;
      return entry;
    });
    const select = element("select", { onchange: () => changed(select.value) }, entries);
    const node = element("label", { class: "tf-control tf-choice" }, element("span", {}, say(label)), select);
    return { node, set(to) { select.value = to; }, select };
  }

  const button = (label, pressed) => element("button", { type: "button", class: "tf-button", onclick: pressed }, say(label));

  /* The frame of a figure: what to do, the plots side by side or one below the other, controls, and what is found. */
  function frame(host, { lead, plots: shown, controls }) {
    const found = element("p", { class: "tf-found", role: "status" });
    host.replaceChildren(
      element("p", { class: "tf-lead" }, say(lead)),
      element("div", { class: "tf-plots" }, shown.map((one) => one.node)),
      element("div", { class: "tf-controls" }, controls.map((one) => one.node ?? one)),
      found,
    );
    host.setAttribute("role", "group");
    host.setAttribute("aria-label", say("Interactive figure"));
    return {
      /* Pairs of a name and a number, kept in the same places. */
      tell(entries) {
        found.replaceChildren(...entries.flatMap(([name, value]) => [
          element("span", {}, `${say(name)} `, element("b", {}, value)), " ",
        ]));
      },
    };
  }

  const range = (from, to, count) => Array.from({ length: count }, (_, i) => from + ((to - from) * i) / (count - 1));

  return { button, choice, element, frame, handle, number, plot, range, say, shape, slider };
})();
