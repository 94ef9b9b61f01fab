"""Print the built book into one PDF: ``nox -s book_pdf``, after ``nox -s book``.

Chromium prints each page of the contents; pypdf puts them together, with the titles as bookmarks.
"""

import io
import re
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright
from pypdf import PdfReader, PdfWriter

BOOK = Path(__file__).parent

# Formulas are set, answers are open, and there are no links to files of the machine that prints.
PREPARE = """async () => {
  for (let i = 0; i < 100 && document.querySelector(".math") && !window.MathJax?.startup?.promise; i++)
    await new Promise((r) => setTimeout(r, 50));
  await window.MathJax?.startup?.promise;
  for (const node of document.querySelectorAll("article details:not(.moving details, .hide)")) node.open = true;
  for (const node of document.querySelectorAll("a[href]"))
    if (!/^https?:/.test(node.getAttribute("href"))) node.removeAttribute("href");
  await document.fonts.ready;
  return document.querySelector("article h1").firstChild.textContent;
}"""


def main(home, target, *names):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("There is no Chromium to print the book with: apt-get install chromium.")
    names = names or re.findall(r"(?:file|root): (\w+)", (BOOK / "_toc.yml").read_text())
    whole = PdfWriter()
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(color_scheme="light", viewport={"width": 1000, "height": 1400})
        for name in names:
            page.goto((home / f"{name}.html").resolve().as_uri())
            title = page.evaluate(PREPARE)
            first = len(whole.pages)
            margin = dict.fromkeys(("top", "bottom", "left", "right"), "18mm")
            printed = page.pdf(format="A4", scale=0.75, print_background=True, margin=margin)
            whole.append(PdfReader(io.BytesIO(printed)), import_outline=False)
            whole.add_outline_item(title=title, page_number=first)
            print(f"{first + 1:5} {title}", flush=True)
        browser.close()
    whole.add_metadata({"/Title": "Rotary position encodings", "/Author": "the rope_xp developers"})
    whole.compress_identical_objects()
    whole.write(target)
    print(f"{len(whole.pages)} pages in {target}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
