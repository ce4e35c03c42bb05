"""Drawn scenes: seeded, exact, readable as a data set; and the example that carvid comes with."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from carvid.base.errors import DatasetError
from carvid.benchmark.predict import predict
from carvid.cli import app
from carvid.datasets.open import open_dataset
from carvid.datasets.truth import UNSUPERVISED, open_truth
from carvid.demo import example, pictures
from carvid.demo.example import NAME, TEXT, example_folder, example_scene, score
from carvid.demo.scenes import EVENTS, Scene, SceneSpec, make_scene
from carvid.demo.write import four_texts, write_clip, write_ref_davis
from carvid.evaluation.protocols import evaluate
from carvid.media.label_png import read_label_png
from carvid.media.open import open_video
from carvid.run.track import Track
from tests import HANGS_S
from tests.test_notebooks import write_short_example

ROOT = Path(__file__).parent.parent
SMALL = SceneSpec(5, frames=48, size_hw=(90, 160))


@pytest.fixture(scope="module")
def sprites() -> dict[str, list[pictures.Image]]:
    """A filled ellipse for each noun, in a colour of its own."""
    rng = np.random.default_rng(1)
    drawn: dict[str, list[pictures.Image]] = {}
    for noun in pictures.NOUNS:
        sprite = np.zeros((40, 50, 4), np.uint8)
        color = [int(c) for c in rng.integers(30, 256, 3)]
        cv2.ellipse(sprite, (25, 20), (24, 19), 0, 0, 360, (*color, 255), -1)
        drawn[noun] = [sprite]
    return drawn


def visible(scene: Scene, label: int) -> list[bool]:
    return [bool((labels == label).any()) for _, labels in scene.frames()]


def test_a_scene_is_a_number(sprites: dict[str, list[pictures.Image]]) -> None:
    spec = replace(SMALL, events=EVENTS)
    one, same = make_scene(spec, sprites), make_scene(spec, sprites)
    other = make_scene(replace(spec, seed=6), sprites)
    assert one.texts == same.texts and one.absent == same.absent
    for index in (0, 20, 47):
        for a, b in zip(one.frame(index), same.frame(index), strict=True):
            assert (a == b).all()
    assert (one.frame(0)[0] != other.frame(0)[0]).any()


def test_events_are_drawn_by_the_seed() -> None:
    drawn = [SceneSpec(seed).with_some_events(0.4).events for seed in range(200)]
    assert drawn == [SceneSpec(seed).with_some_events(0.4).events for seed in range(200)]
    share = np.mean([[event in events for event in EVENTS] for events in drawn], axis=0)
    assert (abs(share - 0.4) < 0.12).all()
    with pytest.raises(ValueError, match="unknown events"):
        SceneSpec(0, events=("rain",))


def test_labels_are_where_the_colors_are(sprites: dict[str, list[pictures.Image]]) -> None:
    scene = make_scene(SMALL, sprites)
    looked_at = 0
    for index in (0, 13, 40):
        image, labels = scene.frame(index)
        assert set(np.unique(labels)) <= set(range(len(scene.things) + 1))
        for label, thing in enumerate(scene.things, 1):
            inner = (
                cv2.erode((labels == label).astype(np.uint8), np.ones((7, 7))) > 0
            )  # no soft edges
            color = sprites[thing.noun][0][20, 25, :3]
            looked_at += np.count_nonzero(inner)
            assert np.abs(image[inner].astype(int) - color).max(initial=0) <= 2
    assert looked_at > 1000


def test_leaving_and_returning(sprites: dict[str, list[pictures.Image]]) -> None:
    scene = make_scene(replace(SMALL, events=("leave",)), sprites)
    gone = [k for k, course in enumerate(scene.shots[0].courses, 1) if course.away is not None]
    assert len(gone) == 1
    away = scene.shots[0].courses[gone[0] - 1].away
    assert away is not None
    seen = visible(scene, gone[0])
    assert not any(seen[away[0] : away[1]])
    assert seen[0] and seen[-1]


def test_a_cut_changes_the_place_and_leaves_one_behind(
    sprites: dict[str, list[pictures.Image]],
) -> None:
    scene = make_scene(replace(SMALL, events=("cut",)), sprites)
    cut = scene.shots[1].start
    missing = [k for k, course in enumerate(scene.shots[1].courses, 1) if not course.present]
    assert len(missing) == 1
    seen = visible(scene, missing[0])
    assert any(seen[:cut]) and not any(seen[cut:])
    change = [
        np.abs(scene.frame(i)[0].astype(int) - scene.frame(i - 1)[0]).mean() for i in (cut - 1, cut)
    ]
    assert change[1] > 3 * change[0]


def test_look_alikes_differ_in_color_only(sprites: dict[str, list[pictures.Image]]) -> None:
    first, second, *_ = make_scene(replace(SMALL, events=("look-alike",)), sprites).things
    assert first.noun == second.noun and first.color != second.color
    assert first.color is not None and first.color in first.text


@pytest.mark.parametrize("event", ["occlusion", "pan", "shake", "brightness", "noise"])
def test_an_event_shows(event: str, sprites: dict[str, list[pictures.Image]]) -> None:
    plain = make_scene(SMALL, sprites)
    somewhere = plain.pose(1, 11).center_xy[0] / SMALL.size_hw[1]
    scene = Scene(
        replace(SMALL, events=(event,)),
        plain.things,
        tuple(
            replace(
                shot,
                pan=0.15 if event == "pan" else 0.0,
                post=(somewhere, 0.1) if event == "occlusion" else None,
            )
            for shot in plain.shots
        ),
    )
    (image, labels), (before, labels_before) = scene.frame(11), plain.frame(11)
    assert np.abs(image.astype(int) - before).mean() > 1
    moves = event in ("occlusion", "pan", "shake")
    assert (labels != labels_before).any() == moves


def test_motion_blur_keeps_the_labels(sprites: dict[str, list[pictures.Image]]) -> None:
    plain = make_scene(SMALL, sprites)
    blurred = Scene(replace(SMALL, events=("motion-blur",)), plain.things, plain.shots)
    assert (blurred.frame(7)[1] == plain.frame(7)[1]).all()
    assert (blurred.frame(7)[0] != plain.frame(7)[0]).any()


def test_what_is_absent_is_absent(sprites: dict[str, list[pictures.Image]]) -> None:
    for seed in range(20):
        scene = make_scene(replace(SMALL, seed=seed, events=("absent",)), sprites)
        assert scene.absent is not None
        assert scene.absent.removeprefix("the ") not in {thing.noun for thing in scene.things}


def test_a_tree_reads_as_ref_davis(
    sprites: dict[str, list[pictures.Image]], tmp_path: Path
) -> None:
    specs = [replace(SMALL, seed=seed, frames=3) for seed in (1, 2)]
    scenes = [(f"scene-{spec.seed}", make_scene(spec, sprites)) for spec in specs]
    write_ref_davis(scenes, tmp_path)
    data = open_dataset(tmp_path)
    assert [video.name for video in data.videos] == ["scene-1", "scene-2"]
    for video, (_, scene) in zip(data.videos, scenes, strict=True):
        assert [len(each) for each in data.sets(video)] == [len(scene.things)] * 4
        assert tuple(e.text for e in data.sets(video)[0]) == scene.texts
        truth = open_truth(tmp_path, [UNSUPERVISED]).paths(video.name)
        for index, path in enumerate(truth):
            assert (read_label_png(path) == scene.frame(index)[1]).all()
    report = evaluate(tmp_path / "Annotations" / "480p", tmp_path, "semi-supervised", workers=1)
    assert report.j_and_f == 1.0


def test_four_annotators(sprites: dict[str, list[pictures.Image]]) -> None:
    dog = example_scene(sprites).things[0]
    assert four_texts(dog) == (TEXT, "a dog", "the puppy", "a dog jumping")


def test_a_clip_and_its_masks(sprites: dict[str, list[pictures.Image]], tmp_path: Path) -> None:
    scene = make_scene(replace(SMALL, frames=4), sprites)
    write_clip(scene, tmp_path / "a.mp4", tmp_path / "a")
    with open_video(tmp_path / "a.mp4") as reader:
        frames = [frame.image for frame in reader]
    assert len(frames) == 4 == len(list((tmp_path / "a").glob("*.png")))
    assert np.abs(frames[2].astype(int) - scene.frame(2)[0]).mean() < 12


def test_missing_sprites_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="it has no sets"):
        pictures.load_sprites(tmp_path)
    (tmp_path / "noto").mkdir()
    with pytest.raises(DatasetError, match=r"lacks sprites: noto/.*tools/get_sprites.py"):
        pictures.load_sprites(tmp_path)


def test_the_example_is_small_and_whole() -> None:
    folder = example_folder()
    assert (folder / f"{NAME}.mp4").stat().st_size < 2 * 2**20
    with open_video(folder / f"{NAME}.mp4") as reader:
        frames = sum(1 for _ in reader)
    masks = sorted((folder / NAME).glob("*.png"))
    assert frames == len(masks) == 48
    assert all((read_label_png(path) == 1).any() for path in masks)


def test_demo_is_a_run_on_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On its first frames."""
    short = tmp_path / "short"
    write_short_example(short)
    monkeypatch.setattr(example, "example_folder", lambda: short)
    quick = ["--set", "crf.enabled=false", "--set", "proposals.max_side=160"]
    quick += ["--set", "overlay.enabled=false", "--set", "weights.device=cpu"]
    demo = CliRunner().invoke(app, ["demo", "-o", str(tmp_path / "demo"), "--json", *quick])
    assert demo.exit_code == 0, demo.output
    clip = str(short / f"{NAME}.mp4")
    run = CliRunner().invoke(
        app, ["run", clip, "-e", TEXT, "-o", str(tmp_path / "run"), "-p", "tiny", *quick]
    )
    assert run.exit_code == 0, run.output
    masks = [sorted((tmp_path / name / "masks").glob("*.png")) for name in ("demo", "run")]
    assert len(masks[0]) == len(masks[1]) == 5
    assert [p.read_bytes() for p in masks[0]] == [p.read_bytes() for p in masks[1]]
    values = json.loads(demo.stdout)
    j, f = score(Track.open(tmp_path / "run"), short / NAME)
    assert (values["J"], values["F"]) == (j, f) and values["J&F"] == (j + f) / 2


def test_a_wheel_holds_everything(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True, timeout=HANGS_S,
    )  # fmt: skip
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    wanted = {
        "carvid/clip/tiny/model.safetensors", "carvid/clip/tiny/README.md",
        "carvid/configs/tiny.yaml", f"carvid/examples/{NAME}.mp4",
        f"carvid/examples/{NAME}/00047.png",
        "carvid/demo/sprites/teddy_bear.png", "carvid/demo/sprites/LICENSE",
    }  # fmt: skip
    assert wanted <= names


def test_the_whole_route_from_scenes_to_numbers(
    sprites: dict[str, list[pictures.Image]], tmp_path: Path
) -> None:
    spec = replace(SMALL, frames=3, size_hw=(64, 96), objects=(2, 2))
    scenes = [(f"scene-{k}", make_scene(replace(spec, seed=k), sprites)) for k in range(2)]
    data, out = tmp_path / "data", tmp_path / "out"
    write_ref_davis(scenes, data)
    result = predict(data, out, "tiny", ["crf.iterations=1", "weights.device=cpu"])
    assert result.frames == 2 * 4 * 3 and not result.failed
    report = evaluate(out, data, "refdavis17")
    assert [each.name for each in report.sets] == [f"anno_{k}" for k in range(4)]
    names = {(each.video, each.object_id) for each in report.objects}
    assert names == {(f"scene-{k}", n) for k in range(2) for n in (1, 2)}
    for index in range(4):  # the truth itself, as predictions, is perfect
        shutil.rmtree(out / f"anno_{index}")
        shutil.copytree(data / "Annotations" / "480p", out / f"anno_{index}")
    assert evaluate(out, data, "refdavis17").j_and_f == 1 > report.j_and_f
