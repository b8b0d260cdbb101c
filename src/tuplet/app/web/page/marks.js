/** What a person says of items, kept by the browser until it is saved as a table that `tuplet train --exclude` reads. */

const WORDS = { "": "no mark", right: "right label", label: "wrong label", duplicate: "duplicate" };
const COLUMNS = ["id", "finding", "label", "split", "other", "exclude"];

export class Marks {
  /** Marks of one index, told apart by `key`; `changed` is called with their number. */
  constructor(key, changed) {
    this.key = `tuplet marks ${key}`;
    this.changed = changed;
    this.rows = new Map(Object.entries(JSON.parse(localStorage.getItem(this.key) ?? "{}")));
    changed(this.rows.size);
  }

  /** A field that marks an item; `query` is the item that it is shown beside, if there is one. */
  field(item, query) {
    const select = document.createElement("select");
    select.className = "mark";
    select.setAttribute("aria-label", `Mark ${item.id}`);
    for (const [value, words] of Object.entries(WORDS)) select.append(new Option(words, value));
    select.value = this.rows.get(item.id)?.finding ?? "";
    select.addEventListener("change", () => {
      const finding = select.value;
      const { label = "", split = "" } = item.facts;
      const other = finding === "duplicate" && query && query !== item.id ? query : "";
      const exclude = finding === "label" || finding === "duplicate" ? "yes" : "";
      if (finding) this.rows.set(item.id, { id: item.id, finding, label, split, other, exclude });
      else this.rows.delete(item.id);
      this.keep();
    });
    return select;
  }

  keep() {
    localStorage.setItem(this.key, JSON.stringify(Object.fromEntries(this.rows)));
    this.changed(this.rows.size);
  }

  clear() {
    this.rows.clear();
    this.keep();
  }

  save() {
    const quoted = (cell) => `"${String(cell ?? "").replaceAll('"', '""')}"`;
    const lines = [COLUMNS, ...[...this.rows.values()].map((row) => COLUMNS.map((name) => row[name]))];
    const text = `${lines.map((line) => line.map(quoted).join(",")).join("\n")}\n`;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = "marks.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }
}
