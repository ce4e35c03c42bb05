"""`carvid davis` for data sets without published truth, and `carvid submit`, which packs them."""

from __future__ import annotations

import io
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import pytest
from PIL import Image

from carvid.base.errors import CarvidError, ConfigError, DatasetError, OutputError
from carvid.base.interrupt import Stopped
from carvid.benchmark import submit as module
from carvid.benchmark.predict import Prediction, predict
from carvid.benchmark.submit import SERVERS, submit
from carvid.evaluation.protocols import evaluate
from carvid.run.lock import locked
from tests.conftest import carvid
from tests.expression_trees import (
    NAMES,
    PATHS,
    SIZE,
    TEXTS,
    long_rvos_tree,
    mevis_tree,
    predicted_mask,
    revos_tree,
    write_predictions,
    youtube_tree,
)

ALL = {video: [*texts] for video, texts in TEXTS.items()}
SETTINGS = ["crf.iterations=1", "weights.device=cpu", "temporal.key_every=2", "temporal.lag=1"]
MEVIS_FILES = [
    f"{video}/{key}/{frame}.png" for video, keys in ALL.items() for key in keys
    for frame in NAMES[video]
]  # fmt: skip
YOUTUBE_FILES = [
    f"Annotations/bird/{key}/{frame}.png" for key in ("0", "odd key é") for frame in NAMES["bird"]
]  # fmt: skip


def run_folder(place: Path, root: Path, split: str = "valid") -> Path:
    """Predictions of every expression, as `carvid davis` leaves them."""
    write_predictions(place / "expressions", ALL)
    facts = {"root": str(root), "split": split, "resolution": None}
    (place / "run.json").write_text(json.dumps({"carvid": "1", "dataset": facts}))
    return place


@pytest.fixture
def mevis(tmp_path: Path) -> Path:
    return run_folder(tmp_path / "run", mevis_tree(tmp_path / "data"))


@pytest.mark.parametrize(
    ("server", "make", "files"),
    [("mevis", mevis_tree, MEVIS_FILES), ("ref-youtube-vos", youtube_tree, YOUTUBE_FILES)],
    ids=SERVERS,
)
def test_zips_are_laid_out_as_the_servers_want_them(
    tmp_path: Path, server: str, make: Callable[[Path], Path], files: list[str]
) -> None:
    run, out = run_folder(tmp_path / "run", make(tmp_path / "data")), tmp_path / "out.zip"
    result = submit(run, server, out)
    with ZipFile(out) as archive:
        assert archive.namelist() == files and archive.testzip() is None
        for entry in archive.infolist():
            assert entry.date_time == (1980, 1, 1, 0, 0, 0) and entry.compress_type == ZIP_STORED
            video, key, name = entry.filename.removeprefix("Annotations/").split("/")
            picture = Image.open(io.BytesIO(archive.read(entry)))
            assert picture.mode == "L"
            mask = predicted_mask(video, key, NAMES[video].index(name.removesuffix(".png")))
            assert np.array_equal(np.array(picture), mask * np.uint8(255))
    assert result.to_json() == {
        "out": str(out), "videos": len({f.split("/")[-3] for f in files}),
        "expressions": len({f.rsplit("/", 1)[0] for f in files}), "masks": len(files),
        "bytes": out.stat().st_size,
    }  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "out.zip", "run"]


def test_the_same_predictions_give_the_same_bytes(tmp_path: Path, mevis: Path) -> None:
    submit(mevis, "mevis", tmp_path / "a.zip")
    other = tmp_path / "other"
    shutil.copytree(mevis, other)
    for path in (other / "expressions").rglob("*.png"):  # as other programs write them
        Image.fromarray(np.array(Image.open(path)) > 0).save(path)
    shutil.move(tmp_path / "data", tmp_path / "moved")
    submit(other, "mevis", tmp_path / "b.zip", data=tmp_path / "moved")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_zip_handed_in_scores_as_the_predictions_do(tmp_path: Path, mevis: Path) -> None:
    data = tmp_path / "data"
    for name in ("mask_dict.json", "meta_expressions.json"):
        shutil.copy(data / "valid_u" / name, data / "valid" / name)
    submit(mevis, "mevis", tmp_path / "a.zip")
    with ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    assert evaluate(tmp_path / "unpacked", data, "mevis") == evaluate(mevis, data, "mevis")


def test_the_command_says_what_it_packed(tmp_path: Path, mevis: Path) -> None:
    out = tmp_path / "out.zip"
    result = carvid("submit", mevis, "--for", "mevis", "-o", out)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"24 masks of 5 expressions in 2 videos in {out}\n"
    result = carvid("submit", mevis, "--for", "mevis", "-o", out)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith(f"carvid: '{out}' is there already; add --overwrite")
    before = out.read_bytes()
    result = carvid("submit", mevis, "--for", "mevis", "-o", out, "--overwrite", "--json")
    assert json.loads(result.stdout)["masks"] == 24 and out.read_bytes() == before
    result = carvid("submit", mevis, "--for", "mevi", "-o", tmp_path / "b.zip")
    assert result.stderr == "carvid: unknown server 'mevi'; did you mean 'mevis'?\n"
    assert carvid("submit", mevis, "--for", "mevis", "-o", out, "-q", "--overwrite").stdout == ""


def remove(*names: str) -> Callable[[Path], None]:
    def change(place: Path) -> None:
        for name in names:
            path = place / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def of_split(split: str) -> Callable[[Path], None]:
    def change(place: Path) -> None:
        path = place / "run" / "run.json"
        facts = json.loads(path.read_text())
        facts["dataset"]["split"] = split
        path.write_text(json.dumps(facts))

    return change


def put(name: str, picture: Image.Image) -> Callable[[Path], None]:
    return lambda place: picture.save(place / name)


def spoil_key(place: Path) -> None:
    path = place / "data" / "valid" / "meta_expressions.json"
    path.write_text(path.read_text().replace('"odd key \\u00e9"', '"a/b"'))


FIRST = "run/expressions/bird/0/00000.png"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            remove(FIRST, "run/expressions/bird/1", "run/expressions/cat/0/00015.png"),
            DatasetError,
            r"run' lacks 7 of 24 masks: '.*bird/0' lacks 00000\.png; '.*bird/1' lacks all frames "
            r"\(5\); '.*cat/0' lacks 00015\.png; predict them with carvid davis '.*data' -o "
            r"'.*run' --split valid --resume",
        ),
        (remove("run/expressions"), DatasetError, r"lacks 24 of 24 masks: .*lacks all frames"),
        (remove("run/run.json"), DatasetError, r"run' is no folder of predictions by carvid davis"),
        (remove("run"), DatasetError, r"no folder '.*run'; give the folder of predictions"),
        (
            remove("data"),
            DatasetError,
            r"the data set of '.*run' is no longer in '.*data'; give its place with --data",
        ),
        (
            remove("data/valid/meta_expressions.json"),
            DatasetError,
            r"no expressions in '.*data'; put",
        ),
        (
            of_split("valid_u"),
            DatasetError,
            r"predictions for MeViS's valid_u, whose truth is published: score them by carvid eval "
            r"--protocol mevis --split valid_u; the server takes those for valid or test",
        ),
        (
            put(FIRST, Image.fromarray(np.arange(96 * 128, dtype=np.uint8).reshape(SIZE))),
            DatasetError,
            r"bird/0/00000\.png' has more than two values",
        ),
        (
            lambda place: (place / FIRST).write_bytes(b"\x89PNG") and None,
            DatasetError,
            r"bird/0/00000\.png' is no PNG|cannot read '.*bird/0/00000\.png'",
        ),
        (spoil_key, DatasetError, r"'a/b' is the name of a video, a frame or an expression"),
    ],
)
def test_what_is_wrong_is_told_and_no_zip_is_left(
    tmp_path: Path,
    mevis: Path,
    change: Callable[[Path], None],
    error: type[CarvidError],
    message: str,
) -> None:
    change(tmp_path)
    with pytest.raises(error, match=message) as raised:
        submit(mevis, "mevis", tmp_path / "out.zip")
    assert "\n" not in str(raised.value)
    assert [p for p in tmp_path.iterdir() if p.name not in ("run", "data")] == []


def test_wrong_places_and_servers(tmp_path: Path, mevis: Path) -> None:
    with pytest.raises(ConfigError, match=r"a submission is a \.zip, got '.*out\.tar'"):
        submit(mevis, "mevis", tmp_path / "out.tar")
    with pytest.raises(OutputError, match=r"no folder '.*nowhere'; make it"):
        submit(mevis, "mevis", tmp_path / "nowhere" / "out.zip")
    with pytest.raises(ConfigError, match="unknown server 'MeViS'; did you mean 'mevis'"):
        submit(mevis, "MeViS", tmp_path / "out.zip")
    with pytest.raises(DatasetError, match=(
        "holds predictions for MeViS, and ref-youtube-vos takes those for Ref-YouTube-VOS; give "
        "--for mevis"
    )):  # fmt: skip
        submit(mevis, "ref-youtube-vos", tmp_path / "out.zip")
    long = run_folder(tmp_path / "long", long_rvos_tree(tmp_path / "long-data"))
    with pytest.raises(DatasetError, match=r"for Long-RVOS, and mevis .*; score them by carvid ev"):
        submit(long, "mevis", tmp_path / "out.zip")
    with locked(mevis), pytest.raises(OutputError, match="another run is writing to"):
        submit(mevis, "mevis", tmp_path / "out.zip")
    target = mevis / "expressions" / "bird" / "0" / "00000.png"
    link = tmp_path / "link.zip"
    link.hardlink_to(target)
    with pytest.raises(OutputError, match=r"is the same as .*00000\.png', which is read"):
        submit(mevis, "mevis", link, overwrite=True)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Stopped, MemoryError])
def test_a_stop_leaves_what_was_there(
    tmp_path: Path, mevis: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    out = tmp_path / "out.zip"
    out.write_bytes(b"earlier")
    count = itertools.count()

    def interrupted(path: Path) -> bytes:
        if next(count) == 12:
            raise stop
        return b"mask"

    monkeypatch.setattr(module, "_black_and_white", interrupted)
    with pytest.raises(stop):
        submit(mevis, "mevis", out, overwrite=True)
    assert out.read_bytes() == b"earlier"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "out.zip", "run"]


def test_videos_without_expressions_need_no_masks(tmp_path: Path, mevis: Path) -> None:
    path = tmp_path / "data" / "valid" / "meta_expressions.json"
    facts = json.loads(path.read_text())
    facts["videos"]["cat"]["expressions"] = {}
    path.write_text(json.dumps(facts))
    shutil.rmtree(mevis / "expressions" / "cat")
    assert submit(mevis, "mevis", tmp_path / "out.zip").videos == 1
    facts["videos"]["bird"]["expressions"] = {}
    path.write_text(json.dumps(facts))
    with pytest.raises(DatasetError, match=r"no expressions in '.*data' for split 'valid'"):
        submit(mevis, "mevis", tmp_path / "none.zip")


def test_frames_that_are_not_named_are_those_of_the_images(tmp_path: Path, mevis: Path) -> None:
    submit(mevis, "mevis", tmp_path / "a.zip")
    path = tmp_path / "data" / "valid" / "meta_expressions.json"
    facts = json.loads(path.read_text())
    for video in facts["videos"].values():
        video["frames"] = []
    path.write_text(json.dumps(facts))
    submit(mevis, "mevis", tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


@pytest.fixture
def predicted(weights: dict[str, str]) -> Callable[..., Prediction]:
    def call(data: Path, out: Path, **options: object) -> Prediction:
        return predict(data, out, "davis", SETTINGS, **weights, **options)  # type: ignore[arg-type]

    return call


def test_half_of_the_videos_are_predicted_then_the_rest(
    tmp_path: Path, predicted: Callable[..., Prediction]
) -> None:
    data, run = mevis_tree(tmp_path / "data"), tmp_path / "run"
    predicted(data, run, videos=["cat"])
    with pytest.raises(DatasetError, match=r"lacks 20 of 24 masks: .* and 0|lacks 20 of 24 masks"):
        submit(run, "mevis", tmp_path / "out.zip")
    predicted(data, run, resume=True)
    assert submit(run, "mevis", tmp_path / "out.zip").masks == 24
    with ZipFile(tmp_path / "out.zip") as archive:
        assert archive.namelist() == MEVIS_FILES


def test_videos_in_folders_of_their_own_are_predicted_and_replaced(
    tmp_path: Path, predicted: Callable[..., Prediction]
) -> None:
    """ReVOS's names of videos are paths."""
    data, run = revos_tree(tmp_path / "data"), tmp_path / "run"
    result = predicted(data, run, workers=1)
    assert result.videos == (PATHS["bird"], PATHS["cat"]) and result.frames == 9
    masks = sorted(p.relative_to(run / "expressions") for p in run.rglob("expressions/**/*.png"))
    assert len(masks) == 24 and masks[0].parts[:2] == ("LVVIS", "cat")
    before = evaluate(run, data, "revos")
    assert len(before.objects) == 5
    assert predicted(data, run, resume=True).frames == 0
    scores = run / "runs" / PATHS["cat"] / "all" / "scores.csv"
    scores.write_text("")
    assert predicted(data, run, resume=True).frames == 4
    assert predicted(data, run, overwrite=True).frames == 9
    assert evaluate(run, data, "revos") == before


def test_what_servers_there_are() -> None:
    assert {name: server.top for name, server in SERVERS.items()} == {
        "mevis": "", "ref-youtube-vos": "Annotations/",
    }  # fmt: skip
