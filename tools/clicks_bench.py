"""What corrections are worth: clicks on the worst frames of clips that carvid has wrong.

Used by `tools/bench.py clicks`. A click is simulated as in interactive segmentation: in the frame
where J is least (of several the one with most wrong pixels), in the middle of the largest connected
part of what is missing (yes) or too much (no); on the thing, if most of it is missing. *Drawn*
clips, with the embedded model, are those of several kinds whose thing is not found (J under
`WRONG`); *real* ones are DAVIS sequences with the two CLIPs simulated (`real_bench`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from real_bench import LEVELS, read_clip, remembering, simulate, text_of
from temporal_bench import clip_spec, start_worker, worker_model, worker_sprites
from tqdm import tqdm
from twins_bench import TwinsTask, make_twins

import carvid
import carvid.temporal.seen
from carvid.car.queries import Queries
from carvid.config import load_config
from carvid.corrections.clip import Clip
from carvid.corrections.correct import Corrector
from carvid.corrections.masks import CorrectedMasks
from carvid.demo.scenes import make_scene
from carvid.evaluation.regions import jaccard, mask_scores
from carvid.media.given import to_frames
from carvid.run.corrections import Correction

Mask = NDArray[np.bool_]

KINDS = ("place", "crossing", "motion", "still", "events")
"""The first four are those of `twins_bench`; `events` are clips with occlusions, cuts and more."""
WRONG = 0.5
"""A thing of a drawn clip is wrong if its mean J over the clip is less."""
MISSED = 0.5
"""Who clicks misses most of a thing if more than this share of it is not in the mask."""
RIGHT = 0.5
"""A corrected frame is right if its J is at least this."""
FRAMES = 48
"""Of drawn clips."""
SIZE_HW = (240, 432)


@dataclass(frozen=True)
class Clicked:
    """One thing of one clip, clicked on some times."""

    name: str
    kind: str
    scores: tuple[float, ...]
    """J&F of the whole clip after 0, 1, 2 ... clicks, percent."""
    rest: tuple[float, float]
    """J&F of all frames but the one of the first click, before it and after, percent."""
    at_click: tuple[float, float]
    """J of the frame of the first click, before it and after."""
    seconds: tuple[float, float]
    """What the run took, and the first click."""


class Clicker:
    """One thing of a segmented clip.

    Args:
        track: the clip, segmented.
        images: its frames.
        label: the thing's, from 1.
        truths: bool (H, W) for each frame.
    """

    def __init__(
        self,
        model: carvid.Carvid,
        track: carvid.Track,
        images: Sequence[NDArray[np.uint8]],
        label: int,
        truths: Sequence[Mask],
    ) -> None:
        height, width = images[0].shape[:2]
        clip = Clip(
            lambda start: islice(to_frames(images), start, None), (height, width),
            model.config.temporal,
        )  # fmt: skip
        self._masks, self._label, self._truths = CorrectedMasks(track), label, truths
        self._corrector = Corrector(
            clip, self._masks, model.segmenter, Queries(track.texts, ()), model.config,
            model.new_follower,
        )  # fmt: skip
        self._said: list[Correction] = []

    def masks(self) -> list[Mask]:
        return [self._masks.mask(index, self._label - 1) for index in range(len(self._truths))]

    def jf(self, but: int = -1) -> float:
        """J&F, percent, of all frames but one."""
        pairs = list(zip(self.masks(), self._truths, strict=True))
        scores = [mask_scores(*pair) for index, pair in enumerate(pairs) if index != but]
        return 100 * float(np.mean(scores))

    def js(self) -> NDArray[np.float64]:
        return np.array([jaccard(*pair) for pair in zip(self.masks(), self._truths, strict=True)])

    def worst(self) -> int:
        """The worst frame that was not clicked on; of several, that with most wrong pixels."""
        js = self.js()
        js[[each.frame for each in self._said]] = 2
        wrong = [np.count_nonzero(m != t) for m, t in zip(self.masks(), self._truths, strict=True)]
        return int(np.lexsort((-np.array(wrong), js))[0])

    def click(self, frame: int) -> None:
        """Say what is most wrong in a frame; nothing, if nothing is."""
        masks = self._masks.mask(frame, self._label - 1)
        said = click_on(masks, self._truths[frame])
        if said is not None:
            new = Correction(frame, self._label, said[0], said[1])
            self._corrector.apply([new], self._said)
            self._said.append(new)


def click_on(found: Mask, truth: Mask) -> tuple[bool, tuple[int, int]] | None:
    """Whether it says where the thing is, and its point, x and y: the innermost one of the largest
    error. Who misses most of a thing points at it."""
    missed = np.count_nonzero(truth & ~found) > MISSED * np.count_nonzero(truth)
    best: tuple[int, bool, tuple[int, int]] | None = None
    for wanted, wrong in ((True, truth & ~found), (False, found & ~truth)):
        if not wrong.any() or (missed and not wanted):
            continue
        _, parts, stats, _ = cv2.connectedComponentsWithStats(wrong.view(np.uint8))
        part = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        inside = np.pad((parts == part).view(np.uint8), 1)
        depth = cv2.distanceTransform(inside, cv2.DIST_L2, 5)[1:-1, 1:-1]
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        area = int(stats[part, cv2.CC_STAT_AREA])
        if best is None or area > best[0]:
            best = area, wanted, (int(x), int(y))
    return None if best is None else best[1:]


def click_through(
    clicker: Clicker, clicks: int, name: str, kind: str, run_s: float
) -> Clicked:
    """Click on the worst frames, one after the other."""
    first = clicker.worst()
    before, at_before = clicker.jf(first), float(clicker.js()[first])
    scores, rest, at_after, click_s = [clicker.jf()], before, at_before, 0.0
    for number in range(clicks):
        began_s = time.perf_counter()
        clicker.click(first if number == 0 else clicker.worst())
        if number == 0:
            click_s = time.perf_counter() - began_s
            rest, at_after = clicker.jf(first), float(clicker.js()[first])
        scores.append(clicker.jf())
    return Clicked(
        name, kind, tuple(scores), (before, rest), (at_before, at_after), (run_s, click_s)
    )


def drawn_clip(task: tuple[int, str, int]) -> list[Clicked]:
    """Click on the wrong things of a drawn clip: seed, kind and number of clicks."""
    seed, kind, clicks = task
    model, sprites = worker_model(), worker_sprites()
    if kind == "events":
        scene = make_scene(clip_spec(seed, FRAMES, SIZE_HW), sprites)
        asked = list(enumerate(scene.texts, 1))
    else:
        scene, texts = make_twins(TwinsTask(seed, kind), sprites)
        asked = list(enumerate(texts, 1))
    images, labels = zip(*scene.frames(), strict=True)
    found = []
    for label, text in asked:
        began_s = time.perf_counter()
        track = model.segment(list(images), text)
        run_s = time.perf_counter() - began_s
        truths = [truth == label for truth in labels]
        clicker = Clicker(model, track, images, 1, truths)
        if clicker.js().mean() < WRONG and any(truth.any() for truth in truths):
            found.append(click_through(clicker, clicks, f"{kind} {seed}", kind, run_s))
    return found


def real_clip(task: tuple[Path, str, str, int, int, str]) -> list[Clicked]:
    """Click on every object of a DAVIS sequence: data, video, noise, seed, clicks and preset."""
    data, video, level, seed, clicks, preset = task
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    seen = carvid.temporal.seen
    plain, seen.flow_between = seen.flow_between, remembering(seen.flow_between)
    try:
        clip = read_clip(data, video)
        model = simulate(clip, LEVELS[level], seed, load_config(preset))
        texts = [text_of(label) for label in range(1, clip.objects + 1)]
        track = model.segment(list(clip.images), texts)
        return [
            click_through(
                Clicker(model, track, clip.images, k, [truth == k for truth in clip.labels]),
                clicks, f"{video} {k}", level, 0.0,
            )
            for k in range(1, clip.objects + 1)
        ]  # fmt: skip
    finally:
        seen.flow_between = plain


def measure_drawn(
    sprites: Path, preset: str, first_seed: int, clips: int, clicks: int, workers: int
) -> list[Clicked]:
    """Return the wrong things of so many drawn clips of each kind."""
    tasks = [(first_seed + n, kind, clicks) for kind in KINDS for n in range(clips)]
    with ProcessPoolExecutor(
        workers, get_context("spawn"), start_worker, (sprites, preset, ())
    ) as pool:
        bar = tqdm(pool.map(drawn_clip, tasks), total=len(tasks), unit="clip", leave=False)
        return [each for found in bar for each in found]


def measure_real(
    data: Path, preset: str, level: str, seed: int, clicks: int, workers: int
) -> list[Clicked]:
    """Return all objects of a DAVIS tree's sequences."""
    videos = sorted(path.name for path in (data / "JPEGImages" / "480p").iterdir())
    tasks = [(data, video, level, seed, clicks, preset) for video in videos]
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        bar = tqdm(pool.map(real_clip, tasks), total=len(tasks), unit="video", leave=False)
        return [each for found in bar for each in found]


def drawn_rows(clicked: Sequence[Clicked]) -> list[str]:
    """A table: a line for each kind, and one for all."""
    lines = [
        "| kind | wrong things | right at the click | J&F of the rest | after one click | "
        "a click's time, of the run |",
        "|-|-|-|-|-|-|",
    ]
    for kind in (*KINDS, None):
        mine = [each for each in clicked if kind in (None, each.kind)]
        if mine:
            right = 100 * np.mean([each.at_click[1] >= RIGHT for each in mine])
            before, after = np.mean([each.rest for each in mine], axis=0)
            run_s, click_s = np.sum([each.seconds for each in mine], axis=0)
            lines.append(
                f"| {kind or 'all'} | {len(mine)} | {right:.0f} % | {before:.1f} | {after:.1f} | "
                f"{100 * click_s / run_s:.0f} % |"
            )
    return lines


def real_rows(clicked: Iterable[Clicked], *, each: bool = False) -> list[str]:
    """A table of J&F by number of clicks; `each`: with a line for each object."""
    clicked = list(clicked)
    count = len(clicked[0].scores)
    lines = [
        "| object | " + " | ".join(f"{n} clicks" for n in range(count)) + " |",
        "|-" * (count + 1) + "|",
    ]
    if each:
        lines += [f"| {one.name} | {_cells(one.scores)} |" for one in clicked]
    means = np.mean([one.scores for one in clicked], axis=0)
    return [*lines, f"| all {len(clicked)} | {_cells(means)} |"]


def _cells(values: Iterable[float]) -> str:
    return " | ".join(f"{value:.1f}" for value in values)
