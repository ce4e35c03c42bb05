"""Drawn benchmarks: what the readers read is what was drawn, to the pixel, and a seed is enough."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from carvid.base.errors import ConfigError
from carvid.datasets.class_lists import class_list
from carvid.datasets.open_referring import open_referring
from carvid.datasets.open_semantic import open_semantic
from carvid.datasets.semantic_dataset import VOID
from carvid.demo.benchmark_trees import (
    LAYOUTS,
    colorful_nouns,
    drawn_nouns,
    label_of_noun,
    run_lengths,
    sentences,
    truth_of,
    write_benchmark,
)
from carvid.demo.pictures import HUES, NOUNS
from carvid.demo.stills import StillSpec, draw_still, shipped_sprites

SIDE = 96
SPRITES = shipped_sprites()


def files_of(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*")) if path.is_file()
    }  # fmt: skip


def test_drawings_are_of_known_things() -> None:
    assert set(SPRITES) <= set(NOUNS) and len(SPRITES) == 25
    for drawings in SPRITES.values():
        (drawing,) = drawings
        assert drawing.dtype == np.uint8 and max(drawing.shape[:2]) == 128
        shown = drawing[..., 3] > 128
        assert 0.1 < shown.mean() < 1


def test_thirteen_of_vocs_classes_are_drawn() -> None:
    classes = class_list("voc")
    labels = {label_of_noun(noun, classes) for noun in drawn_nouns(classes, SPRITES)}
    absent = {"bottle", "chair", "diningtable", "person", "pottedplant", "sofa", "tvmonitor"}
    assert {name for k, name in enumerate(classes.names, 1) if k not in labels} == absent


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_readers_read_what_was_drawn(name: str, tmp_path: Path) -> None:
    write_benchmark(name, tmp_path, images=4, seed=3, side=SIDE)
    data, layout = open_semantic(name, tmp_path), LAYOUTS[name]
    nouns = drawn_nouns(data.classes, SPRITES)
    assert len(data.images) == 4
    seen = 0
    for seed, image in zip(range(3, 7), data.images, strict=True):
        assert image.name == layout.names.format(seed)
        still = draw_still(StillSpec(seed, nouns, side=SIDE), SPRITES)
        truth = data.truth(image)
        assert (truth == truth_of(still, data.classes, grounds=layout.grounds)).all()
        for k, thing in enumerate(still.things, 1):
            label = label_of_noun(thing.noun, data.classes)
            assert data.classes.names[label - 1] and (truth[still.labels == k] == label).all()
            seen += int((still.labels == k).sum())
        assert (truth[still.labels == 0] == 0).all() or layout.grounds
        assert np.abs(data.picture(image).astype(int) - still.image).mean() < 6  # JPEG
    assert seen > 1000


def test_grounds_are_stuff(tmp_path: Path) -> None:
    write_benchmark("context60", tmp_path, images=6, side=SIDE)
    data = open_semantic("context60", tmp_path)
    labels = set(np.unique(np.concatenate([data.truth(each).ravel() for each in data.images])))
    names = {data.classes.names[k - 1] for k in labels - {0}}
    stuff = {data.classes.names[k] for k in data.classes.stuff}
    assert len(names & stuff) >= 3 and len(names - stuff) >= 5


def test_void_is_around_the_edges_alone(tmp_path: Path) -> None:
    write_benchmark("voc21", tmp_path / "void", images=2, side=SIDE, void_px=1)
    write_benchmark("voc21", tmp_path / "exact", images=2, side=SIDE)
    void, exact = (open_semantic("voc21", tmp_path / name) for name in ("void", "exact"))
    for one, other in zip(void.images, exact.images, strict=True):
        truth, plain = void.truth(one), exact.truth(other).astype(np.uint8)
        around = np.ones((3, 3), np.uint8)
        edge = cv2.dilate(plain, around) != cv2.erode(plain, around)
        assert (truth[edge] == VOID).all() and 0 < (truth == VOID).mean() < 0.25
        assert (truth[truth != VOID] == plain[truth != VOID]).all()


@pytest.mark.parametrize("name", ["voc21", "refcoco"])
def test_a_tree_is_its_seed(name: str, tmp_path: Path) -> None:
    for folder, seed in (("one", 0), ("same", 0), ("other", 1)):
        write_benchmark(name, tmp_path / folder, images=2, seed=seed, side=SIDE)
    one, same, other = (files_of(tmp_path / folder) for folder in ("one", "same", "other"))
    assert one == same
    shared = set(one) & set(other)
    assert shared and one != other


def test_images_of_one_seed_do_not_hang_on_how_many_there_are(tmp_path: Path) -> None:
    write_benchmark("coco-object", tmp_path / "two", images=2, side=SIDE)
    write_benchmark("coco-object", tmp_path / "three", images=3, side=SIDE)
    two, three = files_of(tmp_path / "two"), files_of(tmp_path / "three")
    assert len(two) == 4 and two.items() <= three.items()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_run_lengths_are_cocos() -> None:
    tools = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    corners = [np.ones((3, 4), bool), np.zeros((3, 4), bool), rng.random((5, 7)) < 0.4]
    for mask in corners:
        lengths = run_lengths(mask)
        assert sum(lengths["counts"]) == mask.size
        assert (tools.decode(tools.frPyObjects(lengths, *mask.shape)) == mask).all()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_refcoco_is_read_as_drawn(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    write_benchmark("refcoco", tmp_path, images=3, seed=5, side=SIDE)
    data = open_referring("refcoco", tmp_path)
    assert len({sample.image for sample in data.samples}) == 3
    nouns = colorful_nouns(SPRITES)
    samples = iter(data.samples)
    for seed in range(5, 8):
        still = draw_still(StillSpec(seed, nouns, side=SIDE, colors=tuple(HUES)), SPRITES)
        for k, texts in enumerate(sentences(still), 1):
            sample = next(samples)
            assert sample.sentences == texts
            assert (data.truth(sample) == (still.labels == k)).all()
            assert (data.whole_truth(sample) == (still.labels == k)).all()


def test_sentences_tell_two_of_a_kind_apart() -> None:
    for seed in range(8):
        still = draw_still(
            StillSpec(seed, ("car", "bus", "dog"), side=SIDE, colors=tuple(HUES)), SPRITES
        )
        first, second, *others = still.things
        assert first.noun == second.noun and first.color != second.color
        assert all(thing.color is None and thing.noun != first.noun for thing in others)
        told = list(sentences(still))
        assert len({text for texts in told for text in texts}) == 3 * len(still.things)


def test_an_unknown_layout_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no drawn benchmark 'voc'"):
        write_benchmark("voc", tmp_path)
