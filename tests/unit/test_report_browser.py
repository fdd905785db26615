"""The report page in a real browser: no error, no request, keys, search, sorting, at the width of a desk and of a phone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TinyRun

from hcpl_kernel.report.finished import read_run
from hcpl_kernel.report.page import write_page
from tools.docs.browser import CHROMIUM, DESK, DRIVER, PHONE
from tools.docs.browser import browser as open_browser

pytestmark = pytest.mark.skipif(
    not (CHROMIUM.exists() and DRIVER.exists()),
    reason=f"no {CHROMIUM} or {DRIVER}: install the packages chromium and chromium-driver",
)
HOSTILE = "<b>x</b>\"'&\u202e"


@pytest.fixture(scope="module")
def browser() -> Iterator:
    pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    with open_browser(DESK) as driver:
        yield driver


@pytest.fixture(scope="module")
def page(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the tiny run, with a hostile warning in it."""
    work = Path(shutil.copytree(tiny_run.work, tmp_path_factory.mktemp("browser") / "work"))
    path = write_page(read_run(work))
    markup = path.read_text(encoding="utf-8")
    hostile = json.dumps(HOSTILE).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    path.write_text(markup.replace('"warnings":[]', f'"warnings":[{hostile}]', 1), encoding="utf-8")
    return path


def opened(browser, page: Path):  # noqa: ANN001, ANN201 - selenium has no types here
    browser.get(page.as_uri())
    return browser


def press(browser, element) -> None:  # noqa: ANN001
    """A click that does not wait until the page has stopped scrolling."""
    browser.execute_script("arguments[0].click()", element)


def rows(browser) -> list[str]:  # noqa: ANN001
    return [row.text for row in browser.find_elements("css selector", "#table tbody th")]


def test_no_error_and_no_request_but_the_file(browser, page: Path) -> None:  # noqa: ANN001
    opened(browser, page)
    assert browser.get_log("browser") == []
    sent = []
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            sent.append(message["params"]["request"]["url"])
    assert {url.split(":")[0] for url in sent} <= {"file", "data"}
    assert [url for url in sent if url.startswith("file:")] == [page.as_uri()]


def test_arrow_keys_go_from_cell_to_cell(browser, page: Path) -> None:  # noqa: ANN001
    from selenium.webdriver.common.keys import Keys

    opened(browser, page)
    frame, panel = browser.find_element("id", "frame"), browser.find_element("id", "panel")
    assert panel.text.startswith("Field")
    frame.send_keys(Keys.ARROW_RIGHT)
    first = panel.text
    assert first.startswith("Cell ") and "um²" in first and "Integrity" in first and "%" in first
    frame.send_keys(Keys.ARROW_RIGHT)
    assert panel.text != first
    frame.send_keys(Keys.ARROW_LEFT)
    assert panel.text == first
    assert len(browser.find_elements("css selector", "#stage .chosen")) == 1
    title = browser.find_element("id", "title").text
    frame.send_keys(Keys.PAGE_DOWN)
    assert browser.find_element("id", "title").text != title
    frame.send_keys(Keys.ESCAPE)
    assert panel.text.startswith("Field")


def test_search_and_sorting(browser, page: Path) -> None:  # noqa: ANN001
    opened(browser, page)
    everything = rows(browser)
    assert len(everything) == 3 and everything == sorted(everything)
    search = browser.find_element("id", "search")
    search.send_keys(everything[1])
    assert rows(browser) == [everything[1]]
    search.clear()
    search.send_keys("nothing like that ")
    assert rows(browser) == [] and browser.find_element("id", "found").text == "0 of 3 fields"
    opened(browser, page)
    head = browser.find_element("css selector", "#table thead th:nth-child(2) button")
    counts = []
    for _ in range(2):
        press(browser, head)
        counts.append([int(c.text) for c in browser.find_elements("css selector", "#table tbody td:nth-child(2)")])
    assert counts == [sorted(counts[0], reverse=True), sorted(counts[0])]
    assert browser.find_element("css selector", "#table thead th:nth-child(2)").get_attribute("aria-sort") == "ascending"


def test_channels_outlines_and_names_are_switched(browser, page: Path) -> None:  # noqa: ANN001
    opened(browser, page)

    def shown() -> list[bool]:
        return [layer.is_displayed() for layer in browser.find_elements("css selector", "#stage .layer")]

    assert shown() == [True, True, True, False]
    buttons = browser.find_elements("css selector", "#channels button")
    for button in (buttons[0], buttons[2]):
        button.click()
    assert shown() == [False, True, False, False] and buttons[0].get_attribute("aria-pressed") == "false"
    browser.find_element("id", "names").click()
    assert not browser.find_element("css selector", "#stage text").is_displayed()
    browser.find_element("id", "outlines").click()
    assert browser.find_element("css selector", "#stage g").get_attribute("class") == "bare"


def test_names_do_not_cover_each_other(browser, page: Path) -> None:  # noqa: ANN001
    """Those without room are hidden until their cell is chosen."""
    from selenium.webdriver.common.keys import Keys

    opened(browser, page)

    def boxes() -> list[dict[str, float]]:
        return browser.execute_script(
            "return [...document.querySelectorAll('#stage text')].filter((t) => getComputedStyle(t).display !== 'none')"
            ".map((t) => t.getBoundingClientRect()).map((r) => ({l: r.left, r: r.right, t: r.top, b: r.bottom}))"
        )

    names = browser.find_elements("css selector", "#stage text")
    shown = boxes()
    assert 0 < len(shown) <= len(names)
    for k, one in enumerate(shown):
        for other in shown[:k]:
            over = (
                min(one["r"], other["r"]) - max(one["l"], other["l"]),
                min(one["b"], other["b"]) - max(one["t"], other["t"]),
            )
            assert min(over) < 8, (one, other)  # letters' widths are estimated
    frame = browser.find_element("id", "frame")
    for name in names:
        frame.send_keys(Keys.ARROW_RIGHT)
        assert name.is_displayed()


def test_hostile_texts_are_shown_as_they_are(browser, page: Path) -> None:  # noqa: ANN001
    opened(browser, page)
    press(browser, browser.find_element("css selector", "#table tbody button"))
    note = browser.find_element("css selector", "#notes li")
    assert note.text == HOSTILE.replace("\u202e", "\\u202e") and not note.find_elements("css selector", "b")


def test_a_cell_of_a_gallery_is_shown_in_its_field(browser, page: Path) -> None:  # noqa: ANN001
    opened(browser, page)
    tile = browser.find_element("css selector", "#cells .tiles button")
    press(browser, tile)
    title = tile.get_attribute("title")
    assert browser.find_element("css selector", "#panel h3").text == title.partition(" of ")[0].capitalize()
    assert browser.find_element("id", "title").text == title.partition(" of ")[2]


def test_a_phone_shows_it_without_scrolling_sideways(browser, page: Path) -> None:  # noqa: ANN001
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    try:
        opened(browser, page)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", DESK)


def test_a_phone_has_room_for_ids(browser, page: Path) -> None:  # noqa: ANN001
    """An ID is not broken into slivers: the table scrolls sideways instead."""
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    try:
        opened(browser, page)
        heads = browser.find_elements("css selector", "#table tbody th")
        assert heads and min(head.size["width"] for head in heads) > 140
    finally:
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", DESK)
