"""The page about a run, as text and in a browser."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipeline.records import FAILED, INTERRUPTED, LEFT_OUT, PENDING, REFUSED, STAGE_FAILED
from pipeline.report.comparison import render_comparison
from pipeline.report.page import render
from pipeline.workdir import WorkDir
from tests.pipeline.report.made_up import HOSTILE, MadeUp
from tests.serving.gateway.test_browser import browser

__all__ = ["browser"]

CONTRAST = Path(__file__).with_name("contrast.js")
"""Finds text with less contrast than WCAG 2.1 asks for at level AA."""

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
    assert "default-src 'none'" in page


@pytest.mark.slow
def test_every_chart_has_words_and_every_column_a_heading(page: str):
    drawn = re.findall(r'role="img" aria-label="([^"]+)"', page)
    assert len(drawn) == page.count("<svg") and all(len(words) > 40 for words in drawn)
    headings = re.findall(r"<th(?![a-z])[^>]*>", page)
    assert headings and all("scope=" in heading for heading in headings)
    assert page.count('class="scroll"') == page.count('tabindex="0">') - page.count("<pre tabindex")
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([a-z]+)"', page.partition("<main>")[0])) <= set(ids)


@pytest.mark.slow
def test_text_of_the_data_is_escaped(page: str):
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>" not in page and "bad <b>" not in page and "cat &amp; dog" in page


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    ["Succeeded", "Version 1 is published", "qat cannot be applied", "90.00%", "+5.00 points against the baseline",
     "95 % interval", "1 January 2026, 00:00 UTC", "Is the model good enough", "On the Pareto front",
     "surprise at the right class", "Lineage", "What the words on this page mean", "where no other form is better",
     "accuracy is fine", "27 of 30 examples", "left out: unreadable", "The same content under two labels",
     "train/gone.png", "Search for hyperparameters", "Confusion matrix", "Worst mistakes", "97.0%",
     "the fastest that passed",
     "\u22122.00 to +0.00", "onnxruntime is not installed", "0123abc", "epochs", "ünïcode"],
)  # fmt: skip
def test_the_page_says(page: str, words: str):
    assert words in page


@pytest.mark.slow
def test_pictures_of_examples_of_conflicts_and_of_mistakes_are_in_it(page: str):
    samples = page.partition("What they look like")[2].partition("<h3>")[0]
    assert samples.count("data:image/png") == 9
    conflicts = page.partition("The same content under two labels")[2].partition("<h3>")[0]
    assert conflicts.count("data:image/png") == 1  # the content is the same, so it is shown once
    assert "train/1.png" in conflicts and "train/2.png" in conflicts and ", train" in conflicts
    copies = page.partition("<h3>Copies</h3>")[2].partition("<h3>")[0]
    assert "train/gone.png</bdi>, left out" in copies
    mistakes = page.partition("Worst mistakes")[2].partition("</section>")[0]
    assert mistakes.count("data:image/png") == 1 and "It is <strong><bdi>cat &amp; dog</bdi>" in mistakes


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
def test_what_is_missing_is_explained(project: MadeUp):
    record = project.run("2026-partly", number=71)
    states = {"Tuner": LEFT_OUT, "Trainer": STAGE_FAILED, "Evaluator": PENDING}
    for stage in record.stages:
        if stage.id in states:
            stage.state, stage.outputs = states[stage.id], []
    record.stages = [stage for stage in record.stages if stage.id != "Optimizer"]
    record.state, record.seconds, record.verdicts = INTERRUPTED, 0.0, []
    shown = render(record)
    for sentence in (
        "<code>--from</code> or <code>--to</code> left out Tuner",
        "there was a failure in Trainer",
        "The run ended before the end of Evaluator",
        "No further forms were asked for (<code>compress.variants</code>)",
        "Trainer failed.",
        "The same command goes on where it stopped",
        "12 s",  # what the stages took, since the run has no end
        "No gate was reached",
    ):
        assert sentence in shown
    assert Tags(shown).open == []


@pytest.mark.slow
def test_a_run_whose_files_were_removed_says_so(project: MadeUp):
    record = project.run("2026-removed", number=72)
    for stage in record.stages:
        for folder in stage.outputs:
            shutil.rmtree(folder)
    shown = render(record)
    assert "those of ExampleGen, Tuner, Trainer, Evaluator, Optimizer, BulkInferrer, Pusher" in shown
    assert "The files of Evaluator were removed since (<code>slipway runs gc</code>" in shown
    assert "accuracy is fine" in shown and Tags(shown).open == []


def test_folders_are_those_of_the_work_directory(project: MadeUp):
    record = project.run("2026-places", number=73)
    record.stages = record.stages[1:2]
    record.served = str(project.root / "served" / "73")
    shown = render(record, WorkDir(project.root))
    assert str(project.root) not in shown
    assert "<code>served/73</code>" in shown and "artifacts/Tuner/tuner_results/73" in shown
    assert "the metadata store knows no artifact of this run" in shown


@pytest.fixture(scope="module")
def hostile(project: MadeUp) -> str:
    names = [*HOSTILE, *(f"class {number:03d} of many" for number in range(100 - len(HOSTILE)))]
    return render(project.run("2026-hostile", number=74, labels=names))


@pytest.mark.slow
def test_a_hundred_classes_with_hostile_names(hostile: str):
    tags = Tags(hostile)
    assert tags.open == [] and "script" not in tags.names and "onerror=alert" not in re.sub("&lt;.*?&gt;", "", hostile)
    assert "{{ 7 * 7 }}" in hostile and "76 more classes" in hostile
    assert "A matrix of 100 classes has no room" in hostile
    assert len(hostile) < 2_000_000


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser_it_fits_asks_for_nothing_and_is_readable(
    browser, page: str, tmp_path: Path, width: int, scheme: str
):
    check_in_browser(browser, page, tmp_path, width, scheme)


@pytest.mark.slow
@pytest.mark.e2e
def test_in_a_browser_hostile_names_stay_where_they_are(browser, hostile: str, tmp_path: Path):
    check_in_browser(browser, hostile, tmp_path, 390, "light")


@pytest.mark.slow
@pytest.mark.e2e
def test_in_a_browser_two_runs_fit_too(browser, project: MadeUp, tmp_path: Path):
    first, second = (project.run(f"2026-browser-{n}", number=n) for n in (90, 91))
    check_in_browser(browser, render_comparison(first, second), tmp_path, 390, "dark")


def check_in_browser(browser: Any, page: str, folder: Path, width: int, scheme: str) -> None:
    """Open a page without a network, unfold everything, and look at what a person would stumble over."""
    file = folder / "report.html"
    file.write_text(page, encoding="utf-8")
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    shown = context.new_page()
    asked: list[str] = []
    shown.on("request", lambda request: asked.append(request.url))
    complaints: list[str] = []
    shown.on("console", lambda message: complaints.append(message.text))
    shown.on("dialog", lambda dialog: complaints.append(dialog.message))
    shown.goto(file.as_uri())
    shown.evaluate("for (const folded of document.querySelectorAll('details')) folded.open = true")
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == [] and complaints == []
    broken = "[...document.images].filter((image) => !image.complete || !image.naturalWidth).length"
    assert shown.evaluate(broken) == 0
    assert shown.evaluate(CONTRAST.read_text(encoding="utf-8")) == []
    ground = shown.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) > 380) == (scheme == "light")
    context.close()
