"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { fields, cells, classes, short, pictures } = data;
  const K = classes.length;
  const prob = Uint8Array.from(atob(cells.prob), (c) => c.charCodeAt(0));
  const at = (name) => document.getElementById(name);
  const CHANNELS = ["Microtubules", "Protein", "Nucleus", "ER"];
  const PALETTES = {
    safe: ["#ff28c8", "#3ceb5a", "#466eff", "#b4a028"],
    hpa: ["#ff0000", "#00ff00", "#3030ff", "#b4b400"],
  };
  const shown = [true, true, true, false];
  const state = { field: -1, cell: -1, sort: "id", down: false, rows: 25 };

  function make(name, properties = {}, ...children) {
    const svg = ["svg", "path", "ellipse", "text", "tspan", "g"].includes(name);
    const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
      if (value === null || value === false || value === undefined) continue;
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else node.setAttribute(key, value === true ? "" : String(value));
    }
    node.append(...children.filter((child) => child !== null));
    return node;
  }
  // IDs may hold what turns the direction of writing or is not printable.
  const plain = (text) => String(text).replace(/[\p{Cc}\p{Cf}\p{Cs}]/gu, (c) => "\\u" + c.codePointAt(0).toString(16).padStart(4, "0"));
  const percent = (value) => (value > 0 && value < 0.01 ? "<1 %" : Math.round(100 * value) + " %");
  const chance = (row, k) => prob[row * K + k] / 255;
  const order = (row) => [...Array(K).keys()].sort((a, b) => prob[row * K + b] - prob[row * K + a]);
  const rowOf = (field, cell) => field.first + cell;

  // Lines that are written into a cell: its names, or its most probable class with a question mark.
  function cellNames(row) {
    const named = cells.named[row];
    const ranks = order(row);
    if (!named.length) return [short[ranks[0]] + "? " + percent(chance(row, ranks[0]))];
    return ranks.filter((k) => named.includes(k)).slice(0, 3).map((k) => short[k] + " " + percent(chance(row, k)));
  }

  // ---- field view
  function show(position, cell = -1) {
    const field = fields[position];
    if (!field) return;
    state.field = position;
    state.cell = -1;
    at("title").textContent = plain(field.id);
    const stage = at("stage");
    const picture = pictures[position];
    const [width, height] = picture ? [picture.w, picture.h] : [field.w || 1, field.h || 1];
    stage.replaceChildren();
    stage.style.aspectRatio = width + " / " + height;
    if (picture) {
      picture.channels.forEach((source, k) => {
        const image = make("img", { src: "data:image/webp;base64," + source, alt: CHANNELS[k] + " channel of " + plain(field.id) });
        stage.append(make("div", { class: "layer" }, image, make("div", { class: "tint" })));
      });
    }
    if (field.first >= 0 && field.n) {
      const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
      const marks = make("g", {});
      const texts = make("g", {});
      const scale = width / (field.w || 1);
      const letters = Math.max(width / 55, (11 * width) / (stage.clientWidth || width));
      const written = [];
      for (let i = 0; i < field.n; i++) {
        const row = rowOf(field, i);
        const [x, y] = [(cells.x[row] + cells.width[row] / 2) * scale, (cells.y[row] + cells.height[row] / 2) * scale];
        const kind = cells.named[row].length ? "" : "unsure";
        const path = picture && picture.outlines[i];
        const mark = path
          ? make("path", { d: path })
          : make("ellipse", { cx: x, cy: y, rx: (cells.width[row] * scale) / 2, ry: (cells.height[row] * scale) / 2 });
        mark.setAttribute("class", kind);
        mark.dataset.cell = i;
        marks.append(mark);
        const lines = cellNames(row);
        const half = Math.min(width / 2, 0.3 * letters * Math.max(...lines.map((line) => line.length)));
        const middle = Math.min(Math.max(x, half), width - half);
        const first = Math.min(Math.max(y - (letters * (lines.length - 1)) / 2, letters), height - letters * (lines.length - 0.6));
        const box = [middle - half, middle + half, first - letters, first + 1.05 * letters * (lines.length - 1)];
        const free = written.every((b) => box[1] < b[0] || b[1] < box[0] || box[3] < b[2] || b[3] < box[2]);
        if (free) written.push(box);
        const label = make("text", { "font-size": letters, class: free ? null : "crowded" });
        lines.forEach((line, at) => label.append(make("tspan", { x: middle, y: first + 1.05 * letters * at }, line)));
        texts.append(label);
      }
      svg.append(marks, texts);
      svg.addEventListener("pointerover", (event) => event.target.dataset.cell && choose(+event.target.dataset.cell));
      svg.addEventListener("click", (event) => event.target.dataset.cell && choose(+event.target.dataset.cell));
      stage.append(svg);
    }
    const notes = [...field.warnings];
    if (field.problem !== null) notes.unshift(field.problem);
    else if (!picture) notes.unshift("This field is not drawn on this page: cells are ellipses of their boxes.");
    if (field.first < 0 && field.problem === null) notes.push("Its cells are in cells.csv.");
    at("notes").replaceChildren(...notes.map((note) => make("li", {}, plain(note))));
    refresh();
    choose(cell);
    for (const button of at("strip").children) button.setAttribute("aria-current", +button.dataset.field === position);
    for (const row of at("table").tBodies[0].rows) row.classList.toggle("current", +row.dataset.field === position);
  }

  function refresh() {
    const colours = PALETTES[at("palette").value];
    const single = shown.filter(Boolean).length === 1;
    at("stage").querySelectorAll(".layer").forEach((layer, k) => {
      layer.hidden = !shown[k];
      layer.style.display = shown[k] ? "" : "none";
      layer.lastChild.style.background = single ? "#fff" : colours[k];
      layer.firstChild.style.filter = `brightness(${at("brightness").value})`;
    });
    for (const [k, button] of [...at("channels").children].entries()) {
      button.setAttribute("aria-pressed", shown[k]);
      button.firstChild.style.background = single && shown[k] ? "#fff" : colours[k];
    }
    at("stage").style.width = 100 * at("zoom").value + "%";
    const [marks, texts] = at("stage").querySelectorAll("g");
    if (!marks) return;
    marks.classList.toggle("bare", at("outlines").getAttribute("aria-pressed") !== "true");
    texts.style.display = at("names").getAttribute("aria-pressed") === "true" ? "" : "none";
    const wanted = +at("highlight").value;
    const field = fields[state.field];
    [...marks.children].forEach((mark, i) => {
      const row = rowOf(field, i);
      const has = wanted >= 0 && (cells.named[row].includes(wanted) || (!cells.named[row].length && order(row)[0] === wanted));
      mark.classList.toggle("on", has);
      mark.classList.toggle("off", wanted >= 0 && !has);
      texts.children[i].style.display = wanted >= 0 && !has ? "none" : "";
    });
  }

  function choose(cell) {
    const field = fields[state.field];
    state.cell = cell;
    at("stage").querySelectorAll("[data-cell]").forEach((mark) => mark.classList.toggle("chosen", +mark.dataset.cell === cell));
    at("stage").querySelectorAll("text").forEach((label, i) => label.classList.toggle("asked", i === cell));
    const panel = at("panel");
    panel.replaceChildren();
    if (cell < 0 || field.first < 0) {
      const top = field.top.map(([k, n]) => `${n} ${short[k]}`).join(", ");
      panel.append(make("h3", {}, "Field"), make("p", {}, `${field.n} cells, ${field.named} with a name.`), make("p", {}, top));
      const columns = Object.entries(field.extra);
      panel.append(make("dl", {}, ...columns.flatMap(([name, value]) => [make("dt", {}, plain(name)), make("dd", {}, plain(value))])));
      return;
    }
    const row = rowOf(field, cell);
    const ranks = order(row);
    const named = cells.named[row];
    panel.append(make("h3", {}, `Cell ${cells.id[row]}`));
    panel.append(make("p", { class: "said" }, named.length ? ranks.filter((k) => named.includes(k)).map((k) => classes[k]).join(" + ") : "Unsure"));
    for (const k of ranks.slice(0, 6)) {
      const fill = make("span", {});
      fill.style.width = 100 * chance(row, k) + "%";
      const bar = make("span", { class: "bar", "aria-hidden": "true" }, fill);
      panel.append(make("div", { class: "prob" }, make("span", {}, classes[k]), make("b", {}, percent(chance(row, k))), bar));
    }
    const facts = [["Integrity", cells.integrity[row] + " %"]];
    const um = data.um;
    const area = cells.area[row] * um * um;
    facts.push(["Size", `${(cells.width[row] * um).toFixed(1)} × ${(cells.height[row] * um).toFixed(1)} um`]);
    facts.push(["Area", `${area.toFixed(0)} um²`], ["As a disc", `${(2 * Math.sqrt(area / Math.PI)).toFixed(1)} um across`]);
    if (cells.nucleus[row] >= 0) facts.push(["Nucleus", `${(cells.nucleus[row] * um * um).toFixed(0)} um²`]);
    const right = cells.x[row] + cells.width[row] >= field.w;
    const bottom = cells.y[row] + cells.height[row] >= field.h;
    if (!cells.x[row] || !cells.y[row] || right || bottom) facts.push(["Edge", "touches it"]);
    panel.append(make("dl", {}, ...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])));
    if (!data.calibrated) panel.append(make("p", { class: "hint" }, "Not calibrated: only ranks within a class mean anything."));
  }

  // ---- table of fields
  const COLUMNS = [
    ["id", "Field", (f) => f.id],
    ["n", "Cells", (f) => f.n],
    ["named", "Named", (f) => f.named],
    ["integrity", "Integrity", (f) => f.integrity ?? -1],
    ["top", "Most frequent", (f) => (f.top.length ? classes[f.top[0][0]] : "")],
    ["state", "Remarks", (f) => (f.problem !== null ? 1e6 : f.warnings.length)],
  ];
  const searched = fields.map((f) =>
    [f.id, ...f.top.map(([k]) => classes[k]), f.problem ?? "", ...f.warnings, ...Object.values(f.extra)].join("\n").toLowerCase());

  function found() {
    const words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const kind = at("filter").value;
    const value = COLUMNS.find(([name]) => name === state.sort)[2];
    const keep = fields.map((_, i) => i).filter((i) => {
      const f = fields[i];
      if (kind === "drawn" && !pictures[i]) return false;
      if (kind === "warned" && !f.warnings.length) return false;
      if (kind === "problem" && f.problem === null) return false;
      return words.every((word) => searched[i].includes(word));
    });
    keep.sort((a, b) => {
      const [x, y] = [value(fields[a]), value(fields[b])];
      return ((x > y) - (x < y)) * (state.down ? -1 : 1) || a - b;
    });
    return keep;
  }

  function list() {
    const keep = found();
    at("found").textContent = `${keep.length} of ${fields.length} fields`;
    const body = at("table").tBodies[0];
    body.replaceChildren(...keep.slice(0, state.rows).map((i) => {
      const f = fields[i];
      const open = make("button", { type: "button", onclick: () => { show(i); at("view").scrollIntoView(); at("frame").focus({ preventScroll: true }); } }, make("bdi", {}, plain(f.id)));
      const top = f.top.map(([k, n]) => `${short[k]} ${n}`).join(", ");
      const remark = f.problem !== null ? "not usable: " + plain(f.problem) : f.warnings.map(plain).join("; ");
      const row = make("tr", { class: i === state.field ? "current" : null }, make("th", { scope: "row" }, open),
        make("td", { class: "number" }, String(f.n)), make("td", { class: "number" }, String(f.named)),
        make("td", { class: "number" }, f.integrity === null ? "" : percent(f.integrity)), make("td", {}, top), make("td", { class: "state" }, remark));
      row.dataset.field = i;
      return row;
    }));
    at("more").hidden = keep.length <= state.rows;
    for (const head of at("table").tHead.rows[0].cells) {
      if (head.dataset.sort === state.sort) head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  }

  // ---- wiring
  CHANNELS.forEach((name, k) => at("channels").append(make("button", { type: "button", onclick: () => { shown[k] = !shown[k]; refresh(); } }, make("span", { class: "swatch" }), name)));
  for (const name of ["outlines", "names"])
    at(name).addEventListener("click", () => { at(name).setAttribute("aria-pressed", at(name).getAttribute("aria-pressed") !== "true"); refresh(); });
  for (const name of ["palette", "highlight", "zoom", "brightness"]) at(name).addEventListener("input", refresh);
  classes.forEach((name, k) => at("highlight").append(make("option", { value: k }, name)));
  at("table").tHead.append(make("tr", {}, ...COLUMNS.map(([name, title]) => {
    const head = make("th", { scope: "col", class: ["n", "named", "integrity"].includes(name) ? "number" : null }, make("button", { type: "button", onclick: () => { state.down = state.sort === name ? !state.down : !["id", "top"].includes(name); state.sort = name; list(); } }, title));
    head.dataset.sort = name;
    return head;
  })));
  for (const name of ["search", "filter"]) at(name).addEventListener("input", () => { state.rows = 25; list(); });
  at("more").addEventListener("click", () => { state.rows += 200; list(); });
  const drawn = Object.keys(pictures).map(Number).sort((a, b) => a - b);
  for (const i of drawn) {
    const image = make("img", { src: "data:image/webp;base64," + pictures[i].thumb, alt: plain(fields[i].id), loading: "lazy" });
    const button = make("button", { type: "button", title: plain(fields[i].id), onclick: () => show(i) }, image);
    button.dataset.field = i;
    at("strip").append(button);
  }
  const step = (by) => show((state.field + by + fields.length) % fields.length);
  at("previous").addEventListener("click", () => step(-1));
  at("next").addEventListener("click", () => step(1));
  at("frame").addEventListener("keydown", (event) => {
    const field = fields[state.field];
    const count = field.first < 0 ? 0 : field.n;
    if (event.key === "ArrowRight" && count) choose((state.cell + 1) % count);
    else if (event.key === "ArrowLeft" && count) choose((Math.max(state.cell, 0) - 1 + count) % count);
    else if (event.key === "PageDown") step(1);
    else if (event.key === "PageUp") step(-1);
    else if (event.key === "Escape") choose(-1);
    else return;
    event.preventDefault();
  });
  document.querySelectorAll("[data-cell]").forEach((tile) => tile.addEventListener("click", () => {
    const cell = +tile.dataset.cell;
    const position = fields.findIndex((f) => cell >= f.from && cell < f.from + f.n);
    show(position, cell - fields[position].from);
    at("view").scrollIntoView();
    at("frame").focus({ preventScroll: true });
  }));
  let folded = [];
  addEventListener("beforeprint", () => { folded = [...document.querySelectorAll("details:not([open])")]; folded.forEach((d) => (d.open = true)); });
  addEventListener("afterprint", () => folded.forEach((d) => (d.open = false)));
  list();
  if (fields.length) show(drawn.length ? drawn[0] : 0);
})();
