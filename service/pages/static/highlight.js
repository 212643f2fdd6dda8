// Where the quotes of an explanation stand in their document. A quote says the document's words up to case, accents,
// white space and the marks that the format keeps for itself; so both are compared without any of these.

const MARKS = { "|": "/", "<": "(", ">": ")", ";": "," };
const WORD = /[\p{L}\p{N}]/u;

/** The letters of `text` that are compared, each with the place where it began and ended in `text`. */
function lettersOf(text) {
  const letters = [];
  let place = 0;
  for (const character of text) {
    const end = place + character.length;
    for (const part of character.normalize("NFD")) {
      if (!/[\s\p{M}\p{C}]/u.test(part)) {
        for (const letter of (MARKS[part] ?? part).toLowerCase()) letters.push({ letter, start: place, end });
      }
    }
    place = end;
  }
  return letters;
}

const isWord = (character) => character !== undefined && WORD.test(character);

/** The place [start, end) of `quote` in `text`, beginning and ending at words; null where it is not. */
export function find(text, quote) {
  const letters = lettersOf(text);
  const wanted = lettersOf(quote).map(({ letter }) => letter);
  if (!wanted.length) return null;
  for (let first = 0; first + wanted.length <= letters.length; first++) {
    if (!wanted.every((letter, offset) => letters[first + offset].letter === letter)) continue;
    const { start } = letters[first];
    const { end } = letters[first + wanted.length - 1];
    const cutsStart = isWord(text[start - 1]) && isWord(text[start]);
    const cutsEnd = isWord(text[end - 1]) && isWord(text[end]);
    if (!cutsStart && !cutsEnd) return [start, end];
  }
  return null;
}

/** Fill `element` with `text`, its quotes marked; returns how many of them were found. */
export function mark(element, text, quotes) {
  const places = quotes.map((quote) => find(text, quote)).filter(Boolean).sort((a, b) => a[0] - b[0]);
  element.replaceChildren();
  let reached = 0;
  for (const [start, end] of places) {
    if (end <= reached) continue;
    const from = Math.max(start, reached);
    element.append(text.slice(reached, from));
    const marked = document.createElement("mark");
    marked.textContent = text.slice(from, end);
    element.append(marked);
    reached = end;
  }
  element.append(text.slice(reached));
  return places.length;
}
