from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from carvid.base.errors import DatasetError
from carvid.datasets.expressions import Expression, Video, read_meta, write_meta
from carvid.datasets.open import open_dataset, open_expressions
from carvid.datasets.refdavis import (
    TEXT_FILES,
    TEXT_FOLDER,
    RefDavis,
    expression_sets,
    read_texts,
    write_texts,
)
from carvid.datasets.truth import SEMI_SUPERVISED, UNSUPERVISED, open_truth
from carvid.media.label_png import write_label_png

FRAMES = ("00000", "00001", "00002")


def referred(name: str, objects: int = 1) -> Video:
    keys = range(4 * objects)
    return Video(
        name, FRAMES, tuple(Expression(str(k), f"a thing {k} of {name}", k // 4 + 1) for k in keys)
    )


def add_images(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)
        for frame in FRAMES:
            Image.new("RGB", (8, 6)).save(folder / name / f"{frame}.jpg")


def add_truth(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)
        for frame in FRAMES:
            write_label_png(folder / name / f"{frame}.png", np.eye(6, 8, dtype=np.uint8))


def davis_tree(root: Path, resolution: str = "480p") -> Path:
    add_images(root / "JPEGImages" / resolution, "bear", "motorbike")
    for kind in (SEMI_SUPERVISED, UNSUPERVISED):
        add_truth(root / kind / resolution, "bear", "motorbike")
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("motorbike\nbear\n")
    (root / TEXT_FOLDER).mkdir()
    write_texts(root / TEXT_FOLDER, [referred("bear"), referred("motorbike", 2), referred("train")])
    return root


def referformer_tree(root: Path, *videos: Video) -> Path:
    add_images(root / "valid" / "JPEGImages", *(v.name for v in videos))
    add_truth(root / "valid" / "Annotations", *(v.name for v in videos))
    (root / "meta_expressions" / "valid").mkdir(parents=True)
    write_meta(root / "meta_expressions" / "valid" / "meta_expressions.json", videos)
    return root


def test_ref_davis_val_survives_both_formats(shared: Path, tmp_path: Path) -> None:
    path = shared / "data" / "refdavis17_val_meta_expressions.json"
    videos = read_meta(path)
    assert len(videos) == 30
    assert sum(len(v.expressions) for v in videos) == 244
    assert sum(len(expression_sets(v)[0]) for v in videos) == 61
    write_texts(tmp_path, videos)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(name for name, _ in TEXT_FILES)
    back = read_texts(tmp_path, frames={v.name: v.frames for v in videos})
    assert back == videos
    write_meta(tmp_path / "meta.json", back)
    assert json.loads((tmp_path / "meta.json").read_text()) == json.loads(path.read_text())


def test_original_files_as_they_are(tmp_path: Path) -> None:
    lines = {
        "Davis17_annot1.txt": 'clasic-car 1 "a black car"\nclasic-car 2 "a café"\n',
        "Davis17_annot1_full_video.txt": '\ufeffdog-scale 1 "a “dog”"\r\n\r\n',
        "Davis17_annot2.txt": 'motor-bike 1 "a naïve\x85man "\n',
        "Davis17_annot2_full_video.txt": 'bear\t1  "a "brown" bear"  \nbear 2 no quotes \n',
    }
    for name, encoding in TEXT_FILES:
        (tmp_path / name).write_bytes(lines[name].encode(encoding))
    assert read_texts(tmp_path) == (
        Video("classic-car", (), (Expression("0", "a black car", 1), Expression("4", "a café", 2))),
        Video("dogs-scale", (), (Expression("1", "a “dog”", 1),)),
        Video("motorbike", (), (Expression("2", "a naïve\x85man ", 1),)),
        Video("bear", (), (Expression("3", 'a "brown" bear', 1), Expression("7", "no quotes", 2))),
    )


def test_text_files_that_are_not_whole_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "Davis17_annot1.txt").write_bytes(b'bear 1 "caf\xe9"\n')
    (tmp_path / "Davis17_annot2.txt").write_text('bear 1 "a"\nbear one "b"\nbear 1 "c"\nbear 0 x\n')
    with pytest.raises(DatasetError) as error:
        read_texts(tmp_path)
    for part in (
        "'Davis17_annot1.txt' is not UTF-8",
        "cannot read 'Davis17_annot1_full_video.txt'",
        "'Davis17_annot2.txt' line 2 is not",
        "'Davis17_annot2.txt' line 3 repeats object 1 of bear",
        "'Davis17_annot2.txt' line 4 is not",
        "cannot read 'Davis17_annot2_full_video.txt'",
        "unpack davis_text_annotations again",
    ):
        assert part in str(error.value)


def test_texts_that_the_files_cannot_hold(tmp_path: Path) -> None:
    for expression, message in [
        (Expression("2", "a “dog”", 1), "'“' cannot be written in 'Davis17_annot2.txt'"),
        (Expression("0", "a\ndog", 1), "has no place in the text files"),
        (Expression("5", "a dog", 1), "has no place in the text files"),
        (Expression("0", "a dog", None), "has no place in the text files"),
    ]:
        with pytest.raises(DatasetError, match=message):
            write_texts(tmp_path, [Video("dog", (), (expression,))])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("resolution", ["480p", "Full-Resolution"])
def test_davis_tree(tmp_path: Path, resolution: str) -> None:
    root = davis_tree(tmp_path, resolution)
    dataset = open_dataset(root)
    assert [v.name for v in dataset.videos] == ["bear", "motorbike"]
    video = dataset.videos[1]
    assert [[e.object_id for e in each] for each in dataset.sets(video)] == [[1, 2]] * 4
    assert [each[1].text for each in dataset.sets(video)] == [
        f"a thing {k} of motorbike" for k in (4, 5, 6, 7)
    ]
    assert video.frames == FRAMES
    assert dataset.image_paths(video)[2] == (
        root / "JPEGImages" / resolution / "motorbike" / "00002.jpg"
    )
    for kind in (SEMI_SUPERVISED, UNSUPERVISED):
        truth = open_truth(root, [kind])
        assert truth.folder == root / kind / resolution
        assert truth.videos == ("bear", "motorbike")
        assert [p.name for p in truth.paths("bear")] == [f"{frame}.png" for frame in FRAMES]


def test_480p_comes_first_and_can_be_changed(tmp_path: Path) -> None:
    root = davis_tree(tmp_path)
    add_truth(root / UNSUPERVISED / "Full-Resolution", "bear", "motorbike")
    assert open_truth(root, [UNSUPERVISED]).folder.name == "480p"
    other = open_truth(root, [UNSUPERVISED], resolution="Full-Resolution")
    assert other.folder.name == "Full-Resolution"


def test_referformer_tree(tmp_path: Path) -> None:
    root = referformer_tree(tmp_path, referred("bear", 2), referred("cat"))
    dataset = open_dataset(root)
    assert isinstance(dataset, RefDavis)
    assert dataset.videos == (referred("bear", 2), referred("cat"))
    truth = open_truth(root, [UNSUPERVISED, SEMI_SUPERVISED])
    assert truth.folder == root / "valid" / "Annotations"
    assert truth.videos == ("bear", "cat")
    with pytest.raises(DatasetError, match=r"looked for Annotations/480p, Annotations/Full-Resol"):
        open_truth(root, [SEMI_SUPERVISED])


def test_an_unfinished_data_set_says_all_that_is_missing(tmp_path: Path) -> None:
    bear = referred("bear", 2)
    lame = Video("bear", FRAMES, bear.expressions[:5] + bear.expressions[6:])
    root = referformer_tree(tmp_path, lame, referred("cat"), referred("dog"))
    images = root / "valid" / "JPEGImages"
    (images / "cat" / "00001.jpg").unlink()
    for frame in FRAMES:
        (images / "dog" / f"{frame}.jpg").unlink()
    with pytest.raises(DatasetError) as error:
        open_dataset(root)
    assert str(error.value) == (
        f"'{root}' is not whole: bear object 2 lacks the expression of "
        f"Davis17_annot1_full_video.txt (key 5); '{images / 'cat'}' lacks 00001.jpg; "
        f"'{images / 'dog'}' lacks all frames (3); unpack the data set again"
    )


def test_a_listed_video_without_expressions(tmp_path: Path) -> None:
    root = davis_tree(tmp_path)
    (root / "ImageSets" / "2017" / "val.txt").write_text("bear goat")
    with pytest.raises(DatasetError, match="no expressions for goat"):
        open_dataset(root)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no folder '.*none'; give the data set's root"):
        open_dataset(tmp_path / "none")
    with pytest.raises(DatasetError, match=r"looked for valid/JPEGImages, JPEGImages/480p"):
        open_dataset(tmp_path)
    add_images(tmp_path / "JPEGImages" / "480p", "bear")
    with pytest.raises(DatasetError, match=r"put 'meta_expressions/valid/meta_expressions.json'"):
        open_dataset(tmp_path)
    root = davis_tree(tmp_path / "davis")
    for path in (root / UNSUPERVISED / "480p" / "bear").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match=r"no truth for bear in '.*480p'"):
        open_truth(root, [UNSUPERVISED])
    with pytest.raises(DatasetError, match=r"no truth for goat in"):
        open_truth(root, [SEMI_SUPERVISED], videos=["goat"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read: Expecting property name"),
        ("[]", "cannot be read: list indices"),
        ('{"videos": {"a": {"expressions": {}}}}', "lacks the key 'frames'"),
        ('{"videos": {"a": {"expressions": {"0": {}}, "frames": []}}}', "lacks the key 'exp'"),
        (
            '{"videos": {"a": {"expressions": {"0": {"exp": "x", "obj_id": "y"}}, "frames": []}}}',
            "invalid literal",
        ),
    ],
)
def test_malformed_json_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "meta_expressions.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=message) as error:
        open_expressions(tmp_path)
    assert str(path) in str(error.value)


def test_small_real_davis(shared: Path) -> None:
    dataset = open_dataset(shared / "data" / "davis-mini")
    assert {v.name: len(dataset.sets(v)[0]) for v in dataset.videos} == {
        "car-shadow": 1, "dogs-jump": 3,
    }  # fmt: skip
    assert all(path.is_file() for v in dataset.videos for path in dataset.image_paths(v))


def test_files_that_are_no_frames_are_left_out(tmp_path: Path) -> None:
    root = davis_tree(tmp_path)
    images = root / "JPEGImages" / "480p" / "bear"
    for name in ("._00000.jpg", "Thumbs.db", ".00009.png"):
        (images / name).write_bytes(b"")
    (images / "00001.png").write_bytes(b"")  # the same frame twice: the JPEG is DAVIS's own
    (root / UNSUPERVISED / "480p" / "bear" / "._00000.png").write_bytes(b"")
    dataset = open_dataset(root)
    assert dataset.videos[0].frames == FRAMES
    assert [p.name for p in dataset.image_paths(dataset.videos[0])] == [f"{f}.jpg" for f in FRAMES]
    assert len(open_truth(root, [UNSUPERVISED]).paths("bear")) == len(FRAMES)


@pytest.mark.parametrize(
    ("listed", "split"), [("2017/val", "valid"), ("2017/train", "train"), ("2019/val", "valid")]
)
def test_lists_of_videos(tmp_path: Path, listed: str, split: str) -> None:
    root = davis_tree(tmp_path)
    (root / "ImageSets" / "2017" / "val.txt").unlink()
    path = root / "ImageSets" / f"{listed}.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text("motorbike\n")
    assert [v.name for v in open_dataset(root, split=split).videos] == ["motorbike"]
    assert open_truth(root, [UNSUPERVISED], split=split).videos == ("motorbike",)
    with pytest.raises(DatasetError, match="no expressions for baer; did you mean 'bear'"):
        open_dataset(root, split=split, videos=["baer"])


def test_expressions_beside_the_tree_and_with_a_byte_order_mark(tmp_path: Path) -> None:
    root = davis_tree(tmp_path / "DAVIS")
    expressions = open_expressions(root)
    (root / TEXT_FOLDER).rename(tmp_path / TEXT_FOLDER)
    assert open_expressions(root) == expressions
    write_meta(root / "meta_expressions.json", [referred("bear")])
    text = (root / "meta_expressions.json").read_text(encoding="utf-8")
    (root / "meta_expressions.json").write_text(text, encoding="utf-8-sig")
    assert open_expressions(root) == (referred("bear"),)
