"""The page in headless Chromium: upload, slide, record, read labels and picture, and what bad files get."""

import re
import shutil
from dataclasses import dataclass, field

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium")

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
    # A microphone that beeps, and a person who lets the page listen.
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
]  # fmt: skip
LABELS = {"_silence_", "bell", "dog", "horn"}
WAIT = 60_000


@dataclass
class Visit:
    """One visit to the page, and what the browser had to say about it."""

    page: object
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def wait_for(self, text, where="#message"):
        """Wait until an element says something that matches, and return all it says."""
        element = self.page.locator(where)
        sync_api.expect(element).to_contain_text(re.compile(text), timeout=WAIT)
        return element.inner_text()

    def upload(self, path):
        with self.page.expect_file_chooser() as chosen:
            self.page.get_by_role("button", name="Upload a sound").click()
        chosen.value.set_files(path)

    def slide_to(self, value):
        self.page.locator("#target input[type=number]").fill(str(value))
        self.page.keyboard.press("Enter")

    def tokens(self):
        """Return the tokens that entered and those left, once an answer is there."""
        found = re.search(r"(\d+) → (\d+) tokens", self.wait_for("fewer MACs"))
        return int(found[1]), int(found[2])

    def labels(self, which):
        """Return label and percent of each line of one of the two answers."""
        text = self.page.locator(f"#{which}").inner_text()
        return re.findall(r"(\w+)\n(\d+)%", text)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, served):
    """A fresh page; afterwards there must be no error in the console, and no request to another machine."""
    context = browser.new_context(viewport={"width": 1200, "height": 1000}, permissions=["microphone"])
    page = context.new_page()
    found = Visit(page)
    page.on("console", lambda m: found.errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: found.errors.append(str(error)))
    page.on("request", lambda r: found.elsewhere.append(r.url) if not r.url.startswith(own) else None)
    own = (served.url + "/", "data:", f"blob:{served.url}/")
    page.goto(served.url)
    found.wait_for("Upload a sound, record one")
    yield found
    context.close()
    assert found.errors == [] and found.elsewhere == []


def test_upload_slide_and_read(visit, sounds):
    visit.upload(sounds / "beeps.flac")
    assert visit.tokens()[0] == 34
    for which in ("unmerged", "merged"):
        found = visit.labels(which)
        assert {name for name, _ in found} == LABELS
        percents = [int(percent) for _, percent in found]
        assert percents == sorted(percents, reverse=True) and 97 <= sum(percents) <= 103
    picture = visit.page.locator("#picture img")
    picture.wait_for(timeout=WAIT)
    assert picture.evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])") > [
        700,
        500,
    ]
    first, source = visit.tokens()[1], picture.get_attribute("src")
    visit.slide_to(6)
    text = visit.wait_for(r"^\s*6\.\dx fewer MACs")
    assert visit.tokens()[1] < first and "times as fast" in text
    assert picture.get_attribute("src") != source
    visit.slide_to(1)
    visit.wait_for(r"^\s*1\.0x fewer MACs, 34 → 34 tokens, same top label")
    assert visit.labels("unmerged") == visit.labels("merged")


def test_the_slider_can_be_moved_with_the_keyboard(visit, sounds):
    visit.upload(sounds / "beeps.flac")
    before = visit.tokens()[1]
    slider = visit.page.locator("#target input[type=range]")
    slider.focus()
    for _ in range(30):
        slider.press("ArrowRight")
    visit.wait_for(r"^\s*6\.\dx fewer MACs")
    assert visit.tokens()[1] < before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text.wav", "text.wav: cannot be decoded as audio"),
        ("empty.wav", "empty.wav: is empty"),
        ("cut.wav", "cut.wav: is cut short"),
        ("long.ogg", "long.ogg: is longer than 5 seconds"),
    ],
)
def test_bad_files_are_one_sentence_and_the_page_goes_on(visit, sounds, served, name, message):
    visit.upload(sounds / "beeps.flac")
    visit.wait_for("fewer MACs")
    visit.upload(sounds / name)
    visit.wait_for(message, "#problem [role=alert]")
    visit.wait_for("Upload a sound, record one")  # no answer to the clip before stays beside it
    assert visit.labels("merged") == []
    body = visit.page.inner_text("body")
    assert "Traceback" not in body and str(served.temporary) not in body and str(sounds) not in body
    visit.upload(sounds / "beeps.flac")
    visit.wait_for("fewer MACs")
    assert visit.page.locator("#problem [role=alert]").count() == 0


def test_silence_is_answered_with_a_warning(visit, sounds):
    visit.upload(sounds / "silence.wav")
    assert "Every sample of this clip is zero" in visit.wait_for("fewer MACs")
    assert len(visit.labels("merged")) == 4


def test_a_file_that_is_too_large_is_refused(browser, served, sounds):
    page = browser.new_page()
    page.goto(served.url)
    with page.expect_file_chooser() as chosen:
        page.get_by_role("button", name="Upload a sound").click()
    chosen.value.set_files(sounds / "huge.wav")
    sync_api.expect(page.locator("body")).to_contain_text("exceed the maximum allowed size of 1.0 M", timeout=WAIT)
    page.close()


def test_an_example_is_heard(visit):
    visit.page.get_by_text("siren 0", exact=True).click()
    visit.wait_for("fewer MACs")


def test_a_recording_is_heard(visit):
    visit.page.locator("#sound").get_by_role("button", name="Record").click()
    visit.page.wait_for_timeout(1500)
    visit.page.locator("#sound").get_by_role("button", name="Stop").first.click()
    visit.wait_for("fewer MACs")


def test_two_people_at_once_each_get_their_answer(browser, served, sounds):
    visits = [Visit(browser.new_page()) for _ in range(2)]
    for each in visits:
        each.page.goto(served.url)
        each.wait_for("Upload a sound, record one")
    for each, target in zip(visits, (2, 6), strict=True):
        each.slide_to(target)
        each.upload(sounds / "beeps.flac")
    for each, target in zip(visits, (2, 6), strict=True):
        each.wait_for(rf"^\s*{target}\.\dx fewer MACs")
        each.page.close()


def test_inputs_have_labels(visit):
    page = visit.page
    assert page.get_by_role("slider").count() == 1 and page.get_by_label("times fewer MACs").count() >= 1
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("button, input")].filter(e => e.offsetParent !== null && !(
        e.ariaLabel || e.title || e.innerText.trim() || e.labels?.length)).map(e => e.outerHTML)"""
    )
    assert unnamed == []
