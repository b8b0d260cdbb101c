/** A map of up to 100,000 points in WebGL, linked with the results. */

const VERTEX = `
attribute vec2 place; attribute vec4 colour; attribute float size;
uniform vec2 centre; uniform vec2 scale; uniform float fade; varying vec4 shade;
void main() { gl_Position = vec4((place - centre) * scale, 0.0, 1.0); gl_PointSize = size; shade = vec4(colour.rgb, colour.a * fade); }`;
const FRAGMENT = `
precision mediump float; varying vec4 shade;
void main() {
  float far = length(gl_PointCoord - 0.5) * 2.0;
  float edge = 1.0 - smoothstep(0.75, 1.0, far);
  if (edge <= 0.0) discard;
  gl_FragColor = vec4(shade.rgb * shade.a, shade.a) * edge;
}`;
const WAIT = 1500;

/** Ask until the map is computed, then draw it; null where there is none or no WebGL. */
export async function startMap(page) {
  const found = await computed(page);
  const plane = document.getElementById("plane");
  const canvas = document.getElementById("points");
  const gl = canvas.getContext("webgl", { antialias: true, premultipliedAlpha: true });
  if (!found.ids.length || !gl) return null;
  plane.hidden = false;
  return new PointMap(page, found, canvas, gl);
}

async function computed(page) {
  for (;;) {
    const found = await page.call("api/map");
    if (found.ready) return found;
    await new Promise((done) => setTimeout(done, WAIT));
  }
}

/** Colours of classes that differ in hue and lightness, readable on both grounds. */
function colourOf(label, isDark) {
  if (label < 0) return isDark ? [0.55, 0.58, 0.63] : [0.55, 0.58, 0.63];
  const hue = (label * 137.508) % 360;
  const light = (isDark ? 0.66 : 0.5) + 0.09 * ((label % 3) - 1);
  return fromHsl(hue, 0.62, light);
}

function fromHsl(hue, saturation, light) {
  const strength = saturation * Math.min(light, 1 - light);
  const part = (shift) => {
    const k = (shift + hue / 30) % 12;
    return light - strength * Math.max(-1, Math.min(k - 3, 9 - k, 1));
  };
  return [part(0), part(8), part(4)];
}

class PointMap {
  constructor(page, found, canvas, gl) {
    Object.assign(this, { page, found, canvas, gl, count: found.ids.length });
    this.box = document.getElementById("canvas");
    this.tip = document.getElementById("tip");
    this.status = document.getElementById("plane-status");
    this.theme = window.matchMedia("(prefers-color-scheme: dark)");
    this.rows = new Map(found.ids.map((id, row) => [id, row]));
    this.marked = new Set(); // rows of the results
    this.chosen = new Set(); // rows in the lasso
    this.query = -1;
    this.current = -1;
    this.places = new Float32Array(2 * this.count);
    for (let row = 0; row < this.count; row++) this.places.set([found.x[row] / 10000, found.y[row] / 10000], 2 * row);
    this.sort();
    this.prepare();
    this.paint();
    this.whole();
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.box);
    this.theme.addEventListener("change", () => this.paint());
    this.say();
  }

  labelOf(id) {
    return this.found.labels[this.found.classes[this.rows.get(id)]];
  }

  /** Cells of a grid, so that the point under the pointer is found among a few. */
  sort() {
    this.cells = new Map();
    for (let row = 0; row < this.count; row++) {
      const key = this.cell(this.places[2 * row], this.places[2 * row + 1]);
      if (!this.cells.has(key)) this.cells.set(key, []);
      this.cells.get(key).push(row);
    }
  }

  cell(x, y) {
    return Math.floor((x + 1) * 50) * 1000 + Math.floor((y + 1) * 50);
  }

  prepare() {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.uniforms = Object.fromEntries(["centre", "scale", "fade"].map((name) => [name, gl.getUniformLocation(program, name)]));
    this.inputs = [["place", 2], ["colour", 4], ["size", 1]].map(([name, width]) => [name, gl.getAttribLocation(program, name), width]);
    for (const [, at] of this.inputs) gl.enableVertexAttribArray(at);
    const layer = () => ({ count: 0, ...Object.fromEntries(this.inputs.map(([name]) => [name, gl.createBuffer()])) });
    this.all = layer();
    this.over = layer();
  }

  /** Put points into a layer: rows, and of each its colour and its size in pixels. */
  fill(layer, rows, look) {
    const { gl } = this;
    const ratio = window.devicePixelRatio || 1;
    const values = { place: new Float32Array(2 * rows.length), colour: new Float32Array(4 * rows.length), size: new Float32Array(rows.length) };
    rows.forEach((row, at) => {
      const { colour, opacity, size } = look(row);
      values.place[2 * at] = this.places[2 * row];
      values.place[2 * at + 1] = this.places[2 * row + 1];
      values.colour.set(colour, 4 * at);
      values.colour[4 * at + 3] = opacity;
      values.size[at] = ratio * size;
    });
    for (const [name] of this.inputs) {
      gl.bindBuffer(gl.ARRAY_BUFFER, layer[name]);
      gl.bufferData(gl.ARRAY_BUFFER, values[name], gl.DYNAMIC_DRAW);
    }
    layer.count = rows.length;
  }

  /** Colours of all points, once for each theme. */
  paint() {
    const isDark = this.theme.matches;
    this.palette = [-1, ...this.found.labels.keys()].map((label) => colourOf(label, isDark));
    this.ink = isDark ? [0.95, 0.95, 0.96] : [0.08, 0.09, 0.12];
    this.small = this.count > 20000 ? 2.5 : this.count > 3000 ? 4 : 7;
    const look = (row) => ({ colour: this.palette[this.found.classes[row] + 1], opacity: 0.8, size: this.small });
    this.fill(this.all, this.found.ids.map((_, row) => row), look);
    this.mark();
  }

  /** What is marked lies over the rest, and the rest fades. */
  mark() {
    const lit = this.chosen.size ? this.chosen : this.marked;
    const ends = [this.query, this.current].filter((row) => row >= 0);
    this.isFaded = lit.size > 0;
    this.fill(this.over, [...lit, ...ends], (row) => {
      const isEnd = ends.includes(row);
      return { colour: isEnd ? this.ink : this.palette[this.found.classes[row] + 1], opacity: 1, size: this.small + (isEnd ? 7 : 4) };
    });
    this.draw();
  }

  drawLayer(layer, fade) {
    const { gl } = this;
    for (const [name, at, width] of this.inputs) {
      gl.bindBuffer(gl.ARRAY_BUFFER, layer[name]);
      gl.vertexAttribPointer(at, width, gl.FLOAT, false, 0, 0);
    }
    gl.uniform1f(this.uniforms.fade, fade);
    gl.drawArrays(gl.POINTS, 0, layer.count);
  }

  draw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      const { gl, canvas } = this;
      const ratio = window.devicePixelRatio || 1;
      const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      gl.viewport(0, 0, width, height);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT);
      gl.uniform2f(this.uniforms.centre, this.x, this.y);
      gl.uniform2f(this.uniforms.scale, ...this.scale());
      this.drawLayer(this.all, this.isFaded ? 0.35 : 1);
      this.drawLayer(this.over, 1);
    });
  }

  /** Clip units for one unit of the plane; both directions are of one length on the screen. */
  scale() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const side = Math.min(width, height) * 0.94 * this.zoom;
    return [side / width, side / height];
  }

  toPlane(left, top) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const [sx, sy] = this.scale();
    return [this.x + ((2 * left) / width - 1) / sx, this.y + (1 - (2 * top) / height) / sy];
  }

  toScreen(row) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const [sx, sy] = this.scale();
    return [((this.places[2 * row] - this.x) * sx + 1) * (width / 2), (1 - (this.places[2 * row + 1] - this.y) * sy) * (height / 2)];
  }

  whole() {
    Object.assign(this, { x: 0, y: 0, zoom: 1 });
    this.mark();
  }

  zoomAt(left, top, factor) {
    const [x, y] = this.toPlane(left, top);
    this.zoom = Math.min(400, Math.max(0.8, this.zoom * factor));
    const [nx, ny] = this.toPlane(left, top);
    this.x += x - nx;
    this.y += y - ny;
    this.hide();
    this.draw();
  }

  /** The row nearest to a place on the screen, if it is at most 14 pixels away; -1 if there is none. */
  rowAt(left, top) {
    const [x, y] = this.toPlane(left, top);
    const reach = (14 * 2) / (this.canvas.clientWidth * this.scale()[0]);
    let [best, least] = [-1, reach * reach];
    const span = Math.min(100, Math.ceil(reach * 50));
    for (let dx = -span; dx <= span; dx++) {
      for (let dy = -span; dy <= span; dy++) {
        for (const row of this.cells.get(this.cell(x + dx / 50, y + dy / 50)) ?? []) {
          const far = (this.places[2 * row] - x) ** 2 + (this.places[2 * row + 1] - y) ** 2;
          if (far < least) [best, least] = [row, far];
        }
      }
    }
    return best;
  }

  /** Show which items the results are. */
  show(ids, query) {
    this.marked = new Set(ids.map((id) => this.rows.get(id)).filter((row) => row !== undefined));
    if (this.marked.size === this.count) this.marked.clear();
    this.query = query === undefined ? -1 : (this.rows.get(query) ?? -1);
    if (![...this.chosen].some((row) => this.marked.has(row))) this.chosen.clear();
    this.erase();
    this.mark();
    this.say();
  }

  /** An item of the results that is pointed at. */
  point(id) {
    this.current = this.rows.get(id) ?? -1;
    this.mark();
  }

  say() {
    const rows = this.chosen.size ? `${this.chosen.size.toLocaleString("en")} in the lasso of ` : "";
    this.status.textContent = `${rows}${this.count.toLocaleString("en")} items`;
  }

  showTip(row) {
    const { tip, found, page } = this;
    const id = found.ids[row];
    const label = found.labels[found.classes[row]];
    tip.replaceChildren();
    if (page.about.pictures) tip.append(page.picture(`api/picture?id=${encodeURIComponent(id)}`, ""));
    if (label !== undefined) tip.append(Object.assign(document.createElement("b"), { textContent: label }));
    tip.append(Object.assign(document.createElement("span"), { textContent: id }));
    tip.hidden = false;
    const [left, top] = this.toScreen(row);
    const { clientWidth: width, clientHeight: height } = this.canvas;
    tip.style.left = `${left + tip.offsetWidth + 16 > width ? Math.max(0, left - tip.offsetWidth - 12) : left + 12}px`;
    tip.style.top = `${Math.max(0, Math.min(height - tip.offsetHeight, top - tip.offsetHeight / 2))}px`;
    return label === undefined ? id : `${label}, ${id}`;
  }

  hide() {
    this.tip.hidden = true;
  }

  focusRow(row) {
    if (row === this.current && !this.tip.hidden) return;
    this.current = row;
    for (const card of document.querySelectorAll(".card.picked")) card.classList.remove("picked");
    if (row >= 0) {
      this.status.textContent = this.showTip(row);
      document.querySelector(`.card[data-id="${CSS.escape(this.found.ids[row])}"]`)?.classList.add("picked");
    } else {
      this.hide();
      this.say();
    }
    this.mark();
  }

  listen() {
    const { canvas } = this;
    const lasso = document.getElementById("lasso");
    const isLasso = () => lasso.getAttribute("aria-pressed") === "true";
    const held = new Map(); // pointers that are down
    let moved = 0;
    const arm = (isOn) => {
      lasso.setAttribute("aria-pressed", String(isOn));
      this.box.classList.toggle("lasso", isOn);
    };
    lasso.addEventListener("click", () => arm(!isLasso()));
    document.getElementById("whole").addEventListener("click", () => {
      this.chosen.clear();
      this.erase();
      this.whole();
      this.say();
    });
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomAt(...place(event), Math.exp(-event.deltaY / 400));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      held.set(event.pointerId, place(event));
      moved = 0;
      if (isLasso()) this.line = [place(event)];
    });
    canvas.addEventListener("pointermove", (event) => {
      const now = place(event);
      const last = held.get(event.pointerId);
      if (!last) {
        this.focusRow(this.rowAt(...now));
        return;
      }
      moved += Math.hypot(now[0] - last[0], now[1] - last[1]);
      if (this.line && held.size === 1) {
        this.line.push(now);
        this.trace();
      } else if (held.size === 1) {
        const [from, to] = [this.toPlane(...last), this.toPlane(...now)];
        this.x += from[0] - to[0];
        this.y += from[1] - to[1];
        this.hide();
        this.draw();
      } else {
        const [other] = [...held].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
        const spread = (at) => Math.hypot(at[0] - other[0], at[1] - other[1]) || 1;
        this.zoomAt((now[0] + other[0]) / 2, (now[1] + other[1]) / 2, spread(now) / spread(last));
      }
      held.set(event.pointerId, now);
    });
    const release = (event) => {
      if (!held.delete(event.pointerId)) return;
      if (this.line) {
        const line = this.line;
        this.line = null;
        if (line.length > 3) this.select(line);
        else this.erase();
        arm(false);
      } else if (moved < 5 && event.type === "pointerup") {
        const row = this.rowAt(...place(event));
        if (row >= 0) this.page.open(this.found.ids[row]);
      }
    };
    canvas.addEventListener("pointerup", release);
    canvas.addEventListener("pointercancel", release);
    canvas.addEventListener("pointerleave", () => { if (!held.size) this.focusRow(-1); });
    canvas.addEventListener("blur", () => this.focusRow(-1));
    canvas.addEventListener("keydown", (event) => this.press(event));
  }

  press(event) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const zoom = { "+": 1.4, "=": 1.4, "-": 1 / 1.4 }[event.key];
    const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (zoom) this.zoomAt(width / 2, height / 2, zoom);
    if (event.key === "0") this.whole();
    if (event.key === "Escape") this.focusRow(-1);
    if (event.key === "Enter" && this.current >= 0) this.page.open(this.found.ids[this.current]);
    if (!way) return;
    event.preventDefault();
    this.focusRow(this.next(way));
  }

  /** The nearest point in a direction, seen from the current one. */
  next([wx, wy]) {
    if (this.current < 0) return this.query >= 0 ? this.query : this.rowNearest(this.x, this.y);
    const [x, y] = this.places.subarray(2 * this.current, 2 * this.current + 2);
    let [best, least] = [this.current, Infinity];
    for (let row = 0; row < this.count; row++) {
      const [dx, dy] = [this.places[2 * row] - x, this.places[2 * row + 1] - y];
      const along = dx * wx + dy * wy;
      const across = Math.abs(dx * wy) + Math.abs(dy * wx);
      if (along <= 0 || across > along) continue;
      const far = along + 2 * across;
      if (far < least) [best, least] = [row, far];
    }
    return best;
  }

  rowNearest(x, y) {
    let [best, least] = [0, Infinity];
    for (let row = 0; row < this.count; row++) {
      const far = (this.places[2 * row] - x) ** 2 + (this.places[2 * row + 1] - y) ** 2;
      if (far < least) [best, least] = [row, far];
    }
    return best;
  }

  trace() {
    document.querySelector("#drawn polygon").setAttribute("points", this.line.map((at) => at.map(Math.round).join(",")).join(" "));
  }

  erase() {
    document.querySelector("#drawn polygon").removeAttribute("points");
  }

  /** Choose the points inside of a closed line, by how often a ray crosses it. */
  select(line) {
    const corners = line.map((at) => this.toPlane(...at));
    const inside = [];
    for (let row = 0; row < this.count; row++) {
      const [x, y] = this.places.subarray(2 * row, 2 * row + 2);
      let isIn = false;
      for (let at = 0, last = corners.length - 1; at < corners.length; last = at++) {
        const [[ax, ay], [bx, by]] = [corners[at], corners[last]];
        if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) isIn = !isIn;
      }
      if (isIn) inside.push(row);
    }
    this.erase();
    if (!inside.length) return;
    this.chosen = new Set(inside);
    this.page.select(inside.map((row) => this.found.ids[row]));
  }
}
