"""What the temporal module is worth on real motion: DAVIS frames, the two CLIPs simulated.

Used by `tools/bench.py real`. No weights are read. The simulation stands at the seam of the two
networks: CAMs are made from the truth as CAMs come about (`SimulatedGenerator`), and an image
feature agrees with a text as far as the mask that was shown agrees with the truth
(`SimulatedClassifier`). Everything else is carvid's own. The noise is drawn from the seed, the
video, the object and the frame, never from the order of calls: variants are compared in pairs.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

import carvid
import carvid.temporal.seen
from carvid.car.classifier import MaskClassifier
from carvid.car.proposals import ProposalGenerator, Proposals, affinity_boxes, min_max, to_masks
from carvid.clip.backbone import ClipBackbone
from carvid.config import Config, load_config
from carvid.evaluation.regions import jaccard, mask_scores
from carvid.media.label_png import read_label_png

VARIANTS: dict[str, tuple[str, ...]] = {
    "per-frame CaR": ("temporal.carry_queries=false", "temporal.carry_masks=false"),
    "offline": (),
    "causal": ("temporal.lag=0",),
    "no colours": ("temporal.color=0",),
    "nothing moves along": ("temporal.motion=0",),
    "no hysteresis": ("temporal.hysteresis=0",),
    "K = 6": ("temporal.key_every=6",),
    "K = 8": ("temporal.key_every=8",),
    "K = 12": ("temporal.key_every=12",),
}
"""`offline` is the preset; the rows after it switch off or change one thing."""

PATCH = 16
"""Side of a patch of the simulated generator, pixels."""
LASTS = 24
"""Half of all errors last so many frames, a second of film; the others one frame."""
SCALE = 100.0
"""exp(logit_scale) of the published CLIPs."""
AXES = 256
"""Axes of the simulated feature space that texts lie along; one more takes what is left over."""
BACKGROUND_WORDS = 23
"""So many words that name no object share what the object's text does not get."""


@dataclass(frozen=True)
class Noise:
    """How far the simulated networks are from the truth. Fields vary smoothly over some patches."""

    blur: float
    """Standard deviation of the CAM's blur, patches."""
    uneven: float
    """Standard deviation of the CAM's strength within the object, as a share of it."""
    leak: float
    """Standard deviation of what leaks into the object's surroundings, as a share of the peak."""
    missed: float
    """Share of frames whose CAM has nothing of the object."""
    elsewhere: float
    """Share of frames whose CAM has its peak in a wrong place."""
    score: float
    """Standard deviation of a text's logit, beside what follows from the IoU."""


LEVELS = {
    "mild": Noise(0.85, 0.28, 0.18, 0.07, 0.11, 0.9),
    "strong": Noise(1.1, 0.40, 0.30, 0.25, 0.35, 1.6),
}
LOGIT_SLOPE, LOGIT_MIDDLE = 8.0, 0.35
"""A mask's logit against all background words together: slope · (IoU - middle)."""
SMOOTH = 2.0
"""Standard deviation of the blur that makes a random field smooth, patches."""
NEAR = 3.0
"""How far around an object its CAM leaks, patches."""


@dataclass(frozen=True)
class Clip:
    """One video of a DAVIS tree."""

    name: str
    images: tuple[NDArray[np.uint8], ...]
    """T frames, uint8 (H, W, 3) RGB."""
    labels: tuple[NDArray[np.uint8], ...]
    """T truths, uint8 (H, W)."""

    @property
    def objects(self) -> int:
        return int(max(each[each < 255].max(initial=0) for each in self.labels))


def read_clip(data: Path, name: str) -> Clip:
    """Read the frames of a video that have a truth."""
    paths = sorted((data / "Annotations" / "480p" / name).glob("*.png"))
    pictures = data / "JPEGImages" / "480p" / name
    images = (Image.open(pictures / f"{path.stem}.jpg").convert("RGB") for path in paths)
    return Clip(name, tuple(map(np.array, images)), tuple(map(read_label_png, paths)))


def text_of(label: int) -> str:
    return f"object {label}"


def label_of(text: str) -> int | None:
    """The object that a text names, within whatever template; None for any other text."""
    found = re.search(r"\bobject (\d+)", text)
    return int(found[1]) if found else None


class Truth:
    """A clip and its noise: what both simulated networks see of it."""

    def __init__(self, clip: Clip, noise: Noise, seed: int) -> None:
        self.clip, self.noise, self.seed = clip, noise, seed
        self.index = 0
        """The frame that was encoded last."""
        self._index_of = {_print(image): index for index, image in enumerate(clip.images)}
        grid_hw = tuple(-(-side // PATCH) for side in clip.labels[0].shape)
        self._errors = {
            label: _Errors.draw(self._rng(label), noise, len(clip.images), grid_hw)
            for label in range(1, clip.objects + 1)
        }

    def see(self, image: NDArray[np.uint8]) -> int:
        """Make `image` the current frame; return its index."""
        self.index = self._index_of[_print(image)]
        return self.index

    def mask(self, label: int) -> NDArray[np.bool_]:
        """The truth of an object in the current frame, bool (H, W)."""
        return self.clip.labels[self.index] == label

    def cam(self, label: int) -> NDArray[np.float32]:
        """The object's CAM in the current frame, float32 (h, w) ≥ 0."""
        return self._errors[label].cam(self.mask(label), self.index, self.noise)

    def logit(self, label: int, mask: NDArray[np.bool_]) -> float:
        """What a shown mask, bool (H, W), says for an object's text, over all other words."""
        overlap = jaccard(mask, self.mask(label)) if mask.any() else 0.0
        error = self._errors[label].logit(mask, self.index)
        return LOGIT_SLOPE * (overlap - LOGIT_MIDDLE) + self.noise.score * error

    def _rng(self, label: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(self.clip.name.encode()), label])


@dataclass(frozen=True)
class _Errors:
    """All that goes wrong with one object, for T frames; half of it lasts."""

    strength: NDArray[np.float32]
    """float32 (T, h, w): a field of unit variance that moves with the object."""
    leak: NDArray[np.float32]
    """float32 (T, h, w): a field of unit variance that stands still."""
    missed: NDArray[np.bool_]
    """bool (T,)."""
    elsewhere: NDArray[np.bool_]
    """bool (T,)."""
    place: NDArray[np.float64]
    """float64 (T, 2): where the wrong place is, y and x in [0, 1]."""
    score: NDArray[np.float64]
    """float64 (T,): error of the logit of all masks of a frame, of unit variance."""
    score_waves: NDArray[np.float64]
    """float64 (T, W): phases of the waves that make the error of a mask's logit."""
    wave_vectors: NDArray[np.float64]
    """float64 (W, 4): their directions in the space of centre and extent."""

    @classmethod
    def draw(
        cls, rng: np.random.Generator, noise: Noise, count: int, grid_hw: tuple[int, ...]
    ) -> _Errors:
        waves = 16
        return cls(
            strength=_fields(rng, count, grid_hw),
            leak=_fields(rng, count, grid_hw),
            missed=_happens(rng, count, noise.missed),
            elsewhere=_happens(rng, count, noise.elsewhere),
            place=np.repeat(rng.uniform(0.1, 0.9, (count, 2)), LASTS, axis=0)[:count],
            score=_series(rng, (count, 1))[:, 0],
            score_waves=2 * np.pi * np.cumsum(0.25 * rng.standard_normal((count, waves)), axis=0)
            / LASTS**0.5 + rng.uniform(0, 2 * np.pi, waves),
            wave_vectors=rng.normal(0, 12, (waves, 4)),
        )  # fmt: skip

    def cam(self, mask: NDArray[np.bool_], t: int, noise: Noise) -> NDArray[np.float32]:
        height, width = self.leak.shape[1:]
        truth = _patches(mask, (height, width))
        center = _center(truth)
        shift = np.float32([[1, 0, center[1] - width / 2], [0, 1, center[0] - height / 2]])
        strength = cv2.warpAffine(
            self.strength[t], shift, (width, height), borderMode=cv2.BORDER_WRAP
        )
        cam = cv2.GaussianBlur(truth, (0, 0), noise.blur)
        cam *= np.clip(1 + noise.uneven * strength, 0.1, None)
        peak = float(cam.max())
        near = cv2.GaussianBlur(truth, (0, 0), NEAR)
        near /= max(float(near.max()), 1e-6)
        cam += np.clip(noise.leak * self.leak[t], 0, None) * peak * near
        if self.missed[t]:
            cam *= 0
        if self.elsewhere[t]:
            cam = 0.7 * cam + self._blob(truth, t) * (peak or 1)
        return np.asarray(cam, np.float32)

    def _blob(self, truth: NDArray[np.float32], t: int) -> NDArray[np.float32]:
        """A CAM in a wrong place, as large as the object, float32 (h, w) in [0, 1]."""
        height, width = truth.shape
        size = max(1.0, 0.4 * float(truth.sum()) ** 0.5)
        y, x = self.place[t] * truth.shape
        rows, columns = np.arange(height) + 0.5 - y, np.arange(width) + 0.5 - x
        away = np.add.outer(np.square(rows), np.square(columns)) / size**2
        blob = np.exp(-np.square(away) / 2) * np.clip(1 + 0.25 * self.leak[t], 0.3, None)
        return np.asarray(blob, np.float32)

    def logit(self, mask: NDArray[np.bool_], t: int) -> float:
        """Error of a mask's logit, of unit variance: alike for masks that are alike."""
        x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
        frame_h, frame_w = mask.shape
        place = np.array(
            [(x + width / 2) / frame_w, (y + height / 2) / frame_h, width / frame_w,
             height / frame_h]
        )  # fmt: skip
        waves = np.cos(self.wave_vectors @ place + self.score_waves[t])
        own = float(waves.sum() * (2 / len(waves)) ** 0.5)
        return (own + float(self.score[t])) / 2**0.5


def _happens(rng: np.random.Generator, count: int, share: float) -> NDArray[np.bool_]:
    """In which of T frames something goes wrong, bool (T,): a share of them, half of which comes
    in runs of `LASTS` frames."""
    each = 1 - (1 - share) ** 0.5
    start = int(rng.integers(LASTS))
    runs = np.repeat(rng.random(count // LASTS + 2) < each, LASTS)[start : start + count]
    return np.asarray(runs | (rng.random(count) < each), bool)


def _series(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Random numbers of unit variance along time, the first axis: half of the variance fades with
    a time constant of `LASTS` frames (an AR(1) process), the rest is independent."""
    past = float(np.exp(-1 / LASTS))
    slow, fast = rng.standard_normal(shape), rng.standard_normal(shape)
    for t in range(1, shape[0]):
        slow[t] = past * slow[t - 1] + (1 - past**2) ** 0.5 * slow[t]
    return np.asarray((slow + fast) / 2**0.5, np.float64)


def _fields(rng: np.random.Generator, count: int, grid_hw: tuple[int, ...]) -> NDArray[np.float32]:
    """T random fields, smooth in space, of unit variance: float32 (T, h, w)."""
    fields = _series(rng, (count, *grid_hw)).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(field, (0, 0), SMOOTH) for field in fields])
    return np.asarray(smooth * np.float32(2 * np.pi**0.5 * SMOOTH))


def _patches(mask: NDArray[np.bool_], grid_hw: tuple[int, int]) -> NDArray[np.float32]:
    """A mask's share of each patch, float32 (h, w) in [0, 1]."""
    scaled = cv2.resize(mask.astype(np.float32), grid_hw[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(scaled, np.float32)


def _center(truth: NDArray[np.float32]) -> tuple[float, float]:
    """Row and column of the centre of mass; the grid's centre if there is none."""
    total = float(truth.sum())
    if not total:
        return truth.shape[0] / 2, truth.shape[1] / 2
    rows, columns = np.arange(truth.shape[0]), np.arange(truth.shape[1])
    return float(rows @ truth.sum(axis=1) / total), float(truth.sum(axis=0) @ columns / total)


class SimulatedBackbone:
    """What is left of a CLIP: texts lie along axes, one for each object, the others by name."""

    patch_size, image_size, logit_scale = PATCH, 224, SCALE
    device, dtype, name = torch.device("cpu"), torch.float32, "simulated"

    def __init__(self) -> None:
        self.counts = {"patches": 0, "images": 0, "texts": 0}

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit features, float32 (S, D)."""
        features = torch.zeros(len(texts), AXES + 1)
        features[range(len(texts)), [self.axis(text) for text in texts]] = 1
        return features

    @staticmethod
    def axis(text: str) -> int:
        label = label_of(text)
        half = AXES // 2
        return half + zlib.crc32(text.encode()) % half if label is None else label % half


class SimulatedGenerator(ProposalGenerator):
    """Proposals from CAMs that are made of the truth."""

    def __init__(self, truth: Truth, backbone: SimulatedBackbone, config: Config) -> None:
        super().__init__(cast(ClipBackbone, backbone), config.proposals, competing=False)
        self._truth = truth

    def encode(self, image: NDArray[np.uint8]) -> Any:
        """Notice which frame it is."""
        self.backbone.counts["patches"] += 1
        return self._truth.see(image)

    def propose(
        self, frame: Any, texts: Sequence[str], size_hw: tuple[int, int], **bare: Sequence[str]
    ) -> Proposals:
        """Return the proposals of `texts`; of a text that names no object, zeros."""
        labels = [label_of(text) for text in texts]
        empty = np.zeros_like(self._truth.cam(1))
        maps = [empty if label is None else self._truth.cam(label) for label in labels]
        cams = min_max(np.stack(maps))
        boxes = tuple(affinity_boxes(cam, self.config.lambda_) for cam in cams)
        nothing = np.zeros(len(cams), bool)
        return Proposals(cams, nothing, boxes, cams, to_masks(cams, size_hw))


class SimulatedClassifier(MaskClassifier):
    """Features that agree with a text as far as the mask agrees with the truth."""

    def __init__(self, truth: Truth, backbone: SimulatedBackbone, config: Config) -> None:
        super().__init__(cast(ClipBackbone, backbone), config.classifier)
        self._truth = truth

    def encode(
        self, images: Sequence[NDArray[np.uint8]], masks: NDArray[np.bool_], *scales: object
    ) -> Tensor:
        """Return unit features, float32 (B, D), of the masks, bool (B, H, W)."""
        self.backbone.counts["images"] += len(masks)
        return torch.stack([self._feature(mask) for mask in masks])

    def _feature(self, mask: NDArray[np.bool_]) -> Tensor:
        size_hw = self._truth.clip.labels[0].shape
        if mask.shape != size_hw:
            levels = mask.astype(np.uint8)
            mask = cv2.resize(levels, size_hw[::-1], interpolation=cv2.INTER_NEAREST) > 0
        feature = torch.zeros(AXES + 1)
        for label in range(1, self._truth.clip.objects + 1):
            logit = self._truth.logit(label, mask) + np.log(BACKGROUND_WORDS)
            feature[SimulatedBackbone.axis(text_of(label))] = logit / SCALE
        feature[-1] = (1 - feature.square().sum()).sqrt()
        return feature


def simulate(clip: Clip, noise: Noise, seed: int, config: Config) -> carvid.Carvid:
    """Return carvid with simulated networks, which know this clip only."""
    backbone = SimulatedBackbone()
    truth, networks = Truth(clip, noise, seed), cast(ClipBackbone, backbone)
    model = carvid.Carvid(config, networks, networks)
    model.segmenter.generator = SimulatedGenerator(truth, backbone, config)
    model.segmenter.classifier = SimulatedClassifier(truth, backbone, config)
    return model


def _print(image: NDArray[np.uint8]) -> int:
    """A number that tells images apart."""
    return zlib.crc32(np.ascontiguousarray(image))


@dataclass(frozen=True)
class Outcome:
    """One variant at one level and seed on one video."""

    video: str
    variant: str
    level: str
    seed: int
    scores: tuple[tuple[float, float], ...]
    """J and F of each object, the first and the last frame left out as DAVIS does."""
    frames: int
    key_frames: int
    """Passes of the generator."""
    views: int
    """Passes of the classifier."""


@dataclass(frozen=True)
class Task:
    """All that is done with one video, so that its flow is computed once."""

    data: Path
    video: str
    preset: str
    variants: tuple[tuple[str, tuple[str, ...]], ...]
    """Name and settings of each."""
    levels: tuple[str, ...]
    seeds: tuple[int, ...]


def measure_video(task: Task) -> list[Outcome]:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    clip = read_clip(task.data, task.video)
    plain = carvid.temporal.seen.flow_between
    carvid.temporal.seen.flow_between = remembering(plain)  # it depends on the frames alone
    try:
        return [
            measure(clip, load_config(task.preset, overrides), name, level, seed)
            for level in task.levels
            for seed in task.seeds
            for name, overrides in task.variants
        ]
    finally:
        carvid.temporal.seen.flow_between = plain


def measure(clip: Clip, config: Config, variant: str, level: str, seed: int) -> Outcome:
    model = simulate(clip, LEVELS[level], seed, config)
    texts = [text_of(label) for label in range(1, clip.objects + 1)]
    found = [result.labels() for result in model.offline(clip.images, texts)]
    pairs = list(zip(found, clip.labels, strict=True))[1:-1]
    scores = [
        np.mean([mask_scores(labels == k, truth == k) for labels, truth in pairs], axis=0)
        for k in range(1, clip.objects + 1)
    ]
    counts = model.backbones[0].counts
    return Outcome(
        clip.name, variant, level, seed, tuple((float(j), float(f)) for j, f in scores),
        len(found), counts["patches"], counts["images"],
    )  # fmt: skip


def remembering(compute: Callable[..., Any]) -> Callable[..., Any]:
    """A function of arrays and plain values that computes each result once."""
    known: dict[tuple[Any, ...], Any] = {}

    def remember(*values: Any) -> Any:
        key = tuple(_print(each) if isinstance(each, np.ndarray) else each for each in values)
        if key not in known:
            known[key] = compute(*values)
        return known[key]

    return remember


def measure_all(tasks: Sequence[Task], workers: int) -> list[Outcome]:
    """Return the outcomes of all videos."""
    bar = partial(tqdm, total=len(tasks), unit="video", leave=False)
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        return [each for found in bar(pool.map(measure_video, tasks)) for each in found]


HEAD = (
    "| variant | noise | J | F | J&F | of offline | frames a key frame | views a frame |\n"
    "|-|-|-|-|-|-|-|-|"
)


def rows(outcomes: Sequence[Outcome]) -> list[str]:
    """A line for each variant and level, of the mean over objects and seeds, and how far that is
    from `offline`, in points of J&F with its standard error over the videos."""
    lines = []
    for level in dict.fromkeys(each.level for each in outcomes):
        for variant in dict.fromkeys(each.variant for each in outcomes):
            mine = [each for each in outcomes if (each.level, each.variant) == (level, variant)]
            base = [each for each in outcomes if (each.level, each.variant) == (level, "offline")]
            j, f = 100 * np.mean([pair for each in mine for pair in each.scores], axis=0)
            frames = sum(each.frames for each in mine)
            lines.append(
                f"| {variant} | {level} | {j:.1f} | {f:.1f} | {(j + f) / 2:.1f} | "
                f"{_difference(mine, base)} | "
                f"{frames / sum(each.key_frames for each in mine):.1f} | "
                f"{sum(each.views for each in mine) / frames:.2f} |"
            )
    return lines


def _difference(mine: Sequence[Outcome], base: Sequence[Outcome]) -> str:
    if not base or mine[0].variant == "offline":
        return ""
    videos = sorted({each.video for each in mine})
    gains = [
        _jf([o for o in mine if o.video == video]) - _jf([o for o in base if o.video == video])
        for video in videos
    ]
    error = float(np.std(gains, ddof=1)) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
    return f"{_jf(mine) - _jf(base):+.1f} ± {error:.1f}"


def _jf(outcomes: Sequence[Outcome]) -> float:
    """J&F, percent, of the objects."""
    return 100 * float(np.mean([pair for each in outcomes for pair in each.scores]))


def video_rows(outcomes: Sequence[Outcome]) -> list[str]:
    """A table of J&F: a line for each video, a column for each variant and level."""
    columns = list(dict.fromkeys((each.variant, each.level) for each in outcomes))
    lines = ["| video | " + " | ".join(f"{a}, {b}" for a, b in columns) + " |"]
    lines.append("|-" * (len(columns) + 1) + "|")
    for video in dict.fromkeys(each.video for each in outcomes):
        here = [each for each in outcomes if each.video == video]
        cells = (
            f"{_jf([o for o in here if (o.variant, o.level) == column]):.1f}" for column in columns
        )
        lines.append(f"| {video} | " + " | ".join(cells) + " |")
    return lines
