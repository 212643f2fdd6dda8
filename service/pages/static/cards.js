// The answer: where the time went, and a card for each document, best first.

const MAX_SHOWN_CHARACTERS = 600;
const STAGE_WORDS = {
  tokenise: "text to tokens", queue: "waiting for the engine", infer: "the model",
  post: "writing the answer", other: "reading the request, caches", network: "the way here and back",
};

/** An element with a class, attributes and children. */
export function make(tag, className = "", children = [], attributes = {}) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const ms = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
const percent = (share) => `${share < 0.0995 ? (100 * share).toFixed(1) : Math.round(100 * share)} %`;

/** Colour an element as grade `grade` of `number`. */
export function tint(element, grade, number) {
  element.style.setProperty("--g", String(grade / Math.max(1, number - 1)));
  return element;
}

/** Where the time went, and what the request cost. */
export function drawFacts(place, { answer, stages, seenMs }) {
  const told = Object.fromEntries(stages);
  const { total = 0, ...parts } = told;
  const known = Object.values(parts).reduce((sum, part) => sum + part, 0);
  const all = { ...parts, other: Math.max(0, total - known), network: Math.max(0, seenMs - total) };
  const bar = make("div", "timing-bar");
  const words = make("ul", "timing");
  Object.entries(all).forEach(([stage, took]) => {
    const piece = make("span", `stage stage-${stage}`, [], { title: `${stage} ${ms(took)}` });
    piece.style.flexGrow = String(took);
    bar.append(piece);
    const item = make("li", "", [make("i", `dot stage-${stage}`), `${stage} `, make("b", "", [ms(took)])]);
    item.title = STAGE_WORDS[stage] ?? stage;
    words.append(item);
  });
  const { usage, coverage, results, model } = answer;
  const documents = results.length === 1 ? "1 document" : `${results.length} documents`;
  const head = make("p", "headline", [make("b", "", [ms(total)]), ` in the service, ${ms(seenMs)} seen from here`]);
  const cost = [`${documents}`, `${usage.prompt_tokens} tokens`];
  if (usage.cached_tokens) cost.push(`${usage.cached_tokens} of them held already`);
  if (usage.num_cached_pairs) cost.push(`${usage.num_cached_pairs} of ${usage.num_distinct_pairs} from the cache`);
  if (coverage < 1) cost.push(`${percent(coverage)} scored in time`);
  if (usage.query_truncated) cost.push("the query was cut");
  cost.push(`${model.name}@${model.hash.slice(0, 12)}`);
  place.replaceChildren(head, bar, words, make("p", "cost", [cost.join(" · ")]));
}

/** What the colours of the bars mean. */
export function drawLegend(place, names) {
  const items = names.map((name, grade) => make("li", "", [tint(make("i", "dot grade"), grade, names.length), `${grade} ${name}`]));
  place.replaceChildren(make("ul", "grades", items, { "aria-label": "Grades" }));
}

function distribution(shares, names, who) {
  const said = shares.map((share, grade) => `${names[grade]} ${percent(share)}`).join(", ");
  const bar = make("div", "distribution", [], { role: "img", "aria-label": `${who}: ${said}`, title: said });
  shares.forEach((share, grade) => {
    const piece = tint(make("span", "grade"), grade, names.length);
    piece.style.flexGrow = String(share);
    bar.append(piece);
  });
  return bar;
}

const badge = (result, names) =>
  tint(make("span", "badge", [`${result.grade} ${result.grade_name}`]), result.grade, names.length);

function body(text) {
  const shown = make("p", "document", [text || "(empty)"]);
  if (text.length <= MAX_SHOWN_CHARACTERS) return [shown];
  shown.classList.add("long");
  const more = make("button", "quiet more-text", ["Show all of it"], { type: "button", "aria-expanded": "false" });
  more.addEventListener("click", () => {
    const isOpen = shown.classList.toggle("open");
    more.textContent = isOpen ? "Show less" : "Show all of it";
    more.setAttribute("aria-expanded", isOpen);
  });
  return [shown, more];
}

function marks(result) {
  const found = [];
  if (result.truncated) {
    const why = `The model read its beginning only: ${result.num_tokens} tokens with the query.`;
    found.push(make("span", "mark cut", ["cut"], { title: why }), make("span", "visually-hidden", [why]));
  }
  found.push(make("span", "mark", [`${result.num_tokens} tokens`]), make("span", "mark", [`given as no. ${result.index + 1}`]));
  return found;
}

function card(result, rank, text, names) {
  const place = make("span", "rank", [String(rank)], { "aria-hidden": "true" });
  if (!result.scored) {
    return make("li", "card unscored", [
      make("div", "head", [place, make("span", "mark", ["not scored in time"])]), ...body(text),
    ], { tabindex: "-1" });
  }
  const score = make("span", "score", [result.score.toFixed(3)], { title: "Expected grade, scaled to 0 to 1" });
  const why = make("button", "why", ["Explain"], { type: "button", "aria-expanded": "false", "aria-label": `Explain number ${rank}` });
  const element = make("li", "card", [
    make("div", "head", [place, score, badge(result, names), make("span", "marks", marks(result)), why]),
    distribution(result.distribution, names, "Chances"),
    ...body(text),
    make("div", "reason", [], { hidden: "", "aria-live": "polite" }),
  ], { tabindex: "-1" });
  element.dataset.index = String(result.index);
  return tint(element, result.grade, names.length);
}

/** One card per document, best first; those without a score come last. */
export function drawCards(place, results, documents, names) {
  const ranked = [...results].sort((a, b) => (b.score ?? -1) - (a.score ?? -1) || a.index - b.index);
  const cards = ranked.map((result, index) => card(result, index + 1, documents[result.index], names));
  place.replaceChildren(...cards);
  return ranked.map((result, index) => ({ result, element: cards[index] }));
}

/** On each card, what the candidate says of the same document, and where it would rank it. */
export function drawCandidate(cards, { results, model }, names) {
  const order = [...results].sort((a, b) => b.score - a.score || a.index - b.index).map((one) => one.index);
  cards.forEach(({ result, element }, rank) => {
    const other = results[result.index];
    const moved = rank - order.indexOf(result.index);
    const places = `${Math.abs(moved)} place${Math.abs(moved) > 1 ? "s" : ""}`;
    const shift = moved ? `${places} ${moved > 0 ? "higher" : "lower"}` : "same place";
    const marks = [make("span", "mark", [shift])];
    if (result.scored) {
      const difference = other.score - result.score;
      marks.push(make("span", "mark", [`${difference < 0 ? "−" : "+"}${Math.abs(difference).toFixed(3)}`]));
      if (other.grade !== result.grade) marks.push(make("span", "mark flip", ["other grade"]));
    }
    const row = make("div", "candidate", [
      make("div", "head", [
        make("span", "who", [model.name], { title: `the candidate, ${model.hash.slice(0, 12)}` }),
        make("span", "score", [other.score.toFixed(3)]), badge(other, names), make("span", "marks", marks),
      ]),
      distribution(other.distribution, names, `Chances by ${model.name}`),
    ]);
    element.querySelector(".distribution").after(row);
  });
}
