// The list of documents: a field each. Enter begins the next one, Shift+Enter a new line, Backspace in an empty field
// removes it, and several pasted lines become several documents.

const list = document.getElementById("documents");
const count = document.getElementById("count");
let maxDocuments = 1000;

const fields = () => [...list.querySelectorAll("textarea")];

/** How many documents a request may bring. */
export function limit(number) {
  maxDocuments = number;
}

/** The documents that hold any text, in order. */
export function read() {
  return fields().map((field) => field.value).filter((text) => text.trim());
}

/** Show these documents instead of what is there. */
export function write(texts) {
  list.replaceChildren();
  for (const text of texts.length ? texts : [""]) insert(text);
}

/** A field more, behind `before` or at the end. */
export function insert(text = "", before = null) {
  const item = document.createElement("li");
  const field = document.createElement("textarea");
  field.rows = 1;
  field.value = text;
  field.spellcheck = false;
  field.placeholder = "A text to grade";
  const remove = document.createElement("button");
  remove.type = "button";
  remove.className = "remove";
  remove.textContent = "×";
  remove.addEventListener("click", () => take(item));
  field.addEventListener("keydown", (event) => onKey(event, item, field));
  field.addEventListener("paste", (event) => onPaste(event, item, field));
  field.addEventListener("input", tell);
  item.append(field, remove);
  if (before) before.after(item);
  else list.append(item);
  tell();
  return field;
}

function take(item) {
  const neighbour = item.previousElementSibling ?? item.nextElementSibling;
  item.remove();
  if (!list.children.length) insert();
  (neighbour ?? list.firstElementChild).querySelector("textarea").focus();
  tell();
}

function onKey(event, item, field) {
  if (event.key === "Enter" && !event.shiftKey && !event.ctrlKey && !event.metaKey && !event.isComposing) {
    event.preventDefault();
    insert("", item).focus();
  } else if (event.key === "Backspace" && !field.value && list.children.length > 1) {
    event.preventDefault();
    take(item);
  }
}

function onPaste(event, item, field) {
  const lines = event.clipboardData.getData("text/plain").split(/\r?\n/).filter((line) => line.trim());
  if (lines.length < 2 || field.value) return;
  event.preventDefault();
  field.value = lines[0];
  let last = item;
  for (const line of lines.slice(1)) last = insert(line, last).parentElement;
  last.querySelector("textarea").focus();
  tell();
}

function tell() {
  const number = read().length;
  count.textContent = number > maxDocuments ? `${number}, at most ${maxDocuments}` : `${number}`;
  count.classList.toggle("over", number > maxDocuments);
  fields().forEach((field, index) => {
    field.setAttribute("aria-label", `Document ${index + 1}`);
    field.nextElementSibling.setAttribute("aria-label", `Remove document ${index + 1}`);
  });
}
