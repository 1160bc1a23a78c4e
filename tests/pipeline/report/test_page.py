"""The page about a run, as text and in a browser."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline.records import FAILED, REFUSED
from pipeline.report.page import render, render_comparison
from tests.pipeline.report.made_up import LABELS, MadeUp
from tests.serving.gateway.test_browser import browser

__all__ = ["browser"]

VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})


class Tags(HTMLParser):
    """Checks that every element is closed, and keeps what refers to something outside."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.names: list[str] = []
        self.without_words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.names.append(tag)
        self.references += [values[name] or "" for name in ("src", "href", "xlink:href") if name in values]
        if tag == "img" and values.get("alt") is None:
            self.without_words.append(str(values)[:80])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


@pytest.fixture(scope="module")
def page(project: MadeUp) -> str:
    return render(project.run("2026-01-01T000000.1", baseline=0.85))


@pytest.mark.slow
def test_the_page_is_whole_and_refers_to_nothing_outside(page: str):
    tags = Tags(page)
    assert tags.open == [] and "script" not in tags.names
    outside = [r for r in tags.references if not r.startswith(("#", "data:image/"))]
    assert outside == [] and tags.without_words == []
    assert "url(http" not in page and "@import" not in page


@pytest.mark.slow
def test_text_of_the_data_is_escaped(page: str):
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>" not in page and "bad <b>" not in page and "cat &amp; dog" in page


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    ["Succeeded", "Version 1 is published", "qat cannot be applied", "90.00%", "+5.00 points against the baseline",
     "accuracy is fine", "27 of 30 examples", "left out: unreadable", "The same content under two labels",
     "train/gone.png", "Search for hyperparameters", "Confusion matrix", "Worst mistakes", "97.0%",
     "the fastest that passed",
     "-2.00 to +0.00", "onnxruntime is not installed", "0123abc", "epochs", "ünïcode"],
)  # fmt: skip
def test_the_page_says(page: str, words: str):
    assert words in page


@pytest.mark.slow
def test_pictures_of_examples_of_conflicts_and_of_mistakes_are_in_it(page: str):
    samples = page.partition("What they look like")[2].partition("<h3>")[0]
    assert samples.count("data:image/png") == 9
    conflicts = page.partition("The same content under two labels")[2].partition("<h3>")[0]
    assert conflicts.count("data:image/png") == 2
    mistakes = page.partition("Worst mistakes")[2].partition("</section>")[0]
    assert mistakes.count("data:image/png") == 1 and f"It is <strong>{LABELS[0].replace('&', '&amp;')}" in mistakes


@pytest.mark.slow
@pytest.mark.parametrize(("state", "error"), [(REFUSED, ""), (FAILED, "the disk is full")])
def test_a_run_that_did_not_end_well_says_so_first(project: MadeUp, state: str, error: str):
    record = project.run(f"2026-{state}", number=60 + len(state))
    record.state, record.error, record.version, record.served = state, error, None, ""
    record.verdicts = [{"gate": "Evaluator", "passed": False, "sentence": "accuracy is 0.2", "checks": []}]
    shown = render(record)
    top = shown.partition("<main>")[0]
    assert state.capitalize() in top and "accuracy is 0.2" in top and error in top
    assert 'class="verdict bad"' in top and "Nothing was published" in shown


def test_a_run_that_failed_at_once_has_a_page(project: MadeUp):
    record = project.run("2026-first", number=70)
    record.stages, record.verdicts, record.settings, record.environment = [], [], {}, {}
    record.state, record.error, record.version, record.served = FAILED, "no such folder", None, ""
    tags = Tags(render(record))
    assert tags.open == []


@pytest.mark.slow
def test_two_runs_side_by_side(project: MadeUp):
    first = project.run("2026-older", accuracy=0.8, number=80)
    second = project.run("2026-newer", accuracy=0.9, number=81)
    shown = render_comparison(first, second)
    assert Tags(shown).open == []
    assert re.search(r'accuracy</th><td class="n">0\.8000</td><td class="n better">0\.9000', shown)
    assert re.search(r'log_loss</th><td class="n">0\.2000</td><td class="n better">0\.1000', shown)
    assert re.search(r'train\.epochs</th><td class="n">84</td><td class="n">85', shown)
    assert "data:" not in re.findall(r"<h2>What differs</h2>.*?</section>", shown, re.DOTALL)[0]


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser_it_fits_asks_for_nothing_and_is_readable(
    browser, page: str, tmp_path: Path, width: int, scheme: str
):
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    shown = context.new_page()
    asked: list[str] = []
    shown.on("request", lambda request: asked.append(request.url))
    complaints: list[str] = []
    shown.on("console", lambda message: complaints.append(message.text))
    shown.goto(file.as_uri())
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == [] and complaints == []
    broken = "[...document.images].filter((image) => !image.complete || !image.naturalWidth).length"
    assert shown.evaluate(broken) == 0
    ink, ground = (shown.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
    light, dark = (sum(map(int, re.findall(r"\d+", color))) for color in (ground, ink))
    assert abs(light - dark) > 500 and (light > dark) == (scheme == "light")
    context.close()
