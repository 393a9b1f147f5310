// What moves on a page: explorers, and tables to search and to sort. A page without it is whole.

for (const form of document.querySelectorAll("form.explorer")) explore(form);
for (const table of document.querySelectorAll("table.sortable")) sortable(table);
const seen = new ResizeObserver((found) => found.forEach(({ target }) => reachable(target)));
const wide = ".wide, .table-wrapper, .formula, pre, .cell_output:has(> img), p:has(> img)";
document.querySelectorAll(wide).forEach((part) => seen.observe(part));

// What scrolls can be reached by the keyboard.
function reachable(part) {
  if (part.scrollWidth > part.clientWidth) {
    part.tabIndex = 0;
    part.setAttribute("role", "region");
    part.setAttribute("aria-label", "wider than the page");
  } else {
    ["tabindex", "role", "aria-label"].forEach((name) => part.removeAttribute(name));
  }
}

// An explorer: its state is in the page's address; Python starts at the first touch.
function explore(form) {
  const part = (name) => form.querySelector(`.${name}`);
  const fields = [...form.elements].filter((field) => field.name);
  const start = new Map(fields.map((field) => [field.name, read(field)]));
  const queue = [];  // what is to be asked, the first of it on its way
  let worker;

  part("controls").hidden = part("tools").hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("focusin", wake, { once: true });
  form.addEventListener("pointerdown", wake, { once: true });
  form.addEventListener("input", ({ target }) => {
    say(target);
    ask(target.name);
  });
  form.querySelector("button").addEventListener("click", () => ask("", {}));
  addEventListener("hashchange", follow);
  fields.forEach(say);
  if (location.hash.includes("=")) follow();

  function wake() {
    if (worker) return;
    say_state("Python is starting in this page …");
    worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }) => show(data);
    worker.onerror = () => say_state("Python did not start here; picture and table are as published.");
  }

  function follow() {
    const given = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
    if (JSON.stringify(given) !== JSON.stringify(changed())) ask("", given);
  }

  function ask(moved, given) {  // given: the values, if not those of the fields
    wake();
    if (queue.length > 1 && queue.at(-1).moved === moved) queue.pop();
    if (queue.push({ moved, given }) === 1) send();
  }

  function send() {
    const given = queue[0].given ?? Object.fromEntries(fields.map((f) => [f.name, read(f)]));
    queue[0].sent = performance.now();
    worker.postMessage({ name: form.dataset.name, moved: queue[0].moved, given });
  }

  function show(found) {
    const { moved, sent } = queue.shift(), later = queue.map((one) => one.moved);
    if (found.failed) return say_state(`Python stopped: ${found.failed}`);
    for (const control of found.controls ?? []) {
      const field = form.elements[control.name];
      const typing = control.name === moved && field.type === "number";
      if (!typing && !later.includes(control.name)) adjust(field, control);
    }
    if (queue.length) return send();
    const sentence = part("sentence");
    sentence.classList.toggle("refused", "error" in found);
    sentence.textContent = found.error ?? found.sentence;
    if (!found.error) {
      part("title").textContent = found.title;
      part("drawn").innerHTML = found.wide + found.narrow;
      part("numbers").innerHTML = found.table;
    }
    const state = new URLSearchParams(changed()).toString();
    history.replaceState(null, "", state ? `#${state}` : location.pathname + location.search);
    form.dataset.took = performance.now() - sent;
    form.dataset.shown = 1 + Number(form.dataset.shown ?? 0);
    say_state(`Computed in this page in ${Math.round(form.dataset.took)} ms.`);
  }

  function adjust(field, { value, low, high, step, options }) {
    if (field.type === "checkbox") field.checked = value;
    else if (field.type === "select-one") {
      const same = field.options.length === options.length
        && options.every(([, own], i) => field.options[i].value === own);
      if (!same) field.replaceChildren(...options.map(([label, own]) => new Option(label, own)));
      field.value = value;
    } else Object.assign(field, { min: low, max: high, step, value });
    say(field);
  }

  function changed() {  // the values that are not those of the start
    const own = fields.map((field) => [field.name, read(field)]);
    return Object.fromEntries(own.filter(([name, value]) => value !== start.get(name)));
  }

  function read(field) {
    return field.type === "checkbox" ? String(field.checked) : field.value;
  }

  function say(field) {
    const shown = field.closest(".control")?.querySelector("output");
    if (shown) shown.textContent = field.value;
  }

  function say_state(text) {
    part("state").textContent = text;
  }
}

// A table: a field to search in, a button to sort by in each heading.
function sortable(table) {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  if (rows.length > 12) {
    const search = document.createElement("p");
    search.className = "search";
    search.innerHTML = '<label>Search <input type="search"></label><span role="status"></span>';
    table.parentElement.before(search);
    const status = search.querySelector("span");
    search.querySelector("input").addEventListener("input", ({ target }) => {
      const words = target.value.toLowerCase().split(/\s+/);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        shown += !(row.hidden = !words.every((word) => text.includes(word)));
      }
      status.textContent = `${shown} of ${rows.length} rows`;
    });
    status.textContent = `${rows.length} rows`;
  }
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column].textContent;
      const number = (text) => parseFloat(text.replace(/[$,]/g, ""));
      const order = (a, b) => {
        const [x, y] = [number(key(a)), number(key(b))];
        if (isNaN(x) !== isNaN(y)) return isNaN(x) ? 1 : -1;
        return x - y || key(a).localeCompare(key(b));
      };
      rows.sort((a, b) => (down ? order(b, a) : order(a, b)));
      body.append(...rows);
    });
  });
}
