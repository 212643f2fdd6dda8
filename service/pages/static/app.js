// The page: reads the form, asks the service, shows the answer, and knows the keys of the keyboard.

import * as cards from "./cards.js";
import * as documents from "./documents.js";
import { Reason } from "./explain.js";
import * as service from "./service.js";
import * as snippets from "./snippets.js";

const byId = (id) => document.getElementById(id);
const form = byId("form");
const query = byId("query");

let facts = null; // what playground/about told
let asking = null; // the request under way
let reasons = [];

const say = (text) => { byId("status").textContent = text; };

function showProblem(error) {
  const place = byId("problem");
  place.hidden = !error;
  if (!error) return;
  const lines = (error.details ?? []).filter(({ message }) => message && !error.message.includes(message));
  const wait = error.retryAfter ? cards.make("p", "", [`Ask again in ${error.retryAfter} s.`]) : "";
  const list = cards.make("ul", "", lines.map(({ field, message }) => cards.make("li", "", [cards.make("code", "", [field]), ` ${message}`])));
  const head = cards.make("p", "", [error.code ? cards.make("code", "", [error.code]) : "", ` ${error.message}`]);
  place.replaceChildren(head, lines.length ? list : "", wait);
  if (error.code === "unauthorized") askForKey();
}

function readBody() {
  const body = { query: query.value, documents: documents.read(), explain: true };
  const instruction = byId("instruction").value.trim();
  const timeout = byId("timeout").value.trim();
  if (instruction) body.instruction = instruction;
  if (timeout) body.timeout_ms = Number(timeout);
  if (timeout && byId("partial").checked) body.partial = true;
  return body;
}

function fault(body) {
  if (!body.query.trim()) return [query, "Give a query."];
  if (!body.documents.length) return [byId("documents").querySelector("textarea"), "Give at least one document."];
  return null;
}

async function score() {
  const body = readBody();
  const found = fault(body);
  if (found) {
    showProblem({ message: found[1] });
    found[0].focus();
    return;
  }
  asking?.abort();
  reasons.forEach((reason) => reason.stop());
  const mine = asking = new AbortController();
  form.classList.add("asking");
  byId("go").setAttribute("aria-busy", "true");
  say("Scoring");
  try {
    const outcome = await service.score(body, mine.signal);
    showProblem(null);
    show(body, outcome);
    if (facts?.candidate) await showCandidate(body, mine.signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof service.Problem)) throw error;
    say("");
    showProblem(error);
  } finally {
    if (asking === mine) {
      form.classList.remove("asking");
      byId("go").removeAttribute("aria-busy");
    }
  }
}

let drawn = [];

function show(body, outcome) {
  const names = facts.grade_names;
  byId("empty").hidden = true;
  byId("outcome").hidden = false;
  cards.drawFacts(byId("facts"), outcome);
  cards.drawLegend(byId("legend"), names);
  drawn = cards.drawCards(byId("cards"), outcome.answer.results, body.documents, names);
  reasons = drawn.filter(({ result }) => result.scored).map(({ result, element }) => reasonOf(body, result, element, names));
  snippets.show(body, facts.needs_key);
  const best = drawn[0];
  say(best?.result.scored ? `${drawn.length} scored; the best is ${best.result.grade_name}, ${best.result.score.toFixed(3)}` : "Scored");
  if (matchMedia("(max-width: 900px)").matches) byId("answer").scrollIntoView();
}

function reasonOf(body, result, element, names) {
  const text = body.documents[result.index];
  const pair = { query: body.query, document: text, ...(body.instruction ? { instruction: body.instruction } : {}) };
  const ask = () => (result.handle ? { handle: result.handle, ...pair } : { ...pair, grade: result.grade });
  const reason = new Reason(element, text, ask, names);
  element.addEventListener("click", (event) => {
    const isButton = event.target.closest("button, a");
    const isSelecting = !getSelection().isCollapsed;
    const isInside = event.target.closest(".reason");
    if (event.target.closest(".why") || !(isButton || isSelecting || isInside)) reason.toggle();
  });
  return reason;
}

async function showCandidate(body, signal) {
  try {
    cards.drawCandidate(drawn, await service.candidate(body, signal), facts.grade_names);
  } catch (error) {
    if (!(error instanceof service.Problem)) throw error;
    showProblem(new service.Problem(`The candidate did not answer: ${error.message}`, { code: error.code }));
  }
}

function askForKey() {
  const dialog = byId("key-dialog");
  byId("key").value = service.key.get();
  if (!dialog.open) dialog.showModal();
}

function move(step) {
  const all = [...byId("cards").children];
  if (!all.length) return;
  const here = all.indexOf(document.activeElement.closest(".card"));
  const next = all[Math.min(all.length - 1, Math.max(0, here + step))];
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}

function onKey(event) {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    score();
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, dialog")) return;
  if (event.key === "/") {
    event.preventDefault();
    query.focus();
  } else if (event.key === "j" || event.key === "k") move(event.key === "j" ? 1 : -1);
  else if (event.key === "e") document.activeElement.closest(".card")?.querySelector(".why")?.click();
}

function drawSamples(samples) {
  const buttons = samples.map((sample) => {
    const button = cards.make("button", "sample", [sample.query], { type: "button" });
    button.addEventListener("click", () => {
      query.value = sample.query;
      documents.write(sample.documents);
      score();
    });
    return button;
  });
  byId("samples").replaceChildren(...buttons);
}

async function start() {
  documents.write([""]);
  form.addEventListener("submit", (event) => { event.preventDefault(); score(); });
  byId("add").addEventListener("click", () => documents.insert().focus());
  byId("clear").addEventListener("click", () => { documents.write([""]); query.value = ""; query.focus(); });
  byId("key-button").addEventListener("click", askForKey);
  byId("key-cancel").addEventListener("click", () => byId("key-dialog").close());
  byId("key-form").addEventListener("submit", () => service.key.set(byId("key").value.trim()));
  document.addEventListener("keydown", onKey);
  try {
    facts = await service.about();
  } catch (error) {
    showProblem(error);
    return;
  }
  byId("model").textContent = `${facts.model.name}@${facts.model.hash.slice(0, 12)}`
    + (facts.candidate ? ` beside ${facts.candidate.name}@${facts.candidate.hash.slice(0, 12)}` : "");
  byId("key-button").hidden = !facts.needs_key;
  byId("instruction-field").hidden = !facts.instruction;
  documents.limit(facts.max_documents);
  drawSamples(facts.samples);
  query.focus();
}

start();
