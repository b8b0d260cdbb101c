/** Same or different: the query beside another item, as `tuplet verify` decides. */

const percent = (rate) => `${(100 * rate).toFixed(rate && rate < 0.01 ? 2 : 1)} %`;

export class Compare {
  /** `page` makes elements, asks the API, and says what is searched for. */
  constructor(page) {
    this.page = page;
    this.button = document.getElementById("compare");
    this.box = document.getElementById("decision");
    this.isOn = false;
    this.button.addEventListener("click", () => this.turn(!this.isOn));
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.isOn) this.turn(false);
    });
  }

  /** While it is on, whatever is chosen next is compared with the query instead of searched for. */
  turn(isOn) {
    this.isOn = isOn;
    this.button.setAttribute("aria-pressed", String(isOn));
    document.body.classList.toggle("comparing", isOn);
    document.getElementById("compare-hint").hidden = !isOn;
  }

  /** A new query: it can be compared with another if it is one item. */
  offer(query, hasThreshold) {
    this.turn(false);
    this.button.hidden = !query || Boolean(query.only) || !hasThreshold;
    this.close();
  }

  close() {
    this.box.hidden = true;
    this.box.replaceChildren();
  }

  /** Ask whether the query and another are of one class, and show the answer. */
  async show(query, other) {
    const { make, post, number } = this.page;
    this.turn(false);
    const [a, b] = await Promise.all([asJson(query), asJson(other)]);
    const { decision, score, threshold } = await post("api/verify", { a, b });
    const { value, rates } = threshold;
    const side = threshold.larger_is_same ? "from" : "up to";
    const words = [`Score ${number(score)}, same ${side} ${number(value)}.`];
    if (rates.false_accepts !== undefined) {
      words.push(`On validation classes ${percent(rates.false_accepts)} false accepts, ${percent(rates.false_rejects)} false rejects.`);
    }
    const close = make("button", { type: "button", "aria-label": "Close the comparison" }, "Close");
    close.addEventListener("click", () => this.close());
    this.box.className = `decision ${decision}`;
    this.box.dataset.decision = decision;
    this.box.dataset.score = String(score);
    this.box.replaceChildren(
      this.figure(query),
      this.figure(other),
      make("div", {}, make("strong", {}, decision === "same" ? "Same" : "Different"), make("p", {}, words.join(" ")), close),
    );
    this.box.hidden = false;
    this.box.scrollIntoView({ block: "nearest" });
  }

  figure(one) {
    const { make, picture, addressOf } = this.page;
    let address = null;
    if (one.picture instanceof Blob) address = URL.createObjectURL(one.picture);
    else if (one.item !== undefined) address = addressOf(one);
    const name = one.item ?? one.picture?.name ?? one.text ?? "the query";
    const parts = address ? [picture(address, "")] : [];
    const image = parts[0];
    if (one.picture instanceof Blob) image.addEventListener("load", () => URL.revokeObjectURL(address));
    return make("figure", {}, ...parts, make("figcaption", {}, make("code", {}, name)));
  }
}

/** A query as the API reads it; a file as base64. */
async function asJson({ picture, facts, ...query }) {
  if (!(picture instanceof Blob)) return query;
  const address = await new Promise((done, failed) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => done(reader.result));
    reader.addEventListener("error", () => failed(reader.error));
    reader.readAsDataURL(picture);
  });
  return { picture: address.slice(address.indexOf(",") + 1) };
}
