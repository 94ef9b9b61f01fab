"""The built book in Chromium, page by page: ``nox -s book_browser``, after ``nox -s book``.

The ordinary tests do not collect this file: it needs the built pages and a browser. Without Chromium
it is skipped with a reason, but under CI it fails. ``ROPE_XP_BOOK`` names other pages than
book/_build/html. All faults of a page are reported together, a sentence for each.
"""

import contextlib
import functools
import html.parser
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.parse
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HTML = Path(os.environ.get("ROPE_XP_BOOK", ROOT / "book" / "_build" / "html"))
CHAPTERS = re.findall(r"(?:file|root): (\w+)", (ROOT / "book" / "_toc.yml").read_text())
OTHERS = ["search", "genindex", "py-modindex", "_modules/index", "_modules/rope_xp/rope"]
CHINESE = sorted(f"zh/{path.stem}" for path in (ROOT / "book" / "locale" / "zh_CN").rglob("*.po"))
WIDTHS = (1300, 390)


# --- the site and the browser --------------------------------------------------------------------


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def site():
    assert (HTML / "index.html").exists(), (
        f"The book is not built in {HTML}: run nox -s book first."
    )
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=HTML)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        reason = "There is no Chromium to open the book with: apt-get install chromium."
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


class Tab:
    """A page of the browser that remembers what went wrong since it was last asked."""

    def __init__(self, browser, site, **options):
        self.site, self.wrong = site, []
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        report = self.wrong.append
        on = self.page.on
        on(
            "console",
            lambda m: m.type in ("error", "warning") and report(f"the console says: {m.text}"),
        )
        on("pageerror", lambda e: report(f"a script failed: {e}"))
        on(
            "requestfailed",
            lambda r: self.is_left(r) or report(f"the request of {r.url} failed: {r.failure}"),
        )
        on("response", lambda r: r.status >= 400 and report(f"{r.url} answers {r.status}"))
        on("request", lambda r: self.is_foreign(r.url) and report(f"it asks another host: {r.url}"))

    def is_left(self, request):
        """The icon of a page that was left before the icon was there."""
        return request.failure == "net::ERR_ABORTED" and request.url.endswith("favicon.svg")

    def is_foreign(self, url):
        return not url.startswith((self.site + "/", "data:", "blob:"))

    def open(self, name, width):
        self.wrong.clear()
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.goto(f"{self.site}/{name}.html")


@pytest.fixture(scope="session")
def tabs(browser, site):
    themes = {theme: Tab(browser, site, color_scheme=theme) for theme in ("light", "dark")}
    yield themes
    for tab in themes.values():
        tab.context.close()


@pytest.fixture(scope="session")
def scriptless(browser, site):
    tab = Tab(browser, site, java_script_enabled=False)
    yield tab
    tab.context.close()


# --- requirements for a page ---------------------------------------------------------------------

# Runs in the page; returns sentences.
LOOK = """async ({ theme, width }) => {
  const wrong = [];
  const seen = (node) => node.getClientRects().length > 0 && getComputedStyle(node).visibility !== "hidden";
  const all = (css, under = document) => [...under.querySelectorAll(css)];
  const begin = (text) => JSON.stringify(text.trim().replace(/\\s+/g, " ").slice(0, 60));

  if (document.documentElement.dataset.theme !== theme)
    wrong.push(`its theme is ${document.documentElement.dataset.theme} where the reader wants ${theme}`);

  // Mathematics.
  const math = all(".math");
  if (math.length) {
    for (let i = 0; i < 100 && !window.MathJax?.startup?.promise; i++) await new Promise((r) => setTimeout(r, 50));
    await window.MathJax?.startup?.promise;
  }
  const raw = math.filter((node) => !node.querySelector("mjx-container"));
  if (raw.length) wrong.push(`${raw.length} formulas are not rendered, the first is ${begin(raw[0].textContent)}`);
  for (const node of all("mjx-merror, [data-mjx-error]"))
    wrong.push(`a formula is wrong: ${node.getAttribute("data-mjx-error") ?? begin(node.textContent)}`);
  // MathJax writes what it does not know in red.
  for (const node of all("mjx-container [style*='color: red']"))
    wrong.push(`a formula has an unknown command, near ${begin(node.closest("p, li, td, dd, section")?.textContent ?? "")}`);
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const left = [];
  while (walk.nextNode()) {
    const text = walk.currentNode;
    if (/\\\\[([]|\\$\\$|\\{(eq|doc|cite|func|class|numref)/.test(text.data) && !text.parentElement.closest("script, style, pre, code, mjx-container"))
      left.push(begin(text.data));
  }
  if (left.length) wrong.push(`markup is left in the text, ${left.length} times: ${left.slice(0, 3).join(" ")}`);

  // Cells.
  for (const node of all(".output.stderr, .output.traceback, .cell_output .stderr"))
    wrong.push(`a cell writes to stderr: ${begin(node.textContent)}`);

  // Width.
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) {
    const wide = all("body *").filter((n) => seen(n) && n.getBoundingClientRect().right > root.clientWidth + 1);
    const last = wide.find((n) => ![...n.children].some((c) => wide.includes(c))) ?? document.body;
    wrong.push(`at ${width} it is ${root.scrollWidth} wide, because of <${last.localName} class="${last.className}">`);
  }

  // Words for pictures.
  for (const node of all("svg.plot, svg.drawing"))
    if (node.getAttribute("role") !== "img" || (node.getAttribute("aria-label") ?? "").length < 40)
      wrong.push(`a drawing has no description in words: ${begin(node.getAttribute("aria-label") ?? "")}`);
  for (const node of all("img:not(.logo__image)"))
    if (!node.alt) wrong.push(`a picture has no alt text: ${node.src}`);

  // Contrast of drawings with their background.
  const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    probe.clearRect(0, 0, 1, 1);
    probe.fillStyle = colour;
    probe.fillRect(0, 0, 1, 1);
    return [...probe.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => {
    const [r, g, b] = rgba(colour).map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [x, y] = [light(a), light(b)];
    return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
  };
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (rgba(colour)[3] > 0) return colour;
    }
    return "white";
  };
  const style = getComputedStyle(root);
  const faint = rgba(style.getPropertyValue("--faint")).join(); // the grid may be faint
  const seenBefore = new Set();
  const demand = (what, colour, under, least) => {
    if (colour === "none" || rgba(colour)[3] === 0 || rgba(colour).join() === faint) return;
    const found = contrast(colour, under);
    const sentence = `the ${what} ${colour} of a drawing on ${under} has a contrast of ${found.toFixed(2)}, less than ${least}`;
    if (found < least && !seenBefore.has(sentence)) wrong.push(sentence);
    seenBefore.add(sentence);
  };
  for (const name of ["blue", "orange", "green", "red", "purple", "sky", "grey"]) {
    const colour = style.getPropertyValue(`--${name}`);
    if (colour) demand(`line colour --${name}`, colour, ground(document.querySelector("article") ?? document.body), 3);
  }
  for (const svg of all("svg.plot, svg.drawing").filter(seen)) {
    const under = ground(svg);
    for (const node of all("text, g[id*='text_'] path, g[id*='text_'] use", svg).filter((n) => !n.closest("defs")))
      demand("text colour", getComputedStyle(node).fill, under, 4.5);
    for (const node of all("path, line, polyline, circle, rect", svg).filter((n) => !n.closest("defs, clipPath")))
      demand("line colour", getComputedStyle(node).stroke, under, 3);
  }
  for (const node of all(".moving .facts, .moving label, .moving output, .moving summary, figcaption").filter(seen))
    demand("text colour", getComputedStyle(node).color, ground(node), 4.5);

  // Figures that move.
  for (const figure of all(".moving")) {
    const name = figure.dataset.figure;
    if (!figure.classList.contains("started")) { wrong.push(`the figure ${name} does not start`); continue; }
    const drawing = figure.querySelector(".static");
    if (!drawing) wrong.push(`the figure ${name} has no static drawing`);
    else if (seen(drawing)) wrong.push(`the figure ${name} shows its static drawing beside the moving one`);
    if (!(figure.querySelector("details")?.textContent.trim().length > 40)) wrong.push(`the figure ${name} has no description in words`);
    const inputs = all(".controls input, .controls select, .controls button", figure);
    if (!inputs.length) wrong.push(`the figure ${name} has nothing to move`);
    const look = () => all("svg.drawing", figure).map((n) => n.outerHTML).join() + all(".facts", figure).map((n) => n.textContent).join();
    for (const input of inputs) {
      const label = begin(input.closest("label")?.textContent ?? input.textContent);
      const change = (value) => {
        if (input.localName === "button") input.click();
        else if (input.type === "checkbox") input.checked = !input.checked;
        else input.value = value;
        for (const kind of ["input", "change"]) input.dispatchEvent(new Event(kind, { bubbles: true }));
      };
      let values = ["once", "twice"];
      if (input.type === "range") values = [input.max, input.min, String((+input.min + +input.max) / 2)];
      if (input.localName === "select") values = all("option", input).map((o) => o.value);
      const [own, before] = [input.value, look()];
      let moved = false;
      for (const value of values) {
        change(value);
        // A button may start a timer, whose first step comes later.
        const patience = performance.now() + (input.localName === "button" ? 3000 : 0);
        do await new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)));
        while (look() === before && performance.now() < patience);
        if (look() !== before) { moved = true; break; }
      }
      if (input.localName === "button") change(own); // and stops
      if (!moved) wrong.push(`the figure ${name} does not react to ${label}`);
      if (/NaN|undefined|Infinity/.test(look())) wrong.push(`the figure ${name} draws NaN or undefined after ${label}`);
      if (input.type === "range" || input.localName === "select") change(own);
    }
    if (root.scrollWidth > root.clientWidth) wrong.push(`the figure ${name} makes the page wider than ${width}`);
  }
  return wrong;
}"""

# The page is loaded once in each theme: in one wide and then narrowed, in the other the reverse.
NARROW = """({ width }) => {
  const root = document.documentElement;
  return root.scrollWidth > root.clientWidth ? [`resized to ${width} it is ${root.scrollWidth} wide`] : [];
}"""


def report(name, wrong):
    return f"\nThe page {name} of the book:\n" + "\n".join(f"- {w}." for w in dict.fromkeys(wrong))


@pytest.mark.parametrize("name", [*CHAPTERS, *OTHERS, *CHINESE, "zh/search"])
def test_page(name, tabs):
    wrong = []
    for (theme, tab), (first, second) in zip(tabs.items(), (WIDTHS, WIDTHS[::-1]), strict=True):
        tab.open(name, first)
        found = tab.page.evaluate(LOOK, {"theme": theme, "width": first})
        tab.page.set_viewport_size({"width": second, "height": 900})
        found += tab.page.evaluate(NARROW, {"width": second})
        wrong += [f"In the {theme}, {w}" for w in (*found, *tab.wrong)]
    assert not wrong, report(name, wrong)


# What is wider than its box, and whether the box shows it. Equation numbers have a place of their own.
CUT = """async ({ width }) => {
  const wrong = [];
  const all = (css) => [...document.querySelectorAll(css)].filter((n) => n.getClientRects().length);
  if (all(".math").length) {
    for (let i = 0; i < 100 && !window.MathJax?.startup?.promise; i++) await new Promise((r) => setTimeout(r, 50));
    await window.MathJax?.startup?.promise;
  }
  const begin = (node) => JSON.stringify(node.textContent.trim().replace(/\\s+/g, " ").slice(0, 60));
  for (const box of all("article pre, article mjx-container[display]")) {
    if (box.scrollWidth <= box.clientWidth + 1) continue;
    const style = getComputedStyle(box);
    if (width >= 1280 && !box.closest("dl.py")) wrong.push(`at ${width} a line is cut: ${begin(box)}`);
    if (style.overflowX !== "auto" || !style.backgroundAttachment.includes("local") || !style.backgroundImage.includes("gradient"))
      wrong.push(`at ${width} a line is cut without an edge: ${begin(box)}`);
  }
  for (const number of all("article .eqno")) {
    const equation = number.parentElement.querySelector("mjx-container");
    if (equation && equation.getBoundingClientRect().right > number.getBoundingClientRect().left)
      wrong.push(`at ${width} equation ${begin(number)} runs under its number`);
  }
  return wrong;
}"""


@pytest.mark.parametrize("name", [*CHAPTERS, *CHINESE])
def test_what_is_cut_has_an_edge(name, tabs):
    wrong = []
    for width in (375, 768, 1280):
        tabs["light"].open(name, width)
        wrong += tabs["light"].page.evaluate(CUT, {"width": width})
    assert not wrong, report(name, wrong)


# Letters of still figures are paths of 100 units for the size of the font, which the drawing scales.
LETTERS = """() => [...document.querySelectorAll("svg.plot, svg.drawing")].filter((n) => n.getClientRects().length).flatMap((svg) => {
  const sizes = [...svg.querySelectorAll("g[id*='text_'] > g")].map((n) => 100 * Math.hypot(n.getScreenCTM().a, n.getScreenCTM().b));
  sizes.push(...[...svg.querySelectorAll("text")].map((n) => n.getAttribute("font-size") * Math.hypot(n.getScreenCTM().a, n.getScreenCTM().b)));
  const least = Math.min(...sizes);
  return least < 9 ? [`a letter of ${least.toFixed(1)} pixels in the figure ${svg.getAttribute("aria-label").slice(0, 60)}`] : [];
})"""


@pytest.mark.parametrize("name", [*CHAPTERS, *CHINESE])
def test_still_figures_can_be_read_on_a_phone(name, tabs):
    tabs["light"].open(name, 375)
    wrong = tabs["light"].page.evaluate(LETTERS)
    assert not wrong, report(name, wrong)


MOVING = [
    n for n in CHAPTERS if (p := HTML / f"{n}.html").exists() and 'class="moving"' in p.read_text()
]


def test_some_figures_move():
    assert MOVING, "No page of the book has a figure that moves."


@pytest.mark.parametrize("name", MOVING)
def test_without_scripts_the_static_drawings_are_there(name, scriptless):
    scriptless.open(name, 1300)
    figures = scriptless.page.locator(".moving")
    wrong = []
    for figure in figures.all():
        which = figure.get_attribute("data-figure")
        drawing = figure.locator(".static svg:visible")  # one for each of two widths
        if drawing.count() != 1 or not drawing.is_visible():
            wrong.append(f"Without JavaScript the figure {which} shows no static drawing")
        elif drawing.bounding_box()["height"] < 50:
            wrong.append(f"Without JavaScript the figure {which} is lower than 50 pixels")
        if figure.locator(".controls").count():
            wrong.append(f"Without JavaScript the figure {which} shows controls that do nothing")
    scriptless.open(name, 375)
    wrong += scriptless.page.evaluate(LETTERS)
    assert not wrong, report(name, wrong)


# --- cells that run in the page ------------------------------------------------------------------

RUNS = HTML / "in_page" / "parts.js"
needs_python = pytest.mark.skipif(
    not RUNS.exists(), reason="the book was built without NumPy for the browser: no cell can run"
)
IN_PAGE = [
    n
    for n in CHAPTERS
    if (p := HTML / f"{n}.html").exists() and re.search('class="cell[^"]* in-page', p.read_text())
]
DONE = """(i) => {
  const status = document.querySelectorAll(".cell.in-page")[i].querySelector(".in-page-status");
  return /ran in|failed in|not run|could not/.test(status.textContent) && status.textContent;
}"""


# The last cell whose button is not folded away.
LAST = """[...document.querySelectorAll(".cell.in-page")].findLastIndex(
  (cell) => cell.querySelector(".in-page-bar button").checkVisibility({ contentVisibilityAuto: true }))"""


@pytest.fixture(scope="module")
def opened_as_file(browser):
    """A tab that opens the pages as files. There the theme's own fonts are refused, which is no fault of ours."""
    tab = Tab(browser, HTML.resolve().as_uri(), color_scheme="light")
    yield tab
    tab.context.close()


def faults(tab):
    theme = "fontawesome", "net::ERR_FAILED", "net::ERR_ABORTED", "preload"
    return [w for w in tab.wrong if not any(word in w for word in theme)]


def run_cell(tab, i):
    """Press the button of a cell; what its status says, and its output."""
    cell = tab.page.locator(".cell.in-page").nth(i)
    cell.get_by_role("button", name="run", exact=True).click()
    status = tab.page.wait_for_function(DONE, arg=i, timeout=120_000).json_value()
    return status, cell.locator(".cell_output").inner_text()


@needs_python
def test_a_cell_runs_edited_and_again(opened_as_file):
    tab = opened_as_file
    asked = []
    tab.page.on("request", lambda r: asked.append(r.url))
    tab.open("euler", 1300)
    assert not [url for url in asked if "in_page/" in url], (
        "Python is loaded before it is asked for."
    )
    status, output = run_cell(tab, 2)  # runs the two above first
    assert "ran in" in status
    assert "0.707106781186547" in output
    first = tab.page.locator(".cell.in-page").first
    assert "-0.2823" in first.locator(".cell_output").inner_text()
    code = first.locator(".cell_input pre")
    code.fill(code.inner_text().replace("phi = 0.7", "phi = 0.0").rstrip() + "\n'edited /', phi")
    status, output = run_cell(tab, 0)
    assert "ran in" in status
    assert output.strip() == "('edited /', 0.0)"
    code.fill("1 / 0")
    status, output = run_cell(tab, 0)
    assert "failed in" in status
    assert "ZeroDivisionError" in output
    status, _ = run_cell(tab, 1)
    assert status == "not run: cell 1 above failed"
    assert not faults(tab), report("euler", faults(tab))


@needs_python
@pytest.mark.parametrize("name", IN_PAGE)
def test_every_cell_with_a_button_runs(name, opened_as_file):
    tab = opened_as_file
    tab.open(name, 1300)
    last = tab.page.evaluate(LAST)
    status, output = run_cell(tab, last)
    assert "ran in" in status, report(name, [f"{status}: {output}"])
    assert not faults(tab), report(name, faults(tab))


@needs_python
def test_the_decoder(opened_as_file):
    tab = opened_as_file
    page = tab.page
    tab.wrong.clear()
    page.goto(f"{tab.site}/decoder.html?model_type=qwen3")
    text = page.locator(".decoder textarea")
    page.wait_for_function("document.querySelector('.decoder textarea')?.value.includes('qwen3')")
    explain = page.get_by_role("button", name="explain")
    answer = page.locator(".in-page-answer")
    explain.click()
    answer.filter(has_text="feature i turns with i + 64").wait_for(timeout=120_000)
    text.fill('{"model_type": "nobody", "hidden_size": 64}')
    explain.click()
    answer.filter(has_text="unknown model_type 'nobody'").wait_for()
    text.fill("{")
    explain.click()
    answer.filter(has_text="This is not JSON").wait_for()
    page.evaluate("location.hash = 'llama3'")
    page.wait_for_function("document.querySelector('.decoder textarea').value.includes('131072')")
    explain.click()
    answer.filter(has_text="Llama3(factor=8").wait_for()
    page.evaluate("location.hash = 'nowhere'")
    page.get_by_text("there is no example with the name nowhere").wait_for()
    assert not faults(tab), report("decoder", faults(tab))


# --- languages -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHINESE)
def test_a_switch_leads_to_the_other_language_and_back(name, tabs):
    tab = tabs["light"]
    page = tab.page
    for width in WIDTHS:
        tab.open(name, width)
        assert page.locator("html").get_attribute("lang") == "zh-CN"
        page.locator("a.language", has_text="English").click()
        page.wait_for_url(f"{tab.site}/{name.removeprefix('zh/')}.html")
        assert page.locator("html").get_attribute("lang") == "en"
        page.locator("a.language", has_text="中文").click()
        page.wait_for_url(f"{tab.site}/{name}.html")
    assert not tab.wrong, report(name, tab.wrong)


def test_only_pages_with_a_translation_have_a_switch(tabs):
    tabs["light"].open("planes", 1300)
    assert tabs["light"].page.locator("a.language").count() == 0


def test_words_of_chinese_pages_are_found(tabs):
    tab = tabs["light"]
    tab.open("zh/search", 1300)
    tab.page.goto(f"{tab.site}/zh/search.html?q=衰减")
    tab.page.wait_for_selector("#search-results a[href*='decay.html']", timeout=10_000)
    assert not tab.wrong, report("zh/search", tab.wrong)


def test_cells_of_chinese_pages_run(opened_as_file):
    tab = opened_as_file
    tab.open("zh/euler", 1300)
    if not tab.page.locator(".cell.in-page").count():
        pytest.skip("the book was built without what its cells need to run")
    tab.page.locator(".in-page-bar button").first.click()
    tab.page.wait_for_function(DONE, arg=0, timeout=60_000)
    assert tab.page.evaluate(DONE, 0).startswith("ran"), report("zh/euler", faults(tab))


# --- search --------------------------------------------------------------------------------------

FIELDS = "input[type=search]:visible"


@pytest.mark.parametrize("width", WIDTHS)
def test_search(width, tabs):
    import playwright.sync_api as playwright

    tab = tabs["light"]
    tab.open("euler", width)
    page = tab.page
    name = f"euler at {width}"
    assert page.locator(FIELDS).count() == 0, report(
        name, ["A search field is open from the start"]
    )
    buttons = page.locator("button.search-button__button:visible")
    assert buttons.count() == 1, report(name, [f"{buttons.count()} search buttons are visible"])
    buttons.click()
    page.wait_for_selector(FIELDS)
    assert page.locator(FIELDS).count() == 1, report(name, ["More than one search field is open"])
    page.keyboard.type("conjugate")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=conjugate**")
    with contextlib.suppress(playwright.TimeoutError):
        page.wait_for_selector("#search-results a[href*='euler.html']", timeout=10_000)
    assert page.locator("#search-results a[href*='euler.html']").count(), report(
        "search", ['It does not find "conjugate" in the chapter on Euler\'s formula']
    )
    assert not tab.wrong, report("search", tab.wrong)


def test_search_finds_a_function_on_the_page_of_its_module(tabs):
    tab = tabs["light"]
    tab.open("search", 1300)
    tab.page.goto(f"{tab.site}/search.html?q=grid_positions")
    found = tab.page.locator("#search-results a[href*='api_positions.html#rope_xp.positions.grid']")
    found.first.wait_for(timeout=10_000)
    found.first.click()
    tab.page.wait_for_url("**/api_positions.html*")
    assert tab.page.locator("dt[id='rope_xp.positions.grid_positions']").is_visible()
    assert not tab.wrong, report("search", tab.wrong)


# --- links, without the browser ------------------------------------------------------------------


class Links(html.parser.HTMLParser):
    """Where a page leads to, what it loads, and the names it has."""

    def __init__(self, path):
        super().__init__()
        self.leads, self.loads, self.names, self.icons = [], [], set(), []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        has = dict(attributes)
        self.names |= {has[key] for key in ("id", "name") if has.get(key)}
        if tag == "a" and has.get("href"):
            self.leads.append(has["href"])
        if tag == "link" and "icon" in (has.get("rel") or ""):
            self.icons.append(has["href"])
        if tag == "link" and has.get("rel") in ("stylesheet", "preload", "icon", "shortcut icon"):
            self.loads.append(has["href"])
        if tag in ("script", "img", "iframe", "source", "video") and has.get("src"):
            self.loads.append(has["src"])


@pytest.fixture(scope="session")
def links():
    pages = [p for p in sorted(HTML.rglob("*.html")) if "_static" not in p.parts]  # templates
    return {path.resolve(): Links(path) for path in pages}


def test_the_book_has_the_pages_of_its_contents():
    missing = [n for n in [*CHAPTERS, *OTHERS] if not (HTML / f"{n}.html").exists()]
    assert not missing, f"The built book lacks {', '.join(missing)}."


def test_links_lead_somewhere(links):
    wrong = {}  # what is wrong, and the first page where
    for path, page in links.items():
        name = path.relative_to(HTML.resolve())
        for link in (*page.leads, *page.loads):
            url = urllib.parse.urlsplit(link)
            if url.scheme or url.netloc:
                if link in page.loads and url.scheme != "data":
                    wrong.setdefault(f"loads {link} from another host", name)
                continue
            target = (path.parent / urllib.parse.unquote(url.path)).resolve() if url.path else path
            if not target.is_file():
                shown = os.path.relpath(target, HTML.resolve())
                wrong.setdefault(f"links to {shown}, which does not exist", name)
                continue
            fragment = urllib.parse.unquote(url.fragment)
            if fragment and target in links and fragment not in links[target].names:
                wrong.setdefault(f"links to {link}, and there is no such place on that page", name)
    assert not wrong, report("(all)", [f"{name} {what}" for what, name in wrong.items()])


def notebook(name):
    import nbformat

    return nbformat.read(HTML / "_notebooks" / f"{name}.ipynb", 4)


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_page_with_cells_can_be_downloaded_as_a_notebook(name, links):
    page = (ROOT / "book" / f"{name}.md").read_text()
    if "```{code-cell}" not in page:
        pytest.skip("the page has no cells")
    cells = notebook(name).cells
    assert f"_notebooks/{name}.ipynb" in links[(HTML / f"{name}.html").resolve()].leads
    assert re.findall(r"^pip install .+$", cells[0].source, re.MULTILINE)
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert not re.findall(
        r"\{[a-z:]+\}`[^`]*`|^ *```\{\w+\}|\(\?\)|\\tag\{\?\}", text, re.MULTILINE
    )
    shown = re.findall(r'class="eqno">\((\d+)\)', (HTML / f"{name}.html").read_text())
    assert re.findall(r"\\tag\{(\d+)\}", text) == shown


@pytest.mark.parametrize("name", ["euler", "frequencies", "planes"])
def test_a_notebook_runs_where_there_is_nothing_else(name, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.chdir(tmp_path)
    done = nbclient.NotebookClient(notebook(name), timeout=1200).execute()
    outputs = [o for cell in done.cells for o in cell.get("outputs", ())]
    assert any("<svg" in o.get("data", {}).get("text/html", "") for o in outputs)


@pytest.mark.usefixtures("browser")  # where there is none, this is skipped too
def test_pages_are_printed_into_one_pdf(tmp_path):
    pypdf = pytest.importorskip("pypdf")
    program = ROOT / "book" / "pdf.py", HTML, tmp_path / "some.pdf", "euler", "glossary"
    subprocess.run([sys.executable, *program], check=True)
    pdf = pypdf.PdfReader(tmp_path / "some.pdf")
    titles = [item.title for item in pdf.outline]
    assert titles == ["Euler’s formula and the relative score", "Glossary"]
    text = " ".join("".join(page.extract_text() for page in pdf.pages).split())
    assert "The functional equation:" in text  # of its last section
    for page in pdf.pages:
        for link in page.get("/Annots") or ():
            address = link.get_object().get("/A", {}).get("/URI", "https:")
            assert address.startswith(("http:", "https:"))


def test_a_link_to_a_page_has_a_preview():
    picture = (HTML / "_static" / "clocks.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert [int.from_bytes(picture[i : i + 4]) for i in (16, 20)] == [1200, 630]
    descriptions = {}
    for name in CHAPTERS:
        tags = dict(
            re.findall(
                r'<meta property="(og:[\w:]+)" content="([^"]+)"',
                page := (HTML / f"{name}.html").read_text(),
            )
        )
        assert {"og:title", "og:description"} <= {*tags}, name
        assert tags.get("og:image", "https:").startswith("https:")  # never relative
        title = re.sub("<.*?>", "", re.search(r"<h1>(.*?)</h1>", page, re.DOTALL)[1])
        assert html.unescape(tags["og:title"]) == html.unescape(title).strip().rstrip("#")
        descriptions[name] = tags["og:description"]
    assert descriptions["euler"].startswith("Can the position of a vector be encoded")


def test_every_page_has_the_icon(links):
    wrong = [
        f"{path.name} has no icon"
        for path, page in links.items()
        if path.stem in CHAPTERS and not page.icons
    ]
    assert not wrong, report("(all)", wrong)
