"""The status page of a training: what it says of curves, steps and failures; and in a real browser."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hcpl_kernel.classes import HPA_CLASSES
from tools.train.jobs import Job
from tools.train.road.checking import Finding
from tools.train.road.projecting import Projected, Projection
from tools.train.road.splitting import Split
from tools.train.road.state import RoadState
from tools.train.road.status_page import refreshed, write_page
from tools.train.road.steps import Step

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
HOSTILE = "<script>alert(1)</script>"


def write_table(path: Path, rows: list[dict[str, float]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def training(work: Path, name: str, means: list[float], done: bool) -> Step:
    """A network's step with its curves."""
    folder, config, mark = work / "steps" / name, work / f"{name}.json", work / "done" / name
    home = folder / name / "all"
    write_table(home / "curve.csv", [{"step": 10 * k, "loss": 1 / k, "seconds": k} for k in range(1, 11)])
    measured = [
        {"step": 20 * (k + 1), "mean": m, "chance": 0.2, "class_0": m, "class_11": m / 2} for k, m in enumerate(means)
    ]
    write_table(home / "validation.csv", measured)
    config.write_text(json.dumps({"run": {"steps": 200}}))
    (work / "logs").mkdir(exist_ok=True)
    (work / "logs" / f"{name}.log").write_text("--- begun")
    if done:
        mark.parent.mkdir(exist_ok=True)
        mark.write_text(json.dumps({"key": "k", "seconds": 75}))
    return Step(Job(name, "module", ["cells", "--config", str(config)], mark, "k"), folder)


@pytest.fixture
def state(tmp_path: Path) -> RoadState:
    table = tmp_path / "t.csv"
    state = RoadState(
        work=tmp_path,
        data=HOSTILE,
        recipe="day (one DSA and one CLA)",
        classes=HPA_CLASSES.names,
        split=Split(table, table, table, table, (160, 20, 20), "Antibody"),
        projection=Projection((Projected("dsa", 1, 200, {"h100": 2.0}),), 1.5, ("h100",)),
        findings=[Finding(False, "channel missing", HOSTILE, "no green; the field is left out")],
    )
    state.begin("networks", [training(tmp_path, "dsa_a", [0.3, 0.6, 0.5], True), training(tmp_path, "cla_b", [0.15], False)])
    return state


def test_a_step_that_waits_or_was_killed_before_is_not_running(state: RoadState) -> None:
    assert ">running<" in write_page(state).read_text()
    os.utime(state.work / "logs" / "cla_b.log", (state.started - 5, state.started - 5))  # of an earlier start
    page = write_page(state).read_text()
    assert ">running<" not in page and ">waiting<" in page


def test_the_curves_and_the_kept_state_are_told(state: RoadState) -> None:
    page = write_page(state).read_text()
    assert "dsa_a: step 100 of 200" in page and "best, which is kept: 0.600 after 40" in page
    assert "cla_b: after 20 steps not better than chance (mean AP 0.150)" in page
    assert "dsa_a: after" not in page
    assert HPA_CLASSES.names[11] in page and "0.30" in page  # of the kept state
    assert ">done<" in page and "75 s" in page and ">running<" in page
    assert "160 fields train, 20 validate, 20 are held out; split by Antibody" in page
    assert HOSTILE not in page and "&lt;script&gt;" in page


def test_the_end_is_told(state: RoadState) -> None:
    path = state.work / "index.html"
    with pytest.raises(RuntimeError, match="no space"), refreshed(state):
        assert "Running; written" in path.read_text() and "http-equiv" in path.read_text()
        raise RuntimeError("no space is left")
    page = path.read_text()
    assert "Ended: no space is left. The same command goes on from here." in page and "http-equiv" not in page
    state.failure, state.weights = None, state.work / "weights"
    (state.work / "steps" / "selection").mkdir()
    networks = [
        {"name": "dsa_a", "value": 0.5, "kept": True, "weight": 1.0},
        {"name": "cla_b", "value": None, "kept": False},
    ]
    (state.work / "steps" / "selection" / "selection.json").write_text(json.dumps({"networks": networks}))
    job = Job("selection", "module", [], state.work / "done" / "s", "k")
    state.begin("selection", [Step(job, state.work / "steps" / "selection")])
    page = write_page(state).read_text()
    assert "Finished" in page and "0.5000" in page and "left out" in page


@pytest.fixture(scope="module")
def browser() -> Iterator:
    if not (CHROMIUM.exists() and DRIVER.exists()):
        pytest.skip(f"no {CHROMIUM} or {DRIVER}: install the packages chromium and chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


def test_in_a_browser_it_asks_for_nothing_and_fits_a_phone(browser, state: RoadState) -> None:  # noqa: ANN001
    page = write_page(state)
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())
    assert browser.get_log("browser") == []
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = {m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"}
    assert urls == {page.as_uri()}
    charts = browser.find_elements("css selector", "figure svg")
    assert len(charts) == 4 and all(chart.size["width"] > 100 for chart in charts)
    assert "validation mean AP from 0.3 after 20 steps to 0.5 after 60" in charts[1].get_attribute("aria-label")
    assert browser.find_element("css selector", "h1").text == f"Training on {HOSTILE}"
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
