// One card's explanation: asked for once, drawn as it streams in, its quotes marked in the card's document.

import { make, tint } from "./cards.js";
import { mark } from "./highlight.js";
import { explain } from "./service.js";

const CRITERIA = ["exactness", "coverage", "topicality", "context"];
const TOP = 3;
const MEANS = {
  wants: "What the query asks for", exactness: "How precisely the document answers",
  coverage: "How much of the query it answers", topicality: "Whether it is about the query's subject",
  context: "Whether it gives what is needed around the answer", evidence: "Quotes of the document",
  missing: "Terms of the query that the document lacks", verdict: "The grade that was given",
};

/** The reason of one card. */
export class Reason {
  /** `ask` returns the body of the request; `names` are the grades'. */
  constructor(element, text, ask, names) {
    Object.assign(this, { element, text, ask, names, state: "closed" });
    this.panel = element.querySelector(".reason");
    this.button = element.querySelector(".why");
    this.shown = element.querySelector(".document");
  }

  /** Open it, and ask for it the first time; or close it. */
  toggle() {
    const isOpen = this.panel.hidden;
    this.panel.hidden = !isOpen;
    this.button.setAttribute("aria-expanded", isOpen);
    this.button.textContent = isOpen ? "Close" : "Explain";
    if (isOpen && this.state === "closed") this.read();
  }

  /** Give up what streams in. */
  stop() {
    this.stopping?.abort();
  }

  async read() {
    this.state = "open";
    this.stopping = new AbortController();
    this.steps = make("dl", "steps");
    this.end = make("p", "end", ["thinking"]);
    this.panel.replaceChildren(this.steps, this.end);
    this.panel.setAttribute("aria-busy", "true");
    this.began = performance.now();
    try {
      for await (const { event, data } of explain(this.ask(), this.stopping.signal)) this.draw(event, data);
    } catch (error) {
      if (error.name !== "AbortError") this.fail(error);
    } finally {
      this.panel.removeAttribute("aria-busy");
    }
  }

  draw(event, data) {
    if (event === "grade") this.firstMs = performance.now() - this.began;
    else if (event === "delta") this.partOf(data.step).append(data.text);
    else if (event === "step") this.finish(data.step, data.value);
    else if (event === "done") this.close(data);
  }

  /** The place of a step's value, made when its first piece comes. */
  partOf(name) {
    let value = this.steps.querySelector(`[data-step="${CSS.escape(name)}"]`);
    if (!value) {
      value = make("dd", "streaming", [], { "data-step": name });
      this.steps.append(make("div", `step-${name}`, [make("dt", "", [name], { title: MEANS[name] ?? name }), value]));
    }
    return value;
  }

  finish(name, value) {
    const place = this.partOf(name);
    place.classList.remove("streaming");
    if (CRITERIA.includes(name)) place.replaceChildren(pips(value));
    else if (name === "verdict") place.replaceChildren(tint(make("span", "badge", [this.names[value]]), value, this.names.length));
    else if (Array.isArray(value)) {
      const className = name === "evidence" ? "quote" : "term";
      place.replaceChildren(...(value.length ? value.map((one) => make("span", className, [one])) : ["none"]));
      if (name === "evidence") this.numFound = mark(this.shown, this.text, value);
      if (name === "evidence" && value.length) this.shown.classList.add("open");
    } else place.replaceChildren(String(value));
  }

  close({ usage, timing, resumed, source }) {
    const rate = timing.total_ms > timing.first_token_ms
      ? `, ${Math.round((1000 * usage.completion_tokens) / timing.total_ms)} tokens a second` : "";
    const from = { cached: "kept from before", shared: "shared with one under way" }[source]
      ?? (resumed ? "resumed from the scored pair" : "read anew");
    this.end.textContent = `first event after ${Math.round(this.firstMs)} ms, ${usage.completion_tokens} tokens in `
      + `${Math.round(timing.total_ms)} ms${rate}; ${from}`;
    this.state = "whole";
  }

  fail(error) {
    const again = make("button", "quiet", ["Try again"], { type: "button" });
    again.addEventListener("click", () => this.read());
    const code = error.code ? make("code", "", [error.code]) : "";
    this.end.replaceChildren(code, ` ${error.message} `, again);
    this.end.classList.add("failed");
    this.state = "failed";
  }
}

function pips(value) {
  const dots = Array.from({ length: TOP }, (_, place) => make("i", place < value ? "pip full" : "pip"));
  return make("span", "pips", dots, { role: "img", "aria-label": `${value} of ${TOP}` });
}
