"""Classes that a file lists: read, segmented, shown and counted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import carvid
from carvid.base.errors import ConfigError, OutputError
from carvid.base.interrupt import Stopped
from carvid.base.palette import color_of
from carvid.car.classes import MAX_BYTES, Classes, read_classes
from carvid.config import OverlayConfig
from carvid.media.label_png import read_label_png
from carvid.media.open import open_video
from carvid.run.result import FrameResult
from carvid.show.legend import GROUND, draw_legend, plan_legend
from carvid.show.overlay import draw_overlay, picture_size
from carvid.temporal.state import TemporalState
from tests.conftest import carvid as command

CLIP = Path(__file__).parent.parent / "examples/dog-jumping.mp4"
LIST = "dog: puppy\nelephant\ncar\ncat\nstuff: grass\n"
CLASSES = Classes(
    ("dog", "elephant", "car", "cat", "grass"), (("puppy",), (), (), (), ()), frozenset({"grass"})
)
FAST = ["crf.iterations=1", "proposals.max_tokens=300"]
PART = carvid.Selection(end_s=0.2, max_side=256)
"""Five frames."""

READ: dict[str, tuple[str, Classes]] = {
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

REFUSED: dict[str, tuple[str | bytes, str]] = {
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
    "a heading without colon": ("stuff\nsky\n", "line 1: 'stuff' is no class; write 'stuff:' ab"),
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


# Segmented


@pytest.fixture(scope="module")
def model() -> carvid.Carvid:
    return carvid.load("tiny", FAST, device="cpu")


@pytest.fixture(scope="module")
def folder(model: carvid.Carvid, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on five frames, which is not touched."""
    place = tmp_path_factory.mktemp("run") / "out"
    model.segment(CLIP, CLASSES, out=place, selection=PART, formats=["coco", "html"])
    return place


@pytest.fixture
def names(tmp_path: Path) -> Path:
    path = tmp_path / "names.txt"
    path.write_text(LIST, encoding="utf-8")
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    with open_video(CLIP, selection=carvid.Selection(max_side=256)) as reader:
        Image.fromarray(next(iter(reader)).image).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def counted(folder: Path) -> dict[str, tuple[int, float]]:
    """In how many frames each class is, and its share of the pixels, plainly from the masks."""
    planes = [read_label_png(path) for path in sorted((folder / "masks").iterdir())]
    stack = np.stack(planes)
    return {
        name: (sum(int((plane == k).any()) for plane in planes), round((stack == k).mean(), 6))
        for k, name in enumerate(CLASSES.names, 1)
    }


def listed(folder: Path) -> dict[str, dict[str, Any]]:
    values = json.loads((folder / "classes.json").read_text(encoding="utf-8"))
    return {entry["name"]: entry for entry in values["classes"]}


def colors_in(picture: NDArray[np.uint8]) -> set[tuple[int, ...]]:
    r, g, b = picture.reshape(-1, 3).astype(np.int32).T
    return {(c >> 16, c >> 8 & 255, c & 255) for c in np.unique(r << 16 | g << 8 | b).tolist()}


def test_a_list_that_is_read_is_what_is_asked(names: Path) -> None:
    assert read_classes(names) == CLASSES == carvid.read_classes(str(names))
    queries = CLASSES.queries("a ball")
    assert queries.texts == CLASSES.names and queries.distractors == ("a ball",)
    assert queries.stuff == {"grass"} and queries.synonyms_of(0) == ("puppy",)


def test_classes_json_says_what_the_masks_have(folder: Path) -> None:
    entries, found = listed(folder), counted(folder)
    assert {name: (e["frames"], e["share"]) for name, e in entries.items()} == found
    assert [entries[name]["label"] for name in CLASSES.names] == [1, 2, 3, 4, 5]
    assert entries["dog"]["synonyms"] == ["puppy"] and entries["dog"]["color"] == "#ff5e3a"
    assert [e["kind"] for e in entries.values()] == ["thing"] * 4 + ["stuff"]
    assert entries["dog"]["frames"] == 5 and entries["elephant"]["frames"] == 0
    values = json.loads((folder / "classes.json").read_text(encoding="utf-8"))
    assert values["frames"] == 5 and values["background"]["label"] == 0
    shares = [values["background"]["share"], *(share for _, share in found.values())]
    assert sum(shares) == pytest.approx(1, abs=1e-5)


def test_classes_compete_whatever_the_models_mode(model: carvid.Carvid, folder: Path) -> None:
    config = carvid.Track.open(folder).facts.config
    assert (model.config.car.mode, model.config.phrases.enabled) == ("refer", True)
    assert (config.car.mode, config.phrases.enabled) == ("semantic", False)
    assert replace(config, car=model.config.car, phrases=model.config.phrases,
                   overlay=model.config.overlay) == model.config  # fmt: skip


def test_other_formats_have_the_names_of_the_classes(folder: Path) -> None:
    values = json.loads((folder / "coco.json").read_text(encoding="utf-8"))
    kinds = [(each["id"], each["name"], each["isthing"]) for each in values["categories"]]
    assert kinds == [(k, name, int(k < 5)) for k, name in enumerate(CLASSES.names, 1)]
    page = (folder / "view.html").read_text(encoding="utf-8")
    unseen = [k for k, (frames, _) in enumerate(counted(folder).values()) if not frames]
    assert f'"unseen": {unseen}' in page and 1 in unseen


def test_a_stopped_run_ends_with_the_same_bytes(
    model: carvid.Carvid, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    frames = iter([False, False, False, True])
    with pytest.raises(Stopped):
        model.segment(CLIP, CLASSES, out=out, selection=PART, stop=lambda: next(frames, True))
    assert not (out / "classes.json").exists()
    model.segment(CLIP, CLASSES, out=out, selection=PART, resume=True)
    whole = (folder / "classes.json").read_bytes()
    assert (out / "classes.json").read_bytes() == whole
    (out / "classes.json").unlink()  # of a finished run it is written again
    model.segment(CLIP, CLASSES, out=out, selection=PART, resume=True)
    assert (out / "classes.json").read_bytes() == whole


CHANGES: dict[str, tuple[Classes, str]] = {
    "a synonym": (
        replace(CLASSES, synonyms=(("hound",), (), (), (), ())),
        "the synonyms of 'dog' were 'puppy', are 'hound'",
    ),
    "no synonym": (replace(CLASSES, synonyms=()), "the synonyms of 'dog' were 'puppy', are ''"),
    "stuff": (replace(CLASSES, stuff=frozenset()), "'grass' was stuff, is a thing"),
    "things": (
        replace(CLASSES, stuff=frozenset({"grass", "cat"})), "'cat' was a thing, is stuff"
    ),
    "names": (
        replace(CLASSES, names=("fox", *CLASSES.names[1:])), "expression 1 was 'dog', is 'fox'"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_run_with_other_classes_is_another_run(
    model: carvid.Carvid, folder: Path, name: str
) -> None:
    classes, told = CHANGES[name]
    with pytest.raises(OutputError, match=told):
        model.segment(CLIP, classes, out=folder, selection=PART, resume=True)


def test_a_track_is_saved_with_its_classes(folder: Path, tmp_path: Path) -> None:
    carvid.Track.open(folder).save(tmp_path / "copy")
    assert (tmp_path / "copy/classes.json").read_bytes() == (folder / "classes.json").read_bytes()


def test_things_cover_stuff_and_the_higher_score_a_lower_one() -> None:
    masks = np.zeros((3, 1, 6), bool)
    masks[0, 0, :3], masks[1, 0, 2:5], masks[2, 0, :] = True, True, True
    result = FrameResult(
        index=0, time_s=0.0, masks=masks, maps=masks.astype(np.float32),
        scores=np.array([0.4, 0.6, 0.9], np.float32), state=TemporalState.initial(3),
        stuff=np.array([False, False, True]),
    )  # fmt: skip
    assert result.labels().tolist() == [[1, 1, 2, 2, 2, 3]]
    assert replace(result, stuff=np.zeros(3, bool)).labels().tolist() == [[3] * 6]
    assert result.labels().dtype == np.uint8


# On the command line


def run(*arguments: object) -> Any:
    options = [word for each in FAST for word in ("--set", each)]
    return command("run", *arguments, "--preset", "tiny", "--device", "cpu", "-q", *options)


def test_a_picture_has_a_legend_of_what_is_there(
    picture: Path, names: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run(picture, "--classes", names, "-o", out)
    assert done.returncode == 0, done.stderr
    entries = listed(out)
    present = [name for name, entry in entries.items() if entry["frames"]]
    assert "dog" in present and "elephant" not in present
    assert [line.split(": ")[1] for line in done.stdout.splitlines()[:-1]] == present
    absent = len(CLASSES.names) - len(present)
    assert done.stdout.splitlines()[-1] == f"in no frame: {absent} of 5 classes"
    drawn = np.asarray(Image.open(out / "overlay.png").convert("RGB"))
    height, width = np.asarray(Image.open(picture)).shape[:2]
    config = carvid.Track.open(out).facts.config.overlay
    assert drawn.shape[:2] == picture_size(
        (height, width), CLASSES.names, replace(config, legend="on")
    )
    inside = colors_in(drawn[:, width:])
    for k, name in enumerate(CLASSES.names):
        assert (color_of(k) in inside) == (name in present), name


def test_many_pictures_get_the_same_classes(picture: Path, names: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "all" / name).mkdir(parents=True)
        (tmp_path / "all" / name / "0.png").write_bytes(picture.read_bytes())
    asked = (tmp_path / "all", "--each", "--classes", names, "-o", tmp_path / "out")
    asked = (*asked, "--style", "labels=on", "--set", "phrases.enabled=true")
    done = run(*asked)
    assert done.returncode == 0, done.stderr
    one, two = (tmp_path / "out" / name for name in ("one", "two"))
    assert (one / "classes.json").read_bytes() == (two / "classes.json").read_bytes()
    assert listed(one)["dog"]["frames"] == 1
    config = carvid.Track.open(one).facts.config  # what the user sets holds
    assert (config.car.mode, config.phrases.enabled, config.overlay.labels) == (
        "semantic", True, True,
    )  # fmt: skip
    names.write_text(LIST + "stuff: sky\n")
    other = run(*asked, "--resume")
    assert other.returncode == 1 and "expression 6 'sky' is new" in other.stderr


def test_a_list_is_explained(names: Path) -> None:
    asked = ("run", CLIP, "--classes", names, "--preset", "tiny", "--explain")
    done = command(*asked)
    assert done.stdout.splitlines()[0] == "1: dog (thing); also puppy"
    assert done.stdout.splitlines()[4] == "5: grass (stuff)"
    values = json.loads(command(*asked, "--json").stdout)
    assert values["classes"][0]["synonyms"] == ["puppy"]


@pytest.mark.parametrize(("more", "told"), [
    (["--expr", "dog"], "--classes says what to find, and so does --expr; give one"),
    (["--manifest", "clips.csv"], "--classes says what to find, and so does --manifest; give one"),
    (["--set", "car.mode=refer"], "--classes compete with each other; leave car.mode=refer away"),
])  # fmt: skip
def test_classes_are_in_the_place_of_expressions(names: Path, more: list[str], told: str) -> None:
    done = command("run", CLIP, "--classes", names, "--preset", "tiny", *more)
    assert done.returncode == 2 and told in " ".join(done.stderr.split())


def test_a_wrong_list_is_said_before_anything_is_loaded(names: Path, tmp_path: Path) -> None:
    names.write_text("dog, cat\n")
    done = command("run", CLIP, "--classes", names, "-o", tmp_path / "out")
    assert done.returncode == 1 and f"'{names}': line 1: 'dog, cat' may be several" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_the_list_is_not_written_onto(names: Path, tmp_path: Path) -> None:
    place = tmp_path / "out" / "masks"
    place.mkdir(parents=True)
    names.rename(place / "00000.png")
    done = command("run", CLIP, "--classes", place / "00000.png", "-o", tmp_path / "out")
    assert done.returncode == 1 and "is read, and would be overwritten; choose" in done.stderr
    assert (place / "00000.png").read_text() == LIST


# The legend


LONG = tuple(f"class {k}" for k in range(1, 41))
ON = OverlayConfig(legend="on", labels=False, outline=False, fill=False)


@pytest.mark.parametrize("size_hw", [(34, 48), (120, 160), (480, 854), (1280, 720)])
@pytest.mark.parametrize("side_by_side", [False, True])
def test_a_legend_has_room_beside_any_frame(size_hw: tuple[int, int], side_by_side: bool) -> None:
    image, labels = np.full((*size_hw, 3), 90, np.uint8), np.zeros(size_hw, np.uint8)
    labels[:8] = 3
    config = replace(ON, side_by_side=side_by_side)
    made = draw_overlay(image, labels, LONG, config, scores=[0.5] * 40)
    assert made.shape[:2] == picture_size(size_hw, LONG, config)
    width = size_hw[1] * (2 if side_by_side else 1)
    assert (made[: size_hw[0], :width] == 90).all()  # the frame itself is left
    assert (made[size_hw[0] :, :width] == GROUND).all()
    assert color_of(2) in colors_in(made[:, width:])
    assert plan_legend(LONG, size_hw).rows >= 8


def test_of_more_classes_than_there_is_room_the_largest_are_named() -> None:
    plan = plan_legend(LONG, (34, 48))
    room = plan.rows * plan.columns
    areas = {k: 1000 - k for k in range(1, 41)}
    many, few = (colors_in(draw_legend(plan, 400, LONG, a, "vivid")) for a in (areas, {40: 1}))
    assert [color_of(k - 1) in many for k in areas] == [k < room for k in areas]
    assert color_of(39) in few and color_of(0) not in few


def test_a_legend_says_nothing_of_what_is_absent() -> None:
    image, labels = np.full((240, 432, 3), 90, np.uint8), np.zeros((240, 432), np.uint8)
    made = draw_overlay(image, labels, LONG, replace(ON, labels=True))
    assert (made[:, :432] == 90).all() and (made[:, 432:] == GROUND).all()


def test_the_overlay_of_a_semantic_run_has_a_legend(folder: Path, tmp_path: Path) -> None:
    for option, wider in ((), True), (("--style", "legend=off"), False):
        done = command("overlay", CLIP, folder / "masks", "-o", tmp_path / "o.mp4", *option)
        assert done.returncode == 0, done.stderr
        with open_video(tmp_path / "o.mp4") as reader:
            assert (reader.info.size_hw[1] > 256) == wider
