// What the page asks of the service. Paths are relative to the page, so that it works behind a proxy's prefix too.

const KEY_PLACE = "answer-first-key";
const MAX_RESUMES = 3;

/** An error as the service said it, or as the network did. */
export class Problem extends Error {
  constructor(message, { code = "", status = 0, details = [], retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { code, status, details, retryAfter });
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY_PLACE) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY_PLACE, value) : sessionStorage.removeItem(KEY_PLACE)),
};

async function call(path, { body, accept = "application/json", signal, lastEvent } = {}) {
  const headers = { accept };
  if (lastEvent) headers["last-event-id"] = lastEvent;
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    const method = body === undefined ? "GET" : "POST";
    response = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The service cannot be reached. Is it still running?", { code: "unreachable" });
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function problemOf(response) {
  const retryAfter = response.headers.get("retry-after");
  const said = await response.json().catch(() => null);
  const { message, code, details, field } = said?.error ?? {};
  return new Problem(message ?? `The service answered ${response.status}.`, {
    code: code ?? "",
    status: response.status,
    details: details ?? (field ? [{ field, message }] : []),
    retryAfter: retryAfter === null ? null : Number(retryAfter),
  });
}

/** What is served: model, grade names, limits, sample queries. */
export async function about() {
  return (await call("playground/about")).json();
}

/** Scores, with the time of each stage in milliseconds as `Server-Timing` tells it, and the time seen from here. */
export async function score(body, signal) {
  const began = performance.now();
  const response = await call("score", { body, signal });
  const answer = await response.json();
  return { answer, seenMs: performance.now() - began, stages: readTiming(response.headers.get("server-timing")) };
}

/** The same documents as the candidate of shadow mode scores them. */
export async function candidate({ query, documents, instruction }, signal) {
  const body = { query, documents, ...(instruction ? { instruction } : {}) };
  return (await call("playground/candidate", { body, signal })).json();
}

/** The events of an explanation, as `{event, data}`, each once however often the line breaks; an `error` event is thrown. */
export async function* explain(body, signal) {
  let ask = { path: "explain", body };
  let stream = null;
  for (let resumes = 0; ; resumes++) {
    try {
      const response = await call(ask.path, { ...ask, accept: "text/event-stream", signal });
      for await (const { event, data, id } of readEvents(response.body)) {
        if (event === "error") throw new Problem(data.error.message, { code: data.error.code });
        if (event === "grade") stream = data.stream_url;
        if (id) ask.lastEvent = id;
        yield { event, data };
        if (event === "done") return;
      }
      throw interrupted();
    } catch (error) {
      if (error.code !== "interrupted" || !stream || resumes === MAX_RESUMES) throw error;
      ask = { path: stream.replace(/^\//, ""), lastEvent: ask.lastEvent };
    }
  }
}

const interrupted = () => new Problem("The line broke before the explanation ended.", { code: "interrupted" });

/** `tokenise;dur=0.078, queue;dur=0.080` as [["tokenise", 0.078], ...]. */
export function readTiming(header) {
  return (header ?? "").split(",").flatMap((part) => {
    const match = /^\s*([\w-]+);dur=([\d.]+)/.exec(part);
    return match ? [[match[1], Number(match[2])]] : [];
  });
}

/** Server-sent events of a byte stream; comments are left out. */
export async function* readEvents(stream) {
  let rest = "";
  for await (const text of texts(stream)) {
    const blocks = (rest + text).replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = { event: "message", data: [] };
      for (const line of block.split("\n")) {
        const match = /^(event|data|id): ?(.*)$/.exec(line);
        if (match?.[1] === "data") fields.data.push(match[2]);
        else if (match) fields[match[1]] = match[2];
      }
      if (fields.data.length) yield { ...fields, data: JSON.parse(fields.data.join("\n")) };
    }
  }
}

async function* texts(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      yield value;
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw interrupted();
  } finally {
    await reader.cancel().catch(() => {});
  }
}
