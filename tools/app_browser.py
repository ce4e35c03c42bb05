#!/usr/bin/env python
"""Use `carvid app` in a headless Chromium as people do, and print what was seen.

    tools/app_browser.py -o shots/                  all steps, screenshots into shots/
    tools/app_browser.py -o shots/ --only corrects  those whose names hold that word

Needs the extra `app`, Playwright (`pip install playwright`) and a Chromium. It starts its own
server, on a free port of loopback, with the embedded model. It fails where a step sees something
else than it should, where the page logs an error, or where anything is asked for elsewhere than
on loopback.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from carvid.demo.example import TEXT, example_folder
from carvid.media.encode import VideoWriter
from carvid.run.track import Track

WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
WRONG = "a zebra crossing"
"""It is not in the example, and the embedded model finds it all the same."""
LONG_FRAMES = 1000
EXPECTED = ("422", "413", "the server responded with a status")
"""In what the browser logs of answers that a step wants to be refused."""


class Seen:
    """One window, with all that it has asked for and logged."""

    def __init__(self, browser: Any, url: str, size: dict[str, int] = WIDE) -> None:
        self.context = browser.new_context(viewport=size, accept_downloads=True)
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.logged: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.logged.append(str(error)))
        self.page.on("console", self._log)
        self.page.goto(url)
        self.page.wait_for_function("window.carvid && window.carvid.view", timeout=30_000)

    def _log(self, message: Any) -> None:
        if message.type == "error" and not any(word in message.text for word in EXPECTED):
            self.logged.append(message.text)

    def elsewhere(self) -> list[str]:
        """What was asked for beyond loopback."""
        local = ("http://127.0.0.1:", "data:", "blob:")
        return [url for url in self.asked if not url.startswith(local)]

    def js(self, text: str) -> Any:
        return self.page.evaluate(text)

    def wait(self, text: str, seconds: float = 30) -> None:
        self.page.wait_for_function(text, timeout=1000 * seconds)

    def idle(self, seconds: float = 180) -> None:
        """Wait until nothing is being done, and the picture has come."""
        self.page.wait_for_timeout(150)
        self.wait("carvid.view && !carvid.view.job", seconds)
        self.picture()

    def picture(self) -> None:
        self.wait("!carvid.view.clip || carvid.shown === carvid.frame")
        self.page.wait_for_timeout(60)

    def pixels(self) -> np.ndarray:
        """The picture that is shown, uint8 (h, w, 3)."""
        import cv2

        data = np.frombuffer(self.page.locator(".cv-stage").screenshot(), np.uint8)
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))

    def do(self, name: str) -> None:
        self.page.click(f".cv-viewer [data-do={name}]:visible")

    def example(self) -> None:
        if self.js("!carvid.view.clip"):
            self.do("example")
        self.wait("carvid.view && carvid.view.clip")
        self.idle()

    def add(self, text: str) -> None:
        self.page.fill("#cv-text textarea", text)
        self.page.click("#cv-text button")
        self.wait(f"carvid.view.things.some((thing) => thing.text === {text!r})")

    def find(self) -> None:
        self.page.click("#cv-find")
        self.wait("carvid.view.job || carvid.view.run || carvid.view.message")
        self.idle()

    def open(self, path: Path) -> None:
        self.page.set_input_files(".cv-file", str(path))

    def unfold(self, name: str) -> None:
        button = self.page.locator(f"#{name} > button")
        if "open" not in (button.get_attribute("class") or ""):
            button.click()
        self.page.wait_for_timeout(300)

    def go(self, frame: int) -> float:
        """Go to a frame as the slider does; return how long its picture took, ms."""
        return float(
            self.js(
                "(async () => { const began = performance.now();"
                "const s = document.querySelector('.cv-scrub');"
                f"s.value = {frame}; s.dispatchEvent(new Event('input', {{bubbles: true}}));"
                f"while (carvid.shown !== {frame}) await new Promise((r) => setTimeout(r, 1));"
                "return performance.now() - began; })()"
            )
        )

    def message(self) -> str:
        return str(self.page.inner_text(".cv-message")) if self.js(
            "!document.querySelector('.cv-message').hidden"
        ) else ""  # fmt: skip

    def shot(self, path: Path) -> None:
        self.page.screenshot(path=path, full_page=True)


class Steps:
    """What is done, in order; each step has a window of its own."""

    def __init__(self, browser: Any, url: str, out: Path, server: Any, work: Path) -> None:
        self.browser, self.url, self.out, self.server, self.work = browser, url, out, server, work
        self.windows: list[Seen] = []

    def window(self, size: dict[str, int] = WIDE) -> Seen:
        seen = Seen(self.browser, self.url, size)
        self.windows.append(seen)
        return seen

    def opens_the_example_asks_and_scrubs(self) -> str:
        window = self.window()
        window.shot(self.out / "1-empty.png")
        window.example()
        window.shot(self.out / "2-clip.png")
        window.add(TEXT)
        window.add("the red car")
        window.find()
        window.shot(self.out / "3-found.png")
        first = window.pixels()
        times = [window.go(frame) for frame in (40, 3, 25, 26, 27, 10, 47, 0)]
        assert (window.pixels() == first).mean() > 0.999, "frame 0 looks otherwise now"
        window.go(30)
        assert (window.pixels() != first).mean() > 0.02, "frame 30 looks as frame 0"
        return f"found; scrubbing took {np.median(times):.0f} ms a frame, at most {max(times):.0f}"

    def switches_renames_and_colours(self) -> str:
        window = self._found(TEXT, "the red car")
        both = window.pixels()
        window.page.click(".cv-eye >> nth=0")
        window.picture()
        one = window.pixels()
        window.page.click(".cv-eye >> nth=1")
        window.picture()
        none = window.pixels()
        assert 0.005 < (both != one).mean() < (both != none).mean(), "masks were not switched"
        window.page.click(".cv-eye >> nth=0")
        window.page.click(".cv-eye >> nth=1")
        window.picture()
        before = window.js("carvid.view.version")
        window.page.fill(".cv-name >> nth=0", "Rex")
        window.page.keyboard.press("Enter")
        window.wait(f"carvid.view.version > {before} && carvid.view.things[0].name === 'Rex'")
        window.js("(() => { const c = document.querySelector('.cv-color'); c.value = '#22dd66';"
                  "c.dispatchEvent(new Event('change')); })()")  # fmt: skip
        window.wait("carvid.view.things[0].color === '#22dd66'")
        window.page.wait_for_timeout(500)
        window.shot(self.out / "4-renamed.png")
        share = (both != window.pixels()).mean()
        assert share > 0.01, "the new colour is not seen"
        return f"hidden, shown, renamed, painted: {share:.1%} of the values changed with the colour"

    def plays(self) -> str:
        window = self._found(TEXT)
        before = window.js("carvid.pictures")
        window.do("play")
        window.wait("!carvid.playing", 30)
        shown = window.js("carvid.pictures") - before
        assert shown > 10 and window.js("carvid.frame") == 47
        return f"48 frames at 24 a second: {shown} pictures were shown in 2 s"

    def answers_at_once(self) -> str:
        window = self.window()
        window.example()
        window.add(TEXT)
        window.add("a cat")
        window.unfold("cv-quick")
        began = time.monotonic()
        window.page.click("#cv-prepare")
        window.wait("carvid.view.quick", 120)
        window.idle()
        prepared = time.monotonic() - began
        window.shot(self.out / "5-quick.png")
        before = window.pixels()
        took = window.js(
            "(async () => { const began = performance.now(), n = carvid.pictures;"
            "carvid.setTheta(1); while (carvid.pictures === n) await new Promise((r) => "
            "setTimeout(r, 1)); return performance.now() - began; })()"
        )
        window.page.wait_for_timeout(100)
        assert (before != window.pixels()).mean() > 0.01, "θ = 1 still shows masks"
        window.page.fill("#cv-theta input[type=number]", "0.2")
        window.page.keyboard.press("Enter")
        window.wait("carvid.theta === 0.2")
        began = time.monotonic()
        window.add("the red car")
        window.wait("carvid.view.quick.scores.length === 3")
        return (f"prepared in {prepared:.1f} s; θ answered in {took:.0f} ms, a new thing in "
                f"{time.monotonic() - began:.1f} s")  # fmt: skip

    def corrects_a_wrong_thing(self) -> str:
        window = self._found(TEXT, WRONG)
        window.go(20)
        window.shot(self.out / "6-wrong.png")
        before, folder = window.pixels(), Path(window.js("carvid.view.clip.folder"))
        mask = Track.open(folder / "run").masks[20][1]
        assert mask.any(), f"'{WRONG}' was not found, so that nothing is wrong"
        rows, columns = np.nonzero(mask)
        middle = len(rows) // 2
        window.page.select_option(".cv-which", "2")
        window.page.click("[data-tool=no]")
        box = window.page.locator(".cv-image").bounding_box()
        height, width = mask.shape
        window.page.mouse.click(
            box["x"] + (columns[middle] + 0.5) / width * box["width"],
            box["y"] + (rows[middle] + 0.5) / height * box["height"],
        )
        window.shot(self.out / "7-no.png")
        window.do("correct")
        window.idle()
        assert not window.message(), window.message()
        after = Track.open(folder / "run").masks[20][1]
        window.shot(self.out / "8-corrected.png")
        assert (before != window.pixels()).mean() > 0.005, "nothing is seen to change"
        assert not after[rows[middle], columns[middle]], "what was clicked is still there"
        window.do("undo")
        window.wait("carvid.view.corrections.length === 0")
        window.idle()
        assert (Track.open(folder / "run").masks[20][1] == mask).all(), "undo gave other masks"
        return f"a mask of {mask.sum()} pixels has {after.sum()} after a 'no'; undo brought it back"

    def exports(self) -> str:
        window = self._found(TEXT)
        window.unfold("cv-export")
        window.page.click("#cv-make")
        window.wait("carvid.view.exports.length === 1")
        window.idle()
        with window.page.expect_download() as waiting:
            window.page.click(".cv-files a")
        path = self.work / waiting.value.suggested_filename
        waiting.value.save_as(path)
        window.shot(self.out / "9-exported.png")
        folder = Path(window.js("carvid.view.clip.folder")) / "run"
        words = [sys.executable, "-m", "carvid", "export", str(folder), "-f", "coco"]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
        return f"{path.name}, {path.stat().st_size / 1000:.0f} kB; carvid export: {said[-40:]}"

    def fails_clearly_and_goes_on(self) -> str:
        window = self._found(TEXT)
        bad = self.work / "broken.mp4"
        bad.write_bytes(b"no video at all " * 5000)
        window.open(bad)
        window.wait("carvid.view.message && carvid.view.message[0] === 'error'")
        window.idle()
        said = window.message()
        window.shot(self.out / "10-failed.png")
        assert "broken.mp4" in said and "\n" not in said
        large = self.work / "large.mp4"
        with large.open("wb") as file:
            file.truncate(61_000_000)
        window.open(large)
        window.page.wait_for_timeout(300)
        assert "at most 60 MB" in window.message(), window.message()
        assert window.go(11) > 0
        return f"'{said}'; then a file that is too large; the clip before is still there"

    def cancels_and_goes_on(self) -> str:
        window = self._long(200)
        window.page.click("#cv-find")
        window.wait("carvid.view.job && carvid.view.job.frames > 20")
        window.shot(self.out / "11-running.png")
        began = time.monotonic()
        window.do("cancel")
        window.wait("!carvid.view.job")
        took, said = time.monotonic() - began, window.message()
        assert "cancelled" in said and window.js("!carvid.view.run")
        window.page.click("#cv-find")
        window.wait("carvid.view.run")
        window.idle()
        return f"'{said}' after {took:.1f} s; looked for again, it went on to its end"

    def serves_two_windows(self) -> str:
        first, second = self._long(200), self._found(TEXT)
        assert first.js("carvid.view.token") != second.js("carvid.view.token")
        first.page.click("#cv-find")
        first.wait("carvid.view.job && carvid.view.job.frames > 2")
        times = [second.go(frame) for frame in (5, 30, 12, 47, 1, 22)]
        second.add("a cat")
        second.page.click("#cv-find")
        second.wait("carvid.view.job && carvid.view.job.state === 'waiting'")
        said = second.page.inner_text(".cv-doing")
        first.idle()
        second.idle()
        assert first.js("carvid.view.things.length") == 1 and second.js("carvid.view.run.texts[1]")
        second.page.reload()
        second.wait("window.carvid && carvid.view && carvid.view.run")
        second.picture()
        return (f"while one window's run went on, the other scrubbed, {np.median(times):.0f} ms a "
                f"frame, and then: '{said}'; loaded anew it has its work again")  # fmt: skip

    def shows_a_thousand_frames_without_growing(self) -> str:
        window = self._long(LONG_FRAMES)
        window.find()
        for frame in range(0, 200, 2):
            window.go(frame)
        before = self._size(window)
        times = [window.go(frame) for frame in range(LONG_FRAMES)]
        after = self._size(window)
        assert after["nodes"] - before["nodes"] < 50, (before, after)
        assert after["heap"] - before["heap"] < 10, (before, after)
        assert after["server"] - before["server"] < 60, (before, after)
        window.shot(self.out / "12-thousand.png")
        return (
            f"{LONG_FRAMES} frames, {np.median(times):.0f} ms each; the page had "
            f"{before['nodes']} nodes and {before['heap']:.1f} MB, then {after['nodes']} and "
            f"{after['heap']:.1f}; the server {before['server']:.0f} MB, then {after['server']:.0f}"
        )

    def is_narrow(self) -> str:
        window = self.window(NARROW)
        window.shot(self.out / "13-narrow-empty.png")
        window.example()
        window.add(TEXT)
        window.add("the red car")
        window.find()
        window.unfold("cv-export")
        window.shot(self.out / "14-narrow.png")
        over = window.js("document.documentElement.scrollWidth - innerWidth")
        assert over <= 0, f"the page is {over} pixels wider than the window"
        return "nothing is wider than 390 pixels"

    def _found(self, *texts: str) -> Seen:
        window = self.window()
        window.example()
        for text in texts:
            window.add(text)
        window.find()
        window.wait("carvid.view.run")
        return window

    def _long(self, frames: int) -> Seen:
        """A window with an uploaded clip of so many frames, and one thing to find."""
        path = self.work / f"long-{frames}.mp4"
        if not path.exists():
            ground = np.random.default_rng(0).integers(0, 255, (23, 40, 3), np.uint8)
            picture = ground.repeat(8, 0).repeat(8, 1)
            with VideoWriter(path, picture.shape[:2], Fraction(25)) as writer:
                for frame in range(frames):
                    writer.write(np.roll(picture, frame, axis=1))
        window = self.window()
        window.open(path)
        window.wait("carvid.view.clip")
        window.idle()
        assert window.js("carvid.view.clip.frames") == frames
        window.add("a ball")
        return window

    def _size(self, window: Seen) -> dict[str, float]:
        session = window.context.new_cdp_session(window.page)
        session.send("HeapProfiler.collectGarbage")
        session.send("Performance.enable")
        found = session.send("Performance.getMetrics")["metrics"]
        metrics = {each["name"]: each["value"] for each in found}
        status = Path(f"/proc/{self.server.pid}/status").read_text()
        rss_kb = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
        return {"nodes": metrics["Nodes"], "heap": metrics["JSHeapUsedSize"] / 1e6,
                "server": int(rss_kb) / 1000}  # fmt: skip


def steps_of(steps: Steps, only: str) -> list[Callable[[], str]]:
    """The steps whose names hold a word, in the order in which they are written."""
    return [
        getattr(steps, name) for name in vars(Steps)
        if not name.startswith("_") and name != "window" and only in name
    ]  # fmt: skip


def run_steps(steps: Steps, only: str) -> int:
    """Do the steps; return how many failed."""
    failed = 0
    for step in steps_of(steps, only):
        name, began = step.__name__.replace("_", " "), time.monotonic()
        try:
            said = step()
            wrong = [line for window in steps.windows for line in window.logged]
            wrong += [url for window in steps.windows for url in window.elsewhere()]
            assert not wrong, wrong
            mark = "ok  "
        except Exception as error:
            said, mark, failed = f"{type(error).__name__}: {error}", "FAIL", failed + 1
            if steps.windows:
                steps.windows[-1].shot(steps.out / f"failed-{step.__name__}.png")
        print(f"{mark} {name}: {said} ({time.monotonic() - began:.0f} s)", flush=True)
        for window in steps.windows:
            window.context.close()
        steps.windows.clear()
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, default=Path("shots"))
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--only", default="", help="steps whose names hold this")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    assert example_folder().is_dir()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "carvid", "app", "--no-show", "--port", "0", "-o",
                 f"{folder}/projects", "--preset", "tiny", "--max-upload", "60"]  # fmt: skip
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                url = server.stdout.readline().strip()
                with sync_playwright() as playwright:
                    browser = playwright.chromium.launch(
                        executable_path=options.chromium, args=["--no-sandbox"]
                    )
                    print(f"{url}, Chromium {browser.version}", flush=True)
                    steps = Steps(browser, url, options.out, server, Path(folder))
                    failed = run_steps(steps, options.only)
                    browser.close()
            finally:
                began = time.monotonic()
                server.send_signal(signal.SIGINT)
                status = server.wait(20)
                print(f"Ctrl-C: exit {status} after {time.monotonic() - began:.1f} s", flush=True)
    return int(failed > 0 or status != 130)


if __name__ == "__main__":
    sys.exit(main())
