import { Beside } from "./beside.js";
import { Compare } from "./compare.js";
import { startMap } from "./map.js";
import { Marks } from "./marks.js";

const find = (id) => document.getElementById(id);
const STEP = 24;
const NUMBERS = { row: "Numbers of a row, with commas between them", series: "Numbers of a series, a line for each channel" };
const COPY = '<svg viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.5" aria-hidden="true"><rect x="5.5" y="5.5" width="8" height="8" rx="1.5"/><path d="M10.5 3.5v-.5a1 1 0 0 0-1-1h-6a1 1 0 0 0-1 1v6a1 1 0 0 0 1 1h.5"/></svg>';

let about = null;
let map = null;
let marks = null;
let compare = null;
let beside = null;
let asked = null; // what is searched for: {picture: File} | {text} | {item} | {row} | {series} | {only: ids}, null for the collection
let shown = STEP;
const past = []; // what was searched for on this visit; the history holds numbers, since files do not survive in it
let running = null; // aborts the request of the last search

/** An element with text and attributes; nothing that comes from data is ever read as HTML. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** JSON of the API; an error with `id`, `message` and `hint` where the request is refused. */
async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw Object.assign(new Error("The server does not answer."), { id: "", hint: "Is `tuplet serve` still running?" });
  }
  if (response.status === 204) return null;
  const found = await response.json();
  if (response.ok) return found;
  if (response.status === 401) login();
  throw Object.assign(new Error(found.error.message), found.error);
}

function post(path, body, signal) {
  return call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });
}

// ---- filters

/** The filter of the fields, in the language of `--where`. */
function where() {
  const quoted = (text) => `'${text.replaceAll("'", "''")}'`;
  const parts = [...document.querySelectorAll("#columns select")]
    .filter((select) => select.value !== "")
    .map((select) => `"${select.name.replaceAll('"', '""')}" = ${quoted(select.value)}`);
  const typed = find("where").value.trim();
  if (typed) parts.push(parts.length ? `(${typed})` : typed);
  return parts.join(" AND ") || null;
}

function showFilters() {
  const order = ["label", "split"];
  const rank = (column) => (order.includes(column.name) ? order.indexOf(column.name) : order.length);
  const few = about.columns.filter((column) => Object.keys(column.values).length > 1).sort((a, b) => rank(a) - rank(b));
  const names = { label: "Class", split: "Split", group: "Group" };
  find("columns").replaceChildren(
    ...few.slice(0, 6).map((column) => {
      const id = `column-${column.name}`;
      const options = Object.entries(column.values)
        .sort(([a], [b]) => a.localeCompare(b, undefined, { numeric: true }))
        .map(([value, count]) => make("option", { value }, `${value || "(empty)"} (${count.toLocaleString("en")})`));
      const select = make("select", { id, name: column.name }, make("option", { value: "" }, "all"), ...options);
      return make("div", {}, make("label", { for: id }, names[column.name] ?? column.name), select);
    }),
  );
  find("where").placeholder = few.length ? `${few[0].name} = '${Object.keys(few[0].values)[0]}'` : "id LIKE '%a%'";
}

// ---- results

function card(item) {
  const { label, text } = item.facts;
  const frame = make("span", { class: "frame" });
  if (item.picture && !text) frame.append(picture(item.picture, ""));
  else frame.append(make("span", { class: text || !about.pictures ? "wordy" : "none" }, text || (about.pictures ? "no picture" : item.id)));
  const caption = make("span", { class: "caption" }, make("b", {}, label ?? ""));
  if (item.score !== undefined) caption.append(make("span", { class: "score" }, number(item.score)));
  const words = [label, item.id, item.score === undefined ? "" : `score ${number(item.score)}`, { true: "same", false: "different" }[item.same]];
  const open = make("button", { type: "button", "aria-label": `Search for ${words.filter(Boolean).join(", ")}` }, frame, caption);
  open.addEventListener("click", () => search({ item: item.id, facts: item.facts, picture: item.picture }));
  const copy = make("button", { type: "button", "aria-label": `Copy the name ${item.id}`, title: "Copy the name" });
  copy.innerHTML = COPY;
  copy.addEventListener("click", () => copyName(item.id));
  const name = make("div", { class: "file" }, make("span", {}, item.id), copy);
  const extra = Object.entries(item.facts)
    .filter(([key, value]) => !["label", "text", "target"].includes(key) && value !== null && value !== "")
    .map(([key, value]) => (key === "split" ? value : `${key} ${value}`));
  const below = make("div", {}, name, make("div", { class: "extra" }, extra.join(" · ")), marks.field(item, asked?.item));
  const kind = item.same === true ? "card same" : "card";
  const element = make("li", { class: kind, "data-id": item.id }, open, below);
  element.addEventListener("pointerenter", () => map?.point(item.id));
  open.addEventListener("focus", () => map?.point(item.id));
  return element;
}

function picture(address, alt) {
  const image = make("img", { alt, src: address, loading: "lazy", decoding: "async" });
  image.addEventListener("load", () => image.classList.toggle("pixels", image.naturalWidth < 96));
  image.addEventListener("error", () => image.replaceWith(make("span", { class: "none" }, "no picture")));
  return image;
}

const number = (value) => (Math.abs(value) >= 100 ? value.toFixed(1) : value.toFixed(4));

async function copyName(name) {
  try {
    await navigator.clipboard.writeText(name);
  } catch {
    const field = make("textarea", { "aria-hidden": "true", class: "unseen" });
    field.value = name;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  find("status").textContent = `Copied ${name}`;
}

function showHits(grid, hits, threshold) {
  const cards = [];
  hits.forEach((hit, at) => {
    if (hit.same === false && (at === 0 || hits[at - 1].same)) cards.push(rule(threshold, at));
    cards.push(card(hit));
  });
  if (!hits.length) cards.push(make("li", { class: "empty" }, "Nothing matches this filter."));
  refill(grid, cards);
}

/** Cards in the place of others; the keyboard stays where it was, or goes on at the first. */
function refill(grid, cards) {
  const held = grid.contains(document.activeElement) ? document.activeElement.closest("li").dataset.id : undefined;
  grid.replaceChildren(...cards);
  if (held === undefined) return;
  const next = cards.find((one) => one.dataset.id === held) ?? cards[0];
  (next?.querySelector("button") ?? find("results")).focus();
}

function rule(threshold, before) {
  const far = threshold.rates.false_accepts;
  const rate = far === undefined ? "" : ` · ${percent(far)} false accepts`;
  const words = `${before ? "Beyond" : "All beyond"} the threshold ${number(threshold.value)}${rate}`;
  return make("li", { class: "rule" }, words);
}

const percent = (rate) => `${(100 * rate).toFixed(rate && rate < 0.01 ? 2 : 1)} %`;

function showProblem(error) {
  const box = find("problem");
  box.hidden = !error;
  if (!error) return;
  const more = error.id ? [" ", make("code", {}, `tuplet explain ${error.id}`)] : [];
  box.replaceChildren(make("strong", {}, error.message), document.createTextNode(error.hint ?? ""), ...more);
}

// ---- searching

/** Search for something, and remember it in the history. */
function search(query) {
  if (compare.isOn && query && !query.only) {
    compare.show(asked, query).catch(showProblem);
    return;
  }
  asked = query;
  shown = STEP;
  const address = query?.item ? `?item=${encodeURIComponent(query.item)}` : query?.text ? `?text=${encodeURIComponent(query.text)}` : location.pathname;
  history.pushState(past.push(query) - 1, "", address);
  refresh();
  find("results").scrollIntoView({ block: "nearest" });
}

async function refresh() {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  find("grid").setAttribute("aria-busy", "true");
  showQuery();
  try {
    const started = performance.now();
    const isQuery = asked && !asked.only;
    const second = isQuery ? beside.ask(searchAt, signal) : null;
    const found = isQuery ? await neighbours(signal) : await listed(signal);
    showHits(find("grid"), found.items, found.threshold);
    showProblem(null);
    const took = Math.round(performance.now() - started);
    const shared = await beside.show(second, found.items);
    find("status").textContent = `${found.words}${shared} · ${took} ms`;
    find("more").hidden = !found.more;
    map?.show(found.items.map((item) => item.id), asked?.item);
  } catch (error) {
    if (error.name === "AbortError") return;
    refill(find("grid"), []);
    find("more").hidden = true;
    find("status").textContent = "";
    showProblem(error);
  }
  find("grid").removeAttribute("aria-busy");
}

/** The neighbours of the query, by the model whose endpoints are at `root`. */
async function searchAt(root, signal) {
  const { picture: file, facts, ...query } = asked;
  let found;
  if (file instanceof Blob) {
    const form = new FormData();
    form.append("picture", file);
    form.append("top", shown);
    if (where()) form.append("where", where());
    found = await call(`${root}search`, { method: "POST", body: form, signal });
  } else {
    found = await post(`${root}search`, { queries: [query], top: shown, where: where() }, signal);
  }
  return { hits: found.results[0].hits, threshold: found.threshold };
}

async function neighbours(signal) {
  const { hits, threshold } = await searchAt("api/", signal);
  const same = hits.filter((hit) => hit.same).length;
  const words = threshold ? `${same} of ${hits.length} reach the threshold` : `${hits.length} neighbours`;
  return { items: hits, threshold, words, more: hits.length === shown && shown < 1000 };
}

async function listed(signal) {
  if (asked?.only) {
    const ids = asked.only.slice(0, shown);
    const items = ids.map((id) => ({ id, facts: { label: map.labelOf(id) }, picture: about.pictures ? `api/picture?id=${encodeURIComponent(id)}` : null }));
    return { items, words: `${asked.only.length.toLocaleString("en")} items of the lasso`, more: ids.length < asked.only.length };
  }
  const words = new URLSearchParams({ limit: shown });
  if (where()) words.set("where", where());
  const { items, total } = await call(`api/items?${words}`, { signal });
  return { items, words: `${items.length} of ${total.toLocaleString("en")} items`, more: items.length < total && shown < 1000 };
}

let offered = null; // the query of which the comparison knows
function showQuery() {
  const box = find("query");
  const { heading, address, name, label } = described();
  if (asked !== offered) compare.offer((offered = asked), about.threshold !== null);
  find("heading").textContent = heading;
  document.title = asked ? `${heading} · ${about.name}` : `${about.name} · tuplet`;
  box.hidden = !name;
  find("drop").classList.toggle("has-query", Boolean(name));
  if (!name) return;
  const caption = make("figcaption", {}, ...(label ? [make("b", {}, label)] : []), make("code", {}, name));
  box.replaceChildren(...(address ? [picture(address, "the query")] : []), caption);
}

/** Where the picture of an item is; null if it has none. */
function addressOf({ item, picture: known }) {
  if (known !== undefined) return known;
  return about.pictures ? `api/picture?id=${encodeURIComponent(item)}` : null;
}

let preview = null; // address of the uploaded picture
function described() {
  if (preview) URL.revokeObjectURL(preview);
  preview = null;
  if (!asked) return { heading: "The collection" };
  if (asked.only) return { heading: "Items of the lasso" };
  if (asked.picture instanceof Blob) {
    preview = URL.createObjectURL(asked.picture);
    return { heading: "Nearest neighbours", address: preview, name: asked.picture.name || "pasted picture" };
  }
  if (asked.item !== undefined) {
    return { heading: "Nearest neighbours", address: addressOf(asked), name: asked.item, label: asked.facts?.label };
  }
  const typed = asked.text ?? find("text").value;
  return { heading: "Nearest neighbours", name: typed.length > 200 ? `${typed.slice(0, 200)}…` : typed };
}

// ---- ways to ask

function takeFile(file) {
  if (!file) return;
  if (!about.inputs.includes("picture")) {
    showProblem({ message: "This model does not take pictures.", hint: `It takes ${about.inputs.join(", ")}.` });
    return;
  }
  search({ picture: file });
}

function listenForPictures() {
  find("choose").addEventListener("click", () => find("file").click());
  find("file").addEventListener("change", () => {
    takeFile(find("file").files[0]);
    find("file").value = "";
  });
  const carriesFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    find("veil").hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) find("veil").hidden = true;
  });
  document.addEventListener("drop", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    find("veil").hidden = true;
    takeFile(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    takeFile(file);
  });
}

function askTyped() {
  const typed = find("text").value.trim();
  if (!typed) return;
  const numbers = (line) => line.split(/[\s,;]+/).filter(Boolean).map(Number);
  if (about.inputs.includes("text")) search({ text: typed });
  else if (about.inputs.includes("row")) search({ row: numbers(typed) });
  else search({ series: typed.split("\n").map(numbers) });
}

/** A field that suggests items, as the ARIA pattern "combobox" says. */
function listenForItems() {
  const [field, list] = [find("item"), find("items")];
  let [at, options, timer] = [-1, [], 0];
  const close = () => {
    list.hidden = true;
    at = -1;
    field.setAttribute("aria-expanded", "false");
    field.removeAttribute("aria-activedescendant");
  };
  const choose = (item) => {
    field.value = "";
    close();
    search({ item: item.id, facts: item.facts, picture: item.picture });
  };
  const mark = (next) => {
    at = next;
    options.forEach(([option], place) => option.setAttribute("aria-selected", String(place === at)));
    options[at][0].scrollIntoView({ block: "nearest" });
    field.setAttribute("aria-activedescendant", options[at][0].id);
  };
  const suggest = async () => {
    const name = field.value.trim();
    if (!name) return close();
    const words = new URLSearchParams({ name, limit: 20 });
    let items;
    try {
      ({ items } = await call(`api/items?${words}`));
    } catch (error) {
      return showProblem(error);
    }
    if (field.value.trim() !== name) return;
    options = items.map((item, place) => {
      const label = item.facts.label ? `${item.id} · ${item.facts.label}` : item.id;
      const option = make("li", { role: "option", id: `item-${place}`, "aria-selected": "false" }, label);
      option.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        choose(item);
      });
      return [option, item];
    });
    list.replaceChildren(...options.map(([option]) => option));
    list.hidden = !options.length;
    field.setAttribute("aria-expanded", String(options.length > 0));
    at = -1;
  };
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(suggest, 120);
  });
  field.addEventListener("blur", close);
  field.addEventListener("keydown", (event) => {
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") close();
    if (event.key === "Enter") {
      event.preventDefault();
      if (!list.hidden && options.length) choose(options[Math.max(0, at)][1]);
    }
    if (!move || list.hidden) return;
    event.preventDefault();
    mark((at + move + options.length) % options.length);
  });
}

/** Arrow keys go from card to card, over lines of the grid too. */
function listenForArrows() {
  find("lists").addEventListener("keydown", (event) => {
    const buttons = [...event.target.closest(".grid").querySelectorAll(".card > button")];
    const at = buttons.indexOf(document.activeElement);
    if (at < 0) return;
    const top = buttons[0].getBoundingClientRect().top;
    const perLine = Math.max(1, buttons.filter((one) => Math.abs(one.getBoundingClientRect().top - top) < 4).length);
    const move = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: perLine, ArrowUp: -perLine }[event.key];
    if (!move || !buttons[at + move]) return;
    event.preventDefault();
    buttons[at + move].focus();
  });
}

// ---- marks

function showMarks(count) {
  find("save-marks").hidden = find("clear-marks").hidden = !count;
  find("save-marks").textContent = `Save ${count.toLocaleString("en")} ${count === 1 ? "mark" : "marks"} as CSV`;
}

function listenForMarks() {
  find("marking").addEventListener("click", () => {
    const isOn = find("marking").getAttribute("aria-pressed") !== "true";
    find("marking").setAttribute("aria-pressed", String(isOn));
    find("lists").classList.toggle("marking", isOn);
  });
  find("save-marks").addEventListener("click", () => marks.save());
  find("clear-marks").addEventListener("click", () => {
    marks.clear();
    document.querySelectorAll("select.mark").forEach((select) => { select.value = ""; });
  });
}

// ---- start

/** What the address asks for. */
function addressed() {
  const words = new URLSearchParams(location.search);
  if (words.has("item")) return { item: words.get("item") };
  return words.has("text") && about.inputs.includes("text") ? { text: words.get("text") } : null;
}

function login() {
  const dialog = find("login");
  if (!dialog.open) dialog.showModal();
}

async function openSession(token) {
  await call("api/session", { method: "POST", headers: { Authorization: `Bearer ${token}` } });
}

async function start() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    history.replaceState(null, "", location.pathname + location.search); // the token stays in no history
    await openSession(token).catch(() => {});
  }
  try {
    about = await call("api/about");
  } catch (error) {
    showProblem(error);
    return;
  }
  find("name").textContent = about.name;
  for (const grid of [find("grid"), find("grid-beside")]) grid.classList.toggle("plain", !about.pictures);
  find("size").textContent = `${about.items.toLocaleString("en")} items · ${about.geometry.replace("_", " ")}`;
  const takesPictures = about.inputs.includes("picture");
  const typed = ["text", "row", "series"].find((kind) => about.inputs.includes(kind));
  find("choose").hidden = !takesPictures;
  find("invitation").textContent = takesPictures ? "Drop or paste a picture here, or" : "Type a query, or choose an item.";
  find("words").hidden = !typed;
  find("text-label").textContent = NUMBERS[typed] ?? "Text";
  if (about.threshold) {
    const { value, rates } = about.threshold;
    find("threshold").hidden = false;
    const side = about.threshold.larger_is_same ? "from" : "up to";
    find("threshold").append(`Same ${side} `, make("strong", {}, number(value)), `: ${percent(rates.false_accepts)} false accepts and ${percent(rates.false_rejects)} false rejects on validation classes.`);
  }
  marks = new Marks(`${about.name} ${about.model}`, showMarks);
  compare = new Compare({ make, picture, post, number, addressOf });
  beside = new Beside({ showHits, about: () => about });
  showFilters();
  find("filters").open = !window.matchMedia("(max-width: 52rem)").matches;
  asked = addressed();
  history.replaceState(past.push(asked) - 1, "", location.href);
  await refresh();
  map = await startMap({ call, about, open: (id) => search({ item: id }), select: (ids) => search({ only: ids }), picture });
  if (map) refresh();
}

find("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  askTyped();
});
find("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || about.inputs.includes("series")) return;
  event.preventDefault();
  askTyped();
});
find("filters").addEventListener("change", () => { shown = STEP; refresh(); });
find("where").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  shown = STEP;
  refresh();
});
find("clear").addEventListener("click", () => {
  document.querySelectorAll("#columns select").forEach((select) => { select.value = ""; });
  find("where").value = "";
  search(null);
});
find("more").addEventListener("click", () => { shown = Math.min(1000, shown * 2); refresh(); });
find("token-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await openSession(find("token").value);
    location.reload();
  } catch (error) {
    find("login-problem").textContent = error.message;
  }
});
window.addEventListener("popstate", (event) => {
  if (!about) return;
  asked = past[event.state] ?? addressed();
  shown = STEP;
  refresh();
});
listenForPictures();
listenForItems();
listenForArrows();
listenForMarks();
start();
