// The figures that move. Each takes the data that moving.py computed with the library, from a
// <script type="application/json">, and draws SVG; without JavaScript the static drawing is shown.
//
// A figure is a function of { data, slider, choice, facts }. It makes its inputs once and returns
// `draw(svg, width)`, which draws the constant parts into the given width in pixels and returns
// [height, update]; `update` reads the inputs and moves the rest.
"use strict";

(() => {
  const figures = {};
  const TURN = 2 * Math.PI;

  // --- numbers and words ------------------------------------------------------------------------

  const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
  const minus = (text) => text.replace(/^-(0\.?0*)$/, "$1").replace("-", "−");
  const fixed = (v, digits) => minus(v.toFixed(digits));
  const { format: grouped } = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
  const superscript = (n) => minus(String(n)).replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["−0123456789".indexOf(c)]);
  const scientific = (v) => {
    if (v === 0) return "0";
    const [digits, power] = v.toExponential(1).split("e");
    return `${digits} · 10${superscript(Number(power))}`;
  };

  // In the language of the page, where editions.py has put its words.
  const say = (words) => window.figureWords?.[words] ?? words;

  // --- elements ---------------------------------------------------------------------------------

  const set = (node, attributes) => {
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  };

  const element = (name, attributes, parent, text = null) => {
    const node = set(document.createElementNS("http://www.w3.org/2000/svg", name), attributes);
    if (text !== null) node.textContent = text;
    parent.append(node);
    return node;
  };

  const text = (parent, x, y, words, attributes = {}) =>
    element("text", { x, y, "text-anchor": "middle", "font-size": 12, fill: "currentColor", ...attributes }, parent, say(words));

  const line = (parent, x1, y1, x2, y2, attributes = {}) =>
    element("line", { x1, y1, x2, y2, stroke: "currentColor", ...attributes }, parent);

  // The style of a line or of marks: a colour, and what tells it apart without colour.
  const stroke = (colour, dash = "", width = 2) =>
    ({ fill: "none", stroke: `var(--${colour})`, "stroke-width": width, "stroke-dasharray": dash, "stroke-linejoin": "round" });
  const fill = (colour, opacity = 1) => ({ fill: `var(--${colour})`, "fill-opacity": opacity, stroke: "none" });

  // Outlines, for the attribute d of a path: points are [x, y].
  const polyline = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}`).join("");
  const circles = (points, r = 3) => points.map(([x, y]) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`).join("");
  const squares = (points, r = 3) => points.map(([x, y]) => `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}Z`).join("");
  const crosses = (points, r = 3) => points.map(([x, y]) => `M${x - r} ${y - r}l${2 * r} ${2 * r}m0 ${-2 * r}l${-2 * r} ${2 * r}`).join("");

  // --- inputs and facts -------------------------------------------------------------------------

  const labelled = (controls, english, input) => {
    const label = say(english);
    const [box, words] = [document.createElement("div"), document.createElement("label")];
    input.setAttribute("aria-label", label);
    words.append(label, input);
    box.append(words);
    controls.append(box);
    return words;
  };

  // A button that moves a slider along by itself, unless the reader asked for less motion.
  const addPlay = (slider, label, facts) => {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    const button = Object.assign(document.createElement("button"), { type: "button" });
    let timer = null;
    const show = () => {
      button.textContent = timer ? "■" : "▶\uFE0E";
      button.setAttribute("aria-label", `${say(timer ? "stop" : "play")}: ${say(label)}`);
      facts.setAttribute("aria-live", timer ? "off" : "polite");
    };
    const stop = () => { clearInterval(timer); timer = null; show(); };
    const step = () => {
      slider.stepUp();
      slider.dispatchEvent(new Event("input"));
      if (slider.value === slider.max) stop();
    };
    button.addEventListener("click", () => {
      if (timer) { stop(); return; }
      if (slider.value === slider.max) slider.value = slider.min;
      timer = setInterval(step, 100);
      show();
    });
    slider.closest("div").append(button);
    show();
  };

  // A slider over the values of a list; a call returns the index of the current one.
  const makeSlider = (controls, facts, changed) => ({ label, values, at = 0, format = String, play = false }) => {
    const input = Object.assign(document.createElement("input"), { type: "range", min: 0, max: values.length - 1, value: at });
    const output = document.createElement("output");
    output.setAttribute("aria-live", "off"); // the input has its value as text
    labelled(controls, label, input).append(output);
    const widen = () => { output.style.minWidth = `${Math.max(...values.map((v) => format(v).length))}ch`; };
    const show = () => {
      output.textContent = format(values[input.valueAsNumber]);
      input.setAttribute("aria-valuetext", output.textContent);
    };
    input.addEventListener("input", () => { show(); changed(); });
    widen();
    show();
    if (play) addPlay(input, label, facts);
    const index = () => input.valueAsNumber;
    // Another list, for a figure whose menu changes what the slider means.
    index.reset = (others, value) => {
      values = others;
      Object.assign(input, { max: values.length - 1, value });
      widen();
      show();
    };
    return index;
  };

  // A menu; a call returns the chosen option.
  const makeChoice = (controls, changed) => ({ label, options, value }) => {
    const select = document.createElement("select");
    for (const option of options) select.add(new Option(say(option), option, false, option === value));
    labelled(controls, label, select);
    select.addEventListener("input", changed);
    return () => select.value;
  };

  // Sentences with a number each: [words, width of the number in characters]; a call fills in the numbers.
  const makeFacts = (parent) => (...facts) => {
    const numbers = facts.map(([words, characters]) => {
      const fact = document.createElement("span");
      const number = document.createElement("b");
      number.style.minWidth = `${characters}ch`;
      fact.append(`${say(words)} `, number);
      parent.append(fact, " ");
      return number;
    });
    return (...values) => values.forEach((value, i) => { numbers[i].textContent = value; });
  };

  // --- panels and axes --------------------------------------------------------------------------

  // Boxes [left, top, width, height] beside each other if the width allows it, else one below the
  // other; and the total height.
  const panels = (width, heights, gap = 14) => {
    if (width >= 540) {
      const each = (width - gap * (heights.length - 1)) / heights.length;
      const height = Math.max(...heights);
      return [heights.map((_, i) => [i * (each + gap), 0, each, height]), height];
    }
    let top = 0;
    const boxes = heights.map((height) => {
      top += height + gap;
      return [0, top - height - gap, width, height];
    });
    return [boxes, top - gap];
  };

  // An axis goes from its first to its last value, on a scale; ticks are values or [value, name].
  const scales = { linear: (v) => v, log: Math.log10, log1p: Math.log1p };
  const scaleOf = ({ from, to, scale = "linear" }) => {
    const f = scales[scale];
    return (v) => (f(v) - f(from)) / (f(to) - f(from));
  };

  // Frame, ticks and labels; returns the functions from values to pixels.
  const axes = (svg, [boxLeft, boxTop, boxWidth, boxHeight], { x, y, margin = 48 }) => {
    const [left, top, width, height] = [boxLeft + margin, boxTop + 8, boxWidth - margin - 12, boxHeight - 48];
    const [sx, sy] = [scaleOf(x), scaleOf(y)];
    const at = { left, top, right: left + width, bottom: top + height, x: (v) => left + width * sx(v), y: (v) => top + height * (1 - sy(v)) };
    const group = element("g", {}, svg);
    const named = (tick) => (Array.isArray(tick) ? tick : [tick, minus(String(tick))]);
    const faint = { stroke: "var(--faint)", "stroke-width": 0.7 };
    for (const [v, name] of x.ticks.map(named)) {
      line(group, at.x(v), top, at.x(v), at.bottom, faint);
      text(group, at.x(v), at.bottom + 16, name);
    }
    for (const [v, name] of y.ticks.map(named)) {
      line(group, left, at.y(v), at.right, at.y(v), faint);
      text(group, left - 6, at.y(v) + 4, name, { "text-anchor": "end" });
    }
    element("path", { d: `M${left} ${top}V${at.bottom}H${at.right}`, fill: "none", stroke: "currentColor" }, group);
    text(group, left + width / 2, at.bottom + 34, x.label);
    const side = boxLeft + 12;
    text(group, side, top + height / 2, y.label, { transform: `rotate(-90 ${side} ${top + height / 2})` });
    at.points = (xs, ys) => xs.map((v, i) => [at.x(v), at.y(ys[i])]);
    return at;
  };

  const powers = (from, to, step = 1) =>
    range(0, Math.floor((to - from) / step)).map((i) => [10 ** (from + i * step), `10${superscript(from + i * step)}`]);

  // --- clocks -----------------------------------------------------------------------------------

  // Angles run against the clock from the right, as in the plane of complex numbers.
  const onCircle = (x, y, r, angle) => [x + r * Math.cos(angle), y - r * Math.sin(angle)];

  const sector = (x, y, r, from, turns) => {
    if (turns >= 1) return circles([[x, y]], r);
    const [[x1, y1], [x2, y2]] = [onCircle(x, y, r, from), onCircle(x, y, r, from + turns * TURN)];
    return `M${x} ${y}L${x1} ${y1}A${r} ${r} 0 ${turns > 0.5 ? 1 : 0} 0 ${x2} ${y2}Z`;
  };

  const makeHand = (svg, x, y, r, colour, dash = "", width = 2.5) => {
    const stem = element("path", { ...stroke(colour, dash, width), "stroke-linecap": dash ? "butt" : "round" }, svg);
    const tip = element("circle", { r: width * 1.6, ...fill(colour) }, svg);
    return (angle) => {
      const [cx, cy] = onCircle(x, y, r, angle);
      stem.setAttribute("d", `M${x} ${y}L${cx} ${cy}`);
      set(tip, { cx, cy });
    };
  };

  // A grid of clocks in eight columns or four: their centres, their radius and the total height;
  // `above` and `below` are the heights left for text.
  const grid = (width, count, above, below) => {
    const columns = width >= 530 ? 8 : 4;
    const each = width / columns;
    const r = Math.min(each / 2 - 6, 34);
    const row = above + 2 * r + below;
    const centre = (i) => [((i % columns) + 0.5) * each, Math.floor(i / columns) * row + above + r];
    return [range(0, count - 1).map(centre), r, (count / columns) * row];
  };

  // --- the start --------------------------------------------------------------------------------

  const start = (root) => {
    const data = JSON.parse(root.querySelector("script").textContent);
    const controls = Object.assign(document.createElement("div"), { className: "controls" });
    const facts = Object.assign(document.createElement("p"), { className: "facts" });
    set(facts, { "aria-live": "polite", "aria-atomic": "true" });
    let update = () => {};
    const changed = () => update();
    const draw = figures[root.dataset.figure]({
      data, slider: makeSlider(controls, facts, changed), choice: makeChoice(controls, changed), facts: makeFacts(facts),
    });
    const svg = set(document.createElementNS("http://www.w3.org/2000/svg", "svg"), { class: "drawing", role: "img", "aria-label": root.dataset.alt });
    const drawing = root.querySelector(".static");
    drawing.before(controls, svg, facts);
    drawing.hidden = true;
    for (const summary of root.querySelectorAll("summary")) summary.textContent = say(summary.textContent);
    // One unit is one pixel, so that letters are as large on a phone; drawn again when the width changes.
    let drawn = 0;
    const layout = () => {
      const available = controls.clientWidth || 640; // 0 while it is hidden
      const width = Math.min(Math.max(available, 280), 660);
      if (width === drawn) return;
      drawn = width;
      svg.replaceChildren();
      const [height, redraw] = draw(svg, width);
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      svg.style.maxWidth = `${width * 1.1}px`;
      update = redraw;
      update();
    };
    layout();
    new ResizeObserver(layout).observe(root);
    root.classList.add("started");
  };

  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll(".moving").forEach(start));

  // --- the figures ------------------------------------------------------------------------------

  // Two rows of the sinusoidal encoding: k turns each pair by an angle that does not depend on p.
  figures.sinusoid = ({ data, slider, facts }) => {
    const p = slider({ label: "row p", values: range(0, 64), at: 5, play: true });
    const k = slider({ label: "shift k", values: range(0, 32), at: 3 });
    const show = facts(["p =", 2], ["p + k =", 2], ["PE(p)·PE(p + k):", 6]);
    return (svg, width) => {
      text(svg, 4, 14, "● solid: PE(p)", { "text-anchor": "start", ...fill("blue") });
      text(svg, 100, 14, "◌ dashed: PE(p + k)", { "text-anchor": "start", ...fill("red") });
      text(svg, width < 400 ? width - 4 : 240, 14, "◔ arc: k·θᵢ", { "text-anchor": width < 400 ? "end" : "start" });
      const [centres, r, height] = grid(width, 8, 46, 118);
      const drawn = centres.map(([x, y], i) => {
        const base = y + r + 62;
        text(svg, x, y - r - 8, `i = ${i}`);
        element("circle", { cx: x, cy: y, r, ...stroke("grey", "", 1) }, svg);
        const arc = element("path", fill("grey", 0.4), svg);
        const hands = [makeHand(svg, x, y, r, "blue"), makeHand(svg, x, y, r, "red", "5 3")];
        const degrees = text(svg, x, y + r + 18, "");
        line(svg, x - 30, base, x + 30, base, { stroke: "var(--grey)" });
        ["sin", "cos"].forEach((name, j) => text(svg, x + (j - 0.5) * 30, base + 40, name, { "font-size": 11 }));
        const bars = [element("path", fill("blue"), svg), element("path", stroke("red", "3 2", 1.5), svg)];
        const bar = (value, j, which) => `M${x + (j - 0.5) * 30 + (which ? 1 : -11)} ${base}h10v${-26 * value}h-10Z`;
        return ([row, angle], turns, [other, turned]) => {
          arc.setAttribute("d", sector(x, y, r * 0.6, angle, turns % 1));
          degrees.textContent = `${fixed(360 * turns, turns < 0.1 ? 2 : 0)}°`;
          hands[0](angle);
          hands[1](turned);
          [row, other].forEach((values, which) =>
            bars[which].setAttribute("d", [0, 1].map((j) => bar(values[2 * i + j], j, which)).join("")));
        };
      });
      const update = () => {
        const [a, b] = [p(), p() + k()];
        const turns = data.shifts[k()];
        drawn.forEach((draw, i) => draw([data.rows[a], data.angles[a][i]], turns[i], [data.rows[b], data.angles[b][i]]));
        show(a, b, fixed(data.products[a][k()], 3));
      };
      return [height, update];
    };
  };

  // One pair: q at m and k at n turn; their product depends on m - n only.
  figures.turn = ({ data, slider, facts }) => {
    const n = slider({ label: "both move: n", values: range(0, 32), at: 1, play: true });
    const distance = slider({ label: "m − n", values: range(0, 15), at: 2 });
    const show = facts(["q at m =", 2], ["k at n =", 2], ["their product:", 7]);
    return (svg, width) => {
      const [[dial, graph], height] = panels(width, [270, 220]);
      const [x, y, r] = [dial[0] + dial[2] / 2, dial[1] + 135, 108];
      element("circle", { cx: x, cy: y, r, ...stroke("grey", "", 1) }, svg);
      const wedge = element("path", fill("grey", 0.35), svg);
      const hands = [makeHand(svg, x, y, r, "blue", "", 3), makeHand(svg, x, y, r, "red", "8 6", 3)];
      const names = ["blue", "red"].map((colour, i) =>
        text(svg, 0, 0, "qk"[i], { ...fill(colour), "font-size": 17, "font-style": "italic" }));
      const at = axes(svg, [graph[0], graph[1] + (height - graph[1] - graph[3]) / 2, graph[2], graph[3]], {
        x: { from: 0, to: 15, ticks: [0, 4, 8, 12], label: "m − n" },
        y: { from: -1.05, to: 1.05, ticks: [-1, 0, 1], label: "product" },
      });
      const curve = at.points(range(0, 15), data.cos.slice(0, 16));
      element("path", { d: circles(curve, 2.5), ...fill("grey") }, svg);
      const mark = element("path", stroke("green", "", 3), svg);
      const update = () => {
        const angles = [data.angles[n() + distance()], data.angles[n()]];
        angles.forEach((angle, i) => {
          hands[i](angle);
          const [left, top] = onCircle(x, y, r + 16, angle);
          set(names[i], { x: left, y: top + 5 });
        });
        const apart = data.angles[distance()] / TURN;
        wedge.setAttribute("d", sector(x, y, 42, angles[1], apart < 0 ? apart + 1 : apart));
        mark.setAttribute("d", circles([curve[distance()]], 6));
        show(n() + distance(), n(), fixed(data.cos[distance()], 4));
      };
      return [height, update];
    };
  };

  // All pairs of a head: the fast ones spin, the slow ones barely move.
  figures.pairs = ({ data, slider, facts }) => {
    const position = slider({ label: "position m", values: data.positions, at: 64, format: grouped, play: true });
    const show = facts(["pairs that have completed a turn:", 8], ["turns of pair 0:", 6], ["of pair 15:", 6]);
    return (svg, width) => {
      const [centres, r, height] = grid(width, 16, 24, 28);
      const clocks = centres.map(([x, y], i) => {
        text(svg, x, y - r - 8, `i = ${i}`);
        const disc = element("path", {}, svg);
        const rim = element("circle", { cx: x, cy: y, r }, svg);
        const hand = makeHand(svg, x, y, r, "blue");
        const count = text(svg, x, y + r + 17, "");
        return (angle, turns) => {
          const done = turns >= 1;
          disc.setAttribute("d", sector(x, y, r, 0, turns));
          set(disc, fill(done ? "green" : "grey", done ? 0.3 : 0.4));
          set(rim, stroke(done ? "green" : "grey", "", done ? 3 : 1));
          hand(angle);
          count.textContent = done ? `✓ ${grouped(Math.floor(turns))}` : fixed(Math.floor(turns * 1000) / 1000, 3);
        };
      });
      const update = () => {
        const [angles, turns] = [data.angles[position()], data.turns[position()]];
        clocks.forEach((draw, i) => draw(angles[i], turns[i]));
        show(`${turns.filter((t) => t >= 1).length} of 16`, fixed(turns[0], 1), fixed(turns[15], 3));
      };
      return [height, update];
    };
  };

  // Wavelengths against the context, for any base.
  figures.base = ({ data, slider, choice, facts }) => {
    const at = slider({ label: "base b", values: data.bases, at: 20, format: grouped });
    const context = choice({ label: "context", options: Object.keys(data.contexts), value: "8k" });
    const show = facts(["pairs that complete a turn:", 8], ["slowest wavelength:", 11], ["context:", 9]);
    return (svg, width) => {
      const height = 330;
      const axis = axes(svg, [0, 0, width, height], {
        x: { from: -1, to: 64, ticks: [0, 16, 32, 48, 63], label: "pair i" },
        y: { from: 1, to: 2e9, scale: "log", ticks: powers(0, 9, width < 400 ? 2 : 1), label: "wavelength (tokens)" },
      });
      const pairs = range(0, 63);
      const limit = element("path", stroke("purple", "9 5"), svg);
      const name = text(svg, axis.left + 8, 0, "", { "text-anchor": "start", ...fill("purple") });
      const whole = element("path", fill("blue"), svg);
      const partial = element("path", stroke("red", "", 1.5), svg);
      [["● a whole turn and more", "blue"], ["□ less than a turn", "red"]].forEach(([words, colour], i) =>
        text(svg, axis.left + 8, axis.top + 14 + 17 * i, words, { "text-anchor": "start", ...fill(colour) }));
      const update = () => {
        const [length, waves] = [data.contexts[context()], data.wavelengths[at()]];
        const turning = data.turning[context()][at()];
        const points = axis.points(pairs, waves);
        whole.setAttribute("d", circles(points.slice(0, turning), 3));
        partial.setAttribute("d", squares(points.slice(turning), 3));
        limit.setAttribute("d", `M${axis.left} ${axis.y(length)}H${axis.right}`);
        name.setAttribute("y", axis.y(length) - 6);
        name.textContent = `context ${context()}`;
        show(`${turning} of 64`, grouped(data.slowest[at()]), grouped(length));
      };
      return [height, update];
    };
  };

  // A circle about the origin, of which the axes show the part that fits: two arcs, or all.
  const circleAboutOrigin = (at, radius) => {
    const r = at.x(radius) - at.x(0);
    const half = at.y(0) - at.top;
    if (r <= half) return circles([[at.x(0), at.y(0)]], r);
    const across = Math.sqrt(r * r - half * half);
    return [1, -1].map((side) =>
      `M${at.x(0) + side * across} ${at.top}A${r} ${r} 0 0 ${side > 0 ? 1 : 0} ${at.x(0) + side * across} ${at.bottom}`).join("");
  };

  // The partial sums as a walk, and along two curves.
  figures.decay = ({ data, slider, facts }) => {
    const distance = slider({ label: "distance r", values: data.distances, at: 20, format: grouped, play: true });
    const show = facts(["D(r), mean of |Sⱼ|:", 6], ["A(r), sum of cosines:", 7], ["first below zero at distance", 5]);
    return (svg, width) => {
      const scale = (width - 66) / 102; // pixels per unit, the same both ways
      const walkHeight = 48 + scale * 40;
      const walk = axes(svg, [0, 0, width, walkHeight], {
        x: { from: -36, to: 66, ticks: [-32, -16, 0, 16, 32, 48, 64], label: "Re Sⱼ" },
        y: { from: -20, to: 20, ticks: [-16, 0, 16], label: "Im Sⱼ" },
        margin: 54,
      });
      const mean = element("path", stroke("green", "6 4"), svg);
      const path = element("path", stroke("blue", "", 1.5), svg);
      const dots = element("path", fill("blue"), svg);
      const [end, drop] = [element("path", stroke("red", "", 2.5), svg), element("path", stroke("red", "3 3", 1.2), svg)];

      const height = walkHeight + 270;
      const curve = axes(svg, [0, walkHeight + 20, width, 250], {
        x: { from: 0, to: 20000, scale: "log1p", ticks: [0, 1, 10, 100, [1000, "1,000"], [10000, "10,000"]], label: "distance r (positions)" },
        y: { from: -20, to: 66, ticks: [-16, 0, 16, 32, 48, 64], label: "value" },
        margin: 54,
      });
      line(svg, curve.left, curve.y(0), curve.right, curve.y(0), { "stroke-width": 0.8 });
      const marks = [["bound", "green", ""], ["advantage", "red", "7 4"]].map(([name, colour, dash]) => {
        const [low, high, own] = ["_low", "_high", ""].map((end) => curve.points(data.distances, data[name + end]));
        // A bin begins at its distance and ends at the next one.
        const steps = (edge) => edge.flatMap(([x, y], i) => [[x, y], [(edge[i + 1] ?? [x])[0], y]]);
        element("path", { d: `${polyline([...steps(high), ...steps(low).reverse()])}Z`, ...fill(colour, 0.25) }, svg);
        element("path", { d: polyline(own), ...stroke(colour, dash, 1.5) }, svg);
        return element("path", stroke(colour, "", 3), svg);
      });
      const here = element("path", stroke("grey", "2 3", 1.5), svg);
      [["— D(r)", "green"], ["- - A(r)", "red"]].forEach(([words, colour], i) =>
        text(svg, curve.right, curve.top + 10 + 17 * i, words, { "text-anchor": "end", ...fill(colour) }));
      const update = () => {
        const m = distance();
        const points = walk.points([0, ...data.x[m]], [0, ...data.y[m]]);
        path.setAttribute("d", polyline(points));
        dots.setAttribute("d", circles(points, Math.min(1.8, scale / 3)));
        end.setAttribute("d", squares(points.slice(-1), 4.5));
        drop.setAttribute("d", `M${points[64]}V${walk.y(0)}`);
        mean.setAttribute("d", circleAboutOrigin(walk, data.bound[m]));
        here.setAttribute("d", `M${curve.x(data.distances[m])} ${curve.top}V${curve.bottom}`);
        ["bound", "advantage"].forEach((name, i) =>
          marks[i].setAttribute("d", [circles, squares][i](curve.points([data.distances[m]], [data[name][m]]), 4.5)));
        show(fixed(data.bound[m], 2), fixed(data.advantage[m], 2), grouped(data.first));
      };
      return [height, update];
    };
  };

  // One score that should not depend on the position, with exact and with float32 angles.
  figures.precision = ({ data, slider, facts }) => {
    const at = slider({ label: "position", values: data.positions, at: 130, format: grouped });
    const show = facts(["score with exact phases:", 9], ["with float32 angles:", 9], ["largest angle error (rad):", 10], ["in pair", 2]);
    return (svg, width) => {
      const x = { from: 1, to: 1.1e7, scale: "log", ticks: powers(0, 7), label: "position (tokens)" };
      const [low, high] = [Math.min(...data.float32), Math.max(...data.float32)];
      const step = 0.5;
      const [from, to] = [Math.floor(low / step) * step, Math.ceil(high / step) * step];
      const score = axes(svg, [0, 0, width, 220], {
        x, y: { from, to, ticks: range(0, Math.round((to - from) / step)).map((i) => [from + i * step, fixed(from + i * step, 1)]), label: "score" }, margin: 56,
      });
      const error = axes(svg, [0, 236, width, 220], {
        x, y: { from: 1e-8, to: 3, scale: "log", ticks: powers(-8, 0, 2), label: "angle error (rad)" }, margin: 56,
      });
      const [points, errors] = [score.points(data.positions, data.float32), error.points(data.positions, data.errors)];
      element("path", { d: crosses(points, 2.5), ...stroke("red", "", 1.2) }, svg);
      element("path", { d: polyline(score.points(data.positions, data.exact)), ...stroke("blue") }, svg);
      element("path", { d: crosses(errors, 2.5), ...stroke("red", "", 1.2) }, svg);
      element("path", { d: polyline(error.points(data.positions, data.positions.map((m) => m / 2 ** 24))), ...stroke("grey", "2 3", 1.5) }, svg);
      [["— exact phases", "blue"], ["× float32 angles", "red"]].forEach(([words, colour], i) =>
        text(svg, score.left + 10, score.top + 14 + 17 * i, words, { "text-anchor": "start", ...fill(colour) }));
      text(svg, error.left + 10, error.top + 14, "× largest of 64 pairs", { "text-anchor": "start", ...fill("red") });
      text(svg, error.left + 10, error.top + 31, "··· position · 2⁻²⁴", { "text-anchor": "start", ...fill("grey") });
      const here = element("path", stroke("grey", "2 3", 1.5), svg);
      const mark = element("path", stroke("purple", "", 3), svg);
      // The pair that is furthest off, as a clock.
      const [cx, cy, r] = [score.left + 46, score.bottom - 38, 30];
      element("circle", { cx, cy, r, fill: "var(--pst-color-background)", stroke: "var(--grey)" }, svg);
      const hands = [makeHand(svg, cx, cy, r, "blue", "", 2), makeHand(svg, cx, cy, r, "red", "5 3", 2)];
      const pair = text(svg, cx + r + 10, cy + 18, "", { "text-anchor": "start" });
      const update = () => {
        const i = at();
        hands.forEach((hand, j) => hand(data.hands[j][i]));
        pair.textContent = `pair ${data.worst[i]}`;
        const px = score.x(data.positions[i]);
        here.setAttribute("d", `M${px} ${score.top}V${score.bottom}M${px} ${error.top}V${error.bottom}`);
        mark.setAttribute("d", circles([points[i], errors[i]], 6));
        show(fixed(data.exact[i], 4), fixed(data.float32[i], 4), scientific(data.errors[i]), data.worst[i]);
      };
      return [460, update];
    };
  };

  // What a schedule does to each pair.
  figures.schedule = ({ data, slider, choice, facts }) => {
    const name = choice({ label: "schedule", options: Object.keys(data.wavelengths), value: "YaRN" });
    const factor = slider({ label: "factor s", values: data.factors, at: 7 });
    const show = facts(["attention factor:", 6], ["slowest wavelength:", 10], ["new context:", 8], ["pairs that complete a turn in it:", 8]);
    return (svg, width) => {
      const [boxes, height] = panels(width, [300, 300]);
      const x = { from: -1, to: 64, ticks: [0, 16, 32, 48, 63], label: "pair i" };
      const ratio = axes(svg, boxes[0], {
        x, y: { from: 1 / 45, to: 1.7, scale: "log", ticks: [1, 2, 4, 8, 16, 32].map((v) => [1 / v, v === 1 ? "1" : `1/${v}`]), label: "new / old frequency" },
      });
      const wave = axes(svg, boxes[1], {
        x, y: { from: 1, to: 4e6, scale: "log", ticks: powers(0, 6), label: "wavelength (tokens)" },
      });
      const pairs = range(0, 63);
      data.ends.forEach((end, i) => {
        line(svg, ratio.x(end), ratio.top, ratio.x(end), ratio.bottom, { stroke: "var(--grey)", "stroke-dasharray": "2 3" });
        text(svg, ratio.x(end) + (i === 0 ? -4 : 4), ratio.bottom - 6, ["32 turns", "4", "1"][i], { "text-anchor": i === 0 ? "end" : "start", "font-size": 11 });
      });
      const least = element("path", stroke("purple", "9 5", 1.5), svg);
      const bound = text(svg, ratio.left + 6, 0, "", { "text-anchor": "start", ...fill("purple") });
      const ratios = element("path", fill("blue"), svg);
      element("path", { d: circles(wave.points(pairs, data.own), 2.5), ...stroke("grey", "", 1) }, svg);
      const waves = element("path", fill("blue"), svg);
      element("path", { d: `M${wave.left} ${wave.y(data.original)}H${wave.right}`, ...stroke("grey", "2 3", 1.5) }, svg);
      const context = element("path", stroke("purple", "9 5", 1.5), svg);
      const stretched = text(svg, wave.left + 6, 0, "new context", { "text-anchor": "start", ...fill("purple") });
      text(svg, wave.left + 6, wave.y(data.original) + 15, "original context", { "text-anchor": "start", ...fill("grey") });
      [["● new", "blue"], ["○ old", "grey"]].forEach(([words, colour], i) =>
        text(svg, wave.right - 4, wave.bottom - 26 + 17 * i, words, { "text-anchor": "end", ...fill(colour) }));
      const update = () => {
        const s = data.factors[factor()];
        const now = data.wavelengths[name()][factor()];
        ratios.setAttribute("d", circles(ratio.points(pairs, now.map((v, i) => data.own[i] / v)), 2.8));
        waves.setAttribute("d", circles(wave.points(pairs, now), 2.5));
        least.setAttribute("d", `M${ratio.left} ${ratio.y(1 / s)}H${ratio.right}`);
        bound.textContent = `1/${s}`;
        bound.setAttribute("y", ratio.y(1 / s) - 6);
        context.setAttribute("d", `M${wave.left} ${wave.y(s * data.original)}H${wave.right}`);
        stretched.setAttribute("y", wave.y(s * data.original) - 6);
        show(fixed(data.attention[name()][factor()], 4), grouped(data.slowest[name()][factor()]), grouped(s * data.original), `${data.turning[name()][factor()]} of 64`);
      };
      return [height, update];
    };
  };

  // A cache that drops tokens: the keys behind them are turned back.
  figures.cache = ({ data, slider, facts }) => {
    const keep = slider({ label: "keep at the front", values: range(0, 8), at: 2 });
    const drop = slider({ label: "then drop", values: range(0, 8), at: 4 });
    const show = facts(["keys turned back:", 2], ["position of the next query:", 2], ["largest difference from fresh scores:", 9], ["without turning the keys:", 4]);
    return (svg, width) => {
      const left = 2;
      const cell = (width - 2 * left) / data.n_keys;
      const size = cell - 3;
      const [before, after] = [24, 24 + size + 18 + 34];
      const middle = (slot) => left + (slot + 0.5) * cell;
      text(svg, left, 15, "before, by position", { "text-anchor": "start" });
      const box = (top) => range(0, data.n_keys - 1).map((i) => {
        const group = element("g", {}, svg);
        const frame = element("rect", { y: top, width: size, height: size + 18, rx: 3 }, group);
        const number = text(group, 0, top + 14, "", { "font-size": cell < 22 ? 10.5 : 12 });
        const hand = element("path", {}, group);
        return (slot, angle, label, colour, dash) => {
          const x = middle(slot);
          group.setAttribute("visibility", label === "" ? "hidden" : "visible");
          set(frame, { x: x - size / 2, ...stroke(colour, dash, 1.8), ...(dash ? {} : { fill: `var(--${colour})`, "fill-opacity": 0.15 }) });
          set(number, { x, ...fill(colour) });
          number.textContent = label;
          const [cy, r] = [top + 17 + size / 2, size / 2 - 2];
          const [hx, hy] = onCircle(x, cy, r, angle);
          set(hand, { d: `M${x} ${cy}L${hx} ${hy}${circles([[x, cy]], size / 20)}`, ...stroke(colour, "", 1.6) });
        };
      });
      const links = range(0, data.n_keys - 1).map(() => element("path", {}, svg));
      const [old, fresh] = [box(before), box(after)];
      text(svg, left, after + size + 34, "after: the positions close up", { "text-anchor": "start" });
      const graph = axes(svg, [0, after + size + 44, width, 200], {
        x: { from: -0.5, to: 15.5, ticks: range(0, 7).map((i) => 2 * i), label: "key, by its new position" },
        y: { from: data.range[0], to: data.range[1], ticks: [-10, -5, 0, 5, 10], label: "score of the next query" },
        margin: 44,
      });
      const rings = element("path", stroke("blue", "", 2), svg);
      const dots = element("path", fill("green"), svg);
      const wrong = element("path", stroke("red", "", 1.8), svg);
      const legendTop = after + size + 44 + 212;
      let x = 8;
      for (const [words, colour, advance] of [["○ fresh", "blue", 62], ["● turned back", "green", 100], ["× not turned", "red", 90]]) {
        text(svg, x, legendTop, words, { "text-anchor": "start", ...fill(colour) });
        x += advance;
      }
      const update = () => {
        const [a, n] = [keep(), drop()];
        range(0, data.n_keys - 1).forEach((i) => {
          const [sink, gone] = [i < a, i >= a && i < a + n];
          const [colour, dash] = gone ? ["red", "3 3"] : [sink ? "blue" : "green", ""];
          const to = sink ? i : i - n;
          old[i](i, data.angles[i], String(i), colour, dash);
          fresh[i](gone ? i : to, gone ? 0 : data.angles[to], gone ? "" : String(to), colour, "");
          set(links[i], { d: gone ? "" : `M${middle(i)} ${before + size + 20}L${middle(to)} ${after - 2}`, ...stroke(colour, "", 1.2) });
        });
        const places = range(0, data.n_keys - n - 1);
        rings.setAttribute("d", circles(graph.points(places, data.fresh[a][n]), 5));
        dots.setAttribute("d", circles(graph.points(places, data.moved[a][n]), 2.5));
        wrong.setAttribute("d", crosses(graph.points(places, data.unmoved[a][n]), 3.5));
        show(n ? data.n_keys - a - n : 0, data.n_keys - n, scientific(data.gap[a][n]), fixed(data.unmoved_gap[a][n], 2));
      };
      return [legendTop + 6, update];
    };
  };

  // A square of patches, row 0 at the top: its axes, and a function that colours them by [colour, opacity].
  const patches = (svg, box, n) => {
    const ticks = range(0, Math.floor((n - 1) / 2)).map((i) => 2 * i);
    const at = axes(svg, box, {
      x: { from: -0.5, to: n - 0.5, ticks, label: "column" },
      y: { from: n - 0.5, to: -0.5, ticks, label: "row" },
    });
    const size = at.x(1) - at.x(0);
    const cells = range(0, n * n - 1).map((i) =>
      element("rect", { x: at.x((i % n) - 0.5) + 0.5, y: at.y(Math.floor(i / n) - 0.5) + 0.5, width: size - 1, height: size - 1, stroke: "none" }, svg));
    at.size = size;
    at.paint = (look) => cells.forEach((cell, i) => {
      const [colour, opacity] = look(Math.floor(i / n), i % n);
      set(cell, { fill: `var(--${colour})`, "fill-opacity": opacity.toFixed(3) });
    });
    return at;
  };

  // The height of a panel with square patches, for two panels as `panels` places them.
  const squareHeight = (width) => (width >= 540 ? (width - 14) / 2 : width) - 12;

  // The mean cosine between a query and every patch, for several axes.
  figures.axes = ({ data, slider, choice, facts }) => {
    const name = choice({ label: "scheme", options: Object.keys(data.tables), value: "axial" });
    const row = slider({ label: "query, row", values: range(0, data.n - 1), at: 4 });
    const column = slider({ label: "query, column", values: range(0, data.n - 1), at: 3, play: true });
    const show = facts(["lowest in the square:", 6], ["largest difference from a row's plus a column's part:", 6]);
    return (svg, width) => {
      const { n, least } = data;
      const [boxes, height] = panels(width, [squareHeight(width), width >= 540 ? squareHeight(width) : 270]);
      const square = patches(svg, boxes[0], n);
      const mark = element("path", stroke("red", "", 3), svg);
      const at = axes(svg, boxes[1], {
        x: { from: 0, to: n - 1, ticks: [0, 2, 4, 6, 8, 10], label: "steps from the query" },
        y: { from: data.lowest, to: 1.01, ticks: range(Math.round(10 * data.lowest), 10).map((v) => [v / 10, fixed(v / 10, 1)]), label: "mean cosine" },
      });
      const directions = [["along the row", "— ", "blue", "", [0, 1]], ["along the column", "- - ", "red", "7 4", [1, 0]],
        ["diagonal ↘", "-· ", "green", "7 3 2 3", [1, 1]], ["diagonal ↗", "··· ", "purple", "2 3", [-1, 1]]];
      const lines = directions.map(([words, dash, colour, dashes], i) => {
        text(svg, at.left + 8, at.bottom - 74 + 16 * i, dash + words, { "text-anchor": "start", ...fill(colour) });
        return element("path", stroke(colour, dashes), svg);
      });
      text(svg, at.left + 8, at.bottom - 10, "○ row + column − 1", { "text-anchor": "start", ...fill("grey") });
      const added = element("path", stroke("grey", "", 1.2), svg);
      const steps = range(0, n - 1);
      const update = () => {
        const [table, r, c] = [data.tables[name()], row(), column()];
        let lowest = 1;
        square.paint((i, j) => {
          const value = table[i - r + n - 1][j - c + n - 1];
          lowest = Math.min(lowest, value);
          return ["blue", (value - least) / (1 - least)];
        });
        mark.setAttribute("d", squares([[square.x(c), square.y(r)]], square.size / 2));
        const along = directions.map(([, , , , [a, b]]) => steps.map((s) => table[n - 1 + a * s][n - 1 + b * s]));
        lines.forEach((path, i) => path.setAttribute("d", polyline(at.points(steps, along[i]))));
        added.setAttribute("d", circles(at.points(steps, steps.map((s) => along[0][s] + along[1][s] - 1)), 3.5));
        show(fixed(lowest, 3), fixed(data.mixed[name()], 3));
      };
      return [height, update];
    };
  };

  // Stripes of one pair over an image; directions and clocks of all.
  figures.directions = ({ data, slider, choice, facts }) => {
    const { n } = data;
    const name = choice({ label: "scheme", options: Object.keys(data.angles), value: "golden directions" });
    const pair = slider({ label: "pair i", values: range(0, 15), at: 12, play: true });
    const row = slider({ label: "row", values: range(0, n - 1), at: 2 });
    const column = slider({ label: "column", values: range(0, n - 1), at: 8, play: true });
    const show = facts(["radians per row:", 8], ["per column:", 8], ["cosine at the point:", 6]);
    return (svg, width) => {
      const side = squareHeight(width);
      const [boxes, height] = panels(width, [side, width >= 540 ? side : 290]);
      const square = patches(svg, boxes[0], n);
      const here = element("circle", { r: square.size / 3.4, fill: "none", stroke: "currentColor", "stroke-width": 3 }, svg);
      const [left, top, boxWidth, boxHeight] = boxes[1];
      const r = Math.min(boxWidth / 2 - 22, boxHeight / 2 - 26);
      const [x, y] = [left + boxWidth / 2, top + boxHeight / 2 - 2];
      element("circle", { cx: x, cy: y, r, ...stroke("grey", "", 1) }, svg);
      text(svg, x, y + r + 17, "rows ↓   columns →   longer: faster", { "font-size": 11 });
      const arrows = range(0, 15).map(() => [element("path", {}, svg), element("circle", {}, svg)]);
      const number = text(svg, 0, 0, "", { ...fill("red"), "font-weight": 600 });
      const [centres, radius, gridHeight] = grid(width, 16, 24, 8);
      const clocks = centres.map(([cx, cy], i) => {
        const middle = cy + height + 8;
        const words = text(svg, cx, middle - radius - 8, "");
        const rim = element("circle", { cx, cy: middle, r: radius }, svg);
        const hand = makeHand(svg, cx, middle, radius, "blue");
        return (angle, onTime, chosen) => {
          words.textContent = onTime ? `i = ${i}, time` : `i = ${i}`;
          set(rim, stroke(chosen ? "red" : "grey", onTime ? "3 3" : "", chosen ? 3 : 1));
          hand(angle);
        };
      });
      const update = () => {
        const [angles, rates, tips] = [data.angles[name()], data.rates[name()], data.arrows[name()]];
        const [i, point] = [pair(), row() * n + column()];
        square.paint((a, b) => {
          const cos = Math.cos(angles[i][a * n + b]);
          return [cos < 0 ? "red" : "blue", Math.abs(cos)];
        });
        set(here, { cx: square.x(column()), cy: square.y(row()) });
        tips.forEach(([down, right], j) => {
          const [path, tip] = arrows[j];
          const [cx, cy, chosen] = [x + r * right, y + r * down, j === i];
          set(path, { d: `M${x} ${y}L${cx} ${cy}`, ...stroke(chosen ? "red" : "blue", chosen ? "6 3" : "", chosen ? 2.5 : 1.5) });
          set(tip, { cx, cy, r: chosen ? 6 : 3.5, ...fill(chosen ? "red" : "blue") });
          if (chosen) {
            const far = Math.hypot(down, right) || 1;
            set(number, { x: cx + 15 * (down / far), y: cy + 4 - 15 * (right / far) }); // beside the arrow
            number.textContent = String(j);
          }
          clocks[j](angles[j][point], down === 0 && right === 0, chosen);
        });
        show(fixed(rates[i][0], 4), fixed(rates[i][1], 4), fixed(Math.cos(angles[i][point]), 3));
      };
      return [height + gridHeight + 16, update];
    };
  };

  // A model with one thing broken: its loss at each value, and that of each token of a paragraph.
  figures.broken = ({ data, slider, choice, facts }) => {
    const names = Object.keys(data.mistakes);
    const name = choice({ label: "what is broken", options: names, value: names[0] });
    const first = data.mistakes[names[0]];
    const value = slider({ label: "value", values: first.labels, at: first.labels.length - 1 });
    let shown = names[0];
    const show = facts(["loss (nats per token):", 5], ["lowest and highest of eight:", 12], ["without the mistake:", 5]);
    return (svg, width) => {
      const [most, letter, row] = [9, 7.3, 21];
      const columns = Math.floor((width - 12) / letter);
      let [x, y] = [0, 0];
      const boxes = data.tokens.map((token) => {
        if (x + token.length > columns) [x, y] = [0, y + 1];
        x += token.length;
        return [x - token.length, y, token];
      });
      const top = 300;
      const words = element("g", {}, svg);
      const rects = boxes.map(([column, line, token]) => {
        const [left, middle] = [6 + column * letter, top + line * row];
        const rect = element("rect", { x: left, y: middle, width: token.length * letter, height: row - 3, rx: 2 }, words);
        const [bare, before] = [token.trim(), token.length - token.trimStart().length];
        text(words, left + before * letter, middle + 14, bare, { "text-anchor": "start", "font-family": "monospace", textLength: bare.length * letter });
        return rect;
      });
      const none = text(svg, 6, top + 14, "The tokens of gaps were not recorded.", { "text-anchor": "start" });
      const height = top + (y + 1) * row + 4;
      const graph = element("g", {}, svg);
      const update = () => {
        if (name() !== shown) {
          shown = name();
          value.reset(data.mistakes[shown].labels, data.mistakes[shown].labels.length - 1);
        }
        const { labels, losses, right, tokens } = data.mistakes[shown];
        graph.replaceChildren();
        const count = labels.length;
        const wide = Math.max(...labels.map((label) => label.length)) * 7 + 14;
        const every = Math.ceil(count / Math.max(2, Math.floor((width - 60) / wide)));
        const ticks = labels.map((label, i) => [i, label]).filter(([i]) => i % every === 0);
        const at = axes(graph, [0, 0, width, 270], {
          x: { from: -0.5, to: count - 0.5, ticks, label: shown },
          y: { from: 0, to: most, ticks: [0, 2, 4, 6, 8], label: "nats per token" },
        });
        const all = range(0, count - 1);
        const line = (j) => at.points(all, losses.map((each) => each[j]));
        element("path", { d: `${polyline([...line(1), ...line(2).reverse()])}Z`, ...fill("blue", 0.2) }, graph);
        element("path", { d: polyline(line(0)), ...stroke("blue") }, graph);
        element("path", { d: circles(line(0), 3), ...fill("blue") }, graph);
        element("path", { d: `M${at.left} ${at.y(losses[right][0])}H${at.right}`, ...stroke("grey", "5 4", 1.5) }, graph);
        element("path", { d: circles([line(0)[value()]], 7), ...stroke("red", "", 3) }, graph);
        [["— mean, and range of eight paragraphs", "blue"], ["- - without the mistake", "grey"]].forEach(([label, colour], i) =>
          text(graph, at.left + 8, at.top + 12 + 17 * i, label, { "text-anchor": "start", ...fill(colour) }));
        set(words, { visibility: tokens ? "visible" : "hidden" });
        set(none, { visibility: tokens ? "hidden" : "visible" });
        // The first token has no loss: nothing comes before it.
        rects.forEach((rect, i) => set(rect, fill("red", tokens && i ? 0.55 * Math.min(1, tokens[value()][i - 1] / most) : 0)));
        const [mean, low, high] = losses[value()];
        show(fixed(mean, 2), `${fixed(low, 2)} to ${fixed(high, 2)}`, fixed(losses[right][0], 2));
      };
      return [height, update];
    };
  };
})();
