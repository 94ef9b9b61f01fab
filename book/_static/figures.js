// The figures that move. Each takes the data that moving.py computed with the library, in a
// <script type="application/json">, and draws SVG; without JavaScript the still drawing stays.
"use strict";

(() => {
  const figures = {};

  // --- the tools --------------------------------------------------------------------------------

  const element = (name, attributes = {}, parent = null, text = null) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== null) node.textContent = text;
    if (parent) parent.append(node);
    return node;
  };

  // A label, an input and what it says now; `changed` gets the number.
  const slider = (controls, { label, min, max, step = 1, value, format = String }, changed) => {
    const box = document.createElement("label");
    const input = document.createElement("input");
    const output = document.createElement("output");
    Object.assign(input, { type: "range", min, max, step, value });
    box.append(label, input, output);
    controls.append(box);
    const tell = () => {
      output.textContent = format(input.valueAsNumber);
      input.setAttribute("aria-valuetext", output.textContent);
    };
    input.addEventListener("input", () => { tell(); changed(input.valueAsNumber); });
    tell();
    return input;
  };

  const choice = (controls, { label, options, value }, changed) => {
    const box = document.createElement("label");
    const select = document.createElement("select");
    select.className = "form-select form-select-sm";
    for (const option of options) select.add(new Option(option, option, false, option === value));
    box.append(label, select);
    controls.append(box);
    select.addEventListener("change", () => changed(select.value));
    return select;
  };

  // Scales from data to the box [left, top, width, height], with a frame, ticks and labels.
  const axes = (svg, box, { x, y, xlabel = "", ylabel = "", xticks = [], yticks = [], xlog = false, ylog = false }) => {
    const [left, top, width, height] = box;
    const scale = (range, log) => {
      const f = log ? Math.log : (v) => v;
      const [a, b] = range.map(f);
      return (v) => (f(v) - a) / (b - a);
    };
    const [sx, sy] = [scale(x, xlog), scale(y, ylog)];
    const at = { x: (v) => left + width * sx(v), y: (v) => top + height * (1 - sy(v)) };
    const group = element("g", { "font-size": 11, fill: "currentColor" }, svg);
    const named = (tick) => (Array.isArray(tick) ? tick : [tick, String(tick)]);
    for (const [v, name] of xticks.map(named)) {
      element("line", { x1: at.x(v), x2: at.x(v), y1: top, y2: top + height, stroke: "var(--faint)", "stroke-width": 0.7 }, group);
      element("text", { x: at.x(v), y: top + height + 14, "text-anchor": "middle" }, group, name);
    }
    for (const [v, name] of yticks.map(named)) {
      element("line", { x1: left, x2: left + width, y1: at.y(v), y2: at.y(v), stroke: "var(--faint)", "stroke-width": 0.7 }, group);
      element("text", { x: left - 5, y: at.y(v) + 4, "text-anchor": "end" }, group, name);
    }
    element("path", { d: `M${left} ${top}V${top + height}H${left + width}`, fill: "none", stroke: "currentColor" }, group);
    element("text", { x: left + width / 2, y: top + height + 30, "text-anchor": "middle" }, group, xlabel);
    const side = { x: left - 38, y: top + height / 2 };
    element("text", { ...side, "text-anchor": "middle", transform: `rotate(-90 ${side.x} ${side.y})` }, group, ylabel);
    at.path = (xs, ys) => xs.map((v, i) => `${i ? "L" : "M"}${at.x(v).toFixed(2)} ${at.y(ys[i]).toFixed(2)}`).join("");
    return at;
  };

  const arrow = (parent, colour, dash = "") => {
    const group = element("g", { stroke: colour, fill: colour, "stroke-width": 3, "stroke-linecap": "round" }, parent);
    const line = element("line", { "stroke-dasharray": dash }, group);
    const tip = element("circle", { r: 5 }, group);
    return (x1, y1, x2, y2) => {
      for (const [key, value] of Object.entries({ x1, y1, x2, y2 })) line.setAttribute(key, value);
      tip.setAttribute("cx", x2);
      tip.setAttribute("cy", y2);
    };
  };

  const start = (root) => {
    const data = JSON.parse(root.querySelector("script").textContent);
    const controls = document.createElement("div");
    controls.className = "controls";
    const told = document.createElement("p");
    told.className = "told";
    told.setAttribute("aria-live", "polite");
    const drawing = (width, height) =>
      element("svg", { class: "drawing", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": root.dataset.alt });
    const svg = figures[root.dataset.figure]({ data, controls, told, drawing });
    svg.style.maxWidth = `${svg.viewBox.baseVal.width}px`;
    const still = root.querySelector(".still");
    still.before(controls, svg, told);
    still.hidden = true;
    root.classList.add("started");
  };

  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll(".moving").forEach(start));

  // --- the figures ------------------------------------------------------------------------------

  // One pair: q at m and k at n turn; their product sees m - n only.
  figures.turn = ({ data, controls, told, drawing }) => {
    const svg = drawing(360, 300);
    const [cx, cy, radius] = [180, 150, 130];
    element("circle", { cx, cy, r: radius, fill: "none", stroke: "var(--faint)" }, svg);
    const wedge = element("path", { fill: "var(--grey)", "fill-opacity": 0.25 }, svg);
    const [q, k] = [arrow(svg, "var(--blue)"), arrow(svg, "var(--red)", "8 6")];
    const names = [["q", "var(--blue)"], ["k", "var(--red)"]].map(([name, fill]) =>
      element("text", { fill, "font-size": 16, "font-style": "italic", "text-anchor": "middle" }, svg, name));
    const at = (m, r = radius) => [cx + r * data.cos[m], cy - r * data.sin[m]];
    let [n, distance] = [1, 2];
    const draw = () => {
      const [a, b] = [at(n + distance), at(n)];
      q(cx, cy, ...a);
      k(cx, cy, ...b);
      [at(n + distance, radius + 15), at(n, radius + 15)].forEach(([x, y], i) => {
        names[i].setAttribute("x", x);
        names[i].setAttribute("y", y + 5);
      });
      const [[x1, y1], [x2, y2]] = [at(n, 40), at(n + distance, 40)];
      const large = data.angles[distance] % (2 * Math.PI) > Math.PI ? 1 : 0;
      wedge.setAttribute("d", `M${cx} ${cy}L${x1} ${y1}A40 40 0 ${large} 0 ${x2} ${y2}Z`);
      told.textContent = `q at m = ${n + distance}, k at n = ${n}: the product is ${data.cos[distance].toFixed(4)}`;
    };
    slider(controls, { label: "both move: n", min: 0, max: 32, value: n }, (v) => { n = v; draw(); });
    slider(controls, { label: "m − n", min: 0, max: 15, value: distance }, (v) => { distance = v; draw(); });
    draw();
    return svg;
  };
})();
