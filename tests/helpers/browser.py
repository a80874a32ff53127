"""Headless Chromium by the DevTools protocol over a pipe: the layout of a page."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
WITHOUT_CHROMIUM = "opens reports in Chromium, which is not installed"
SECONDS = 60

# The protocol's pipe is descriptors 3 and 4, which subprocess cannot choose.
_START = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
    "os.execv(sys.argv[3], sys.argv[3:])"
)
_LAID_OUT = """({
    width: document.documentElement.clientWidth,
    scrollWidth: document.documentElement.scrollWidth,
    text: document.body.innerText,
    images: [...document.images].map(image => image.complete && image.naturalWidth > 0),
})"""
_ERRORS = {
    "Log.entryAdded": lambda event: event["entry"]["level"] == "error" and event["entry"]["text"],
    "Runtime.consoleAPICalled": lambda event: event["type"] == "error" and str(event["args"]),
    "Runtime.exceptionThrown": lambda event: str(event["exceptionDetails"]),
}


class Browser:
    """A tab of a browser that runs; :func:`open_browser` starts one."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers, self._unread = commands, answers, b""
        self._session, self._number = None, 0
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": params}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def show(self, path: Path, width: int) -> dict[str, Any]:
        """Open a page at a width; return its text, its widths, its images and its errors."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())
        shown = self.call("Runtime.evaluate", expression=_LAID_OUT, returnByValue=True)
        errors = [
            _ERRORS[event["method"]](event["params"])
            for event in self.events
            if event.get("method") in _ERRORS
        ]
        return shown["result"]["value"] | {"errors": list(filter(None, errors))}

    def picture(self) -> bytes:
        """Return the whole page as PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def _read(self) -> dict[str, Any]:
        """Return the next answer or event."""
        end = time.monotonic() + SECONDS
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._answers], [], [], max(0, end - time.monotonic()))
            part = os.read(self._answers, 2**16) if ready else b""
            assert part, "the browser has ended or does not answer"
            self._unread += part
        message, self._unread = self._unread.split(b"\0", 1)
        return json.loads(message)


@contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """Start a browser, with a folder for what it keeps, and end it."""
    ends = []
    for end in (*os.pipe(), *os.pipe()):  # above 3 and 4, whatever is open
        ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10))
        os.close(end)
    to_browser, commands, answers, from_browser = ends
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    flags += ["--remote-debugging-pipe", f"--user-data-dir={profile}"]
    browser = subprocess.Popen(
        [sys.executable, "-c", _START, str(to_browser), str(from_browser), CHROMIUM, *flags],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        yield Browser(commands, answers)
    finally:
        browser.terminate()
        browser.wait(SECONDS)
        os.close(commands)
        os.close(answers)
