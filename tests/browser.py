"""A headless Chromium for the tests of pages."""

import json
import shutil
import time

from conftest import ROOT

from lib.data.corrections import read_corrections

AXE = ROOT / "tests" / "npm" / "node_modules" / "axe-core" / "axe.min.js"


def what_is_missing():
    """What a machine lacks to run the tests in a browser, and how to get it; empty if nothing."""
    found = []
    for command, package in (("chromium", "chromium"), ("chromedriver", "chromium-driver")):
        if not shutil.which(command):
            found.append(f"{command} (apt-get install {package})")
    if not AXE.is_file():
        found.append("axe-core (make axe)")
    try:
        import selenium  # noqa: F401 - only whether it is there
    except ImportError:
        found.append("selenium (Python 3.12 or later, requirements-test.txt)")
    return found


class Browser:
    """A window that knows what the page in it asked for and complained of.

    Args:
        downloads: the folder that files are saved in.
    """

    def __init__(self, downloads):
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self.downloads = downloads
        self.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        self.look(1280, 900)

    def command(self, name, **parameters):
        """A command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def look(self, width, height, scheme="light"):
        """Set the window's size and colours."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.command("Emulation.setDeviceMetricsOverride", **metrics)
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        self.command("Emulation.setEmulatedMedia", features=[{"name": n, "value": v} for n, v in features.items()])

    def open(self, path):
        """Open a page, forget what was asked for before, and return how long it took in seconds, once it has loaded."""
        self.requests()
        self.complaints()
        self.driver.get(path.as_uri())
        return self.run("return performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def one(self, selector):
        (element,) = self.all(selector)
        return element

    def text(self, selector):
        return self.one(selector).text

    def shown(self, selector):
        """The elements that are not hidden."""
        return [element for element in self.all(selector) if element.is_displayed()]

    def wait(self, condition, seconds=5):
        """Wait until a function is true, and return what it returns."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = condition()
            if found:
                return found
            time.sleep(0.02)
        raise AssertionError("it did not come to be")

    def choose(self, menu, label):
        """Choose in a menu as somebody with a mouse."""
        from selenium.webdriver.support.ui import Select

        self.run("arguments[0].scrollIntoView({block: 'center'}); arguments[0].focus()", menu)
        Select(menu).select_by_visible_text(label)

    def requests(self):
        """The addresses that were asked for since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self):
        """What the console said since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def violations(self):
        """What axe-core finds that is serious or critical: rule and elements."""
        self.run(AXE.read_text())
        found = self.driver.execute_async_script(
            "const done = arguments[0];"
            "axe.run(document, {resultTypes: ['violations']}).then(done, (error) => done(String(error)));"
        )
        assert isinstance(found, dict), found
        return [
            (one["id"], [node["target"] for node in one["nodes"]][:5], one["nodes"][0]["failureSummary"])
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
        ]


def saved(window):
    """The corrections that the page saves."""
    path = window.downloads / "corrections.tsv"
    window.one("#save").click()
    window.wait(path.exists)
    found = read_corrections(str(path))
    path.unlink()
    return found
