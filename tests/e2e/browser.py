"""A headless Chromium that tests drive by the DevTools protocol over a pipe.

What a page must not do is collected: errors and warnings of its console, exceptions, and requests
to any address but the one under test.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

import harness

PHONE = (390, 844)
DESKTOP = (1280, 900)


class Browser:
    """One page. `url_allowed`: the beginning of every address that the page may ask for."""

    def __init__(self, url_allowed):
        program = shutil.which("chromium-headless-shell") or shutil.which("chromium")
        if program is None:
            raise AssertionError("no Chromium; run deploy/local/install.sh test")
        self.url_allowed = url_allowed
        self.complaints = []
        self.folder = tempfile.mkdtemp(prefix="sinkforge-browser-")
        commands, self.write = os.pipe()
        self.read, answers = os.pipe()
        # The protocol's pipes are descriptors 3 and 4. Without a sandbox, because tests also run as
        # root and in containers; the page is ours.
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{commands} 4>&{answers}', "bash", program, "--headless",
             "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
             "--disable-background-networking", "--disable-component-update",
             f"--user-data-dir={self.folder}", "--remote-debugging-pipe"],
            pass_fds=(commands, answers), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        os.close(commands)
        os.close(answers)
        self.buffer = b""
        self.count = 0
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target,
                                 flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.write)
        os.close(self.read)
        shutil.rmtree(self.folder, ignore_errors=True)

    def receive(self, seconds):
        end = time.monotonic() + seconds
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.read], [], [], max(0, end - time.monotonic()))
            chunk = os.read(self.read, 1 << 20) if ready else b""
            if not chunk:
                raise AssertionError(f"Chromium did not answer in {seconds} s")
            self.buffer += chunk
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def call(self, method, **parameters):
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive(harness.WAIT_SECONDS)
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return answer["result"]
            self.note(answer)

    def note(self, event):
        method, values = event.get("method"), event.get("params", {})
        if method == "Runtime.consoleAPICalled" and values["type"] in ("error", "warning"):
            self.complaints.append(f"console: {values['args']}")
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(f"exception: {values['exceptionDetails']}")
        elif method == "Log.entryAdded" and values["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"log: {values['entry']}")
        elif method == "Network.requestWillBeSent":
            url = values["request"]["url"]
            if not url.startswith((self.url_allowed, "data:", "about:")):
                self.complaints.append(f"asks for {url}")

    def look(self, size, dark):
        width, height = size
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=size == PHONE)
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def open(self, url):
        self.call("Page.navigate", url=url)

    def value(self, script):
        """Of an expression, or of the promise that it is."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True,
                           returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def await_value(self, script, what):
        """Its first true value; while the page loads, the script may have nothing to look at."""
        def value():
            try:
                return self.value(script)
            except AssertionError:
                return None
        return harness.wait_until(value, what)

    def text(self):
        return self.value("document.body.innerText")

    def background(self):
        """Brightness of the page's ground, 0 to 255."""
        colour = self.value("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in colour[4:-1].split(",")) / 3

    def wider_than_the_screen(self):
        return self.value("document.documentElement.scrollWidth > innerWidth + 1")

    def cut_tables(self):
        """How many tables, heatmaps aside, a reader must scroll sideways."""
        return self.value("""[...document.querySelectorAll(".scroll:has(table.cards)")]
            .filter((place) => place.scrollWidth > place.clientWidth).length""")

    def ink(self, selector):
        """Share of a canvas's pixels that are drawn on."""
        return self.value(f"""(() => {{
            const canvas = document.querySelector({json.dumps(selector)});
            const pixels = canvas.getContext("2d")
                .getImageData(0, 0, canvas.width, canvas.height).data;
            let drawn = 0;
            for (let i = 3; i < pixels.length; i += 4) drawn += pixels[i] > 0 ? 1 : 0;
            return drawn / (pixels.length / 4);
        }})()""")

    def screenshot(self, path):
        height = min(8000, self.value("document.documentElement.scrollHeight"))
        width = self.value("innerWidth")
        image = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True,
                          clip={"x": 0, "y": 0, "width": width, "height": height, "scale": 1})
        with open(path, "wb") as file:
            file.write(base64.b64decode(image["data"]))
