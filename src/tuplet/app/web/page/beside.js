/** A second model on the same query: its neighbours beside those of the first. */

export class Beside {
  /** `page` asks the API and draws hits; without a second model on this server nothing is shown. */
  constructor(page) {
    this.page = page;
    this.box = document.getElementById("beside");
    this.grid = document.getElementById("grid-beside");
    this.name = page.about().beside;
    document.getElementById("first-name").textContent = page.about().name;
    document.getElementById("beside-name").textContent = this.name ?? "";
  }

  /** The neighbours that the second model finds, while the first one is asked too. */
  ask(searchAt, signal) {
    if (!this.name) return null;
    return searchAt("api/beside/", signal).then(
      (found) => ({ found }),
      (error) => ({ error }),
    );
  }

  /** Both lists side by side; an item that the other model does not find is marked. */
  async show(asked, first) {
    const answer = asked ? await asked : null;
    document.getElementById("lists").classList.toggle("pair", Boolean(answer));
    this.box.hidden = document.getElementById("first").hidden = !answer;
    if (!answer) return "";
    const problem = document.getElementById("beside-problem");
    problem.hidden = !answer.error;
    if (answer.error) {
      if (answer.error.name === "AbortError") throw answer.error;
      problem.textContent = answer.error.message;
      this.grid.replaceChildren();
      return "";
    }
    const { hits, threshold } = answer.found;
    this.page.showHits(this.grid, hits, threshold);
    const second = new Set(hits.map((hit) => hit.id));
    const both = new Set(first.filter((hit) => second.has(hit.id)).map((hit) => hit.id));
    for (const card of document.querySelectorAll("#lists .card")) {
      card.classList.toggle("alone", !both.has(card.dataset.id));
    }
    return ` · ${both.size} of ${first.length} found by both`;
  }
}
