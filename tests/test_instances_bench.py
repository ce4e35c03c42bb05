"""tools/instances_bench.py: its scores by hand, its simulated networks, its drawn clips."""

import sys
from pathlib import Path

import numpy as np
import pytest

from carvid.demo.pictures import NOUNS
from carvid.media.label_png import read_label_png

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

import group_simulation
import instances_bench
import real_bench
from instance_scenes import KINDS, InstancesTask, make_instances
from instance_scores import row, score_clip

SIZE_HW = (60, 100)


def square(left: int, side: int = 20) -> np.ndarray:
    mask = np.zeros(SIZE_HW, bool)
    mask[10 : 10 + side, left : left + side] = True
    return mask


def test_scores_by_hand() -> None:
    truth = np.stack([square(0), square(60)])
    frames = [
        {1: square(0), 2: square(60)},
        {1: square(0)},  # one is missed
        {1: square(60), 2: square(5)},  # both under the other's label, one with an IoU of 0.6
        {3: square(0), 1: square(60), 9: square(30)},  # one too many, and a new label
    ]
    score = score_clip(frames, [truth] * 4)
    assert (score.right, score.frames, score.missed) == (2, 4, 1)
    assert score.switches == 3 and score.labels == 4 and score.things == 2
    assert sorted(score.j)[0] == pytest.approx(0.6) and len(score.j) == 7
    assert row("all", [score]).startswith("| all | 50% | 75.00 | 94.3 | 12% | 2.00 |")


def test_what_is_hardly_to_be_seen_may_be_found_or_not() -> None:
    truth = np.stack([square(0), square(60, side=4)])  # 16 of 6000 pixels
    both, one = {1: square(0), 2: square(60, side=4)}, {1: square(0)}
    score = score_clip([both, one, {}], [truth] * 3)
    assert (score.right, score.missed, score.switches) == (2, 1, 0)


def test_a_group_has_one_cam_and_counts_as_one_or_all(tmp_path: Path) -> None:
    labels = np.zeros((96, 160), np.uint8)
    labels[30:70, 10:50], labels[30:70, 100:140], labels[80:90, 70:90] = 1, 2, 3
    images = tuple(np.full((96, 160, 3), k, np.uint8) for k in range(2))
    clip = real_bench.Clip("group", images, (labels,) * 2)
    quiet = real_bench.Noise(0.5, 0.0, 0.0, 0.0, 0.0, 0.0)
    config = real_bench.load_config("default", [])
    model = group_simulation.simulate_group(clip, quiet, 1, config, (1, 2))
    generator, text = model.segmenter.generator, "a clean origami objects 1 2."
    assert group_simulation.labels_of(text) == (1, 2)
    mask = generator.propose(generator.encode(images[0]), [text], (96, 160)).masks[0] > 0.5
    assert mask[50, 30] and mask[50, 120] and not mask[85, 80]
    classifier = model.segmenter.classifier
    shown = np.stack([labels == 1, labels == 2, labels % 3 > 0, labels == 3])
    features = classifier.encode([], shown)
    logits = 100 * features @ model.backbones[0].encode_texts([text]).T
    assert (logits[:3] > 3).all() and logits[3] < 3


@pytest.mark.parametrize("kind", KINDS)
def test_drawn_clips_have_so_many_of_a_kind(kind: str) -> None:
    sprite = np.full((20, 20, 4), 200, np.uint8)
    sprites = {noun: [sprite, sprite // 2] for noun in NOUNS}
    for seed in (0, 1, 2):
        task = InstancesTask(seed, kind)
        scene, text, other = make_instances(task, sprites)
        _, truth = scene.frame(0)
        seen = set(np.unique(truth)) - {0, task.count + 1}
        assert task.count == 2 + seed and seen == set(range(1, task.count + 1))
        assert {thing.noun for thing in scene.things[: task.count]} == {text.removeprefix("the ")}
        assert other != text


def test_dogs_of_davis_are_found_by_their_simulated_name(shared: Path) -> None:
    data = shared / "data/davis-mini"
    labels = read_label_png(data / "Annotations/480p/dogs-jump/00000.png")
    assert {1, 2} <= set(np.unique(labels))
    clip = real_bench.read_clip(data, "dogs-jump")
    short = real_bench.Clip(clip.name, clip.images[:5], clip.labels[:5])
    config = real_bench.load_config("default", ["crf.iterations=2"])
    quiet = real_bench.Noise(0.5, 0.1, 0.0, 0.0, 0.0, 0.1)
    model = group_simulation.simulate_group(short, quiet, 1, config, (1, 2))
    found = instances_bench.find(model, short.images, "objects 1 2")
    assert [sorted(frame) for frame in found] == [[1, 2]] * 5
