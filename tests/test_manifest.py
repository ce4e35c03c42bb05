from __future__ import annotations

import json
from pathlib import Path

import pytest

from carvid.base.errors import ConfigError, ExpressionError
from carvid.batch.manifest import Clip, clips_of, read_manifest
from carvid.media.frames import Selection


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where three clips lie; nothing here looks into them."""
    (tmp_path / "more").mkdir()
    for name in ("a.mp4", "b.mp4", "more/a.mp4"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def manifest(folder: Path, suffix: str, *lines: str) -> Path:
    path = folder / f"clips{suffix}"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_rows_of_a_csv_that_differ_in_expr_alone_are_one_run(folder: Path) -> None:
    path = manifest(
        folder, ".csv", "\ufeffclip,expr,start,end,stride,name", 'a.mp4,"the dog, left",,,,',
        "b.mp4, a cat ,0:01,2.5,3,second", "", "a.mp4,the cat,,,,", "a.mp4,the dog,1,,,later",
    )  # fmt: skip
    assert read_manifest(path, Selection(end_s=9, max_side=64)) == [
        Clip("a", str(folder / "a.mp4"), ("the dog, left", "the cat"), Selection(0, 9, 1, 64)),
        Clip("second", str(folder / "b.mp4"), ("a cat",), Selection(1, 2.5, 3, 64)),
        Clip("later", str(folder / "a.mp4"), ("the dog",), Selection(1, 9, 1, 64)),
    ]


def test_a_line_of_json_is_a_run(folder: Path) -> None:
    rows = [
        {"clip": "a.mp4", "expr": "a dog"},
        {"clip": str(folder / "more" / "a.mp4"), "expr": ["a dog", "a cat"], "name": "ü 2",
         "start": "0:01", "end": 2.5, "stride": 3},
    ]  # fmt: skip
    path = manifest(folder, ".jsonl", json.dumps(rows[0]), "", json.dumps(rows[1]))
    assert read_manifest(path) == [
        Clip("a", str(folder / "a.mp4"), ("a dog",), Selection()),
        Clip("ü 2", str(folder / "more" / "a.mp4"), ("a dog", "a cat"), Selection(1, 2.5, 3)),
    ]


def faults(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_manifest(path)
    message = str(caught.value)
    assert message.startswith(f"'{path}' cannot be used: line ")
    assert message.endswith("; mend it, nothing was run") and "\n" not in message
    return message


def test_every_fault_of_a_csv_is_told_at_once(folder: Path) -> None:
    path = manifest(
        folder, ".csv", "clip,expr,start,end,stride,name",
        "none.mp4,a dog,x,,0,",  # 2
        "a.mp4,,,,,",  # 3
        "a.mp4,a dog,,,,../x",  # 4
        "a.mp4,a dog,,,,/x",  # 5
        "a.mp4,the dog, the left one,,,,",  # 6
        ",a dog,2,1,1.5,one",  # 7
        "a.mp4,a dog,2,1,,one",  # 8
        "a.mp4,a dog,,,,two",  # 9
        "b.mp4,a dog,,,,TWO",  # 10
        "-,a dog,,,,",  # 11
        'a.mp4,"a "dog,,,,',  # 12
        "b.mp4,a dog,,,,.carvid",  # 13
        f"b.mp4,a dog,,,,{'n' * 201}",  # 14
    )  # fmt: skip
    message = faults(path)
    for line, fault in (
        (2, f"no file or folder '{folder / 'none.mp4'}'"),
        (2, "cannot read the time 'x'"),
        (3, "has no expr"),
        (4, "the name '../x' is none of a folder"),
        (5, "the name '/x' is none of a folder"),
        (6, "has 7 cells, the header 6; put quotes around commas"),
        (7, "has no clip"),
        (7, "stride must be 1 or more, got '1.5'"),
        (8, "--end must be after --start, got 1.0 and 2.0"),
        (10, "'TWO' is the folder of line 9 too"),
        (11, "'-' comes only once"),
        (12, "is no CSV: "),
        (13, "the name '.carvid' is none of a folder"),
        (14, f"the name '{'n' * 40}…' is too long"),
    ):
        assert f"line {line}: {fault}" in message, fault
    assert message.count("line ") == 14 + 1  # one names another


def test_every_fault_of_json_lines_is_told_at_once(folder: Path) -> None:
    path = manifest(
        folder, ".jsonl",
        '{"clip": "a.mp4", "expr": "a dog"',  # 1
        '["a.mp4", "a dog"]',  # 2
        '{"clip": "a.mp4", "exprs": "a dog", "stride": 1.5}',  # 3
        '{"clip": "a.mp4", "expr": ["a dog", 3]}',  # 4
        '{"clip": "a.mp4", "expr": []}',  # 5
        '{"clip": 3, "expr": " ", "start": true}',  # 6
        '{"clip": "a.mp4", "clip": "b.mp4", "expr": "a dog"}',  # 7
        '{"clip": "a\\u0000.mp4", "expr": "a dog"}',  # 8
        '{"clip": "a\\ud800.mp4", "expr": "a dog", "name": ""}',  # 9
        '{"clip": "a.mp4", "expr": "a dog"}',  # 10
        '{"clip": "more/a.mp4", "expr": "a dog", "end": NaN, "stride": -2}',  # 11
        '{"clip": "more/a.mp4", "expr": "a dog"}',  # 12
    )  # fmt: skip
    message = faults(path)
    for line, fault in (
        (1, "is no JSON: "),
        (2, "is no object such as"),
        (3, "unknown key 'exprs'; did you mean 'expr'?"),
        (3, "has no expr"),
        (3, "stride must be 1 or more, got 1.5"),
        (4, "expr must be a text or a list of texts, got ['a dog', 3]"),
        (5, "no expression is given"),
        (6, "clip must be a text, got 3"),
        (6, "an expression is empty"),
        (6, "cannot read the time True"),
        (7, "is no JSON: a key is there twice"),
        (8, "clip must be a text"),
        (9, "clip must be a text"),
        (9, "name must be a text, got ''"),
        (11, "--end must be after --start"),
        (12, "'a' is the folder of line 10 too; give one another name"),
    ):
        assert f"line {line}: {fault}" in message, fault


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("clip;exprs", "unknown column 'exprs'; did you mean 'expr'?"),
        ("clip,exprs", "unknown column 'exprs'; did you mean 'expr'?"),
        ("clip,expr,expr", "column 'expr' is there twice"),
        ("clip,name", "there is no column 'expr'"),
    ],
)
def test_a_wrong_header_is_told(folder: Path, header: str, fault: str) -> None:
    assert f"line 1: {fault}" in faults(manifest(folder, ".csv", header, "a.mp4,a dog"))


def test_files_that_are_no_manifest(folder: Path) -> None:
    for suffix, lines in ((".csv", ["clip,expr"]), (".jsonl", [""])):
        assert "line 1: no clip is listed" in faults(manifest(folder, suffix, *lines))
    path = folder / "latin.csv"
    path.write_bytes("clip,expr\na.mp4,der weiße Hund\n".encode("latin-1"))
    assert "line 2: is not UTF-8; save the manifest as CSV in UTF-8" in faults(path)
    with pytest.raises(ConfigError, match=r"ends in \.csv or \.jsonl"):
        read_manifest(folder / "a.mp4")
    with pytest.raises(ConfigError, match=r"cannot read the manifest .*No such file"):
        read_manifest(folder / "none.csv")


def test_names_come_from_the_clips(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = folder / '.a "b": c?.mp4'
    odd.write_bytes(b"x")
    images = folder / "shot.v2"
    images.mkdir()
    monkeypatch.chdir(images)
    clips = clips_of([str(odd), ".", str(folder / "b.mp4")], ["a dog"])
    assert [clip.name for clip in clips] == ["a _b__ c_", "shot.v2", "b"]
    (folder / "....mp4").write_bytes(b"x")
    videos = [folder / "a.mp4", folder / "none.mp4", folder / "more" / "a.mp4", folder / "....mp4"]
    with pytest.raises(ConfigError) as caught:
        clips_of(map(str, videos), ["a dog"])
    for fault in ("no file or folder", "have the folder 'a' both", "gives no name for a folder"):
        assert fault in str(caught.value)
    with pytest.raises(ExpressionError, match="an expression is empty"):
        clips_of([str(odd)], [" "])
