"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");

  /** An element with text, never with markup. */
  const make = (tag, className = "", text = "") => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== "") made.textContent = text;
    return made;
  };

  // Theme: the system's until the button is pressed.
  const theme = document.querySelector(".theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const showTheme = () => {
    theme.textContent = isDark() ? "Light" : "Dark";
  };
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    showTheme();
  });
  system.addEventListener("change", showTheme);
  showTheme();

  // Tables: a heading sorts, missing values last; the filter keeps rows that have every word.
  const order = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  };
  const sortBy = (table, column, descending) => {
    const value = (row) => row.cells[column].dataset.sort;
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      return descending ? order(y, x) : order(x, y);
    });
    table.tBodies[0].append(...rows);
  };
  for (const grid of document.querySelectorAll("[data-grid]")) {
    const table = grid.querySelector("table");
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      heading.querySelector("button").addEventListener("click", () => {
        const before = heading.getAttribute("aria-sort");
        // Numbers begin with the highest, as scores do.
        const descending = before ? before === "ascending" : heading.classList.contains("number");
        for (const other of headings) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
        sortBy(table, column, descending);
      });
    });
    const filter = grid.querySelector("[data-filter]");
    if (!filter) continue;
    const count = grid.querySelector("[data-count]");
    const rows = [...table.tBodies[0].rows];
    filter.addEventListener("input", () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      }
      count.textContent = words.length ? `${shown} of ${rows.length}` : "";
    });
  }

  // Examples.
  const ABSENT = 255;
  const PAGE = 20;
  const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const percent = (byte) => (byte / 255).toFixed(2);

  /** What the filters ask about each row, computed once. */
  const summarise = (data) => {
    const rows = data.ids.length;
    const found = { right: new Uint16Array(rows), judged: new Uint16Array(rows), split: new Uint8Array(rows), worst: new Uint8Array(rows) };
    const first = new Int16Array(rows).fill(-1);
    for (const cell of data.cells) {
      cell.top = bytes(cell.top);
      cell.runs = bytes(cell.runs);
      for (let row = 0, at = 0; row < rows; row++, at += 2 * data.k) {
        const top = cell.top[at];
        if (top === ABSENT) continue;
        if (first[row] < 0) first[row] = top;
        else if (first[row] !== top) found.split[row] = 1;
        if (data.target[row] < 0) continue;
        found.judged[row]++;
        if (top === data.target[row]) found.right[row]++;
        else found.worst[row] = Math.max(found.worst[row], cell.top[at + 1]);
      }
    }
    found.lower = data.texts.map((text, row) => `${text ?? ""}\n${data.ids[row]}`.toLowerCase());
    return found;
  };

  const KINDS = [
    ["split", "Methods disagree"],
    ["worst", "Wrong and confident"],
    ["none", "All wrong"],
    ["all", "All rows"],
  ];

  const browse = (home, data, number) => {
    const facts = summarise(data);
    const state = { kind: facts.split.some(Boolean) ? "split" : "all", words: "", right: -1, wrong: -1, label: -1, page: 0 };
    const topOf = (cell, row) => data.cells[cell].top[2 * data.k * row];
    const isRight = (cell, row) => topOf(cell, row) === data.target[row];
    const confidence = (cell, row) => data.cells[cell].top[2 * data.k * row + 1];

    const matches = () => {
      const words = state.words.toLowerCase().split(/\s+/).filter(Boolean);
      const kept = [];
      for (let row = 0; row < data.ids.length; row++) {
        const labelled = data.target[row] >= 0;
        if (state.kind === "split" && !facts.split[row]) continue;
        if (state.kind === "worst" && !facts.worst[row]) continue;
        if (state.kind === "none" && (!facts.judged[row] || facts.right[row])) continue;
        if (state.label >= 0 && data.target[row] !== state.label) continue;
        if (state.right >= 0 && !(labelled && isRight(state.right, row))) continue;
        if (state.wrong >= 0 && !(labelled && topOf(state.wrong, row) !== ABSENT && !isRight(state.wrong, row))) continue;
        if (!words.every((word) => facts.lower[row].includes(word))) continue;
        kept.push(row);
      }
      const worst = (row) => (state.wrong >= 0 ? confidence(state.wrong, row) : facts.worst[row]);
      if (state.kind === "worst" || state.kind === "none") kept.sort((a, b) => worst(b) - worst(a) || a - b);
      const even = (row) => Math.abs(2 * facts.right[row] - facts.judged[row]);
      if (state.kind === "split") kept.sort((a, b) => even(a) - even(b) || facts.worst[b] - facts.worst[a] || a - b);
      return kept;
    };

    const kinds = make("fieldset", "kinds");
    kinds.setAttribute("aria-label", "Which rows");
    for (const [kind, title] of KINDS) {
      const label = make("label", "", title);
      const radio = make("input");
      Object.assign(radio, { type: "radio", name: `kind-${number}`, value: kind, checked: kind === state.kind });
      radio.addEventListener("change", () => update({ kind }));
      label.append(radio);
      kinds.append(label);
    }
    const controls = make("div", "controls");
    const control = (title, field) => {
      const label = make("label", "", title);
      field.setAttribute("aria-label", title);
      label.append(field);
      controls.append(label);
    };
    const search = make("input");
    search.type = "search";
    search.placeholder = "words or an id";
    search.addEventListener("input", () => update({ words: search.value }));
    control("Search", search);
    const choice = (title, names, key) => {
      const select = make("select");
      select.append(new Option("any", -1), ...names.map((name, index) => new Option(name, index)));
      select.addEventListener("change", () => update({ [key]: Number(select.value) }));
      control(title, select);
    };
    const names = data.cells.map((cell) => cell.name);
    choice("Label", data.classes, "label");
    choice("Right", names, "right");
    choice("Wrong", names, "wrong");

    const list = make("ul", "rows");
    const pages = make("div", "pages");
    const previous = make("button", "", "Previous");
    const next = make("button", "", "Next");
    const place = make("span");
    place.setAttribute("aria-live", "polite");
    previous.type = next.type = "button";
    pages.append(previous, place, next);
    home.append(kinds, controls, list, pages);

    const marks = (row) => {
      const holder = make("span", "marks");
      holder.setAttribute("aria-hidden", "true");
      data.cells.forEach((cell, index) => {
        if (topOf(index, row) === ABSENT) return;
        const mark = make("i", isRight(index, row) ? "" : "wrong");
        mark.style.setProperty("--mark", `var(--c${cell.colour})`);
        mark.title = `${cell.name}: ${data.classes[topOf(index, row)]}`;
        holder.append(mark);
      });
      return holder;
    };

    const verdict = (cell, row) => {
      const box = make("div", "verdict");
      const runs = cell.replicates.length;
      let of = 0;
      let right = 0;
      const each = [];
      for (let run = 0; run < runs; run++) {
        const at = 2 * (run * data.ids.length + row);
        if (cell.runs[at] === ABSENT) continue;
        of++;
        right += cell.runs[at] === data.target[row];
        each.push(make("span", "", `${cell.replicates[run]}: ${percent(cell.runs[at + 1])} ${data.classes[cell.runs[at]]}`));
      }
      const heading = make("h5");
      const name = make("span");
      const dot = make("i", "dot");
      dot.style.background = `var(--c${cell.colour})`;
      name.append(dot, cell.name);
      heading.append(name, make("span", "", data.target[row] < 0 ? `${of} runs` : `${right} of ${of} ${of === 1 ? "run" : "runs"} right`));
      const bars = make("div", "bars");
      for (let place = 0; place < data.k; place++) {
        const at = 2 * (data.k * row + place);
        const index = cell.top[at];
        const kind = index === data.target[row] ? "true" : place === 0 && data.target[row] >= 0 ? "false" : "";
        const label = make("span", kind, data.classes[index]);
        label.title = data.classes[index];
        const track = make("span", "track");
        const fill = make("i");
        fill.style.width = `${(100 * cell.top[at + 1]) / 255}%`;
        track.append(fill);
        bars.append(label, track, make("span", "number", percent(cell.top[at + 1])));
      }
      box.append(heading, bars);
      if (each.length > 1) {
        const list = make("div", "each");
        list.append(...each);
        box.append(list);
      }
      return box;
    };

    const detail = (row) => {
      const box = make("div", "detail");
      box.append(make("p", "", `Row ${data.ids[row]}. Probabilities are means over runs.`));
      const verdicts = make("div", "verdicts");
      for (const cell of data.cells) if (cell.top[2 * data.k * row] !== ABSENT) verdicts.append(verdict(cell, row));
      box.append(verdicts);
      return box;
    };

    const item = (row) => {
      const entry = make("li");
      const button = make("button", "row");
      button.type = "button";
      button.setAttribute("aria-expanded", "false");
      const about = make("span", "about", data.target[row] < 0 ? "no label" : data.classes[data.target[row]]);
      if (data.cells.length <= 8) about.append(marks(row));
      const judged = facts.judged[row];
      if (judged) about.append(make("span", "count", `${facts.right[row]} of ${judged} right`));
      button.append(make("span", "words", data.texts[row] ?? `Row ${data.ids[row]}; its text is not stored.`), about);
      button.addEventListener("click", () => {
        const open = button.getAttribute("aria-expanded") === "true";
        button.setAttribute("aria-expanded", String(!open));
        if (open) button.nextSibling.remove();
        else button.after(detail(row));
      });
      entry.append(button);
      return entry;
    };

    let kept = [];
    const show = () => {
      const start = state.page * PAGE;
      list.replaceChildren(...kept.slice(start, start + PAGE).map(item));
      if (!kept.length) list.append(make("li", "facts", "No row is like this."));
      place.textContent = kept.length ? `${start + 1}–${Math.min(start + PAGE, kept.length)} of ${kept.length.toLocaleString("en")}` : "";
      previous.disabled = state.page === 0;
      next.disabled = start + PAGE >= kept.length;
      pages.hidden = kept.length <= PAGE && kept.length > 0 ? false : !kept.length;
    };
    const update = (change) => {
      Object.assign(state, { page: 0 }, change);
      kept = matches();
      show();
    };
    const turn = (by) => {
      state.page += by;
      show();
      home.scrollIntoView({ block: "start" });
    };
    previous.addEventListener("click", () => turn(-1));
    next.addEventListener("click", () => turn(1));
    update({});
  };

  const all = JSON.parse(document.getElementById("data").textContent);
  for (const home of document.querySelectorAll("[data-examples]")) {
    browse(home, all[Number(home.dataset.examples)], home.dataset.examples);
  }
})();
