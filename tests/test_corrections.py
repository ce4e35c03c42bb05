"""Corrections as data: what can be said, and one clear line for everything that cannot; and the
masks that they change."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import carvid
from carvid.base.errors import ConfigError
from carvid.config import load_config
from carvid.corrections.masks import CorrectedMasks
from carvid.media.frames import VideoInfo
from carvid.run import corrections as module
from carvid.run.corrections import Correction, correction_of, in_json, parse_click, read_corrections
from carvid.run.earlier import differences
from carvid.run.facts import RunFacts
from carvid.run.result import FrameResult
from carvid.run.track import MemoryStore, Track
from carvid.temporal.state import TemporalState

TEXTS = ["a dog", "a white cat", "no"]
SIZE_HW, FRAMES = (34, 48), 3
YES = {"frame": 3, "expression": 1, "point": [5, 6]}


def one_line(error: pytest.ExceptionInfo[ConfigError]) -> str:
    said = str(error.value)
    assert len(said.splitlines()) == 1 and len(said) < 400
    return said


# What can be said


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("3:5,6:yes:1", Correction(3, 1, point=(5, 6))),
        ("3:5,6:no:a white cat", Correction(3, 2, False, point=(5, 6))),
        (" 3 : 5.5 , 6 : no : 2 ", Correction(3, 2, False, point=(5.5, 6))),
        ("0:1,2,30,20:a dog", Correction(0, 1, box=(1, 2, 30, 20))),
        ("0:1,2,30,20:yes:1", Correction(0, 1, box=(1, 2, 30, 20))),
        ("3:5,6:no:no", Correction(3, 3, False, point=(5, 6))),
    ],
)
def test_clicks(text: str, wanted: Correction) -> None:
    assert parse_click(text, TEXTS) == wanted


def test_of_one_expression_a_click_needs_no_more() -> None:
    assert parse_click("3:5,6", ["a dog"]) == Correction(3, 1, point=(5, 6))
    assert parse_click("3:5,6:no", ["a dog"]) == Correction(3, 1, False, point=(5, 6))
    assert parse_click("3:5,6:no", ["no"]) == Correction(3, 1, False, point=(5, 6))
    with pytest.raises(ConfigError, match="say which of the 3 expressions is corrected"):
        parse_click("3:5,6:no", TEXTS)


@pytest.mark.parametrize(
    "text",
    [
        "", "3", "3:", "3:5", "3:5,6,7", "3:5,6,7,8,9", "-3:5,6", "3:-5,6", "3:nan,6", "3:inf,6",
        "3.5:5,6", "3:5;6", "3:5,6:", "3:1e3,6", "x:5,6", "3:5,6\n4:5,6", "9" * 5000 + ":5,6",
    ],
)  # fmt: skip
def test_what_is_no_click(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^a click is FRAME:X,Y, perhaps with :no .* got '") as e:
        parse_click(text, ["a dog"])
    one_line(e)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3:5,6:maybe", "there is no expression 'maybe' to correct; known are: a dog, a white cat"),
        ("3:5,6:a whit cat", "there is no expression 'a whit cat'.*; did you mean 'a white cat'"),
        ("3:5,6:0", "there is no label 0 to correct; there are 3"),
        ("3:5,6:4", "there is no label 4 to correct; there are 3"),
        ("3:5,6:" + "9" * 5000, "there is no expression '999"),
        ("3:9,6,5,8:1", r"a box is left, top, right, bottom; got \[9.0, 6.0, 5.0, 8.0\]"),
        ("3:5,6,5,8:1", r"a box is left, top, right, bottom"),
        ("3:5,6,9,8:no:1", "a box says where the thing is; what it is not, a point says"),
        (f"3:{'9' * 5000},6:1", "a correction's point is a list of numbers"),
        ("9999999999:5,6:1", "a correction's frame must be 0 or more, got 9999999999"),
    ],
)
def test_clicks_that_say_nothing_of_this_run(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        parse_click(text, TEXTS)
    one_line(error)


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("0123456789:,.- noyesax\n٣²"), max_size=20))
def test_any_click_is_a_correction_or_one_line(text: str) -> None:
    try:
        said = parse_click(text, TEXTS)
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert correction_of(json.loads(json.dumps(said.to_dict())), TEXTS) == said


@pytest.mark.parametrize(
    "values",
    [
        YES,
        YES | {"answer": "no"},
        {"frame": 0, "expression": "a white cat", "box": [1.5, 2, 30, 20], "answer": "yes"},
        {"frame": 7, "expression": "3", "point": [0, 0]},
    ],
)
def test_as_json_and_back(values: dict[str, Any]) -> None:
    said = correction_of(values, TEXTS)
    assert correction_of(json.loads(json.dumps(said.to_dict())), TEXTS) == said
    assert said.frame == values["frame"] and said.wanted == (values.get("answer") != "no")
    assert list(said.point or said.box or ()) == values.get("point", values.get("box"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "a correction is a mapping with a frame"),
        ("3:5,6", "a correction is a mapping with a frame"),
        (None, "a correction is a mapping with a frame"),
        ({"point": [5, 6]}, "a correction is a mapping with a frame"),
        (YES | {"pont": 1}, "a correction has no 'pont'; did you mean 'point'"),
        (YES | {7: 1}, "a correction has no 7"),
        (YES | {"answer": True}, "answer is yes or no, got True"),
        (YES | {"answer": []}, r"answer is yes or no, got \[\]"),
        (YES | {"answer": None}, "answer is yes or no, got None"),
        (YES | {"frame": -1}, "frame must be 0 or more, got -1"),
        (YES | {"frame": 3.0}, "frame must be 0 or more, got 3.0"),
        (YES | {"frame": True}, "frame must be 0 or more, got True"),
        (YES | {"frame": "3"}, "frame must be 0 or more, got '3'"),
        (YES | {"frame": None}, "frame must be 0 or more, got None"),
        (YES | {"frame": 10**400}, "frame must be 0 or more, got 1000"),
        (YES | {"frame": 10**5000}, "frame must be 0 or more, got a huge number"),
        (YES | {"expression": True}, "there is no expression True to correct"),
        (YES | {"expression": 1.0}, "there is no expression 1.0 to correct"),
        (YES | {"expression": ["a dog"]}, r"there is no expression \['a dog'\] to correct"),
        (YES | {"expression": 10**5000}, "there is no label a huge number to correct"),
        (YES | {"expression": "a\ndog"}, "there is no expression .* did you mean 'a dog'"),
        (YES | {"expression": ""}, "there is no expression '' to correct"),
        (YES | {"point": [5]}, "a point is x, y"),
        (YES | {"point": []}, "a point is x, y"),
        (YES | {"point": "56"}, "point is a list of numbers, got '56'"),
        (YES | {"point": {"x": 5, "y": 6}}, "point is a list of numbers"),
        (YES | {"point": [5, None]}, "point is a list of numbers"),
        (YES | {"point": [5, True]}, "point is a list of numbers"),
        (YES | {"point": [5, float("nan")]}, "point is a list of numbers"),
        (YES | {"point": [5, 1e400]}, "point is a list of numbers"),
        (YES | {"point": [5, 10**400]}, "point is a list of numbers"),
        (YES | {"point": [1e300, 6]}, "point is a list of numbers"),
        (YES | {"point": list(range(10**5))}, "a point is x, y"),
        (YES | {"box": [1, 2, 3, 4]}, "a correction is a point, or a box"),
        (YES | {"point": None}, "a correction is a point, or a box"),
        (YES | {"point": None, "box": [1, 2, 3]}, "a box is left, top, right, bottom"),
    ],
)
def test_mappings_that_are_no_correction(values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        correction_of(values, TEXTS)
    one_line(error)


def test_numbers_of_numpy_are_taken_as_such() -> None:
    given: Any = [np.int64(3), np.uint8(2), True, np.array([5, 6.5], np.float32)]
    said = Correction(*given)
    assert said == Correction(3, 2, point=(5.0, 6.5)) and hash(said)
    assert Correction(3, 2, point=[5, 6.5]) == said  # type: ignore[arg-type]
    json.dumps(said.to_dict())


@pytest.mark.parametrize(
    "more",
    [{"wanted": "no"}, {"wanted": 0}, {"point": 5}, {"point": "ab"}, {"label": 0}, {"label": True},
     {"box": (1, 2, 3, 4)}, {"point": None}, {"point": (1, float("nan"))}],
)  # fmt: skip
def test_wrong_arguments_are_told(more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as error:
        Correction(**{"frame": 3, "label": 1, "point": (5, 6)} | more)
    one_line(error)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (Correction(3, 1, point=(0, 0)), "there is no frame 3 to correct; the last is 2"),
        (Correction(0, 4, point=(0, 0)), "there is no label 4 to correct; there are 3"),
        (Correction(0, 1, point=(48, 0)), "48, 0 lies outside of the picture, which is 48×34"),
        (Correction(0, 1, point=(0, 34)), "outside"),
        (Correction(0, 1, point=(-0.5, 0)), "outside"),
        (Correction(0, 1, box=(40, 0, 49, 9)), "outside"),
        (Correction(0, 1, box=(0, 0, 9, 1e9)), "outside"),
        (Correction(0, 1, box=(-1, 0, 9, 9)), "outside"),
        (Correction(2, 3, point=(47.9, 33.9)), None),
        (Correction(2, 3, box=(0, 0, 48, 34)), None),
    ],
)
def test_what_can_be_said_of_a_run(said: Correction, message: str | None) -> None:
    if message is None:
        said.check(SIZE_HW, FRAMES, len(TEXTS))
        return
    with pytest.raises(ConfigError, match=message) as error:
        said.check(SIZE_HW, FRAMES, len(TEXTS))
    one_line(error)


# Files


def test_files_of_corrections(tmp_path: Path) -> None:
    path = tmp_path / "said.json"
    assert module.MAX_FILE_BYTES > 10**6
    for encoding in ("utf-8", "utf-8-sig"):  # as some editors write it
        path.write_text(json.dumps([YES, YES | {"answer": "no"}]), encoding=encoding)
        said = read_corrections(str(path), TEXTS)
        assert said == [Correction(3, 1, point=(5, 6)), Correction(3, 1, False, point=(5, 6))]
    path.write_text("[]")
    assert read_corrections(path, TEXTS) == []
    path.write_text(json.dumps(in_json(said)))
    assert read_corrections(path, TEXTS) == said == carvid.read_corrections(path, TEXTS)
    path.write_text('[{"frame": 1, "frame": 2, "expression": 1, "point": [5, 6]}]')  # as all JSON
    assert read_corrections(path, TEXTS)[0].frame == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no JSON; give a list of corrections"),
        (b"3:5,6", "is no JSON"),
        (b"\xff\xfe[]", "is no JSON"),
        (b'[{"frame": "\xe9"}]', "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b'[{"frame": 1' + b"0" * 5000 + b"}]", "is no JSON"),
        (b"{}", "holds no list of corrections"),
        (b"null", "holds no list of corrections"),
        (b"[" * 300 + b"]" * 300, "entry 1: a correction is a mapping with a frame, got "),
        (b"[{}, 1]", "entry 1: a correction is a mapping with a frame, got {}"),
        (json.dumps([YES, YES | {"frame": -1}]).encode(), "entry 2: a correction's frame must be"),
        (json.dumps([YES | {"point": [1e308] * 99_999}]).encode(), "entry 1: a correction's point"),
    ],
)
def test_files_of_something_else(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "said.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as error:
        read_corrections(path, TEXTS)
    assert one_line(error).count("said.json") == 1


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "said.json"
    for place, message in ((path, "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(
            ConfigError, match=rf"cannot read corrections from .*{message}"
        ) as error:
            read_corrections(place, TEXTS)
        one_line(error)
    path.write_text(json.dumps([YES]))
    if os.geteuid():
        path.chmod(0)
        with pytest.raises(ConfigError, match=r"cannot read .*Permission denied"):
            read_corrections(path, TEXTS)
        path.chmod(0o600)
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 10)
    with pytest.raises(ConfigError, match="is too large for a file of corrections") as error:
        read_corrections(path, TEXTS)
    one_line(error)
    with pytest.raises(ConfigError):
        read_corrections("a\0b", TEXTS)


# In a run's facts, and its masks


def facts(*corrections: Correction) -> RunFacts:
    video = VideoInfo("clip.mp4", "pyav", SIZE_HW, Fraction(25), FRAMES)
    return RunFacts(load_config("default"), video, tuple(TEXTS), (), {}, corrections=corrections)


def test_a_run_json_holds_them() -> None:
    said = (Correction(2, 3, point=(5, 6)), Correction(0, 1, box=(1, 2, 3, 4)))
    values = json.loads(json.dumps(facts(*said).to_dict()))
    assert RunFacts.from_dict(values) == facts(*said)
    assert [each["expression"] for each in values["corrections"]] == [3, 1]
    assert "corrections" not in facts().to_dict()
    del values["corrections"]
    assert RunFacts.from_dict(values).corrections == ()
    for wrong in (3, [3], {"frame": 1}, [{"frame": -1}]):
        with pytest.raises((ConfigError, TypeError)):  # a damaged one, see `Track.open`
            RunFacts.from_dict(values | {"corrections": wrong})


def test_runs_differ_in_their_corrections() -> None:
    one, other = Correction(2, 3, point=(5, 6)), Correction(2, 3, False, point=(5, 6))
    plain, first, second = (facts(*said).to_dict() for said in ((), (one,), (other,)))
    assert differences(first, first) == differences(plain, plain) == []
    assert differences(first, plain) == ["there were 1 correction, there are 0"]
    assert differences(plain, first) == ["there were 0 corrections, there are 1"]
    assert differences(first, second) == ["corrections differ"]
    assert differences(first | {"corrections": "x"}, first) != []


def plane(*rows: int) -> NDArray[np.bool_]:
    """A mask of whole rows."""
    mask = np.zeros(SIZE_HW, bool)
    mask[list(rows)] = True
    return mask


def in_memory() -> Track:
    """Rows 1 and 2 are the dog's in each of three frames, 2 and 3 the cat's, and none is `no`."""
    store, state = MemoryStore(facts()), TemporalState.initial(3)
    masks = np.stack([plane(1, 2), plane(2, 3), plane()])
    for index in range(FRAMES):
        scores = np.array([0.9, 0.8, 0], np.float32)
        maps = masks * scores[:, None, None]
        store.add(FrameResult(index, index / 25, masks, maps, scores, state))
    return store.track()


def on_disk(folder: Path) -> Track:
    in_memory().save(folder)
    return Track.open(folder)


def rows_of(labels: NDArray[np.uint8], label: int) -> list[int]:
    rows = labels == label
    assert (rows.all(axis=1) == rows.any(axis=1)).all()
    return np.flatnonzero(rows.any(axis=1)).tolist()


def test_masks_in_memory_overlap() -> None:
    masks = CorrectedMasks(in_memory())
    assert list(masks.changed) == [] and rows_of(masks.labels(1), 1) == [1, 2]
    masks.put(1, 0, plane(1, 2))  # as it is
    assert list(masks.changed) == []
    masks.put(1, 1, plane(1, 4))
    assert (masks.masks(1) == [plane(1, 2), plane(1, 4), plane()]).all()
    assert (masks.mask(1, 1) == plane(1, 4)).all() and (masks.mask(0, 1) == plane(2, 3)).all()
    assert (masks.others(1, 1) == [plane(1, 2), plane()]).all()
    assert [rows_of(masks.labels(1), label) for label in (1, 2, 3)] == [[2], [1, 4], []]
    masks.put(1, 1, plane())  # the dog shows again
    assert [rows_of(masks.labels(1), label) for label in (1, 2)] == [[1, 2], []]
    masks.put(2, 2, plane(0, 1, 2, 3))
    assert rows_of(masks.labels(2), 3) == [0, 1, 2, 3] and masks.mask(2, 0).any()
    assert list(masks.changed) == [1, 2]
    assert rows_of(masks.labels(0), 1) == [1, 2]


def test_masks_of_a_folder_are_its_label_maps(tmp_path: Path) -> None:
    track = on_disk(tmp_path / "run")
    masks = CorrectedMasks(track)
    assert (masks.masks(1) == [plane(1, 2), plane(3), plane()]).all()
    masks.put(1, 1, plane(2, 3))
    assert (masks.masks(1) == [plane(1), plane(2, 3), plane()]).all()
    assert (masks.others(1, 1) == [plane(1), plane()]).all()
    masks.put(1, 1, plane(3))  # nobody knows what was below
    assert (masks.masks(1) == [plane(1), plane(3), plane()]).all()
    masks.put(0, 2, plane(1))
    assert list(masks.changed) == [0, 1]
    assert (track.label_maps[1] == CorrectedMasks(track).labels(1)).all()


def test_earlier_corrections_are_taken_up(tmp_path: Path) -> None:
    track, changed = on_disk(tmp_path / "run"), CorrectedMasks(on_disk(tmp_path / "other"))
    changed.put(2, 0, plane(9))
    store = MemoryStore(facts())
    for index in range(FRAMES):
        result = track.result(index)
        store.add(replace(result, masks=changed.masks(index)), changed.labels(index))
    masks = CorrectedMasks(track)
    masks.take(store.track())
    assert list(masks.changed) == [2]
    assert (masks.masks(2) == [plane(9), plane(3), plane()]).all()
    assert (masks.masks(1) == [plane(1, 2), plane(3), plane()]).all()
