// The confusion matrix: drawn on a canvas, so that 400 classes are as quick as 8.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("matrix-data").textContent);
  const { names, cells } = data; // cells: [true class, taken for, videos]
  const K = names.length;
  const canvas = document.getElementById("matrix");
  const said = document.getElementById("matrix-said");
  const control = (id) => document.getElementById("matrix-" + id);
  const context = canvas.getContext("2d");
  const GAP = 12; // px around the matrix

  const videos = new Array(K).fill(0), right = new Array(K).fill(0), count = new Map();
  for (const [row, column, n] of cells) {
    videos[row] += n;
    if (row === column) right[row] = n;
    count.set(row * K + column, n);
  }
  const inList = names.map((_, i) => i);
  const worstFirst = inList.slice().sort((a, b) => right[a] / (videos[a] || 1e-9) - right[b] / (videos[b] || 1e-9));

  let order = inList, position = []; // class at a place, place of a class
  let zoom = 1, left = 0, top = 0; // left, top: the first visible place, in cells
  let pointer = null, found = new Set(), drag = null;
  let width = 0, height = 0, margin = 0;

  const setOrder = (to) => { order = to; position = []; order.forEach((c, i) => { position[c] = i; }); };
  const side = () => Math.min(width - margin, height - margin) - GAP; // px of the visible square
  const cell = () => (side() / K) * zoom; // px of a cell
  const clamp = () => {
    const most = K - K / zoom;
    left = Math.max(0, Math.min(most, left));
    top = Math.max(0, Math.min(most, top));
  };

  function resize() {
    width = canvas.clientWidth;
    height = width;
    margin = Math.min(190, width * 0.28);
    const ratio = window.devicePixelRatio || 1;
    canvas.style.height = height + "px";
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    draw();
  }

  function draw() {
    const css = getComputedStyle(document.documentElement);
    const colour = (name) => css.getPropertyValue("--" + name).trim();
    const size = cell(), only = control("mistakes").checked;
    clamp();
    context.clearRect(0, 0, width, height);
    context.save();
    context.beginPath();
    context.rect(margin, margin, side(), side());
    context.clip();
    context.fillStyle = colour("raised");
    context.fillRect(margin, margin, side(), side());
    const box = (row, column) => [margin + (position[column] - left) * size, margin + (position[row] - top) * size];
    const gap = size > 8 ? 1 : 0;
    for (const [row, column, n] of cells) {
      if (only && row === column) continue;
      const [x, y] = box(row, column);
      if (x + size < margin || y + size < margin || x > width || y > height) continue;
      const share = n / videos[row];
      const strength = row === column ? 0.12 + 0.88 * share : 0.25 + 0.75 * Math.sqrt(share);
      context.fillStyle = `rgba(${colour(row === column ? "blue-rgb" : "orange-rgb")}, ${strength})`;
      const least = Math.max(size - gap, 1.5); // a single mistake stays visible among 400 classes
      context.fillRect(x, y, least, least);
      if (size >= 26) {
        context.fillStyle = strength > 0.6 ? "#fff" : colour("ink");
        context.font = `${Math.min(13, size * 0.36)}px ${colour("font")}`;
        context.textAlign = "center";
        context.textBaseline = "middle";
        context.fillText(n, x + size / 2, y + size / 2);
      }
    }
    context.fillStyle = colour("ink");
    context.globalAlpha = 0.1;
    const mark = (c) => {
      context.fillRect(margin, margin + (position[c] - top) * size, side(), Math.max(size, 2));
      context.fillRect(margin + (position[c] - left) * size, margin, Math.max(size, 2), side());
    };
    found.forEach(mark);
    if (pointer) {
      context.fillRect(margin, margin + (pointer.y - top) * size, side(), size);
      context.fillRect(margin + (pointer.x - left) * size, margin, size, side());
    }
    context.restore();
    drawNames(colour, size);
  }

  function drawNames(colour, size) {
    const every = Math.ceil(11 / size); // as many names as can be read
    context.textBaseline = "middle";
    const fit = (name) => {
      const most = margin - 10;
      if (context.measureText(name).width <= most) return name;
      let text = name;
      while (text && context.measureText(text + "…").width > most) text = text.slice(0, -1);
      return text + "…";
    };
    for (let place = Math.floor(top / every) * every; place < Math.min(K, top + K / zoom); place += 1) {
      label(place, top, false);
    }
    for (let place = Math.floor(left / every) * every; place < Math.min(K, left + K / zoom); place += 1) {
      label(place, left, true);
    }
    function label(place, first, across) {
      const c = order[place];
      const here = pointer && (across ? pointer.x : pointer.y) === place;
      if (!here && !found.has(c) && place % every) return;
      const at = margin + (place - first + 0.5) * size;
      if (at < margin || at > margin + side()) return;
      context.font = `${here || found.has(c) ? "600 " : ""}${Math.max(9, Math.min(12, size * 0.8))}px ${colour("font")}`;
      context.fillStyle = colour(here || found.has(c) ? "ink" : "quiet");
      context.save();
      if (across) {
        context.translate(at, margin - 5);
        context.rotate(-Math.PI / 2);
        context.textAlign = "left";
      } else {
        context.translate(margin - 5, at);
        context.textAlign = "right";
      }
      context.fillText(fit(names[c]), 0, 0);
      context.restore();
    }
  }

  function zoomTo(factor, x = side() / 2, y = side() / 2) { // keeps what is under (x, y)
    const before = cell();
    zoom = Math.max(1, Math.min(Math.max(1, K / 6), zoom * factor));
    left += x / before - x / cell();
    top += y / before - y / cell();
    draw();
  }

  function place(event) {
    const frame = canvas.getBoundingClientRect();
    return [event.clientX - frame.left - margin, event.clientY - frame.top - margin];
  }

  function say(event) {
    const [x, y] = place(event);
    const inside = x >= 0 && y >= 0 && x < side() && y < side();
    pointer = inside ? { x: Math.floor(x / cell() + left), y: Math.floor(y / cell() + top) } : null;
    if (pointer) {
      const row = order[pointer.y], column = order[pointer.x], n = count.get(row * K + column) || 0;
      const share = videos[row] ? ` (${((100 * n) / videos[row]).toFixed(1)} %)` : "";
      said.textContent = row === column
        ? `${names[row]}: ${n} of ${videos[row]} right${share}`
        : `${names[row]} taken for ${names[column]}: ${n} of ${videos[row]}${share}`;
    } else {
      said.textContent = help;
    }
    draw();
  }

  const help = `${K} classes. Point at a cell to read it; drag moves, + and − or Ctrl and the wheel zoom.`;
  canvas.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, y: event.clientY, left, top };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (drag) {
      left = drag.left - (event.clientX - drag.x) / cell();
      top = drag.top - (event.clientY - drag.y) / cell();
    }
    say(event);
  });
  canvas.addEventListener("pointerup", () => { drag = null; });
  canvas.addEventListener("pointercancel", () => { drag = null; });
  canvas.addEventListener("pointerleave", () => { pointer = null; said.textContent = help; draw(); });
  canvas.addEventListener("dblclick", (event) => zoomTo(2, ...place(event)));
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // a page must scroll
    event.preventDefault();
    zoomTo(Math.exp(-event.deltaY / 300), ...place(event));
  }, { passive: false });
  control("in").addEventListener("click", () => zoomTo(1.6));
  control("out").addEventListener("click", () => zoomTo(1 / 1.6));
  control("fit").addEventListener("click", () => { zoom = 1; draw(); });
  control("mistakes").addEventListener("change", draw);
  control("order").addEventListener("change", (event) => {
    setOrder(event.target.value === "worst" ? worstFirst : inList);
    draw();
  });
  control("search").addEventListener("input", (event) => {
    const text = event.target.value.trim().toLowerCase();
    found = new Set(text ? inList.filter((c) => names[c].toLowerCase().includes(text)) : []);
    const whole = inList.find((c) => names[c].toLowerCase() === text);
    const go = whole === undefined && found.size === 1 ? [...found][0] : whole;
    if (go !== undefined) {
      found = new Set([go]);
      zoom = Math.max(1, K / 25);
      left = top = position[go] - K / zoom / 2;
    }
    said.textContent = text ? `${found.size} classes found` : help;
    draw();
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  window.addEventListener("resize", resize);
  setOrder(inList);
  control("tools").hidden = false;
  said.textContent = help;
  resize();
})();
