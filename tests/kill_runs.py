#!/usr/bin/env python
"""Kill runs at random moments and resume them: `python -m tests.kill_runs WEIGHTS FOLDER COUNT`.

WEIGHTS has the folders generator and classifier. One process loads the models and forks a child
for each run, before any thread is there; the child is killed, and another one resumes.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

import carvid
from carvid.base.files import is_partial
from carvid.media.encode import VideoWriter
from carvid.pipeline import Carvid
from tests.conftest import make_frames

TEXTS = ["a dog", "a white cat"]
FORMATS = ["coco", "alpha", "green", "cutouts", "html"]
FRAMES = 30
TRIES = 5
"""For each kill; some come after the run's end, and do not count."""


def in_child(work: Callable[[], object], kill_after_s: float | None = None) -> bool:
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
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)
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


def main(weights: Path, root: Path, count: int, seed: int = 1) -> dict[str, int]:
    """Return how many of `count` kills fell where."""
    model: Carvid = carvid.load(
        "default", ["crf.iterations=1", "car.theta=0", "weights.device=cpu"],
        generator=str(weights / "generator"), classifier=str(weights / "classifier"),
    )  # fmt: skip
    clip = root / "clip.mp4"
    with VideoWriter(clip, (48, 96), Fraction(25)) as writer:
        for image in make_frames(FRAMES, 48, 96):
            writer.write(image)

    def run(name: str, *, resume: bool = False) -> Callable[[], object]:
        return lambda: model.segment(clip, TEXTS, out=root / name, resume=resume, formats=FORMATS)

    began = time.monotonic()
    assert in_child(run("whole"))
    lasts_s = time.monotonic() - began
    wanted, places, chance = contents(root / "whole"), Counter[str](), random.Random(seed)
    for number in range(TRIES * count):
        if places.total() == count:
            break
        name = f"killed-{number}"
        # A part of the kills falls into the last third, where videos are encoded.
        share = chance.uniform(0.65, 1) if number % 3 == 2 else chance.uniform(0, 1)
        began = time.monotonic()
        if in_child(run(name), share * lasts_s):
            lasts_s = time.monotonic() - began
            continue
        place = where(root / name) if (root / name).exists() else "not begun"
        places[place] += 1
        assert in_child(run(name, resume=True)), f"kill {number} ({place}) cannot be resumed"
        assert contents(root / name) == wanted, f"kill {number} ({place}) left other bytes"
        assert np.all(carvid.Track.open(root / name).scores >= 0)
    return dict(places)


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
