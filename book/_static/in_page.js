// Cells that run in the page, and the decoder of configs: Python and NumPy come from ../in_page, which
// in_page.py writes at build time. Nothing is loaded before the first click but the decoder's examples.
"use strict";

const inPage = (() => {
  const home = new URL("../in_page/", document.currentScript.src).href;
  const received = {}; // what the scripts bring: a file's name → the parts of it, gzipped, in base64

  const make = (name, parent, attributes = {}) => {
    const node = Object.assign(document.createElement(name), attributes);
    parent.append(node);
    return node;
  };
  const drawn = () => new Promise((done) => setTimeout(done, 30)); // the browser may draw in between

  // --- Python -------------------------------------------------------------------------------------

  // A page that was opened as a file may load scripts, but fetch nothing.
  const script = (name) =>
    new Promise((done, failed) => {
      const node = make("script", document.head, { src: home + name });
      node.onload = done;
      node.onerror = () => failed(new Error(`${name} cannot be loaded`));
    });

  const unpacked = async (name) => {
    const packed = received[name].map((part) => {
      const text = atob(part);
      const bytes = new Uint8Array(text.length);
      for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
      return bytes;
    });
    delete received[name];
    return new Response(new Blob(packed).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  };

  const PYTHON = `
import ast, contextlib, io, json, linecache, pprint, traceback

def run_cell(source, number, namespace):
    """Run a cell: whether it succeeds, and what it prints, with the value of its last line as in a notebook."""
    name = f"<cell {number}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            tree = ast.parse(source, name)
            shown = tree.body and isinstance(tree.body[-1], ast.Expr)
            last = ast.Expression(tree.body.pop().value) if shown else None
            exec(compile(tree, name, "exec"), namespace)
            value = eval(compile(last, name, "eval"), namespace) if last else None
            if value is not None:
                print(repr(value) if isinstance(value, str) else pprint.pformat(value, sort_dicts=False))
        except BaseException as error:
            found = traceback.TracebackException.from_exception(error)
            while found.stack and found.stack[0].filename != name:
                found.stack.pop(0)
            print("".join(found.format()))
            return False, printed.getvalue()
    return True, printed.getvalue()

def explain(text, options):
    """What the library says about a config, or the sentence of its error."""
    from rope_xp import configs
    try:
        return True, configs.explain(json.loads(text), **json.loads(options))
    except json.JSONDecodeError as error:
        return False, f"This is not JSON: {error}"
    except Exception as error:
        return False, f"{type(error).__name__}: {error}"
`;

  const start = async (progress) => {
    Object.keys(received).forEach((name) => delete received[name]); // of an attempt that failed
    await script("parts.js");
    for (const [i, name] of inPage.parts.entries()) {
      progress((0.6 * i) / inPage.parts.length); // the rest is for starting Python
      await script(name);
    }
    const ask = window.fetch;
    const answers = async (url, options) => {
      const name = String(url.url ?? url).replace(home, "");
      if (!(name in received)) return ask(url, options);
      const type = name.endsWith(".wasm") ? "application/wasm" : "application/octet-stream";
      return new Response(await unpacked(name), { headers: { "Content-Type": type } });
    };
    window.fetch = answers;
    try {
      const python = await loadPyodide({ indexURL: home, fullStdLib: false });
      progress(0.8);
      await python.loadPackage("numpy", { messageCallback: () => {} });
      progress(0.9);
      python.unpackArchive(await unpacked("library.zip"), "zip", { extractDir: "/lib/python3.12/site-packages" });
      python.runPython(PYTHON);
      progress(1);
      return python;
    } finally {
      window.fetch = ask;
    }
  };

  let python = null; // a promise, once somebody has asked; one for the page
  const load = (status) => {
    const bar = make("progress", status, { max: 1, value: 0 });
    bar.setAttribute("aria-label", "loading Python and NumPy");
    python ??= start((part) => document.querySelectorAll(".in-page-status progress").forEach((b) => (b.value = part)));
    python.catch(() => (python = null)); // the next click tries again
    return python.finally(() => bar.remove());
  };

  // --- cells --------------------------------------------------------------------------------------

  let namespace = null;

  // Calls one of the two functions above: [whether it succeeded, text].
  const call = (one, name, ...values) => {
    const run = one.globals.get(name);
    const answer = run(...values);
    try {
      return answer.toJs();
    } finally {
      answer.destroy();
      run.destroy();
    }
  };

  const runCell = async (cell) => {
    const one = await python;
    namespace ??= one.toPy({ __name__: "__main__" });
    cell.status.textContent = "running";
    cell.ran = false;
    await drawn();
    const from = performance.now();
    const [ran, printed] = call(one, "run_cell", cell.code.innerText.replace(/\u00a0/g, " "), cell.number, namespace);
    const seconds = ((performance.now() - from) / 1000).toFixed(2);
    cell.ran = ran;
    cell.status.textContent = `${ran ? "ran" : "failed"} in your browser, ${seconds} s`;
    cell.node.querySelector(":scope > .cell_output")?.remove();
    const output = make("div", cell.node, { className: "cell_output docutils container" });
    if (printed) {
      const box = make("div", output, { className: "output text_plain highlight-none notranslate" });
      make("pre", make("div", box, { className: "highlight" }), { textContent: printed.trimEnd() });
    }
  };

  const cells = (nodes) => {
    const all = nodes.map((node, i) => ({ node, number: i + 1, ran: false, code: node.querySelector(".cell_input pre") }));
    let busy = false;
    for (const cell of all) {
      cell.code.contentEditable = "plaintext-only";
      cell.code.spellcheck = false;
      cell.code.setAttribute("role", "textbox");
      cell.code.setAttribute("aria-multiline", "true");
      cell.code.setAttribute("aria-label", `code of cell ${cell.number}, which can be edited and run`);
      cell.code.addEventListener("input", () => (cell.ran = false));
      const bar = document.createElement("div");
      bar.className = "in-page-bar";
      cell.node.querySelector(".cell_input").after(bar);
      const button = make("button", bar, { type: "button", textContent: "run" });
      button.title = "runs in your browser, after the cells above that have not run (Shift+Enter); the first time loads about 13 MB";
      cell.status = make("span", bar, { className: "in-page-status" });
      cell.status.setAttribute("aria-live", "polite");
      const run = async () => {
        if (busy) return;
        busy = true;
        cell.status.textContent = "";
        try {
          await load(cell.status);
          for (const above of all.slice(0, cell.number - 1).filter((c) => !c.ran)) {
            await runCell(above);
            if (!above.ran) {
              cell.status.textContent = `not run: cell ${above.number} above failed`;
              return;
            }
          }
          await runCell(cell);
        } catch (error) {
          cell.status.textContent = `Python could not be loaded: ${error.message}`;
        } finally {
          busy = false;
        }
      };
      button.addEventListener("click", run);
      cell.code.addEventListener("keydown", (event) => {
        event.stopPropagation(); // "/" would open the search
        if (event.key !== "Enter" || !(event.shiftKey || event.ctrlKey)) return;
        event.preventDefault();
        run();
      });
    }
  };

  // --- the decoder --------------------------------------------------------------------------------

  const decoder = async (node) => {
    await script("examples.js");
    const { examples } = inPage;
    node.replaceChildren();
    const labelled = (words, name, attributes = {}) => {
      const label = make("label", controls, { textContent: `${words} ` });
      return make(name, label, attributes);
    };
    const choose = (words, choices) => {
      const select = labelled(words, "select");
      for (const [value, shown] of choices) make("option", select, { value, textContent: shown });
      return select;
    };
    let controls = make("div", node, { className: "in-page-bar" });
    const family = choose("example", [["", "your own"], ...Object.keys(examples).map((name) => [name, name])]);
    const text = make("textarea", node, { rows: 14, spellcheck: false });
    text.setAttribute("aria-label", "a config.json");
    controls = make("div", node, { className: "in-page-bar" });
    const layout = choose("pairing", [["", "of the model_type"], ["half", "half"], ["interleaved", "interleaved"]]);
    const part = choose("part", [["text", "text"], ["vision", "vision"]]);
    const length = labelled("length in use", "input", { type: "number", min: 1, placeholder: "any" });
    controls = make("div", node, { className: "in-page-bar" });
    const button = make("button", controls, { type: "button", textContent: "explain" });
    const status = make("span", controls, { className: "in-page-status" });
    status.setAttribute("aria-live", "polite");
    const answer = make("pre", node, { className: "in-page-answer", hidden: true });

    const fill = (name) => {
      status.textContent = name in examples ? "" : `there is no example with the name ${name}`;
      if (!(name in examples)) return;
      family.value = name;
      text.value = JSON.stringify(examples[name], null, 2);
      answer.hidden = true;
    };
    const fromAddress = () => fill(decodeURIComponent(location.hash.slice(1)) || new URLSearchParams(location.search).get("model_type") || "llama3");
    family.addEventListener("change", () => {
      if (family.value) location.hash = family.value;
      else text.value = "";
      text.focus();
    });
    window.addEventListener("hashchange", fromAddress);
    text.addEventListener("input", () => (family.value = ""));
    fromAddress();

    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        const one = await load(status);
        const options = { part: part.value };
        if (layout.value) options.layout = layout.value;
        if (length.value) options.seq_len = Number(length.value);
        const [good, words] = call(one, "explain", text.value, JSON.stringify(options));
        answer.textContent = words;
        answer.classList.toggle("wrong", !good);
        answer.hidden = false;
      } catch (error) {
        status.textContent = `Python could not be loaded: ${error.message}`;
      } finally {
        button.disabled = false;
      }
    });
  };

  document.addEventListener("DOMContentLoaded", () => {
    cells([...document.querySelectorAll(".cell.in-page")]);
    document.querySelectorAll(".decoder.in-page").forEach(decoder);
  });

  return { part: (name, text) => (received[name] ??= []).push(text) };
})();
