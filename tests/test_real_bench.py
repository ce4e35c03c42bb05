"""tools/real_bench.py on a drawn DAVIS tree: the simulated networks, and what looking back does."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from carvid.config import Config, load_config
from carvid.evaluation.regions import jaccard
from carvid.media.label_png import write_label_png

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

import frame_bench
import real_bench

SIZE_HW = (96, 160)
FRAMES = 26
QUIET = real_bench.Noise(0.5, 0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> real_bench.Clip:
    """A textured disk that drifts over a textured ground, read from a DAVIS tree."""
    data = tmp_path_factory.mktemp("davis")
    rng = np.random.default_rng(0)
    ground, skin = (
        cv2.GaussianBlur(rng.integers(0, 256, (*SIZE_HW, 3)).astype(np.uint8), (0, 0), 1.5)
        for _ in range(2)
    )
    skin = skin // 2 + np.uint8([120, 0, 0])
    for t in range(FRAMES):
        inside = np.zeros(SIZE_HW, np.uint8)
        cv2.circle(inside, (50 + 2 * t, 50), 24, 1, -1)
        image = np.where(inside[..., None] > 0, np.roll(skin, 2 * t, axis=1), ground)
        for kind in ("JPEGImages", "Annotations"):
            (data / kind / "480p" / "disk").mkdir(parents=True, exist_ok=True)
        picture = data / "JPEGImages" / "480p" / "disk" / f"{t:05d}.jpg"
        Image.fromarray(image).save(picture, quality=95)
        write_label_png(data / "Annotations" / "480p" / "disk" / f"{t:05d}.png", inside)
    return real_bench.read_clip(data, "disk")


def config(*overrides: str) -> Config:
    return load_config("default", ["crf.iterations=2", "temporal.cut_trust=0", *overrides])


def test_the_noise_follows_from_seed_video_object_and_frame_alone(clip: real_bench.Clip) -> None:
    noise = real_bench.LEVELS["strong"]
    forth, back, other = (real_bench.Truth(clip, noise, seed) for seed in (1, 1, 2))
    mask = clip.labels[7] == 1
    seen: list[tuple[np.ndarray, float]] = []
    for truth, order in ((forth, (3, 7)), (back, (7,)), (other, (7,))):
        for index in order:
            truth.see(clip.images[index])
        seen.append((truth.cam(1), truth.logit(1, mask)))
    assert (seen[0][0] == seen[1][0]).all()
    assert seen[0][1] == seen[1][1]
    assert (seen[0][0] != seen[2][0]).any()
    assert seen[0][1] != seen[2][1]


def test_without_noise_scores_follow_the_overlap(clip: real_bench.Clip) -> None:
    model = real_bench.simulate(clip, QUIET, 1, config())
    found = model.segment_image(clip.images[0], ["object 1"])
    assert jaccard(found.masks[0], clip.labels[0] == 1) > 0.8
    truth = real_bench.Truth(clip, QUIET, 1)
    truth.see(clip.images[0])
    right = clip.labels[0] == 1
    logits = [truth.logit(1, np.roll(right, shift, axis=1)) for shift in (0, 10, 20, 60)]
    assert logits == sorted(logits, reverse=True)
    assert logits[0] > 0 > logits[-1]


def test_half_of_all_errors_last() -> None:
    happens = real_bench._happens(np.random.default_rng(0), 100_000, 0.3)
    assert happens.mean() == pytest.approx(0.3, abs=0.02)
    after_one = happens[1:][happens[:-1]].mean()
    long_after = happens[200:][happens[:-200]].mean()
    assert after_one > 0.6
    assert long_after == pytest.approx(0.3, abs=0.03)


def missing_at(model: object, frames: range) -> None:
    """Make the simulated CLIP overlook the object in some frames."""
    truth = model.segmenter.generator._truth  # type: ignore[attr-defined]
    truth._errors[1].missed[list(frames)] = True


def test_what_is_overlooked_at_first_is_found_by_looking_back(clip: real_bench.Clip) -> None:
    model = real_bench.simulate(clip, QUIET, 1, config("temporal.key_every=5"))
    missing_at(model, range(12))  # the key frames 0, 5 and 10
    results = list(model.offline(clip.images, ["object 1"]))
    ious = [
        jaccard(result.masks[0], labels == 1)
        for result, labels in zip(results, clip.labels, strict=True)
    ]
    assert min(ious) > 0.6
    causal = list(model.stream(clip.images[:12], ["object 1"]))
    assert not any(result.masks.any() for result in causal)


def test_along_time_is_better_than_frame_by_frame(clip: real_bench.Clip) -> None:
    outcomes = {
        name: real_bench.measure(clip, config(*real_bench.VARIANTS[name]), name, "strong", 3)
        for name in ("per-frame CaR", "offline")
    }
    assert outcomes["per-frame CaR"].key_frames == FRAMES
    assert outcomes["offline"].key_frames < FRAMES / 2
    lines = real_bench.rows(list(outcomes.values()))
    j_f = [float(line.split("|")[5]) for line in lines]
    assert j_f[1] > j_f[0] + 5


def test_the_second_time_nothing_is_simulated_anew(clip: real_bench.Clip) -> None:
    few = frame_bench.with_copies(real_bench.Clip("disk", clip.images[:6], clip.labels[:6]), 3)
    assert few.objects == 3
    areas = [np.count_nonzero(few.labels[0] == k) for k in (1, 2, 3)]
    assert areas[0] == np.count_nonzero(clip.labels[0]) and min(areas) > areas[0] / 3
    speed = frame_bench.measure(few, config(), "mild", 1, repeats=1)
    assert speed.frames == 6 and 0 < speed.key_frames < 6
    assert {"flow", "cuts"} < set(speed.behind_ms) and {"CRF", "correcting"} < set(speed.parts_ms)
    line = json.loads(frame_bench.row("disk", 3, speed))
    assert line["objects"] == 3 and line["ms"] == pytest.approx(1000 / speed.frames_per_s, abs=0.1)
