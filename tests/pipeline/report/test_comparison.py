"""Two runs side by side: figures with intervals, what differs, and what is said where a side has nothing."""

from __future__ import annotations

import re

import pytest

from pipeline.records import INTERRUPTED
from pipeline.report.comparison import render_comparison
from tests.pipeline.report.made_up import LABELS, MadeUp
from tests.pipeline.report.test_page import Tags

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(project: MadeUp) -> str:
    first = project.run("2026-older", accuracy=0.8, number=80)
    second = project.run("2026-newer", accuracy=0.9, number=81, mistaken=False)
    second.environment = {**second.environment, "commit": "4567def"}
    second.settings["train"]["batch_size"] = 32
    return render_comparison(first, second)


def rows(page: str, section: str) -> dict[str, list[str]]:
    """Return the cells of a section's tables by the row's name, without markup."""
    part = page.partition(f'<section id="{section}">')[2].partition("</section>")[0]
    found = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', part, re.DOTALL)
    return {
        re.sub("<[^>]+>", "", name): [re.sub("<[^>]+>", "", cell) for cell in re.findall("<td.*?</td>", cells)]
        for name, cells in found
    }


def test_the_page_is_whole(page: str):
    tags = Tags(page)
    assert tags.open == [] and "script" not in tags.names
    assert [r for r in tags.references if not r.startswith(("#", "data:image/"))] == []


def test_metrics_have_intervals_and_the_better_one_is_marked(page: str):
    metrics = rows(page, "metrics")
    assert metrics["accuracy"] == ["0.800043.6 to 97.0 %", "0.900043.6 to 97.0 %", "+0.1000"]
    assert metrics["log loss"][2] == "\u22120.1000"
    assert re.search(r'log loss</bdi></th><td class="n">0\.2000</td><td class="n better">0\.1000', page)
    assert metrics["example count"] == ["6", "6", ""]


def test_the_change_is_judged_on_the_images_that_both_predicted(page: str):
    assert "On the 2 images that both predicted, B is +50.00 points from A" in page
    assert "chance alone may explain it. 1 images are right in B only, 0 in A only." in page


def test_settings_data_and_environment_that_differ(page: str):
    found = rows(page, "differences")
    assert found["train.epochs"] == ["84", "85"] and found["train.batch_size"] == ["none", "32"]
    assert found["commit"] == ["0123abc", "4567def"] and "Python" not in found
    assert found["train"] == ["15", "15"] and "exact copies" not in found
    assert f"class {LABELS[2]}" not in found


def test_curves_lie_over_each_other(page: str):
    training = page.partition('<section id="training">')[2].partition("</section>")[0]
    assert training.count("<svg") == 2 and "A ends at" in training and "B ends at" in training


def test_a_side_that_reached_nothing(project: MadeUp):
    first, second = project.run("2026-whole", number=82), project.run("2026-nothing", number=83)
    second.stages, second.verdicts, second.settings = [], [], {}
    second.state, second.seconds = INTERRUPTED, 0.0
    shown = render_comparison(first, second)
    assert Tags(shown).open == []
    for words in ("not reached", "no such stage", "not made", "At least one of the records holds no settings"):
        assert words in shown
    assert rows(shown, "metrics")["accuracy"][1:] == ["", ""]
    assert Tags(render_comparison(second, second)).open == []
