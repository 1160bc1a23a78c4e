"""The page in a real browser: a person drops a picture, reads the answer, says whether it is right."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.gateway import feedback
from serving.gateway.settings import GatewaySettings
from tests.serving.gateway.conftest import picture
from tests.serving.gateway.fakes import LABELS, rest_model, served

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 60_000
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
DROP = """([encoded, name, type]) => {
  const bytes = Uint8Array.from(atob(encoded), (sign) => sign.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    document.getElementById("drop").dispatchEvent(
      new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: transfer }));
  }
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if BROWSER is None:
        pytest.skip("there is no Chromium; on Debian `apt-get install chromium`")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER, args=ARGUMENTS, timeout=PATIENCE * 2)
        yield chromium
        chromium.close()


@contextlib.contextmanager
def gateway_at(data_dir: Path, **sections: Any) -> Iterator[str]:
    from serving.gateway.app import build_app

    with served(rest_model) as model:
        values = {"data_dir": data_dir, "upstream": {"url": model, "model": "pets"}, **sections}
        with served(build_app(GatewaySettings.model_validate(values))) as address:
            yield address


class Visit:
    """One open page; what the browser complains about is kept."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.complaints: list[str] = []
        self.page.on("console", lambda one: self.complaints.append(one.text) if one.type in ("error", "warning") else 0)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.add_init_script(
            "addEventListener('securitypolicyviolation', (event) => console.error('CSP', event.violatedDirective))"
        )
        self.page.goto(address, wait_until="networkidle")

    def drop(self, content: bytes, name: str = "owl.png", kind: str = "image/png") -> None:
        self.page.evaluate(DROP, [base64.b64encode(content).decode(), name, kind])

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def wait(self, expression: str) -> None:
        """Playwright's own waiting for expressions evaluates text in the page, which the page's policy forbids."""
        deadline = time.monotonic() + PATIENCE / 1000
        while not self.page.evaluate(expression):
            assert time.monotonic() < deadline, f"never true: {expression}"
            self.page.wait_for_timeout(50)

    def shot(self, name: str) -> None:
        """Keep a picture of the page where `SLIPWAY_SCREENSHOTS` says, to be looked at."""
        folder = os.environ.get("SLIPWAY_SCREENSHOTS")
        if folder:
            self.page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390], ids=["desktop", "phone"])
def test_a_dropped_picture_is_answered_and_judged(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    with gateway_at(tmp_path) as address:
        visit = Visit(
            browser,
            address,
            viewport={"width": width, "height": 844},
            color_scheme=scheme,
            has_touch=width < 500,
            is_mobile=width < 500,
        )
        page, name = visit.page, f"{width}-{scheme}"
        visit.shot(f"{name}-empty")
        visit.drop(picture("owl", size=(320, 240)))
        page.wait_for_selector("#answer:not([hidden])")
        assert visit.text("#verdict") == "owl"
        assert visit.text("#version") == "3" and "pets" in visit.text("#served")
        assert visit.text("#time").endswith("ms") and len(visit.text("#request")) > 8
        assert page.locator("#bars li").count() == len(LABELS)
        visit.shot(f"{name}-answer")

        shares = page.eval_on_selector_all(
            ".fill", "bars => bars.map(bar => bar.getBoundingClientRect().width / bar.parentElement.clientWidth)"
        )
        assert shares == sorted(shares, reverse=True) and shares[0] > 0.5, "the bars show the probabilities"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out sideways"

        page.locator("label.switch").click()
        page.wait_for_selector("#overlay:not([hidden])")
        assert page.evaluate("document.getElementById('overlay').naturalWidth") > 0
        visit.shot(f"{name}-explained")

        page.locator("#wrong").click()
        assert page.locator("#label option").all_inner_texts()[:-1] == ["cat", "dog", "T-shirt/top"]
        visit.shot(f"{name}-wrong")
        page.locator("#label").select_option("T-shirt/top")
        page.locator("#correct button").click()
        page.wait_for_selector("#thanks:not([hidden])")
        verdict = list(feedback.read(tmp_path / "feedback"))[-1]
        assert (verdict.predicted, verdict.label, verdict.right) == ("owl", "T-shirt/top", False)
        assert verdict.file and (tmp_path / "feedback" / verdict.file).stat().st_size > 0
        assert visit.complaints == []
        visit.context.close()


def test_by_keyboard_choice_and_camera(browser: Any, tmp_path: Path) -> None:
    with gateway_at(tmp_path, answers={"threshold": 0.999}) as address:
        visit = Visit(browser, address, viewport={"width": 1200, "height": 800}, permissions=["camera"])
        page = visit.page
        page.locator("#file").focus()
        assert page.evaluate("document.activeElement.id") == "file", "the choice of a file is reached by keyboard"
        page.locator("#file").set_input_files(
            {"name": "cat.jpg", "mimeType": "image/jpeg", "buffer": picture("cat", "JPEG")}
        )
        page.wait_for_selector("#answer:not([hidden])")
        assert visit.text("#verdict") == "Not sure" and "“cat”" in visit.text("#unsure")
        visit.shot("unsure")
        page.locator("#right").press("Enter")
        page.wait_for_selector("#thanks:not([hidden])")
        assert [one.right for one in feedback.read(tmp_path / "feedback")] == [True]

        page.locator("#camera").click()
        visit.wait("document.getElementById('video').videoWidth > 0")
        visit.shot("camera")
        page.locator("#shoot").click()
        visit.wait("document.getElementById('picture').naturalWidth > 200")
        page.wait_for_selector("#answer:not([hidden])")
        assert not page.locator("#viewfinder").evaluate("dialog => dialog.open")
        assert visit.complaints == []
        visit.context.close()


def test_refusals_are_read_out_and_a_key_can_be_given(browser: Any, tmp_path: Path) -> None:
    from serving.gateway import secret_files
    from serving.gateway.keys import KeyStore

    settings = GatewaySettings(data_dir=tmp_path)
    _, key = KeyStore(settings.keys_file, secret_files.load_or_make(settings.pepper_file)).add("page", ["predict"])
    with gateway_at(tmp_path, access={"anonymous": []}) as address:
        visit = Visit(browser, address, viewport={"width": 1200, "height": 800})
        page = visit.page
        page.wait_for_selector("#problem:not([hidden])")
        visit.shot("key")
        assert "API key" in visit.text("#problem")
        page.locator("#key").fill(key)
        page.locator("#key-form button").click()
        page.wait_for_selector("#served:not([hidden])")
        visit.drop(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "x.svg", "image/svg+xml")
        page.wait_for_selector("#problem:not([hidden])")
        assert "SVG" in visit.text("#problem") and page.locator("#problem").get_attribute("role") == "alert"
        visit.drop(b"%PDF", "x.pdf", "application/pdf")
        assert "no picture" in visit.text("#problem")
        visit.drop(picture("dog"))
        page.wait_for_selector("#answer:not([hidden])")
        assert visit.text("#verdict") == "dog"
        unexpected = [one for one in visit.complaints if "status of 401" not in one and "status of 415" not in one]
        assert unexpected == []
        visit.context.close()
