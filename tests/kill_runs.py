#!/usr/bin/env python
"""Kill runs in the middle and resume them: `python -m tests.kill_runs WEIGHTS FOLDER COUNT`. So
with an index, and with a run that is answered from it.

WEIGHTS has the folders generator and classifier. One process loads the models and forks a child
for each run, before any thread is there; the child kills itself, and another one resumes.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

import carvid
from carvid.base.files import is_partial
from carvid.index.folder import IndexFolder
from carvid.media.encode import VideoWriter
from carvid.pipeline import Carvid
from carvid.run.progress import Progress
from carvid.show.run_overlay import RunOverlay
from tests.conftest import make_frames

TEXTS = ["a dog", "a white cat"]
FORMATS = ["coco", "alpha", "green", "cutouts", "html"]
FRAMES = 16
PLACES = ("not begun", "frames", "overlay", "formats")
INDEXES = "indexes"
BORDER = "border"
"""Between two places: a kill there may fall into either."""


class Steps:
    """Notes how far a run has come, in the process that does it, and kills that on its way.

    A kill falls between two steps, so that its place is certain, after a part of the time that is
    between them: in the middle of whatever is done then.

    Args:
        kill_at: the step, from 0, after which the kill falls; None is none.
        delay_s: how long after it, unless the next step comes earlier.
    """

    def __init__(self, kill_at: int | None = None, delay_s: float = 0) -> None:
        self._kill_at, self._delay_s = kill_at, delay_s
        self._asked = 0
        self.seen: list[tuple[str, float]] = []
        """Of each step the place that begins with it, and when it came, s."""

    def step(self, place: str) -> None:
        number = len(self.seen)
        self.seen.append((place, time.monotonic()))
        if self._kill_at is not None and number > self._kill_at:
            die()
        if number == self._kill_at:
            threading.Thread(target=lambda: (time.sleep(self._delay_s), die())).start()

    def stop(self) -> bool:
        """Is asked after each frame, of the clip and then of each format."""
        self._asked += 1
        # When the last frame but one is asked for, the last cannot be written yet.
        after_frame = "frames" if self._asked < FRAMES - 1 else BORDER
        self.step(after_frame if self._asked <= FRAMES else "formats")
        return False

    def around(self, owner: type, name: str, within: str, afterwards: str) -> None:
        """Take a call of a function for two steps."""
        whole = getattr(owner, name)

        def with_steps(*arguments: Any, **more: Any) -> Any:
            self.step(within)
            result = whole(*arguments, **more)
            self.step(afterwards)
            return result

        setattr(owner, name, with_steps)

    def of_index(self, work: Callable[[], object]) -> None:
        """Do an index."""
        self.around(IndexFolder, "add", "piece", BORDER)
        self.step("not begun")
        work()
        self.step("ended")

    def of_run(self, work: Callable[[Callable[[], bool]], object]) -> None:
        """Do a run, which is given `stop`."""
        self.around(Progress, "begin", BORDER, "frames")
        self.around(RunOverlay, "finish", "overlay", BORDER)
        self.step("not begun")
        work(self.stop)
        self.step("ended")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(work: Callable[[], object]) -> bool:
    """Do something in a forked child; return whether it came to its end, which it must if it is not
    killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status == 0


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a run but run.json, which has the run's timing."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


def where(folder: Path) -> str:
    """Check that every file with a final name is whole; say how far a run came."""
    for path in folder.rglob("*"):
        if not path.is_file() or is_partial(path):
            continue
        if path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()
        elif path.suffix in (".mp4", ".mov"):
            with av.open(str(path)) as container:
                # A decoder's threads are not there in a forked child, which waits for their end
                # for ever when it clears the decoder away.
                container.streams.video[0].thread_type = "NONE"
                assert sum(1 for _ in container.decode(video=0)) == FRAMES
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".html":
            assert path.read_text(encoding="utf-8").endswith("</html>\n")
    progress = folder / ".carvid" / "progress.json"
    if (folder / "run.json").exists():
        return "formats"
    if not progress.exists():
        return "not begun"
    following = json.loads(progress.read_text(encoding="utf-8"))["next"]
    assert len(list((folder / "masks").glob("[0-9]*.png"))) >= following
    return "overlay" if following == FRAMES else "frames"


def kill_indexes(model: Carvid, clip: Path, root: Path, chance: random.Random) -> int:
    """Kill the making of an index, and a run that is answered from it, and go on with both; return
    how many kills there were."""

    def index(name: str, steps: Steps) -> None:
        steps.of_index(lambda: model.index(clip, root / name))

    def ask(name: str, steps: Steps) -> None:
        steps.of_run(
            lambda stop: model.segment(
                root / "whole.idx", TEXTS, out=root / name, resume=True, stop=stop
            )
        )

    kills = 0
    for work, whole in ((index, "whole.idx"), (ask, "asked")):

        def note(work: Any = work, whole: str = whole) -> None:
            work(whole, steps := Steps())
            (root / "steps.json").write_text(json.dumps(steps.seen))

        assert in_child(note)
        seen = json.loads((root / "steps.json").read_text())
        middle = [k for k, (place, _) in enumerate(seen) if place in ("piece", "frames")]
        for at in (middle[0], middle[-1]):
            steps = Steps(at, chance.uniform(0, seen[at + 1][1] - seen[at][1]))
            killed = f"killed-{at}-{whole}"
            assert not in_child(lambda work=work, killed=killed, steps=steps: work(killed, steps))
            assert in_child(lambda work=work, killed=killed: work(killed, Steps()))
            assert contents(root / killed) == contents(root / whole), killed
            kills += 1
    return kills


def main(weights: Path, root: Path, count: int, seed: int = 1) -> dict[str, int]:
    """Return how many of `count` kills fell where; each place, and each border, has its turn."""
    model: Carvid = carvid.load(
        "default", ["crf.iterations=1", "car.theta=0", "weights.device=cpu"],
        generator=str(weights / "generator"), classifier=str(weights / "classifier"),
    )  # fmt: skip
    clip = root / "clip.mp4"
    with VideoWriter(clip, (48, 96), Fraction(25)) as writer:
        for image in make_frames(FRAMES, 48, 96):
            writer.write(image)

    def run(name: str, steps: Steps, *, resume: bool = False) -> None:
        steps.of_run(
            lambda stop: model.segment(
                clip, TEXTS, out=root / name, resume=resume, formats=FORMATS, stop=stop
            )
        )

    def whole() -> None:
        run("whole", steps := Steps())
        (root / "steps.json").write_text(json.dumps(steps.seen))

    assert in_child(whole)
    wanted, places, chance = contents(root / "whole"), Counter[str](), random.Random(seed)
    seen = json.loads((root / "steps.json").read_text())
    for number in range(count):
        name, turn = f"killed-{number}", [*PLACES, BORDER][number % (len(PLACES) + 1)]
        at = chance.choice([step for step, (place, _) in enumerate(seen) if place == turn])
        steps = Steps(at, chance.uniform(0, seen[at + 1][1] - seen[at][1]))
        assert not in_child(lambda name=name, steps=steps: run(name, steps))
        place = where(root / name) if (root / name).exists() else "not begun"
        assert place == turn or turn == BORDER, f"kill {number} ({turn}) fell into {place}"
        places[place] += 1
        assert in_child(lambda name=name: run(name, Steps(), resume=True)), (
            f"kill {number} ({place}) cannot be resumed"
        )
        assert contents(root / name) == wanted, f"kill {number} ({place}) left other bytes"
        assert np.all(carvid.Track.open(root / name).scores >= 0)
    return {**places, INDEXES: kill_indexes(model, clip, root, chance)}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
