"""Classes that a file lists: read, segmented, shown and counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from carvid.base.errors import ConfigError
from carvid.car.classes import MAX_BYTES, Classes, read_classes

READ = {
    "names": ("dog\ncat\n", Classes(("dog", "cat"))),
    "no newline at the end": ("dog\ncat", Classes(("dog", "cat"))),
    "synonyms": (
        "dog: puppy,  hound \ncat\n", Classes(("dog", "cat"), (("puppy", "hound"), ())),
    ),
    "stuff": ("dog\nstuff: sky\n", Classes(("dog", "sky"), stuff=frozenset({"sky"}))),
    "stuff with synonyms": (
        "stuff: sky: cloud, heaven\n",
        Classes(("sky",), (("cloud", "heaven"),), frozenset({"sky"})),
    ),
    "a section": (
        "dog\nstuff:\nsky\nsea: ocean\nthings: car\nThings:\ncat\n",
        Classes(
            ("dog", "sky", "sea", "car", "cat"), ((), (), ("ocean",), (), ()),
            frozenset({"sky", "sea"}),
        ),
    ),
    "comments and empty lines": (
        "# the animals\n\n  dog  # barks\n \t\ncat: C#\n", Classes(("dog", "cat"), ((), ("C#",)))
    ),
    "Windows": ("\ufeffdog\r\nstuff : sky\r\n", Classes(("dog", "sky"), stuff=frozenset({"sky"}))),
    "an old Mac": ("dog\rcat\r", Classes(("dog", "cat"))),
    "spaces": ("a  fire\t hydrant\nun café\n", Classes(("a fire hydrant", "un café"))),
}  # fmt: skip

REFUSED = {
    "nothing": ("\n# only words\n", "names no class; write one a line"),
    "a list in one line": (
        "dog, cat, cow\n",
        r"line 1: 'dog, cat, cow' may be several classes; write one a line, or 'dog: cat, cow' for",
    ),
    "a list of stuff": (
        "dog\nstuff: sky, sea\n", "line 2: 'stuff: sky, sea' may be several .* or 'sky: sea' for"
    ),
    "twice": ("dog\ncat\nThe  Dog\n", "line 3: 'The Dog' is in line 1, too; leave one away"),
    "a synonym twice": ("dog: hound\nfox: Hound\n", "line 2: 'Hound' is in line 1, too"),
    "its own synonym": ("dog: dog\n", "line 1: 'dog' is in it twice; leave one away"),
    "no name": ("dog\n: hound\n", "line 2: ': hound' has an empty name; write 'name'"),
    "no name of stuff": ("stuff: : sky\n", "line 1: 'stuff: : sky' has an empty name"),
    "an empty synonym": ("dog: hound,, pup\n", "line 1: .* has an empty synonym; take one comma"),
    "no synonyms": ("animals:\ndog\n", "line 1: 'animals:' has no synonyms; leave the colon away"),
    "colons": ("a: b: c\n", "line 1: 'a: b: c' has a colon too many; write 'name: synonym"),
    "a heading without colon": ("stuff\nsky\n", "line 1: 'stuff' is no class; write 'stuff:' above"),
    "too long": ("dog\n" + "x" * 201 + "\n", "line 2: 'x{40}…' is longer than 200 letters; write"),
    "control characters": ("dog\nc\x07at\n", "line 2: holds control characters; write names in"),
    "too many": (
        "".join(f"class {k}\n" for k in range(256)),
        "line 255: there are 256 classes, and labels are for 254 at most; ask for them in several",
    ),
    "zeros": ("dog\nc\0at", "is no text: line 2 holds zeros; save the classes as text in UTF-8"),
    "not UTF-8": (b"dog\nhund\xe9\n", "is not UTF-8 in line 2; save the classes as text in UTF-8"),
    "UTF-16": ("dog\ncat\n".encode("utf-16"), "is not UTF-8 in line 1; save"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is not UTF-8 in line 1; save"),
    "too large": (b"x\n" * MAX_BYTES, "is no list of classes: it has more than 1 MB; give a text"),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_a_list_is_read(tmp_path: Path, name: str) -> None:
    text, wanted = READ[name]
    path = tmp_path / "names.txt"
    path.write_bytes(text.encode())
    assert read_classes(path) == wanted


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_meant_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    text, told = REFUSED[name]
    path = tmp_path / "names.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=told) as error:
        read_classes(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path, why in ((tmp_path, "Is a directory"), (tmp_path / "none.txt", "No such file")):
        with pytest.raises(ConfigError, match=f"cannot read the classes in '{path}': {why}.*give"):
            read_classes(path)


def test_all_faults_are_told_but_for_very_many(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("a, b\nc:\n" + "d\n" * 6)
    with pytest.raises(ConfigError) as error:
        read_classes(path)
    told = str(error.value)
    assert [f"line {k}: " in told for k in range(1, 8)] == [True] * 2 + [False] + [True] * 3 + [
        False
    ]
    assert told.endswith("and 2 more faults")


def test_classes_are_checked() -> None:
    assert Classes(["dog", "cat"]).synonyms == ((), ())  # type: ignore[arg-type]
    for given, told in (((), "no class"), (("a dog", "Dog"), "'Dog' is given twice")):
        with pytest.raises(ConfigError, match=told):
            Classes(given)
    with pytest.raises(ValueError, match="synonyms must have 2 entries, got 1"):
        Classes(("dog", "cat"), (("puppy",),))
    with pytest.raises(ValueError, match=r"stuff names \['sky'\]"):
        Classes(("dog",), stuff=frozenset({"sky"}))
