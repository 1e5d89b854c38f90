"""The page of scored images: its HTML read by the standard library's parser, and the page in use in chromium."""

import base64
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_iqa.scoring.page import album, thumbnail
from ssl_iqa.scoring.score import Row
from tests.conftest import photograph

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

FOLDER = "/data/photo & more/"
CARD = "score       1 (worst) to 10 (best)\ntrained on  csv:<b>own</b>.csv"
FAILED = ["a\n.png: not an image of a known format", "<i>.png: over 200 megapixels"]
VOID = {"meta", "link", "img", "input"}

# name, what is shown of it, score, interval, distortion, level, probability
ROWS = [
    ("img10.PNG", "img10.PNG", 6.25, (5.25, 7.25), "jpeg", 2, 0.61),
    ("img9.png", "img9.png", 9.5, (8.5, 10), "pristine", None, 0.8),
    ("<script>alert(1)<", "<script>alert(1)<", 1.2, (1, 2.2), "white_noise", 1, 0.9),
    ("</script><img src=x onerror=alert(1)>", "</script><img src=x onerror=alert(1)>", 4.999, (4, 6), "jpeg", 4, 0.7),
    ("""q"uo'te &amp; <!-- title -->""", """q"uo'te &amp; <!-- title -->""", 5, (4, 6), "white_noise", 5, 0.4),
    ("line\nbreak\t.png", r"line\nbreak\t.png", 10.3, (9, 10), "pristine", None, 0.5),
    ("Straße 写真 🙂.png", "Straße 写真 🙂.png", 0.7, (1, 2), "jpeg", 5, 0.95),
    (os.fsdecode(b"caf\xe9 \xe2\x80\xae.png"), r"caf\udce9 \u202e.png", 4.6, (3.6, 5.6), "jpeg", 4, 0.55),
]
BEST_FIRST = [ROWS[i][1] for i in (5, 1, 0, 4, 3, 7, 2, 6)]


def pixels(i: int) -> torch.Tensor:
    return torch.from_numpy(np.array(photograph(i))).permute(2, 0, 1)


@pytest.fixture(scope="module")
def entries() -> list[Row]:
    return [
        {
            **{"picture": FOLDER + name, "score": score, "low": low, "high": high, "y_hat": score},
            **{"distortion": kind, "level": level or 0, "probability": share},
            **{"thumbnail": thumbnail(pixels(i)), "size": (4000 + i, 3000)},
        }
        for i, (name, _, score, (low, high), kind, level, share) in enumerate(ROWS)
    ]


@pytest.fixture(scope="module")
def page(entries: list[Row]) -> bytes:
    return album(entries, "Images in <photo & more>", CARD, FAILED, 0.9)


class Element:
    def __init__(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tag, self.attributes = tag, dict(attributes)
        assert len(self.attributes) == len(attributes)
        self.texts: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self.texts)


class Parsed(HTMLParser):
    """The elements of a page in their order, each with all text in it; whatever is opened must be closed in turn."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.inside: list[Element] = []
        self.feed(page.decode())
        self.close()
        assert not self.inside

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, attributes))
        if tag not in VOID:
            self.inside.append(self.elements[-1])

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.elements.append(Element(tag, attributes))

    def handle_endtag(self, tag: str) -> None:
        assert self.inside.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self.inside:
            element.texts.append(data)

    def all(self, tag: str, name: str | None = None) -> list[Element]:
        return [one for one in self.elements if one.tag == tag and name in (None, one.attributes.get("class"))]

    def by_id(self, name: str) -> Element:
        (found,) = (one for one in self.elements if one.attributes.get("id") == name)
        return found


def test_images_are_there_best_first_with_all_that_is_known(page: bytes, entries: list[Row]) -> None:
    parsed = Parsed(page)
    items, rows = parsed.all("li")[: len(ROWS)], sorted(ROWS, key=lambda row: -row[2])
    assert [name.text for name in parsed.all("span", "name")] == BEST_FIRST == [row[1] for row in rows]
    for item, image, (name, shown, score, (low, high), kind, level, share) in zip(
        items, parsed.all("img")[: len(ROWS)], rows, strict=True
    ):
        found = {key.removeprefix("data-"): value for key, value in item.attributes.items() if key != "style"}
        i = [row[0] for row in ROWS].index(name)
        numbers = {key: float(found.pop(key)) for key in ("score", "low", "high", "probability")}
        assert numbers == {"score": score, "low": low, "high": high, "probability": share}
        assert found.pop("level", None) == (None if level is None else str(level))
        assert found == {"path": FOLDER + shown, "distortion": kind, "size": f"{4000 + i} × 3000"}
        levels = "" if level is None else f", level {level}"
        assert item.text == f"{score:.2f} {low:.2f} to {high:.2f}{shown} {kind}{levels}"
        head, data = image.attributes["src"].split(",")
        assert head == "data:image/webp;base64" and base64.b64decode(data, validate=True) == entries[i]["thumbnail"]
        places = [round(100 * (min(max(value, 1), 10) - 1) / 9, 1) for value in (score, low, high)]
        assert item.attributes["style"] == "--score:{}%;--low:{}%;--high:{}%".format(*places)


def test_names_and_texts_are_shown_and_never_become_elements(page: bytes, entries: list[Row]) -> None:
    plain = [{**entry, "picture": f"{i}.png"} for i, entry in enumerate(entries)]
    tags = [[one.tag for one in Parsed(p).elements] for p in (page, album(plain, "t", "c", ["a", "b"], 0.9))]
    assert tags[0] == tags[1] and tags[0].count("script") == 1
    parsed = Parsed(page)
    assert [one.text for one in (*parsed.all("title")[:1], *parsed.all("h1"))] == ["Images in <photo & more>"] * 2
    assert [one.text for one in parsed.all("pre")] == [CARD]
    assert [one.text for one in parsed.all("li")[len(ROWS) :]] == [
        r"a\n.png: not an image of a known format",
        FAILED[1],
    ]
    assert parsed.by_id("failed").text.startswith("Could not be read: 2")


def test_a_name_is_what_tells_a_path_from_the_others(entries: list[Row]) -> None:
    def names(*paths: str) -> list[str]:
        renamed = [{**entry, "picture": path} for entry, path in zip(entries, paths, strict=False)]
        return sorted(one.text for one in Parsed(album(renamed, "t", "c", [], 0.9)).all("span", "name"))

    assert names("x/ab/1.png", "x/ac/1.png") == ["ab/1.png", "ac/1.png"]
    assert names("x/a/1.png") == ["1.png"]
    assert names("a.png", "/b/c.png") == ["/b/c.png", "a.png"]


def test_the_page_asks_for_nothing(page: bytes) -> None:
    parsed = Parsed(page)
    (policy,) = (one for one in parsed.all("meta") if one.attributes.get("http-equiv") == "Content-Security-Policy")
    assert {"default-src 'none'", "img-src data:"} <= {*policy.attributes["content"].split("; ")}
    assert not {"iframe", "object", "embed", "base", "form", "video", "audio"} & {one.tag for one in parsed.elements}
    for element in parsed.elements:
        for name in {"src", "href", "srcset", "action", "xlink:href"} & element.attributes.keys():
            assert element.attributes[name].startswith(("data:", "#"))
    code = parsed.all("style")[0].text + parsed.all("script")[0].text
    assert not any(word in code for word in ("url(", "@import", "http:", "https:", "//cdn", "innerHTML", "eval("))


def test_the_summary_has_count_range_and_median(page: bytes, entries: list[Row]) -> None:
    def summary(page: bytes) -> str:
        return Parsed(page).all("p")[0].text

    assert summary(page) == "Images: 8; scores from 0.70 to 10.30, median 5.00. 1 is the worst, 10 the best."
    one = album(entries[:1], "t", "c", [], 0.9)
    assert summary(one) == "Images: 1; scores from 6.25 to 6.25, median 6.25. 1 is the worst, 10 the best." and not [
        *Parsed(one).all("ul")
    ]
    many = album(entries * 150, "t", "c", [], 0.9)
    assert summary(many).startswith("Images: 1,200;")
    none = album([], "t", "c", ["a"], 0.9)
    assert (
        summary(none) == "No image could be scored." and "Could not be read: 1" in Parsed(none).all("summary")[1].text
    )


def test_what_a_model_does_not_know_is_left_out(entries: list[Row]) -> None:
    bare = [
        {name: entry[name] for name in ("picture", "score", "y_hat", "thumbnail", "size")} | {"low": None, "high": None}
        for entry in entries
    ]
    parsed = Parsed(album(bare, "t", "c", [], 0.9))
    for item in parsed.all("li"):
        assert item.attributes.keys() == {"data-path", "data-score", "data-size", "style"}
        assert "--low" not in item.attributes["style"] and "level" not in item.text and " to " not in item.text


@pytest.mark.parametrize(
    ("size", "small"),
    [
        ((640, 480), (320, 240)),
        ((300, 1200), (80, 320)),
        ((64, 48), (64, 48)),
        ((1, 1), (1, 1)),
        ((1, 20000), (1, 320)),
    ],
)
def test_a_thumbnail_is_small_and_never_enlarged(size: tuple[int, int], small: tuple[int, int]) -> None:
    """Compared with the mean over each pixel's place, in gray, as WebP halves colors."""
    x = np.array(photograph(0).resize(size, Image.Resampling.BICUBIC))
    encoded = thumbnail(torch.from_numpy(x).permute(2, 0, 1))
    with Image.open(io.BytesIO(encoded)) as image:
        assert (image.format, image.size) == ("WEBP", small) and len(encoded) < 20_000
        found = np.array(image).mean(axis=2)
    if size[0] % small[0] == size[1] % small[1] == 0:
        blocks = x.reshape(small[1], size[1] // small[1], small[0], size[0] // small[0], 3)
        assert np.abs(found - blocks.mean(axis=(1, 3, 4))).mean() < 4


def test_fine_stripes_become_gray() -> None:
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (3, 960, 640))
    with Image.open(io.BytesIO(thumbnail(torch.from_numpy(stripes)))) as image:
        assert image.size == (320, 240) and np.abs(np.array(image) - 127.5).max() < 4


# In a browser


@pytest.fixture(scope="module")
def chromium(page: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Chrome"]:
    """Debian's chromium without a network: it finds no host."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and driver):
        pytest.skip("no chromium: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for word in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1200,900"):
        options.add_argument(f"--{word}")  # no-sandbox: there is none for root
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    browser.page = tmp_path_factory.mktemp("album") / "page.html"
    browser.page.write_bytes(page)
    yield browser
    browser.quit()


@pytest.fixture
def opened(chromium: "Chrome") -> Iterator[Callable[[str], "Chrome"]]:
    """opened(hash) shows the page anew; at the end the browser must not have complained."""

    def show(state: str = "") -> "Chrome":
        chromium.get("about:blank")
        chromium.get(chromium.page.as_uri() + state)
        return chromium

    yield show
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert [entry for entry in chromium.get_log("browser") if entry["level"] != "INFO"] == []  # of autofocus, for one


Opened = Callable[..., "Chrome"]


def names(browser: "Chrome") -> list[str]:
    """Of the images that are shown, in their order."""
    items = "[...document.querySelectorAll('#images li')].filter((item) => item.checkVisibility())"
    return browser.execute_script(f"return {items}.map((item) => item.querySelector('.name').textContent)")


def find(browser: "Chrome", selector: str) -> Any:
    return browser.find_element("css selector", selector)


def state(browser: "Chrome") -> str:
    return browser.execute_script("return decodeURIComponent(location.hash)")


def choose(browser: "Chrome", menu: str, value: str) -> None:
    from selenium.webdriver.support.select import Select

    Select(find(browser, f"#{menu}")).select_by_value(value)


def bar(browser: "Chrome", low: float) -> Any:
    return find(browser, f'#histogram a[data-from="{low:g}"] .click')


def press(browser: "Chrome", *keys: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


ORDERS = {
    "worst": BEST_FIRST[::-1],
    "name": [ROWS[i][1] for i in (3, 2, 7, 1, 0, 5, 4, 6)],  # marks, then letters; 9 is before 10
    "distortion": [ROWS[i][1] for i in (0, 3, 7, 6, 5, 1, 2, 4)],
}


@pytest.mark.parametrize("order", [*ORDERS])
def test_sorting(opened: Opened, order: str) -> None:
    browser = opened()
    assert names(browser) == BEST_FIRST and find(browser, "#count").text == "8 of 8"
    choose(browser, "sort", order)
    assert names(browser) == ORDERS[order] and state(browser) == f"#sort={order}"
    assert names(opened(f"#sort={order}")) == ORDERS[order]
    choose(browser, "sort", "best")
    assert names(browser) == BEST_FIRST and state(browser) == ""


def test_filters_work_together(opened: Opened) -> None:
    browser = opened()
    options = [option.text for option in browser.find_elements("css selector", "#type option")]
    assert options == ["all", "jpeg (4)", "pristine (2)", "white_noise (2)"]
    choose(browser, "type", "jpeg")
    jpeg = [ROWS[i][1] for i in (0, 3, 7, 6)]
    assert names(browser) == jpeg and find(browser, "#count").text == "4 of 8"
    find(browser, "#text").send_keys("pNg")
    assert names(browser) == [jpeg[i] for i in (0, 2, 3)] and state(browser) == "#type=jpeg&text=pNg"
    bar(browser, 4.5).click()
    assert names(browser) == [jpeg[2]] and state(browser) == "#type=jpeg&from=4.5&to=5&text=pNg"
    assert find(browser, "#count").text == "1 of 8"
    find(browser, "#text").send_keys("x")
    assert names(browser) == [] and find(browser, "#none").is_displayed()
    find(browser, "#reset").click()
    assert names(browser) == BEST_FIRST and state(browser) == "" and not find(browser, "#reset").is_displayed()
    assert find(browser, "#text").get_attribute("value") == find(browser, "#type").get_attribute("value") == ""


def test_the_folder_that_all_share_is_not_searched(opened: Opened) -> None:
    browser = opened("#text=photo")
    assert names(browser) == [] and find(browser, "#count").text == "0 of 8"


def test_the_histogram_counts_half_points(
    opened: Opened, entries: list[Row], chromium: "Chrome", monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    scores = [*rng.normal(5, 2.5, 300).tolist(), 1.0, 1.5, 9.99999, 10.0, 4.99996, 4.9999, *[5.2] * 600]
    monkeypatch.setattr(chromium, "page", tmp_path / "many.html")
    chromium.page.write_bytes(album([{**entries[0], "score": round(score, 4)} for score in scores], "t", "c", [], 0.9))
    inside = np.minimum(np.maximum(np.round(scores, 4), 1), 10)
    wanted = np.bincount(np.minimum(np.floor((inside - 1) / 0.5).astype(int), 17), minlength=18)
    browser = opened()
    found, heights = np.zeros(18, int), np.zeros(18)
    for link in browser.find_elements("css selector", "#histogram a"):
        low, high, count = (float(link.get_dom_attribute(f"data-{name}")) for name in ("from", "to", "count"))
        i, column = round(2 * (low - 1)), find(link, ".part")
        assert high == low + 0.5 and link.get_dom_attribute("href").endswith(f"#from={low:g}&to={high:g}")
        assert link.get_dom_attribute("aria-label") == f"Images of score {low:g} to {high:g}: {count:.0f}"
        assert find(link, ".number").text == f"{count:.0f}"
        assert float(column.get_dom_attribute("x")[:-1]) == pytest.approx(2 + 96 * (low - 1) / 9 + 0.2, abs=0.02)
        found[i], heights[i] = count, float(column.get_dom_attribute("height"))
        assert float(column.get_dom_attribute("y")) + heights[i] == pytest.approx(126, abs=0.11)
    assert found.tolist() == wanted.tolist() and wanted.sum() == 906 and (wanted > 0).sum() >= 17
    assert heights[wanted > 0] == pytest.approx(np.maximum(2, 104 * wanted / wanted.max())[wanted > 0], abs=0.06)
    marks = browser.find_elements("css selector", "#histogram svg > text")
    places = [float(mark.get_dom_attribute("x")[:-1]) for mark in marks]
    assert [mark.text for mark in marks] == [*map(str, range(1, 11))]
    assert places == pytest.approx(np.linspace(2, 98, 10), abs=0.01)


def test_bars_filter_by_score(opened: Opened) -> None:
    from selenium.webdriver import ActionChains, Keys

    browser = opened()
    kept = {1: (2, 6), 4.5: (3, 7), 5: (4,), 6: (0,), 9.5: (5, 1)}  # a bar has its lower end, the last one both
    assert len(browser.find_elements("css selector", "#histogram a")) == len(kept)
    for low, wanted in kept.items():
        bar(browser, low).click()
        assert names(browser) == [ROWS[i][1] for i in wanted], low
    bar(browser, 9.5).click()
    assert names(browser) == BEST_FIRST  # the same again: all
    bar(browser, 5).click()
    for low, both in ((6, "#from=5&to=6.5"), (4.5, "#from=4.5&to=6.5")):
        ActionChains(browser).key_down(Keys.SHIFT).click(bar(browser, low)).key_up(Keys.SHIFT).perform()
        assert state(browser) == both
    assert names(browser) == [ROWS[i][1] for i in (0, 4, 3, 7)]
    out = browser.find_elements("css selector", "#histogram a.out")
    assert [one.get_attribute("data-from") for one in out] == ["1", "9.5"]
    assert len(browser.window_handles) == 1


def test_bars_show_what_the_other_filters_leave(opened: Opened) -> None:
    browser = opened("#type=jpeg&from=1&to=1.5")
    shares = "return [...document.querySelectorAll('.part')].map((bar) => bar.style.transform)"
    assert browser.execute_script(shares) == ["scaleY(0.5)", "scaleY(1)", "scaleY(0)", "scaleY(1)", "scaleY(0)"]


def test_an_image_opens_with_all_its_numbers(opened: Opened) -> None:
    from selenium.webdriver import Keys
    from selenium.webdriver.common.actions.action_builder import ActionBuilder

    browser = opened("#sort=worst&type=jpeg")
    seen = [ROWS[i] for i in (6, 7, 3, 0)]
    find(browser, "#images li:not([hidden]) ~ li:not([hidden]) button").click()
    for place in (1, 2, 3, 3):
        assert find(browser, "dialog").is_displayed()
        _, name, score, (low, high), kind, level, share = seen[place]
        facts = [e.get_attribute("textContent") for e in browser.find_elements("css selector", "dt, dd")]
        assert dict(zip(facts[::2], facts[1::2], strict=True)) == {
            "90 % interval": f"{low:.2f} to {high:.2f}",
            "Distortion": f"{kind}, level {level} ({100 * share:.0f} %)",
            "Size": f"{4000 + ROWS.index(seen[place])} × 3000 pixels",
            "File": FOLDER + name,
        }
        rank = BEST_FIRST.index(name) + 1
        assert find(browser, "#score").text == f"{score:.2f}"
        assert find(browser, "#rank").text == f"{rank} of 8, best first" and state(browser).endswith(f"&open={rank}")
        large, item = (
            find(browser, "#large"),
            browser.execute_script(f"return images.find((image) => image.rank === {rank}).item"),
        )
        assert large.get_attribute("src") == item.find_element("css selector", "img").get_attribute("src")
        styles = "return [arguments[0], document.querySelector('dialog .track')].map((one) => one.style.cssText)"
        assert len({*browser.execute_script(styles, item)}) == 1
        assert large.get_attribute("alt") == name and large.get_property("naturalWidth") == 64
        press(browser, Keys.ARROW_RIGHT)
    assert not find(browser, "#next").is_enabled()
    find(browser, "#previous").click()
    assert find(browser, "#rank").text.startswith(f"{BEST_FIRST.index(seen[2][1]) + 1} of")
    press(browser, Keys.ESCAPE)
    assert not find(browser, "dialog").is_displayed() and state(browser) == "#sort=worst&type=jpeg"
    assert seen[2][1] in browser.switch_to.active_element.get_attribute("textContent")
    press(browser, Keys.ENTER)
    assert find(browser, "dialog").is_displayed()
    mouse = ActionBuilder(browser)
    mouse.pointer_action.move_to_location(10, 10).click()  # beside it
    mouse.perform()
    assert not find(browser, "dialog").is_displayed()


def test_the_address_holds_the_state(opened: Opened) -> None:
    browser = opened("#sort=name&type=white_noise&from=1&to=5.5&text=a&open=7")
    assert names(browser) == [ROWS[i][1] for i in (2, 4)] and find(browser, "dialog").is_displayed()
    assert find(browser, "#rank").text == "7 of 8, best first"
    browser.execute_script("location.hash = '#type=pristine'")
    assert names(browser) == [ROWS[i][1] for i in (5, 1)] and not find(browser, "dialog").is_displayed()
    assert find(browser, "#sort").get_attribute("value") == "best"
    assert names(opened("#sort=constructor&open=9")) == BEST_FIRST  # what makes no sense does nothing
    assert find(browser, "#sort").get_attribute("value") == "best"


def test_all_works_by_the_keyboard(opened: Opened) -> None:
    from selenium.webdriver import Keys

    browser = opened()
    press(browser, Keys.TAB, Keys.TAB, Keys.ENTER)  # the card, the first bar
    assert names(browser) == [ROWS[i][1] for i in (2, 6)]
    find(browser, "#images li:not([hidden]) button").send_keys(Keys.ENTER)
    assert find(browser, "dialog").is_displayed() and find(browser, "#score").text == "1.20"
    press(browser, Keys.ENTER)  # Close has the focus
    assert not find(browser, "dialog").is_displayed()


def test_thumbnails_are_decoded_and_nothing_is_asked_for(opened: Opened) -> None:
    opened().get_log("performance")
    browser = opened()
    decoded = browser.execute_async_script(
        "const done = arguments[0], images = [...document.querySelectorAll('#images img')];"
        "Promise.all(images.map((image) => { image.loading = 'eager'; return image.decode(); }))"
        ".then(() => done(images.map((image) => [image.naturalWidth, image.naturalHeight])))"
    )
    assert decoded == [[64, 48]] * 8
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    assert browser.page.as_uri() in sent
    assert all(url == browser.page.as_uri() or url.startswith(("data:", "about:")) for url in sent)


def test_the_browser_would_refuse_to_ask(opened: Opened) -> None:
    browser = opened()
    refused = browser.execute_async_script(
        "const done = arguments[0], refused = [];"
        "document.addEventListener('securitypolicyviolation', (event) => {"
        "  refused.push(event.effectiveDirective); if (refused.length === 3) done(refused.sort()); });"
        "fetch('https://example.org/a').catch(() => 0);"
        "new Image().src = 'https://example.org/b.png';"
        "document.head.append(Object.assign(document.createElement('link'), {rel: 'stylesheet', href: 'https://example.org/c.css'}));"
    )
    assert refused == ["connect-src", "img-src", "style-src-elem"]
    assert len(browser.get_log("browser")) >= 3


def test_without_scripts_all_images_are_there(opened: Opened, chromium: "Chrome") -> None:
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser = opened("#sort=worst")
    assert names(browser) == BEST_FIRST
    assert not find(browser, "#controls").is_displayed() and not find(browser, "figcaption").is_displayed()
    assert not find(browser, "#histogram").is_displayed()


def test_light_dark_narrow_and_on_paper(opened: Opened) -> None:
    browser = opened()
    ground = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    for scheme, wanted in (("light", lambda rgb: min(rgb) > 230), ("dark", lambda rgb: max(rgb) < 40)):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        assert wanted(browser.execute_script(ground))
    feature = {"name": "prefers-color-scheme", "value": "dark"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": [feature]})
    assert browser.execute_script(ground) == [255, 255, 255]
    assert not find(browser, "#controls").is_displayed() and not find(browser, "figcaption").is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    screen = {"width": 320, "height": 640, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    assert browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]") == [320, 320]
    tops = "return [...document.querySelectorAll('#images li')].map((item) => item.getBoundingClientRect().top)"
    assert len({*browser.execute_script(tops)}) == 4  # two in a row


def test_a_model_that_names_no_distortions_has_no_such_controls(
    opened: Opened, entries: list[Row], chromium: "Chrome", monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bare = [
        {name: entry[name] for name in ("picture", "score", "y_hat", "thumbnail", "size")} | {"low": None, "high": None}
        for entry in entries
    ]
    monkeypatch.setattr(chromium, "page", tmp_path / "bare.html")
    chromium.page.write_bytes(album(bare, "t", "c", [], 0.9))
    browser = opened("#open=1")
    assert [e.text for e in browser.find_elements("css selector", "dt")] == ["Size", "File"]
    find(browser, "#close").click()
    assert not find(browser, "#type").is_displayed()
    assert [e.get_attribute("value") for e in browser.find_elements("css selector", "#sort option:not([hidden])")] == [
        *("best", "worst", "name")
    ]
