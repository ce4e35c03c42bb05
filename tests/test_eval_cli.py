"""`carvid eval`: what it prints and writes, and what it says of every wrong input."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import conftest
from tests.trees import BLANK, drop, paint, put, scored_tree

OFFICIAL_TOLERANCE = 1e-9
OBJECT_KEYS = [
    "video", "object", "J_mean", "J_recall", "J_decay", "F_mean", "F_recall", "F_decay",
]  # fmt: skip

Printed = tuple[int, str, str]
Command = Callable[..., Printed]


@pytest.fixture
def carvid() -> Command:
    """The command line, in this process: exit status, stdout, stderr."""

    def call(*arguments: object) -> Printed:
        result = conftest.carvid(*arguments)
        return result.returncode, result.stdout, result.stderr

    return call


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    scored_tree(tmp_path)
    return tmp_path


@pytest.fixture
def scored(carvid: Command, tree: Path) -> Command:
    """`carvid eval` of the tree, in one process."""

    def call(predictions: str, protocol: str, *arguments: object) -> Printed:
        places = (tree / predictions, tree / "data")
        return carvid("eval", *places, "--protocol", protocol, "--workers", 1, *arguments)

    return call


@pytest.mark.parametrize("protocol", ["semi-supervised", "unsupervised"])
def test_official_numbers(shared: Path, carvid: Command, protocol: str) -> None:
    golden = shared / "golden" / "jf"
    official = json.loads((golden / "official.json").read_text())[protocol]
    only = [word for video in official for word in ("--videos", video)]
    code, out, err = carvid(
        "eval", golden / "predictions", golden, "--protocol", protocol, "--json", *only
    )
    assert (code, err) == (0, "")
    values = json.loads(out)
    assert list(values) == ["protocol", "truth", "J", "F", "J&F", "objects"]
    assert values["protocol"] == protocol
    found = {(o["video"], o["object"]): o for o in values["objects"]}
    assert list(found) == sorted(found)
    assert len(found) == sum(len(scores["J_M"]) for scores in official.values())
    for (video, number), each in found.items():
        for measure in "JF":
            for name, letter in (("mean", "M"), ("recall", "R"), ("decay", "D")):
                theirs = official[video][f"{measure}_{letter}"][number - 1]
                assert abs(each[f"{measure}_{name}"] - theirs) <= OFFICIAL_TOLERANCE
    assert values["J&F"] == pytest.approx((values["J"] + values["F"]) / 2, abs=1e-15)


def test_where_the_official_code_stops(shared: Path, carvid: Command) -> None:
    golden = shared / "golden" / "jf"
    code, out, err = carvid(
        "eval", golden / "predictions", golden, "--protocol", "semi-supervised", "--json"
    )
    assert (code, out) == (1, "")
    assert "has label 3, and extra-object has objects up to 1" in err


@pytest.mark.parametrize(
    ("protocol", "predictions", "count", "extra"),
    [
        ("refdavis17", "run", 3, ["sets"]),
        ("per-expression", "run", 12, []),
        ("semi-supervised", "run/anno_1", 3, []),
        ("unsupervised", "run/anno_1", 3, []),
    ],
)
def test_json_has_one_form(
    scored: Command, protocol: str, predictions: str, count: int, extra: list[str]
) -> None:
    code, out, err = scored(predictions, protocol, "--json")
    assert (code, err) == (0, "")
    values = json.loads(out)
    assert list(values) == ["protocol", "truth", "J", "F", "J&F", "objects", *extra]
    assert values["protocol"] == protocol
    assert len(values["objects"]) == count
    for each in values["objects"]:
        assert [key for key in each if key != "expression"] == OBJECT_KEYS
        assert ("expression" in each) == (protocol == "per-expression")
        assert 0 <= each["J_mean"] <= 1 and 0 <= each["F_mean"] <= 1
    places = [(o["video"], o["object"]) for o in values["objects"]]
    assert places == sorted(places)
    for each in values.get("sets", []):
        assert list(each) == ["set", "J", "F", "J&F", "objects"]


def test_tables_name_the_protocol(scored: Command) -> None:
    code, out, _ = scored("run/anno_1", "semi-supervised")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["semi-supervised,", "percent", "J&F", "J", "F"],
        ["all", "90.00", "80.00", "100.00"],
        ["ape", "1", "90.00", "80.00", "100.00"],
        ["cat", "1", "90.00", "80.00", "100.00"],
        ["cat", "2", "90.00", "80.00", "100.00"],
        ["truth:", "Annotations/480p"],
    ]
    code, out, _ = scored("run", "refdavis17", "--markdown")
    assert code == 0
    assert out.startswith("| refdavis17, percent | J&F | J mean | J recall |")
    assert [line.split(" | ")[0] for line in out.splitlines()[2:7]] == [
        "| all", "| anno_0", "| anno_1", "| anno_2", "| anno_3",
    ]  # fmt: skip


def test_two_runs_side_by_side(scored: Command, tree: Path) -> None:
    code, out, _ = scored("run/anno_1", "unsupervised", "--compare", tree / "run/anno_0")
    assert code == 0
    assert out.splitlines()[1].split() == ["all", "90.00", "100.00", "+10.00"]
    _, out, _ = scored("run/anno_1", "unsupervised", "--compare", tree / "run/anno_0", "--json")
    values = json.loads(out)
    assert [each["name"] for each in values["runs"]] == [
        str(tree / "run/anno_1"), str(tree / "run/anno_0"),
    ]  # fmt: skip
    assert [each["difference"] for each in values["objects"]] == [pytest.approx(0.1)] * 3
    code, out, err = scored("run/anno_1", "unsupervised", "--compare", tree / "run/anno_9")
    assert (code, out) == (1, "") and "no folder" in err


def test_files_for_a_paper(scored: Command, tree: Path) -> None:
    table, picture = tree / "numbers.csv", tree / "worst.png"
    code, _, _ = scored("run", "refdavis17", "--csv", table, "--plot", picture)
    assert code == 0
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert len(rows) == 5 * 4
    _, out, _ = scored("run", "refdavis17", "--json")
    assert float(rows[0]["J&F"]) == json.loads(out)["J&F"]
    with Image.open(picture) as image:
        assert len(np.unique(np.array(image).reshape(-1, 3), axis=0)) > 4
    for option in ("--csv", "--plot"):
        code, out, err = scored("run", "refdavis17", option, tree / "none" / "x")
        assert (code, out) == (1, "") and "cannot write" in err


def test_notes_go_to_stderr(scored: Command, tree: Path) -> None:
    put("data/Annotations_unsupervised/480p/cat/00000.png", BLANK)(tree)
    code, out, err = scored("run/anno_1", "unsupervised", "--json")
    assert code == 0
    assert [o["video"] for o in json.loads(out)["objects"]] == ["ape"]
    assert err.startswith("carvid: ") and "no object in its first frame" in err


def test_some_videos_of_one_resolution(scored: Command, tree: Path) -> None:
    code, out, _ = scored("run/anno_1", "unsupervised", "--videos", "ape", "--json")
    assert code == 0
    assert [o["video"] for o in json.loads(out)["objects"]] == ["ape"]
    code, _, err = scored("run/anno_1", "unsupervised", "--resolution", "Full-Resolution")
    assert code == 1 and "looked for Annotations_unsupervised/Full-Resolution" in err


FRAME = "run/anno_1/cat/00002.png"


@pytest.mark.parametrize(
    ("change", "protocol", "predictions", "message"),
    [
        (drop(FRAME), "unsupervised", "run/anno_1", r"anno_1/cat' lacks 00002\.png; write a mask"),
        (drop("run/anno_1/ape"), "unsupervised", "run/anno_1", r"anno_1/ape' lacks all .*; write"),
        (
            put(FRAME, np.zeros((30, 43), np.uint8)), "unsupervised", "run/anno_1",
            r"anno_1/cat/00002\.png' is 43×30, its truth '.*' 44×30; write",
        ),
        (
            paint(FRAME, (200, 9, 9)), "semi-supervised", "run/anno_1",
            r"anno_1/cat/00002\.png' has the colour \(200, 9, 9\) in 1320 pixels, .*; paint with",
        ),
        (
            put(FRAME, BLANK + np.uint8(3)), "semi-supervised", "run/anno_1",
            r"anno_1/cat/00002\.png' has label 3, and cat has objects up to 2 .*; write",
        ),
        (
            drop("data/Annotations_unsupervised/480p/ape"), "refdavis17", "run",
            r"no truth for ape in '.*Annotations_unsupervised/480p'.*; unpack",
        ),
        (
            drop("run/anno_2", "run/anno_3"), "refdavis17", "run",
            r"run' lacks anno_2, anno_3, and refdavis17 is the mean of 4 sets; write all",
        ),
        (drop(), "refdavis", "run", r"unknown protocol 'refdavis'; did you mean 'refdavis17'\?"),
        (drop(), "unsupervised", "nowhere", r"no folder '.*nowhere'; give"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_what_is_wrong_takes_one_line_and_exits_1(
    scored: Command, tree: Path, change: Callable[[Path], None], protocol: str, predictions: str,
    message: str, form: list[str],
) -> None:  # fmt: skip
    change(tree)
    code, out, err = scored(predictions, protocol, *form)
    assert (code, out) == (1, "")
    assert err.startswith("carvid: ") and err.count("\n") == 1
    assert re.search(message, err), err
