"""MeViS, Ref-YouTube-VOS, Long-RVOS and ReVOS, scored by carvid and by a second implementation."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt

from carvid.base.errors import DatasetError
from carvid.datasets import mask_dict
from carvid.datasets.long_rvos import LongRvos
from carvid.datasets.mask_dict import read_mask_dict
from carvid.datasets.mevis import Mevis
from carvid.datasets.open import files_of, open_dataset
from carvid.datasets.ref_youtube_vos import RefYoutubeVos
from carvid.datasets.revos import Revos
from carvid.evaluation import workers as module
from carvid.evaluation.protocols import evaluate
from carvid.evaluation.report import Report, compare
from tests.conftest import carvid
from tests.expression_trees import (
    FRAMES,
    NAMES,
    PATHS,
    SIZE,
    TEXTS,
    TREES,
    long_rvos_tree,
    mevis_tree,
    predicted_mask,
    revos_tree,
    true_mask,
    write_predictions,
    youtube_tree,
)

TOLERANCE = 1e-9
ALL = {video: [*texts] for video, texts in TEXTS.items()}
SINGLE = {"bird": ["0", "odd key é"], "cat": ["0"]}
"""Expressions that name one object."""
KEYS = {
    "mevis": ALL, "revos": ALL, "ref-youtube-vos": SINGLE,
    "long-rvos": {"bird": ["0", "1", "odd key é"], "cat": ["0"]},
}  # fmt: skip

Mask = NDArray[np.bool_]
Change = Callable[[Path], None]


# The second implementation: pixels as sets, and a distance transform in place of a dilation.


def own_j(predicted: Mask, truth: Mask) -> float:
    ours, theirs = ({*map(tuple, np.argwhere(mask))} for mask in (predicted, truth))
    return len(ours & theirs) / len(ours | theirs) if ours | theirs else 1.0


def own_outline(mask: Mask) -> Mask:
    height, width = mask.shape
    outline = np.zeros(mask.shape, bool)
    for y in range(height):
        for x in range(width):
            below, right = min(y + 1, height - 1), min(x + 1, width - 1)
            others = {mask[y, right], mask[below, x], mask[below, right]}
            outline[y, x] = others != {mask[y, x]}
    return outline


def own_f(predicted: Mask, truth: Mask) -> float:
    ours, theirs = own_outline(predicted), own_outline(truth)
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    radius = math.ceil(0.008 * math.hypot(*mask_size(truth)))
    precision = float((distance_transform_edt(~theirs)[ours] <= radius).mean())
    recall = float((distance_transform_edt(~ours)[theirs] <= radius).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def mask_size(mask: Mask) -> tuple[int, int]:
    return mask.shape[0], mask.shape[1]


def own_decode(code: dict[str, Any]) -> Mask:
    """Run lengths letter by letter, then pixel by pixel."""
    runs: list[int] = []
    number = shift = 0
    for letter in code["counts"]:
        value = ord(letter) - 48
        number += (value & 31) << shift
        shift += 5
        if not value & 32:
            number -= (1 << shift) if value & 16 else 0
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            number = shift = 0
    pixels = [index % 2 == 1 for index, run in enumerate(runs) for _ in range(run)]
    height, width = code["size"]
    return np.array([[pixels[x * height + y] for x in range(width)] for y in range(height)])


def own_truth(protocol: str, root: Path, video: str, key: str) -> list[Mask]:
    """True masks of an expression, read from the tree."""
    frames = NAMES[video]
    if protocol in ("mevis", "revos"):
        folder = root / "valid_u" if protocol == "mevis" else root
        meta = "meta_expressions.json" if protocol == "mevis" else "meta_expressions_valid_.json"
        name = PATHS[video] if protocol == "revos" else video
        facts = json.loads((folder / meta).read_text())["videos"][name]["expressions"][key]
        tracks = json.loads((folder / "mask_dict.json").read_text())
        masks = []
        for t in range(len(frames)):
            mask = np.zeros(SIZE, bool)
            for each in facts["anno_id"]:
                if tracks[str(each)][t] is not None:
                    mask |= own_decode(tracks[str(each)][t])
            masks.append(mask)
        return masks
    number = TEXTS[video][key][1][0]
    if protocol == "ref-youtube-vos":
        folder = root / "train" / "Annotations" / video
        return [np.array(Image.open(folder / f"{f}.png")) == number for f in frames]
    folder = root / "valid" / "Annotations" / video / str(number)
    paths = [folder / f"{frame}.png" for frame in frames]
    return [np.array(Image.open(p)) > 0 if p.exists() else np.zeros(SIZE, bool) for p in paths]


def own_scores(protocol: str, root: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What the published scripts would print of each expression."""
    scores = {}
    for video, keys in KEYS[protocol].items():
        for key in keys:
            truth = own_truth(protocol, root, video, key)
            found = [predicted_mask(video, key, t) for t in range(FRAMES[video])]
            j = np.array([own_j(a, b) for a, b in zip(found, truth, strict=True)])
            f = np.array([own_f(a, b) for a, b in zip(found, truth, strict=True)])
            ours, theirs = ([bool(mask.any()) for mask in masks] for masks in (found, truth))
            both = [t for t in range(len(j)) if ours[t] and theirs[t]]
            either = sum(a or b for a, b in zip(ours, theirs, strict=True))
            name = PATHS[video] if protocol == "revos" else video
            scores[name, key] = {
                "J": j.mean(), "F": f.mean(), "empty": not any(ours),
                "tIoU": len(both) / either if either else 1.0,
                "vIoU": sum(j[t] for t in both) / either if either else 1.0,
            }  # fmt: skip
    return scores


@pytest.fixture(params=TREES)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made(protocol: str, place: Path) -> tuple[Path, Path]:
    """A tree and predictions for it."""
    make, _ = TREES[protocol]
    root = make(place / "data")
    names = PATHS if protocol == "revos" else None
    write_predictions(place / "run" / "expressions", KEYS[protocol], names)
    return root, place / "run"


def score(protocol: str, place: Path, **options: Any) -> Report:
    split = options.pop("split", TREES[protocol][1])
    return evaluate(place / "run", place / "data", protocol, split=split, **options)


@pytest.mark.parametrize("workers", [1, 2])
def test_scores_are_those_of_a_second_implementation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str, workers: int
) -> None:
    monkeypatch.setattr(module, "FRAMES_PER_STRETCH", 2)  # so that stretches are joined
    root, _ = made(protocol, tmp_path)
    report = score(protocol, tmp_path, workers=workers)
    own = own_scores(protocol, root)
    assert {(o.video, o.expression) for o in report.objects} == set(own)
    for each in report.objects:
        theirs = own[each.video, each.expression or ""]
        assert abs(each.j.mean - theirs["J"]) <= TOLERANCE, each.title
        assert abs(each.f.mean - theirs["F"]) <= TOLERANCE, each.title
        assert theirs["J"] > 0 or each.title.endswith(
            "3"
        )  # of `write_predictions` none is hopeless
        if protocol == "long-rvos":
            assert abs(each.more["tIoU"] - theirs["tIoU"]) <= TOLERANCE
            assert abs(each.more["vIoU"] - theirs["vIoU"]) <= TOLERANCE
    values = report.to_json()
    for name in "JF":
        means = {key: each[name] for key, each in own.items()}
        expected = np.mean([*means.values()])
        if protocol == "revos":
            reasoning = [means[key] for key in means if key[1] in "13"]
            referring = [means[key] for key in means if key[1] not in "13"]
            expected = (np.mean(referring) + np.mean(reasoning)) / 2
            assert abs(expected - np.mean([*means.values()])) > 1e-4
        assert abs(values[name] - expected) <= TOLERANCE
    assert abs(values["J&F"] - (values["J"] + values["F"]) / 2) <= TOLERANCE


def test_an_expression_of_several_objects_has_their_union(tmp_path: Path) -> None:
    made("mevis", tmp_path)
    perfect = tmp_path / "run" / "expressions" / "bird" / "1"
    for t, frame in enumerate(NAMES["bird"]):
        Image.fromarray(true_mask("bird", t, [1, 2])).save(perfect / f"{frame}.png")
    scores = {(o.video, o.expression): o for o in score("mevis", tmp_path).objects}
    assert scores["bird", "1"].j_and_f == 1 and scores["bird", "0"].j_and_f < 1
    assert scores["bird", "1"].title == "bird expression 1"  # no number: it names two


def test_expressions_without_a_target(tmp_path: Path) -> None:
    made("mevis", tmp_path)
    report = score("mevis", tmp_path)
    values = report.to_json()
    assert values["N-acc."] == 1 and values["T-acc."] == 1
    assert [each["kind"] for each in values["kinds"]] == ["target", "no target"]
    assert [each["expressions"] for each in values["kinds"]] == [4, 1]
    assert values["kinds"][1]["J&F"] == 1  # nothing predicted, nothing there
    (note,) = report.notes
    assert note.startswith("1 expression without a target; J, F and J&F are over all")
    # One pixel in one frame says that there is something.
    folder = tmp_path / "run" / "expressions" / "bird"
    mask = np.zeros(SIZE, np.uint8)
    mask[3, 4] = 255
    Image.fromarray(mask).save(folder / "3" / "00005.png")
    for frame in NAMES["bird"]:
        Image.fromarray(np.zeros(SIZE, np.uint8)).save(folder / "0" / f"{frame}.png")
    values = score("mevis", tmp_path).to_json()
    assert values["N-acc."] == 0 and values["T-acc."] == 3 / 4
    nothing = next(o for o in values["objects"] if o["expression"] == "3")
    assert nothing["J_mean"] == nothing["F_mean"] == 4 / 5
    # The first version has none, and no such measures.
    meta = tmp_path / "data" / "valid_u" / "meta_expressions.json"
    facts = json.loads(meta.read_text())
    del facts["videos"]["bird"]["expressions"]["3"]
    meta.write_text(json.dumps(facts))
    values = score("mevis", tmp_path).to_json()
    assert [*values] == ["protocol", "truth", "J", "F", "J&F", "objects"]


def test_kinds_and_measures_are_in_every_form(tmp_path: Path) -> None:
    made("long-rvos", tmp_path)
    report = score("long-rvos", tmp_path)
    assert report.truth == "valid/Annotations"
    values = report.to_json()
    assert [each["kind"] for each in values["kinds"]] == ["static", "hybrid", "dynamic"]
    static = [o for o in values["objects"] if o["kind"] == "static"]
    assert values["kinds"][0]["vIoU"] == pytest.approx(np.mean([o["vIoU"] for o in static]))
    head, first, *_ = report.to_text().splitlines()
    assert head.split() == ["long-rvos,", "percent", "J&F", "J", "F", "tIoU", "vIoU"]
    assert first.split()[-1] == f"{100 * values['vIoU']:.2f}"
    assert report.to_markdown().splitlines()[0].endswith("| F decay | tIoU | vIoU |")
    rows = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert [row["set"] for row in rows] == ["", *[""] * 4, "static", "hybrid", "dynamic"]
    assert [row["kind"] for row in rows[1:5]] == ["static", "hybrid", "dynamic", "static"]
    assert float(rows[0]["tIoU"]) == values["tIoU"] and rows[3]["object"] == "2"
    assert compare(report, report).to_json()["difference"]["J&F"] == 0


def test_masks_of_other_methods_are_read_as_they_are_handed_in(tmp_path: Path) -> None:
    made("mevis", tmp_path)
    before = score("mevis", tmp_path)
    base = tmp_path / "run" / "expressions"
    for path in base.glob("*/*/*.png"):
        Image.fromarray(np.array(Image.open(path)) * np.uint8(255)).save(path)
    base.rename(tmp_path / "run" / "Annotations")
    assert score("mevis", tmp_path) == before
    shutil.move(tmp_path / "run" / "Annotations" / "bird", tmp_path / "run" / "bird")
    shutil.move(tmp_path / "run" / "Annotations" / "cat", tmp_path / "run" / "cat")
    (tmp_path / "run" / "Annotations").rmdir()
    assert score("mevis", tmp_path) == before


def test_only_some_videos(tmp_path: Path, protocol: str) -> None:
    made(protocol, tmp_path)
    cat = PATHS["cat"] if protocol == "revos" else "cat"
    other = tmp_path / "run" / "expressions" / (PATHS["bird"] if protocol == "revos" else "bird")
    shutil.rmtree(other)
    assert {o.video for o in score(protocol, tmp_path, videos=[cat]).objects} == {cat}
    with pytest.raises(DatasetError, match=f"did you mean '{cat}'"):
        score(protocol, tmp_path, videos=[cat + "s"])


@pytest.mark.parametrize("protocol", TREES)
def test_trees_are_known_and_all_of_them_is_read(tmp_path: Path, protocol: str) -> None:
    kinds = {"mevis": Mevis, "ref-youtube-vos": RefYoutubeVos, "long-rvos": LongRvos,
             "revos": Revos}  # fmt: skip
    root, _ = made(protocol, tmp_path)
    split = TREES[protocol][1]
    dataset = open_dataset(root, split=split)
    assert type(dataset) is kinds[protocol] and dataset.set_names == ("all",)
    assert [len(video.frames) for video in dataset.videos] == [5, 4]
    assert all(path.is_file() for path in files_of(dataset))
    if protocol in ("mevis", "revos"):
        truth = root / ("valid_u/mask_dict.json" if protocol == "mevis" else "mask_dict.json")
        assert truth in files_of(dataset)  # nothing may be written over it


def test_the_test_videos_in_the_file_of_valid_are_left_out(tmp_path: Path) -> None:
    root = youtube_tree(tmp_path)
    assert [video.name for video in open_dataset(root).videos] == ["bird"]
    assert [video.name for video in open_dataset(root, split="test").videos] == ["cat"]
    shutil.rmtree(root / "meta_expressions" / "test")
    assert [video.name for video in open_dataset(root).videos] == ["bird", "cat"]


# What is wrong with a tree.


def edit(name: str, change: Callable[[Any], None]) -> Change:
    """Change the contents of a JSON file."""

    def apply(place: Path) -> None:
        values = json.loads((place / name).read_text())
        change(values)
        (place / name).write_text(json.dumps(values))

    return apply


def gone(*names: str) -> Change:
    def apply(place: Path) -> None:
        for name in names:
            path = place / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return apply


def text(name: str, content: str) -> Change:
    return lambda place: (place / name).write_text(content) and None


def drop_annotation(values: Any) -> None:
    del values["11"]


def shorten(values: Any) -> None:
    values["11"].pop()


def spoil(**facts: Any) -> Callable[[Any], None]:
    return lambda values: values["11"][0].update(facts)


def set_type(value: Any) -> Callable[[Any], None]:
    def change(values: Any) -> None:
        values["videos"]["UVO/all/bird"]["expressions"]["0"]["type_id"] = value

    return change


def no_frames(values: Any) -> None:
    values["videos"]["bird"]["frames"] = []


def no_ids(values: Any) -> None:
    del values["videos"]["bird"]["expressions"]["1"]["anno_id"]


def no_object(values: Any) -> None:
    del values["videos"]["bird"]["expressions"]["0"]["obj_id"]


def other_object(values: Any) -> None:
    values["videos"]["bird"]["expressions"]["0"]["obj_id"] = "7"


MASKS, META = "data/valid_u/mask_dict.json", "data/valid_u/meta_expressions.json"
YOUTUBE = "data/meta_expressions/train/meta_expressions.json"
LONG = "data/valid/meta_expressions.json"


@pytest.mark.parametrize(
    ("protocol", "change", "message"),
    [
        ("mevis", edit(MASKS, drop_annotation), r"mask_dict\.json' lacks annotation 11, which the"),
        (
            "mevis",
            edit(MASKS, shorten),
            r"annotation 11 in '.*' has masks of 4 frames, and bird of expression 0 has 5; unpack",
        ),
        (
            "mevis",
            edit(MASKS, spoil(size=[96, 127])),
            r"annotation 11 in '.*', frame 00000 of bird cannot be read: its runs do not fill "
            r"96×127 pixels; unpack it again \(and 1 more such faults\)",
        ),
        (
            "mevis",
            edit(MASKS, spoil(size=[1, 2], counts="11")),
            r"expressions/bird/0/00000\.png' is 128×96, its truth 'annotation 11 in .*' 2×1; write",
        ),
        ("mevis", edit(MASKS, spoil(size=[0, 2])), r"11 in '.*' is no run lengths in frame 1: its"),
        (
            "mevis",
            edit(MASKS, spoil(size=[9])),
            r"11 in '.*' is no run lengths in frame 1: not eno",
        ),
        ("mevis", edit(MASKS, spoil(counts=[3, -3])), r"its runs do not fill 96×128 pixels"),
        ("mevis", edit(MASKS, spoil(counts="zz")), r"its letters are no compressed runs; unpack"),
        (
            "mevis",
            edit(MASKS, spoil(size=[100000, 100000])),
            r"has frames of 100000×100000 pixels, more than",
        ),
        ("mevis", edit(MASKS, lambda v: v.update({"11": 3})), r"annotation 11 in '.*' is no list"),
        ("mevis", text(MASKS, "[]"), r"mask_dict\.json' cannot be read: it is no such JSON"),
        ("mevis", text(MASKS, '{"11": [null'), r"mask_dict\.json' cannot be read: it is no such"),
        ("mevis", text(MASKS, ""), r"mask_dict\.json' cannot be read: it is no such JSON"),
        (
            "mevis",
            gone(MASKS),
            r"the truth of MeViS's valid_u is not published, or not here \(no m",
        ),
        ("mevis", gone(META), r"no expressions of MeViS for split 'valid_u' in '.*data'; give its"),
        ("mevis", edit(META, no_ids), r"expression 1 of bird has no anno_id; unpack the expres"),
        ("mevis", edit(META, no_frames), r"names no frames of bird; unpack it again"),
        (
            "mevis",
            gone("run/expressions/bird/1/00010.png", "run/expressions/cat/0"),
            r"bird/1' lacks 00010\.png; '.*cat/0' lacks all frames \(4\); write a mask",
        ),
        (
            "mevis",
            lambda place: (
                shutil.copytree(place / "run/expressions/cat", place / "run/expressions/dog")
                and None
            ),
            r"no truth in '.*mask_dict\.json' for .*expressions/dog; unpack it there, or choose",
        ),
        ("revos", gone("data/mask_dict.json"), r"no mask_dict\.json in '.*data'; unpack it there"),
        (
            "revos",
            edit("data/meta_expressions_valid_.json", set_type("")),
            r"expression 0 of UVO/all/bird has no type_id; unpack",
        ),
        (
            "ref-youtube-vos",
            gone("data/train/Annotations/cat/00010.png"),
            r"the truth is not whole: '.*train/Annotations/cat' lacks 00010\.png; unpack it again",
        ),
        (
            "ref-youtube-vos",
            edit(YOUTUBE, no_object),
            r"expression 0 of bird names no object; unpack the expressions again",
        ),
        (
            "ref-youtube-vos",
            edit(YOUTUBE, other_object),
            r"the truth of bird \('.*Annotations/bird'\) shows no object 7, which expression 0 nam",
        ),
        (
            "long-rvos",
            edit(LONG, other_object),
            r"no truth in '.*valid/Annotations/bird/7': none of the 5 frames of bird; unpack it",
        ),
        (
            "long-rvos",
            gone("data/valid/Annotations"),
            r"the truth of Long-RVOS's valid is not published, or not here \(no '.*valid/Annot",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(
    tmp_path: Path, protocol: str, change: Change, message: str
) -> None:
    made(protocol, tmp_path)
    change(tmp_path)
    with pytest.raises(DatasetError, match=message) as error:
        score(protocol, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("make", "protocol", "message"),
    [
        (
            mevis_tree,
            "mevis",
            r"the truth of MeViS's valid is not published, or not here \(no mask_dict\.json\); "
            r"score --split valid_u, or pack the predictions for its server with carvid submit",
        ),
        (
            youtube_tree,
            "ref-youtube-vos",
            r"the truth of Ref-YouTube-VOS's valid is not published, or not here \(no obj_id in "
            r"its expressions\); score --split train, or pack the predictions .* carvid submit",
        ),
    ],
)
def test_truth_that_is_not_published_is_told(
    tmp_path: Path, make: Callable[[Path], Path], protocol: str, message: str
) -> None:
    make(tmp_path / "data")
    (tmp_path / "run").mkdir()
    with pytest.raises(DatasetError, match=message):
        score(protocol, tmp_path, split="valid")


def test_first_frames_are_no_truth_of_ref_youtube_vos(tmp_path: Path) -> None:
    """YouTube-VOS gives masks of the first frames of `valid`; a score of them alone would lie."""
    made("ref-youtube-vos", tmp_path)
    data = tmp_path / "data"
    shutil.copytree(data / "train" / "Annotations", data / "valid" / "Annotations")
    for name in ("train", "valid"):
        shutil.copy(
            data / "meta_expressions/train/meta_expressions.json",
            data / f"meta_expressions/{name}/x.json",
        )
    shutil.move(
        data / "meta_expressions/valid/x.json",
        data / "meta_expressions/valid/meta_expressions.json",
    )
    shutil.rmtree(data / "meta_expressions" / "test")
    assert score("ref-youtube-vos", tmp_path, split="valid").truth == "valid/Annotations"
    for path in (data / "valid" / "Annotations" / "bird").glob("*.png"):
        if path.stem != "00000":
            path.unlink()
    with pytest.raises(DatasetError, match=(
        r"Ref-YouTube-VOS's valid is not published, .*Annotations/bird' lacks 00005\.png, 00010"
    )):  # fmt: skip
        score("ref-youtube-vos", tmp_path, split="valid")


def test_what_counts_for_nothing_is_told(tmp_path: Path) -> None:
    made("revos", tmp_path)
    edit("data/meta_expressions_valid_.json", set_type(2))(tmp_path)
    report = score("revos", tmp_path)
    assert len(report.objects) == 4
    first, second = report.notes
    assert first.startswith("1 expression of type 2, which the official evaluation leaves out")
    assert second == "the truth is empty in all frames for expression 3 of UVO/all/bird"
    made("long-rvos", tmp_path / "long")
    folder = tmp_path / "long" / "data" / "valid" / "Annotations" / "cat" / "1"
    shutil.copy(folder / "00000.png", folder / "7.png")
    assert re.search(
        r"cat/1' has 7, which are no frames of cat", score("long-rvos", tmp_path / "long").notes[0]
    )
    made("mevis", tmp_path / "mevis")
    meta = "data/valid_u/meta_expressions.json"
    edit(meta, lambda v: v["videos"]["cat"].update(expressions={}))(tmp_path / "mevis")
    report = score("mevis", tmp_path / "mevis")
    assert report.notes[0] == "cat has no expressions; it counts for nothing"
    assert {o.video for o in report.objects} == {"bird"}


def test_a_mask_dict_is_read_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mevis_tree(tmp_path) / "valid_u" / "mask_dict.json"
    whole = read_mask_dict(path, {"11", "12", "111"})
    assert [each is None for each in whole["12"]] == [False, True, False, True, False]
    values = json.loads(path.read_text())
    for chunk in (1, 7, 100):
        monkeypatch.setattr(mask_dict, "CHUNK_CHARS", chunk)
        for form in ({"indent": 2}, {"separators": (",", ":")}):
            path.write_text(json.dumps(values, **form), encoding="utf-8-sig")  # type: ignore[arg-type]
            assert read_mask_dict(path, {"11", "12", "111"}) == whole
    assert read_mask_dict(path, set()) == {}
    path.write_text("{}")
    assert read_mask_dict(path, set()) == {}
    path.write_text('{"11": 3')
    with pytest.raises(DatasetError, match="it is no such JSON"):
        read_mask_dict(path, {"11"})


def test_the_command_line_scores_them(tmp_path: Path) -> None:
    made("long-rvos", tmp_path)
    out = tmp_path / "scores.csv"
    result = carvid("eval", tmp_path / "run", tmp_path / "data", "--protocol", "long-rvos",
                    "--csv", out, "--workers", 1, "--json")  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    values = json.loads(result.stdout)
    assert values["protocol"] == "long-rvos" and 0 < values["vIoU"] < values["tIoU"] < 1
    assert len(out.read_text().splitlines()) == 1 + 1 + 4 + 3
    made("mevis", tmp_path / "m")
    place = tmp_path / "m"
    result = carvid("eval", place / "run", place / "data", "--protocol", "mevis",
                    "--split", "valid_u", "--csv", place / "data/valid_u/mask_dict.json",
                    "--workers", 1)  # fmt: skip
    assert result.returncode == 1 and "mask_dict.json' is read" in result.stderr


def test_long_rvos_is_told_by_its_kinds(tmp_path: Path) -> None:
    root = long_rvos_tree(tmp_path)
    path = root / "valid" / "meta_expressions.json"
    path.write_text(path.read_text().replace('"static"', '"moving"'))
    assert type(open_dataset(root)) is Mevis


def test_names_of_videos_lead_nowhere_else(tmp_path: Path) -> None:
    root = revos_tree(tmp_path)
    path = root / "meta_expressions_valid_.json"
    for name in ("../cat", "/cat", "a//b", "a/../../b", "a/"):
        path.write_text(json.dumps({"videos": {name: {"expressions": {}, "frames": []}}}))
        with pytest.raises(DatasetError, match="and none of a file; rename it"):
            open_dataset(root)
