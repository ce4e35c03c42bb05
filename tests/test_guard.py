"""Nothing that somebody has is destroyed: not what is read, nor what stands where results go."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from PIL import Image

import carvid as package
from carvid.base.errors import OutputError, VideoError
from carvid.base.files import partial_of, replacing
from carvid.base.guard import check_apart, check_distinct
from carvid.batch.manifest import Clip
from carvid.batch.run import run_batch
from carvid.benchmark.predict import predict
from carvid.config import load_config
from carvid.demo.example import example_folder
from carvid.demo.pictures import NOUNS
from carvid.exports.export import FORMATS, export
from carvid.media.open import Selection
from carvid.pipeline import Carvid
from carvid.run.layout import RUN_FILES, set_aside
from carvid.run.track import Track
from tests.conftest import Finished, carvid, in_this_process
from tests.test_cli import assert_one_line, options
from tests.test_davis_predict import SETTINGS
from tests.test_pipeline import FAST, TEXTS, files
from tests.trees import scored_tree, unseen_tree

ROOT = Path(__file__).parent.parent
Alias = Callable[[Path, Path], Path]


def same(path: Path, place: Path) -> Path:
    return path


def dotted(path: Path, place: Path) -> Path:
    (path.parent / "x").mkdir(exist_ok=True)
    return path.parent / "x" / ".." / path.name


def relative(path: Path, place: Path) -> Path:
    return Path(os.path.relpath(path))


def symbolic(path: Path, place: Path) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(path)
    return place


def hard(path: Path, place: Path) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.hardlink_to(path)
    return place


def through_a_folder(path: Path, place: Path) -> Path:
    folder = place.parent.with_name("linked")
    folder.symlink_to(path.parent)
    return folder / path.name


ALIASES = [same, dotted, relative, symbolic, hard, through_a_folder]
LINKS = [symbolic, hard]


@pytest.fixture(scope="module")
def shared_model(weights: dict[str, str]) -> Carvid:
    return package.load("default", [*FAST, "temporal.lag=0"], **weights)


@pytest.fixture
def model(shared_model: Carvid) -> Carvid:
    shared_model.sources = ()
    return shared_model


@pytest.fixture
def out(model: Carvid, clip: Path, tmp_path: Path) -> Path:
    """A finished run."""
    model.segment(clip, TEXTS, out=tmp_path / "out", formats=["coco", "green", "cutouts"])
    return tmp_path / "out"


def contents(*places: Path) -> dict[str, bytes]:
    """All files, as they are named, with the bytes behind them."""
    return {
        str(path): path.read_bytes()
        for place in places
        for path in ([place] if place.is_file() else place.rglob("*"))
        if path.is_file()
    }


def refused(*command: object, match: str = "") -> None:
    result = carvid(*command)
    assert_one_line(result)
    assert match in result.stderr


# the helper ---------------------------------------------------------------------------------


@pytest.mark.parametrize("alias", ALIASES)
def test_a_file_is_known_under_every_name(tmp_path: Path, alias: Alias) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    other = alias(path, tmp_path / "other" / "b.mp4")
    for read, written in ((path, other), (other, path)):
        with pytest.raises(OutputError, match=r"would be overwritten; choose another place"):
            check_apart([read], [written])
    (tmp_path / "c.mp4").write_bytes(b"x")
    check_apart([path, "camera:0", "http://127.0.0.1/a.mp4", "no\0name"], [tmp_path / "c.mp4"])
    check_apart([path], [tmp_path / "none.mp4"])


@pytest.mark.parametrize("alias", ALIASES)
def test_a_folder_that_is_replaced_holds_nothing_that_is_read(tmp_path: Path, alias: Alias) -> None:
    path = tmp_path / "gone" / "deep" / "a.mp4"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    with pytest.raises(OutputError, match="read, and would be overwritten"):
        check_apart([alias(path, tmp_path / "other" / "b.mp4")], [tmp_path / "gone"])
    with pytest.raises(OutputError, match="read, and would be overwritten"):
        check_apart([path.parent], [tmp_path / "gone"])


def test_what_is_written_first_is_looked_at_too(tmp_path: Path) -> None:
    path, original = tmp_path / "a.mp4", tmp_path / "original"
    original.write_bytes(b"years of work")
    with pytest.raises(OutputError, match="would be overwritten"):
        check_apart([hard(original, partial_of(path))], [path])
    with replacing(path) as partial:  # nothing is written through a link that lies there
        partial.write_bytes(b"new")
    assert (original.read_bytes(), path.read_bytes()) == (b"years of work", b"new")


def test_two_results_have_two_places(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    check_distinct([tmp_path / "a", tmp_path / "b"], remedy="give two")
    for other in (tmp_path / "a", symbolic(tmp_path / "a", tmp_path / "c"), tmp_path / "x/../b"):
        with pytest.raises(OutputError, match="are one file; give two"):
            check_distinct([tmp_path / "a", tmp_path / "b", other], remedy="give two")


# run ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*RUN_FILES[2:3], "green.mp4", "masks", "masks/00002.png",
                                  "cutouts/1", "cutouts/2/00001.png"])  # fmt: skip
@pytest.mark.parametrize("alias", [same, dotted, symbolic])
def test_a_run_does_not_take_its_input_away(
    out: Path, tmp_path: Path, weights: dict[str, str], name: str, alias: Alias
) -> None:
    before = contents(out)
    source = alias(out / name, tmp_path / "link" / Path(name).name)
    command = ["run", source, "-e", "a dog", "-o", out, *options(weights)]
    refused(*command, "--overwrite", match="read, and would be overwritten; choose another")
    assert contents(out) == before
    if alias is same:
        for more in ([], ["--resume"]):
            assert carvid(*command, *more).returncode == 1
            assert contents(out) == before


@pytest.mark.parametrize("alias", LINKS)
def test_nor_what_only_links_to_it(
    model: Carvid, clip: Path, out: Path, tmp_path: Path, alias: Alias
) -> None:
    before = clip.read_bytes()
    (out / "overlay.mp4").unlink()
    alias(clip, out / "overlay.mp4")
    with pytest.raises(OutputError, match=r"the same as .* read, and would be"):
        model.segment(clip, ["a dog"], out=out, overwrite=True)
    assert clip.read_bytes() == (out / "overlay.mp4").read_bytes() == before


def test_stdin_is_a_file_too(out: Path, weights: dict[str, str]) -> None:
    before = contents(out)
    with (out / "overlay.mp4").open("rb") as file:
        result = subprocess.run(
            [sys.executable, "-m", "carvid", "run", "-", "-e", "a dog", "-o", str(out),
             "--overwrite", *options(weights)],
            stdin=file, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert_one_line(result)
    assert "is the same as '-', which is read" in result.stderr
    assert contents(out) == before


def test_settings_and_weights_are_read_too(clip: Path, out: Path, weights: dict[str, str]) -> None:
    (out / "my.yaml").write_text(f"extends: {out / 'run.json'}\n")
    before = contents(out)
    for preset in (out / "run.json", out / "my.yaml"):
        refused("run", clip, "-e", "a dog", "-o", out, "--overwrite", "-p", preset,
                match="run.json' is read, and would be overwritten")  # fmt: skip
        with pytest.raises(OutputError, match=r"run\.json' is read"):
            package.load(preset).segment(clip, ["a dog"], out=out, overwrite=True)
        with pytest.raises(OutputError, match=r"run\.json' is read"):
            run_batch([Clip("out", str(clip), ("a dog",), Selection())], out.parent, preset,
                      overwrite=True)  # fmt: skip
    for number, name in enumerate(("generator", "classifier")):
        inside = out / "cutouts" / str(number + 1) / name
        shutil.copytree(weights[name], inside)
        loaded = package.load("default", FAST, **{**weights, name: str(inside)})
        with pytest.raises(OutputError, match="read, and would be overwritten"):
            loaded.segment(clip, ["a dog"], out=out, overwrite=True)
        shutil.rmtree(inside)
    assert contents(out) == before


def test_a_batch_keeps_every_clip_and_its_manifest(
    model: Carvid, clip: Path, tmp_path: Path, weights: dict[str, str]
) -> None:
    folder = tmp_path / "batch"
    model.segment(clip, ["a dog"], out=folder / "clip")
    other = folder / "clip" / "overlay.mp4"
    before = contents(folder)
    refused("run", clip, other, "-e", "a dog", "-o", folder, "--overwrite", *options(weights),
            match="overlay.mp4' is read")  # fmt: skip
    manifest = tmp_path / "clips.jsonl"
    rows = [{"clip": str(clip), "expr": "a dog"}, {"clip": str(other), "expr": "a dog"}]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused("run", "--manifest", manifest, "-o", folder, "--overwrite", *options(weights),
            match="overlay.mp4' is read")  # fmt: skip
    assert contents(folder) == before
    manifest.write_text(json.dumps(rows[0]) + "\n")
    (folder / "clip" / "scores.csv").unlink()
    hard(manifest, folder / "clip" / "scores.csv")
    refused("run", "--manifest", manifest, "-o", folder, "--overwrite", *options(weights),
            match="clips.jsonl', which is read")  # fmt: skip


# what stands where a run goes ----------------------------------------------------------------


def test_a_file_in_a_folders_place_is_not_replaced(model: Carvid, clip: Path, out: Path) -> None:
    (out / "masks").rename(out / "mine")
    (out / "masks").write_text("years of work")
    with pytest.raises(OutputError, match="masks' is none of what carvid wrote"):
        model.segment(clip, ["a dog"], out=out, overwrite=True)
    assert (out / "masks").read_text() == "years of work"


@pytest.mark.parametrize("name", ["masks/notes.txt", "masks/mine.png", "masks/old/00000.png",
                                  "cutouts/logo.png", "cutouts/1/00000.jpg"])  # fmt: skip
def test_what_carvid_did_not_write_is_not_replaced(
    model: Carvid, clip: Path, out: Path, name: str
) -> None:
    path = out / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("years of work")
    (out / "masks" / ".DS_Store").write_text("")
    before = contents(out)
    with pytest.raises(OutputError, match=f"{name}' is none of what carvid wrote.*; move that"):
        model.segment(clip, ["a dog"], out=out, overwrite=True)
    assert contents(out) == before
    path.rename(out / "mine")
    model.segment(clip, ["a dog"], out=out, overwrite=True)
    assert (out / "mine").read_text() == "years of work"
    assert Track.open(out).texts == ("a dog",) and not (out / "cutouts").exists()


@pytest.mark.parametrize("text", ["{}", "[]", "", '{"texts": []}', '{"carvid": 1, "dataset": 2}'])
def test_a_run_json_of_others_marks_no_run(
    model: Carvid, clip: Path, tmp_path: Path, text: str
) -> None:
    place = tmp_path / "theirs"
    (place / "masks").mkdir(parents=True)
    (place / "masks" / "00000.png").write_bytes(b"x")
    (place / "run.json").write_text(text)
    before = contents(place)
    for more in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(OutputError, match="holds something else"):
            model.segment(clip, TEXTS, out=place, **more)
    assert contents(place) == before


def test_a_link_is_replaced_and_what_it_leads_to_stays(
    model: Carvid, clip: Path, out: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.move(out / "masks", elsewhere)
    (elsewhere / "notes.txt").write_text("mine")
    (out / "masks").symlink_to(elsewhere)
    before = contents(elsewhere)
    model.segment(clip, ["a dog"], out=out, overwrite=True)
    assert contents(elsewhere) == before and not (out / "masks").is_symlink()
    assert len(list((out / "masks").iterdir())) == 6 and not (out / ".carvid").exists()


@pytest.mark.parametrize("fails_at", [0, 1, 4])
@pytest.mark.parametrize(
    "error", [VideoError("torn; mend it"), RuntimeError("broken"), KeyboardInterrupt()]
)
def test_a_run_that_fails_leaves_the_one_it_was_to_replace(
    model: Carvid, clip: Path, out: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int,
    error: BaseException,
) -> None:  # fmt: skip
    every = Carvid(load_config(model.config, ["temporal.key_every=1"]), *model.backbones)
    before, segment, calls = files(out), every.segmenter.segment, 0

    def fail(*arguments: object, **more: object) -> object:
        nonlocal calls
        calls += 1
        if calls > fails_at:
            raise error
        return segment(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(every.segmenter, "segment", fail)
    with pytest.raises(type(error)):
        every.segment(clip, ["a cat"], out=out, overwrite=True)
    kept = out / ".carvid" / "replaced"
    assert files(kept if fails_at else out) == before
    assert (kept if fails_at else out).joinpath("run.json").exists()
    monkeypatch.setattr(every.segmenter, "segment", segment)
    every.segment(clip, ["a cat"], out=out, resume=bool(fails_at), overwrite=not fails_at)
    assert Track.open(out).texts == ("a cat",) and not (out / ".carvid").exists()


def test_a_run_that_fails_twice_keeps_the_whole_one(model: Carvid, clip: Path, out: Path) -> None:
    before = files(out)
    for text in ("a cat", "a ball"):
        asked = iter([False, False, True])
        with pytest.raises(KeyboardInterrupt):
            model.segment(clip, [text], out=out, overwrite=True, stop=lambda each=asked: next(each))
        assert files(out / ".carvid" / "replaced") == before
        assert len(list((out / "masks").iterdir())) == 3
    model.segment(clip, ["a ball"], out=out, resume=True)
    assert Track.open(out).texts == ("a ball",) and not (out / ".carvid").exists()


def test_a_kill_while_a_run_is_set_aside(model: Carvid, clip: Path, out: Path) -> None:
    before = files(out)
    with pytest.raises(IsADirectoryError), pytest.MonkeyPatch.context() as patch:
        moved, replace = [], os.replace

        def move(one: Path, other: Path) -> None:
            if len(moved) == 3:
                raise IsADirectoryError
            moved.append(one)
            replace(one, other)

        patch.setattr(os, "replace", move)
        set_aside(out)
    assert not (out / "run.json").exists()
    asked = iter([False, True])
    with pytest.raises(KeyboardInterrupt):
        model.segment(clip, ["a cat"], out=out, resume=True, stop=lambda: next(asked))
    assert files(out / ".carvid" / "replaced") == before
    assert len(list((out / "masks").iterdir())) == 2


def test_a_track_is_not_saved_onto_itself(out: Path, tmp_path: Path) -> None:
    track, before = Track.open(out), contents(out)
    with pytest.raises(OutputError, match="masks' is read"):
        track.save(out, overwrite=True)
    assert contents(out) == before
    track.save(tmp_path / "copy")
    assert files(tmp_path / "copy") == {
        name: data for name, data in files(out).items()
        if not name.startswith(("cutouts", "coco", "green"))
    }  # fmt: skip


# overlay, exports, demo ----------------------------------------------------------------------


@pytest.mark.parametrize("alias", ALIASES)
def test_an_overlay_is_not_drawn_onto_its_video(
    clip: Path, out: Path, tmp_path: Path, alias: Alias
) -> None:
    before = contents(tmp_path)
    target = alias(clip, tmp_path / "other" / "b.mp4")
    refused("overlay", clip, out / "masks", "-o", target, match="is read" if alias is same else "")
    if target != clip:
        refused("overlay", target, out / "masks", "-o", clip, match="read, and would be")
    assert before.items() <= contents(tmp_path).items()
    for _ in range(2):
        assert carvid("overlay", clip, out / "masks", "-o", tmp_path / "b.mp4").returncode == 0


def test_nor_onto_a_mask_or_a_picture(out: Path, tmp_path: Path) -> None:
    from carvid.config import OverlayConfig
    from carvid.show.masks_over_video import draw_masks

    for path in (out / "masks" / "00003.png", out / "run.json", out / "cutouts" / "1/00000.png"):
        link = hard(path, tmp_path / f"{path.stem}.mp4")
        with pytest.raises(OutputError, match="read, and would be overwritten"):
            draw_masks(
                out / "masks", out / "cutouts" / "1", link, TEXTS, OverlayConfig()
            )  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("alias", [same, symbolic, hard])
def test_no_format_is_written_onto_the_video(
    model: Carvid, clip: Path, tmp_path: Path, name: str, alias: Alias
) -> None:
    folder = tmp_path / "exported"
    target = folder / FORMATS[name].file
    target = target / "1" / "00000.mp4" if name == "cutouts" else target
    target.parent.mkdir(parents=True)
    source = target if alias is same else tmp_path / "source.mp4"
    clip.rename(source)
    track = model.segment(source, ["a dog"])
    if alias is not same:
        alias(source, target)
    before = source.read_bytes()
    with pytest.raises(OutputError, match="read, and would be overwritten; export to another"):
        export(track, folder, [name])
    assert source.read_bytes() == target.read_bytes() == before


def test_the_example_is_not_written_onto(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.json").write_text('{"carvid": "1", "texts": []}')
    (out / "masks").mkdir()
    (out / "masks" / "00000.png").symlink_to(example_folder() / "dog-jumping" / "00000.png")
    refused("demo", "-o", out, "--overwrite", match="dog-jumping/00000.png', which is read")
    (out / "masks" / "00000.png").unlink()
    (out / "overlay.mp4").symlink_to(example_folder() / "dog-jumping.mp4")
    refused("demo", "-o", out, "--overwrite", match="dog-jumping.mp4', which is read")


def test_make_demo_replaces_only_when_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    sprites = tmp_path / "sprites"
    (sprites / "noto").mkdir(parents=True)
    for code, *_ in NOUNS.values():
        Image.new("RGBA", (40, 30), "orange").save(sprites / "noto" / f"{code}.png")
    spec = spec_from_file_location("make_demo", ROOT / "tools" / "make_demo.py")
    assert spec is not None and spec.loader is not None
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)
    small = ["--scenes", "1", "--frames", "2", "--size", "48", "64", "--events"]

    def make(*more: object) -> Finished:
        return in_this_process(lambda: sys.exit(tool.main()), sprites, *more, *small)

    data = tmp_path / "data"
    (data / "ImageSets").mkdir(parents=True)
    result = make(data)
    assert result.returncode == 1 and "ImageSets' is there already; choose" in result.stderr
    assert make(data, "--overwrite").returncode == 0
    assert make(tmp_path, "--mp4").returncode == 0
    assert make(tmp_path, "--mp4").returncode == 1
    picture = next(sprites.rglob("*.png"))
    picture.rename(tmp_path / "scene-0" / picture.name)
    picture.symlink_to(tmp_path / "scene-0" / picture.name)
    before = contents(sprites)
    result = make(tmp_path, "--mp4", "--overwrite")
    assert result.returncode == 1 and "which is read, and would be" in result.stderr
    assert contents(sprites) == before


# Ref-DAVIS -----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["valid/JPEGImages/new", "valid/new", "meta_expressions/a/b"])
def test_predictions_do_not_go_into_the_data(
    tmp_path: Path, weights: dict[str, str], place: str
) -> None:
    tree = unseen_tree(tmp_path / "data", {"bear": 2, "cow": 2})
    before = contents(tree)
    (tmp_path / "link").symlink_to(tree)
    for out in (tree / place, tmp_path / "link" / place):
        with pytest.raises(OutputError, match=r"is in the data set .* choose another folder"):
            predict(tree, out, "davis", SETTINGS, **weights)
    assert contents(tree) == before and not (tree / place).exists()


def test_nor_around_it_nor_onto_what_others_have_put_there(
    tmp_path: Path, weights: dict[str, str]
) -> None:
    tree, out = unseen_tree(tmp_path / "data", {"bear": 2, "cow": 2}), tmp_path / "out"
    predict(tree, out, "davis", SETTINGS, videos=["cow"], **weights)
    moved = out / "anno_0" / "data"
    shutil.move(tree, moved)
    before = contents(out)
    with pytest.raises(OutputError, match="read, and would be overwritten"):
        predict(moved, out, "davis", SETTINGS, overwrite=True, **weights)
    shutil.move(moved, tree)
    picture = tree / "valid/JPEGImages/bear/00000.jpg"
    link = symbolic(picture, out / "expressions" / "cow" / "0" / "00009.png")
    with pytest.raises(OutputError, match="read, and would be overwritten"):
        predict(tree, out, "davis", SETTINGS, overwrite=True, **weights)
    link.unlink()
    (out / "anno_1" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt' is none of what carvid wrote"):
        predict(tree, out, "davis", SETTINGS, overwrite=True, **weights)
    (out / "anno_1" / "notes.txt").unlink()
    assert contents(out).keys() == {path for path in before if "/data/" not in path}
    picture.write_bytes(b"no picture")
    failed = predict(tree, out, "davis", SETTINGS, overwrite=True, **weights).failed
    assert list(failed) == ["bear"] and (out / ".carvid/replaced/runs/cow").is_dir()
    shutil.copyfile(picture.with_name("00001.jpg"), picture)
    assert not predict(tree, out, "davis", SETTINGS, resume=True, **weights).failed
    assert not (out / ".carvid" / "replaced").exists()


@pytest.mark.parametrize("option", ["--csv", "--plot"])
@pytest.mark.parametrize("alias", [same, symbolic, hard])
def test_a_report_is_not_written_onto_what_it_is_about(
    tmp_path: Path, option: str, alias: Alias
) -> None:
    scored_tree(tmp_path)
    read = [
        ("refdavis17", "run/anno_2/cat/00003.png"),
        ("per-expression", "run/expressions/cat/5/00001.png"),
        ("per-expression", "data/meta_expressions.json"),
        ("refdavis17", "data/Annotations_unsupervised/480p/ape/00000.png"),
        ("refdavis17", "data/ImageSets/2017/val.txt"),
        ("refdavis17", "run/expressions/cat/5/00001.png"),  # not read, and a prediction
        ("per-expression", "data/Annotations/480p/ape/00000.png"),
    ]
    before = contents(tmp_path)
    for number, (protocol, name) in enumerate(read):
        target = alias(tmp_path / name, tmp_path / "links" / f"{number}")
        refused(
            "eval", tmp_path / "run", tmp_path / "data", "--protocol", protocol, option, target,
            "--workers", 1, match="read, and would be overwritten; choose another file",
        )  # fmt: skip
    assert before.items() <= contents(tmp_path).items()
    table = tmp_path / "run" / "numbers"
    command = ["eval", tmp_path / "run", tmp_path / "data", "--protocol", "refdavis17",
               "--workers", 1, option, table]  # fmt: skip
    for _ in range(2):
        assert carvid(*command).returncode == 0
    other = "--plot" if option == "--csv" else "--csv"
    refused(*command, other, tmp_path / "run" / "x" / ".." / "numbers", match="are one file; give")
