"""A headless Chromium that tests drive through its own debugging pipe: real keys, real clicks, no package, no port."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import time
from importlib.resources import files

COMMAND = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --remote-debugging-pipe"
).split()
PATIENCE_SECONDS = 60
# axe-core, and what it finds on the page and what it looked at
AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
VIOLATIONS = "axe.run().then(found => found.violations.map(one => one.id + ': ' + one.nodes.map(node => node.html).join(' ')))"
PASSED = "axe.run().then(found => found.passes.map(one => one.id))"
# codes that Chromium wants beside a key's text
CODES = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowRight": 39}


class Browser:
    """One browser with one page. `requests` are the addresses that it asked for; `problems` what its console complained of."""

    def __init__(self, folder):
        self.requests, self.problems = [], []
        self._last, self._buffer, self._loads = 0, b"", 0
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # Chromium reads its orders from descriptor 3 and answers on 4, whatever those were before
        shell = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", COMMAND, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            pass_fds=(to_browser, from_browser),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._session = None
        (page,) = (one for one in self.ask("Target.getTargets")["targetInfos"] if one["type"] == "page")
        self._session = self.ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")

    def start_over(self, downloads):
        """As a new browser would be, with a folder of its own for what is saved."""
        self.value("localStorage.clear()")
        self.requests.clear()
        self.problems.clear()
        self.downloads = downloads
        self.ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))

    def close(self):
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def ask(self, method, **parameters):
        self._last += 1
        order = {"id": self._last, "method": method, "params": parameters}
        if self._session is not None:
            order["sessionId"] = self._session
        os.write(self._write, json.dumps(order).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == self._last:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, path):
        before = self._loads
        self.ask("Page.navigate", url=path.as_uri())
        while self._loads == before:
            self._message()

    def value(self, expression):
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression):
        end = time.monotonic() + PATIENCE_SECONDS
        while not (found := self.value(expression)):
            assert time.monotonic() < end, f"{expression} never came true"
            time.sleep(0.02)
        return found

    def text(self, selector):
        return self.value(f"document.querySelector({json.dumps(selector)}).innerText")

    def press(self, *keys):
        for key in keys:
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            code = CODES.get(key, ord(key.upper()) if key.isalnum() and len(key) == 1 else 0)
            common = {"key": key, "windowsVirtualKeyCode": code}
            self.ask("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **common)
            self.ask("Input.dispatchKeyEvent", type="keyUp", **common)

    def click(self, selector):
        one = f"document.querySelector({json.dumps(selector)})"
        self.value(f"{one}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        box = self.value(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({one}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def choose_file(self, selector, path):
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        node = self.ask("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.ask("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def downloaded(self):
        end = time.monotonic() + PATIENCE_SECONDS
        while not (found := sorted(self.downloads.glob("*.json"))):
            assert time.monotonic() < end, "nothing was downloaded"
            time.sleep(0.02)
        return found

    def size(self, width, height, *, dark=False):
        mobile = width < 600
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path):
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))

    def _message(self):
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], PATIENCE_SECONDS)
            assert ready, "the browser does not answer"
            piece = os.read(self._read, 1 << 20)
            assert piece, "the browser has gone"
            self._buffer += piece
        whole, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(whole)
        method, facts = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"])
        elif method == "Page.loadEventFired":
            self._loads += 1
        elif method == "Runtime.exceptionThrown":
            self.problems.append(facts["exceptionDetails"])
        elif method == "Log.entryAdded" and facts["entry"]["level"] in ("warning", "error"):
            self.problems.append(facts["entry"])
        return message
