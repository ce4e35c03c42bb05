"""Names and texts as people have them: bytes that are no UTF-8, accents, spreadsheets, scripts."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from carvid import Track
from carvid.base.errors import ConfigError, ExpressionError, VideoError
from carvid.base.names import existing, shown, to_system, to_unicode
from carvid.batch.manifest import Clip, read_manifest
from carvid.media.frames import Selection, VideoInfo
from carvid.media.open import open_video
from tests.conftest import carvid, make_frames

ANY_BYTES = sys.platform == "linux"
"""Elsewhere file systems or Python take names that are Unicode alone."""
CAFE = "caf\udce9"
"""The bytes of "café" in Latin-1, as Python decodes a file's name."""
NFC, NFD = (unicodedata.normalize(form, "Café été") for form in ("NFC", "NFD"))


@pytest.fixture
def one_spelling(tmp_path: Path) -> None:
    """Skip where the file system itself takes both spellings for one."""
    (tmp_path / NFC).touch()
    if (tmp_path / NFD).exists():
        pytest.skip("this file system finds both spellings")
    (tmp_path / NFC).unlink()


def test_names_are_shown_as_text_of_any_encoding() -> None:
    assert shown(f"a/{CAFE}.mp4") == "a/caf\\xe9.mp4" and shown("\ud800é") == "\\ud800é"
    assert str(VideoError(f"cannot read '{CAFE}'; give another")).encode() == (
        b"cannot read 'caf\\xe9'; give another"
    )


def test_what_is_logged_can_be_written_by_every_handler(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "carvid"):
        logging.getLogger("carvid").info("%s: %d frames", CAFE, 3)
        logging.getLogger("carvid").info("é: %d %%", 3)
    assert [record.getMessage() for record in caplog.records] == ["caf\\xe9: 3 frames", "é: 3 %"]


def test_paths_of_run_json_are_the_same_bytes_where_the_system_encodes_ascii(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ascii_decode(data: bytes) -> str:
        return data.decode("ascii", "surrogateescape")

    def ascii_encode(name: str) -> bytes:
        return name.encode("ascii", "surrogateescape")

    monkeypatch.setattr(os, "fsencode", ascii_encode)
    monkeypatch.setattr(os, "fsdecode", ascii_decode)
    for name in ("é.mp4".encode(), b"caf\xe9.mp4", "é".encode() + b"\xe9.mp4"):
        path = ascii_decode(name)
        assert to_unicode(path) == name.decode("utf-8", "surrogateescape")
        assert to_system(to_unicode(path)) == path
    assert to_unicode("dog") == "dog" == to_system("dog")


@pytest.mark.skipif(not ANY_BYTES, reason="names are Unicode here")
@pytest.mark.parametrize("kind", ["file", "folder of frames", "image"])
def test_a_run_of_names_that_are_no_utf8(kind: str, clip: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / f"d{CAFE}", tmp_path / f"o{CAFE}"
    folder.mkdir()
    source = folder / {"file": f"{CAFE}.mp4", "image": f"{CAFE}.png"}.get(kind, CAFE)
    if kind == "file":
        shutil.copy(clip, source)
    elif kind == "image":
        Image.fromarray(make_frames(1)[0]).save(source)
    else:
        source.mkdir()
        for number, frame in enumerate(make_frames(2)):
            Image.fromarray(frame).save(source / f"{CAFE}{number}.png")
    command = ["run", source, "-e", "dog", "--preset", "tiny", "-o", out]
    ran = carvid(*command, "-f", "coco", "-f", "html", "--json")
    assert ran.returncode == 0, ran.stderr
    assert Path(json.loads(ran.stdout)["out"]) == out
    assert "caf\\xe9" in ran.stderr
    track = Track.open(out)
    assert Path(track.facts.video.path) == source
    assert json.loads((out / "coco.json").read_text("utf-8"))["info"]["video"] == shown(source)
    assert "<title>caf\\xe9" in (out / "view.html").read_text("utf-8")
    again = carvid(*command, "--resume")
    assert again.returncode == 0 and f"are in {shown(out)}" in again.stdout
    drawn = carvid("overlay", source, out / "masks", "-o", tmp_path / f"{CAFE}.mp4")
    assert drawn.returncode == 0 and (tmp_path / f"{CAFE}.mp4").stat().st_size
    (out / "view.html").unlink()
    assert carvid("view", "--no-show", out).stdout == f"{shown(out)}/view.html\n"


@pytest.mark.skipif(not ANY_BYTES, reason="names are Unicode here")
def test_messages_show_such_names(tmp_path: Path) -> None:
    missing = carvid("run", f"{CAFE}.mp4", "-e", "dog", "--preset", "tiny", "-o", tmp_path / "o")
    assert missing.returncode == 1 and "no file or folder 'caf\\xe9.mp4'" in missing.stderr
    option = carvid("run", f"--{CAFE}")
    assert option.returncode == 2 and "--caf\\xe9" in option.stderr
    asked = carvid("run", tmp_path, "-e", CAFE, "--preset", "tiny", "-o", tmp_path / "o")
    assert asked.returncode == 1 and "bytes that are no UTF-8" in asked.stderr


@pytest.mark.skipif(not ANY_BYTES, reason="names are Unicode here")
def test_manifests_of_such_names(tmp_path: Path) -> None:
    (tmp_path / f"{CAFE}.mp4").write_bytes(b"x")
    path = tmp_path / f"{CAFE}.csv"
    path.write_bytes(b"clip,expr\ncaf\xe9.mp4,a dog\n")
    expected = Clip("caf_", str(tmp_path / f"{CAFE}.mp4"), ("a dog",), Selection())
    assert read_manifest(path) == [expected]
    lines = tmp_path / "clips.jsonl"
    lines.write_text(json.dumps({"clip": f"{CAFE}.mp4", "expr": "a dog"}))
    assert read_manifest(lines) == [expected]
    path.write_bytes(b"clip,expr\ncaf\xe9.mp4,a dog\nCaf\xe9.mp4,a dog\ncaf\xe9.mp4,wei\xdf\n")
    with pytest.raises(ConfigError) as caught:
        read_manifest(path)
    told = "is not UTF-8; save the manifest as CSV in UTF-8"
    assert f"line 3: {told}; line 4: {told}; mend it" in str(caught.value)


def test_letters_that_a_stream_cannot_encode(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from carvid.cli.results import print_found, print_json

    for encoding in ("ascii", "latin-1", "cp1252"):
        with open(tmp_path / "out", "w", encoding=encoding) as file:
            monkeypatch.setattr(sys, "stdout", file)
            from carvid.base.names import printing_any_text

            facts = {"frames": 1, "theta": 0.35, "expressions": [
                {"label": 1, "text": "犬", "frames_found": 0, "mean_score": 0, "best_score": 0,
                 "best_frame": 0}]}  # fmt: skip
            with printing_any_text():
                print_json({"text": "犬", "name": CAFE})
                print_found(facts)
            assert file.errors == "strict"
        first, second, _ = (tmp_path / "out").read_bytes().splitlines()
        assert json.loads(first) == {"text": "犬", "name": CAFE}
        # Typer writes UTF-8 to what calls itself ASCII.
        assert second.startswith("1: 犬".encode() if encoding == "ascii" else b"1: \\u72ac: in 0")


@pytest.mark.usefixtures("one_spelling")
@pytest.mark.parametrize(("there", "asked"), [(NFC, NFD), (NFD, NFC)])
def test_accents_in_two_spellings(there: str, asked: str, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / there
    folder.mkdir()
    file = folder / f"{there}.mp4"
    shutil.copy(clip, file)
    assert existing(tmp_path / asked / f"{asked}.mp4") == file
    with open_video(tmp_path / asked / f"{asked}.mp4") as reader:
        assert reader.info.path == str(file)
    manifest = tmp_path / "clips.csv"
    manifest.write_text(f"clip,expr\n{asked}/{asked}.mp4,a dog\n", encoding="utf-8")
    assert [clip.video for clip in read_manifest(manifest)] == [str(file)]
    ran = carvid("run", tmp_path / asked / f"{asked}.mp4", "-e", "dog", "--preset", "tiny",
                 "-o", tmp_path / "o")  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    for name in (there, asked):  # of two the exact one
        other = folder / f"{name}.mp4"
        shutil.copy(clip, other)
        assert existing(other) == other and other.name == f"{name}.mp4"


def test_home_variables_and_backslashes(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / "more").mkdir(parents=True)
    shutil.copy(clip, home / "more" / "a.mp4")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("CLIPS", str(home / "more"))
    manifest = home / "clips.csv"
    names = ["~/more/a.mp4", "$CLIPS/a.mp4", "${CLIPS}/a.mp4", r"more\a.mp4", r"~\more\a.mp4"]
    rows = "".join(f"{name},a dog,{number}\n" for number, name in enumerate(names))
    manifest.write_text(f"clip,expr,name\n{rows}")
    assert {Path(clip.video) for clip in read_manifest(manifest)} == {home / "more" / "a.mp4"}
    assert read_manifest(Path("~/clips.csv")) == read_manifest(manifest)
    with open_video("~/more/a.mp4") as reader:
        assert reader.info.size_hw == (34, 48)
    monkeypatch.chdir(home)
    Path("~").mkdir()
    shutil.copy(clip, "~/b.mp4")
    assert existing("~/b.mp4") == Path("~/b.mp4")  # what is called so comes first


TABLE = [
    ["Clip", " Expression ", "START", "Name", "", ""],
    ["a.mp4", 'the "left" dog, über', "1:02,5", "one", "", ""],
    ["", "", "", "", "", ""],
    ["a.mp4", "犬", "1:02,5", "one", "", ""],
    ["", "", "", "", "", ""],
    ["", "", "", "", "", ""],
]


def spreadsheet(separator: str, line_end: str = "\r\n") -> str:
    """`TABLE` as Excel writes it, quotes only where they are needed."""

    def quoted(cell: str) -> str:
        return f'"{cell.replace(chr(34), chr(34) * 2)}"' if set(cell) & {separator, '"'} else cell

    return "".join(separator.join(map(quoted, row)) + line_end for row in TABLE)


@pytest.mark.parametrize(
    ("suffix", "text", "encoding"),
    [
        (".csv", spreadsheet(";"), "utf-8-sig"),
        (".csv", spreadsheet(";", "\r"), "utf-8"),
        (".csv", "sep=;\r\n" + spreadsheet(";"), "utf-8"),
        (".csv", spreadsheet("\t"), "utf-16"),
        (".txt", "\ufeff" + spreadsheet("\t"), "utf-16-le"),
        (".csv", "\ufeff" + spreadsheet(";"), "utf-16-be"),
        (".csv", spreadsheet(";"), "utf-16-le"),
        (".csv", spreadsheet(";"), "utf-16-be"),
        (".TSV", spreadsheet("\t", "\n"), "utf-8"),
        (".csv", spreadsheet("\t"), "utf-32"),
        (".csv", spreadsheet(",").replace('"1:02,5"', "1:02.5"), "utf-8-sig"),
    ],
)
def test_what_spreadsheets_write(suffix: str, text: str, encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    path = tmp_path / f"clips{suffix}"
    path.write_bytes(text.encode(encoding))
    assert read_manifest(path) == [
        Clip("one", str(tmp_path / "a.mp4"), ('the "left" dog, über', "犬"), Selection(62.5))
    ]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("clips.xlsx", b"PK\x03\x04", "is a spreadsheet; save it as CSV in UTF-8"),
        ("clips.ods", b"", "is a spreadsheet; save it as CSV in UTF-8"),
        ("clips.csv", b"PK\x03\x04\x14", "is a spreadsheet; save it as CSV in UTF-8"),
        ("clips.csv", b"\xd0\xcf\x11\xe0\xa1\xb1", "is a spreadsheet; save it as CSV in UTF-8"),
        ("clips.csv", b"\xff\xfec\0l\0i", "as UTF-16-LE: truncated data; save it as CSV in UTF-8"),
        ("clips.csv", "clip;expr\na.mp4;weiß".encode("cp1252"), "line 2: is not UTF-8; save"),
        ("clips.csv", b"clip;expr;start\na.mp4;dog;1,200", "line 2: cannot read the time '1,200'"),
        ("clips.csv", b"clip,expr,start\na.mp4,dog,\"1,2\"", "line 2: cannot read the time '1,2'"),
        ("clips.csv", b"clip;expr\na.mp4;dog;1", "2: has 3 cells, the header 2; put quotes around"),
        ("clips.csv", b"Text,expr\na.mp4,dog", "line 1: column 'expr' is there twice"),
    ],
)  # fmt: skip
def test_what_is_refused_says_what_to_do(
    name: str, data: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError, match=message) as caught:
        read_manifest(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_json_lines_have_the_other_names_too(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    path = tmp_path / "clips.ndjson"
    path.write_bytes('\ufeff{"Video": "a.mp4", "text": "ein Hund"}\r\n'.encode())
    assert [clip.texts for clip in read_manifest(path)] == [("ein Hund",)]


def test_the_embedded_model_says_that_it_knows_drawings_alone(clip: Path, tmp_path: Path) -> None:
    rest = ["--preset", "tiny", "-e", "a dog", "--set", "car.theta=0.999"]
    hint = (
        "carvid: the embedded model (tiny) knows drawn things alone, and no photograph; for real "
    )
    one = carvid("run", clip, *rest, "-o", tmp_path / "a", "--json")
    (tmp_path / "more").mkdir()
    shutil.copy(clip, tmp_path / "more" / "b.mp4")
    two = carvid("run", clip, tmp_path / "more" / "b.mp4", *rest, "-o", tmp_path / "b")
    assert one.stderr.count(hint) == two.stderr.count(hint) == 1
    found = carvid("run", clip, "--preset", "tiny", "-e", "a dog", "-o", tmp_path / "c",
                   "--set", "car.theta=0", "--set", "car.present=best")  # fmt: skip
    assert found.returncode == 0 and "knows drawn things" not in found.stderr


def test_video_facts_keep_the_name(tmp_path: Path) -> None:
    info = VideoInfo(f"{CAFE}.mp4", "pyav", (4, 4), 25, 1)  # type: ignore[arg-type]
    assert VideoInfo.from_dict(json.loads(json.dumps(info.to_dict()))).path == f"{CAFE}.mp4"


def test_expressions_are_unicode() -> None:
    from carvid.car.queries import Queries

    assert Queries.of("犬 🐕").texts == ("犬 🐕",)
    with pytest.raises(ExpressionError, match="bytes that are no UTF-8; write it in letters"):
        Queries.of(CAFE)
    assert np.asarray(Queries.of(["a", "b"]).texts).shape == (2,)
