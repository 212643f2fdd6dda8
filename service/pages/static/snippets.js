// The request that was just sent, for a terminal and for Python.

const panel = document.getElementById("snippet");
const tabs = document.getElementById("tabs");
const copy = document.getElementById("copy");

const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;
// JSON's strings are Python's; its words are not.
const python = (value) => JSON.stringify(value).replaceAll(/"(?:[^"\\]|\\.)*"|\btrue\b|\bfalse\b|\bnull\b/g,
  (part) => ({ true: "True", false: "False", null: "None" })[part] ?? part);

function curl(body, base, withKey) {
  const key = withKey ? ` \\\n  -H "authorization: Bearer $ANSWER_FIRST_KEY"` : "";
  return `curl -s ${base}/score -H 'content-type: application/json'${key} \\\n  -d ${shell(JSON.stringify(body, null, 1))}`;
}

function client(body, base, withKey) {
  const { query, documents, explain, ...options } = body;
  const names = Object.entries(options).map(([name, value]) => `,\n    ${name}=${python(value)}`).join("");
  const list = documents.map((text) => `        ${python(text)},\n`).join("");
  const key = withKey ? ', api_key=os.environ["ANSWER_FIRST_KEY"]' : "";
  return `${withKey ? "import os\n\n" : ""}from answer_first_client import Client, Delta  # pip install ./clients/python

with Client("${base}"${key}) as client:
    answer = client.score(
        ${python(query)},
        [
${list.replaceAll(/^ {8}/gm, "            ")}        ]${names.replaceAll("\n    ", "\n        ")},
        explain=True,
    )
    best = max(answer.results, key=lambda result: result.score)
    print(best.score, best.grade_name)
    for event in client.explain(best.handle):
        if isinstance(event, Delta):
            print(event.text, end=" ", flush=True)`;
}

function httpx(body, base, withKey) {
  const key = withKey ? ', headers={"authorization": "Bearer " + os.environ["ANSWER_FIRST_KEY"]}' : "";
  const written = python(body).replaceAll(/("(?:[^"\\]|\\.)*")|,|:/g, (part, text) => text ?? `${part} `);
  return `${withKey ? "import os\n\n" : ""}import httpx

body = ${written}
answer = httpx.post("${base}/score", json=body${key}).raise_for_status().json()
for result in sorted(answer["results"], key=lambda result: -result["score"]):
    print(f'{result["score"]:.3f} {result["grade_name"]:20} {body["documents"][result["index"]]}')`;
}

const KINDS = { curl, Python: client, httpx };
let chosen = "curl";
let current = null;

function draw() {
  for (const tab of tabs.children) {
    const isChosen = tab.textContent === chosen;
    tab.setAttribute("aria-selected", isChosen);
    tab.tabIndex = isChosen ? 0 : -1;
  }
  panel.setAttribute("aria-label", chosen);
  if (current) panel.textContent = KINDS[chosen](...current);
}

for (const kind of Object.keys(KINDS)) {
  const tab = document.createElement("button");
  tab.type = "button";
  tab.textContent = kind;
  tab.setAttribute("role", "tab");
  tab.setAttribute("aria-controls", panel.id);
  tab.addEventListener("click", () => { chosen = kind; draw(); });
  tabs.append(tab);
}

tabs.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const kinds = Object.keys(KINDS);
  chosen = kinds[(kinds.indexOf(chosen) + step + kinds.length) % kinds.length];
  draw();
  [...tabs.children].find((tab) => tab.textContent === chosen).focus();
});

copy.addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(panel.textContent);
    copy.textContent = "Copied";
  } catch {
    // Without the right to the clipboard the text is selected instead.
    getSelection().selectAllChildren(panel);
    copy.textContent = "Selected";
  }
  setTimeout(() => { copy.textContent = "Copy"; }, 1500);
});

/** Show the request `body`; `withKey` where the service asks for one. */
export function show(body, withKey) {
  current = [body, new URL(".", location.href).href.replace(/\/$/, ""), withKey];
  draw();
}
