"""Data sets of videos beside Ref-DAVIS, and what it takes to add one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from carvid.base.errors import DatasetError
from carvid.datasets import open as module
from carvid.datasets.expressions import Expression, Video, write_meta
from carvid.datasets.mevis import Mevis
from carvid.datasets.open import DATASETS, files_of, is_inside, open_dataset, open_expressions
from carvid.datasets.ref_youtube_vos import RefYoutubeVos
from carvid.datasets.refdavis import RefDavis
from carvid.datasets.video_dataset import VideoDataset

FRAMES = ("00000", "00001", "00002")


def add_images(root: Path, *videos: str) -> Path:
    for video in videos:
        folder = root / "valid" / "JPEGImages" / video
        folder.mkdir(parents=True)
        for frame in FRAMES:
            Image.new("RGB", (8, 6)).save(folder / f"{frame}.jpg")
    return root


def write_expressions(path: Path, texts: dict[str, dict[str, object]]) -> None:
    content = {"videos": {"bird": {"expressions": texts, "frames": list(FRAMES), "vid_id": 7}}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("place", "kind"), [("meta_expressions/valid", RefYoutubeVos), ("valid", Mevis)]
)
def test_youtube_vos_and_mevis_ask_for_all_expressions_at_once(
    tmp_path: Path, place: str, kind: type[VideoDataset]
) -> None:
    root = add_images(tmp_path, "bird")
    texts = {"0": {"exp": "a bird flying"}, "1": {"exp": "the other bird", "obj_id": [3, 4]}}
    write_expressions(root / place / "meta_expressions.json", texts)
    dataset = open_dataset(root)
    assert type(dataset) is kind and dataset.set_names == ("all",)
    (video,) = dataset.videos
    assert dataset.sets(video) == (video.expressions,)
    assert [e.object_id for e in video.expressions] == [None, None]


def test_keys_by_the_rule_are_ref_davis_wherever_they_lie(tmp_path: Path) -> None:
    texts = {str(k): {"exp": f"bird {k}", "obj_id": "1"} for k in range(4)}
    for number, place in enumerate(("meta_expressions/valid", "valid")):
        root = add_images(tmp_path / str(number), "bird")
        path = root / place / "meta_expressions.json"
        write_expressions(path, texts)
        assert type(open_dataset(root)) is RefDavis
        write_expressions(path, texts | {"4": {"exp": "a fifth", "obj_id": "1"}})
        assert type(open_dataset(root)) is not RefDavis


def test_the_first_file_of_expressions_counts(tmp_path: Path) -> None:
    """As Ref-DAVIS in a second place is not looked at, the first makes it Ref-YouTube-VOS."""
    root = add_images(tmp_path, "bird")
    write_expressions(root / "meta_expressions/valid/meta_expressions.json", {"a": {"exp": "it"}})
    texts = {str(k): {"exp": f"bird {k}", "obj_id": "1"} for k in range(4)}
    write_expressions(root / "valid/meta_expressions.json", texts)
    dataset = open_dataset(root)
    assert type(dataset) is RefYoutubeVos
    assert [e.text for e in dataset.videos[0].expressions] == ["it"]


def test_a_video_without_expressions_is_told(tmp_path: Path) -> None:
    root = add_images(tmp_path, "bird", "cat")
    videos = [Video("bird", FRAMES, (Expression("a", "it", None),)), Video("cat", FRAMES, ())]
    path = root / "meta_expressions" / "valid" / "meta_expressions.json"
    path.parent.mkdir(parents=True)
    write_meta(path, videos)
    with pytest.raises(DatasetError, match="is not whole: cat has no expressions; unpack"):
        open_dataset(root)
    assert open_dataset(root, videos=["bird"]).videos == (videos[0],)


class LineDataset(VideoDataset):
    """A data set that somebody adds: its expressions are the lines of a text file."""

    name = "Lines"
    folders = (*VideoDataset.folders, "lines")
    expression_files = ("lines/*.txt",)

    @classmethod
    def read_expressions(cls, root: Path, split: str) -> tuple[Video, ...] | None:
        path = root / "lines" / f"{split}.txt"
        if not path.is_file():
            return None
        rows = [line.split(" ", 1) for line in path.read_text().splitlines()]
        return tuple(Video(name, (), (Expression("a", text, None),)) for name, text in rows)


def test_a_new_data_set_is_a_class_and_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = add_images(tmp_path / "data", "bird")
    (root / "lines").mkdir()
    (root / "lines" / "valid.txt").write_text("bird a bird flying\n")
    with pytest.raises(DatasetError, match="no expressions in"):
        open_expressions(root)
    monkeypatch.setattr(module, "DATASETS", (*DATASETS, LineDataset))
    dataset = open_dataset(root)
    assert type(dataset) is LineDataset
    assert dataset.videos == (Video("bird", FRAMES, (Expression("a", "a bird flying", None),)),)
    images = [root / "valid" / "JPEGImages" / "bird" / f"{frame}.jpg" for frame in FRAMES]
    assert files_of(dataset) == [root / "lines" / "valid.txt", *images]
    assert is_inside(dataset, root / "lines" / "out") and is_inside(dataset, root / "valid")
    assert not is_inside(dataset, root / "runs")
