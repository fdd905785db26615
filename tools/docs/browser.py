"""A headless Chromium of this machine, for pictures of pages and for their tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hcpl_kernel.errors import InputError

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
DESK = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1.5, "mobile": True}


@contextmanager
def browser(screen: dict[str, Any]) -> Iterator[Any]:
    """A selenium driver that keeps the logs of the console and of requests.

    Args:
        screen: `DESK` or `PHONE`.

    Raises:
        InputError: if Chromium, its driver or selenium is not installed.
    """
    try:
        from selenium import webdriver
    except ImportError as error:
        raise InputError(f"selenium cannot be used ({error}): pip install selenium") from error
    if not (CHROMIUM.exists() and DRIVER.exists()):
        raise InputError(f"no {CHROMIUM} or {DRIVER}: install the packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.add_argument(f"--window-size={screen['width']},{screen['height']}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    try:
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        yield driver
    finally:
        driver.quit()
