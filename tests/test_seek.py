"""Decoding that begins at a key frame: what comes is what is read from the front."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import carvid
from carvid.base.errors import VideoError
from carvid.media.frames import Frame
from carvid.media.open import Selection, VideoReader, open_video
from tests.odd_videos import (
    COUNT,
    GOP,
    av1,
    clock_set_back,
    cut_by_an_edit_list,
    flash_video,
    fragmented,
    hevc,
    interlaced_transport,
    made,
    mpeg2,
    no_key_frames,
    no_times,
    open_gop,
    raw_stream,
    reordered,
    transport,
    variable_rate,
    vp9,
)

SOUGHT = (
    reordered, open_gop, hevc, vp9, av1, variable_rate, transport, mpeg2, cut_by_an_edit_list,
    interlaced_transport, flash_video, fragmented,
)  # fmt: skip
FROM_THE_FRONT = (no_key_frames, raw_stream, no_times, clock_set_back)


def same(some: list[Frame], others: list[Frame]) -> bool:
    """Whether times and pictures are exactly the same; indices count from the first of each."""
    assert [frame.index - some[0].index for frame in some] == list(range(len(some)))
    return (
        len(some) == len(others)
        and all(a.time_s == b.time_s for a, b in zip(some, others, strict=True))
        and all((a.image == b.image).all() for a, b in zip(some, others, strict=True))
    )


@pytest.mark.parametrize("make", [*SOUGHT, *FROM_THE_FRONT], ids=lambda make: make.__name__)
def test_what_is_sought_is_what_is_read_from_the_front(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path)
    whole = list(open_video(path, backend="pyav"))
    assert len(whole) >= COUNT - 7
    for k in (1, GOP - 1, GOP, 2 * GOP + 1, 40, len(whole) - 1):
        start_s = whole[k].time_s
        for selection in (
            Selection(start_s=start_s), Selection(start_s=start_s - 0.003, stride=3),
            Selection(start_s=start_s, end_s=start_s + 0.3),
        ):  # fmt: skip
            wanted = [whole[i] for i in selection.chosen(frame.time_s for frame in whole)]
            read = list(open_video(path, backend="pyav", selection=selection))
            assert read[0].index == 0 and same(read, wanted), (k, selection)
    with open_video(path, backend="pyav", selection=Selection(start_s=0.5, stride=2)) as reader:
        part = list(reader)
        for late_s in (0, 0.01):  # the second is when it is not shown
            reader.known = (11, part[11].time_s + late_s)
            tail = list(reader.frames(12))
            assert tail[0].index == 12 and same(tail, part[12:])
        reader.known = (len(part) - 1, part[-1].time_s)
        assert not list(reader.frames(len(part)))


@pytest.mark.parametrize("make", SOUGHT, ids=lambda make: make.__name__)
def test_what_comes_before_a_start_is_not_decoded(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path)
    with open_video(path, backend="pyav") as reader:
        times = [time_s for time_s, _ in reader.pictures()]
        read = [time_s for time_s, _ in reader.pictures_from(times[45])]
        assert not reader.lost
    assert read == times[-len(read) :]
    assert len(times) - 45 <= len(read) <= len(times) - 45 + 2 * GOP


def test_a_resumed_run_goes_on_at_a_key_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = reordered(tmp_path), tmp_path / "out"
    asked: list[tuple[int, tuple[int, float] | None]] = []
    frames = VideoReader.frames

    def noted(self: VideoReader, start: int = 0) -> Iterator[Frame]:
        asked.append((start, self.known))
        return frames(self, start)

    monkeypatch.setattr(VideoReader, "frames", noted)
    model, part = carvid.load("tiny"), Selection(end_s=1, max_side=48)
    turns = itertools.count()
    with pytest.raises(KeyboardInterrupt):
        model.segment(path, "a box", out=out, selection=part, stop=lambda: next(turns) >= 20)
    asked.clear()
    resumed = model.segment(path, "a box", out=out, selection=part, resume=True)
    starts = [(start, known) for start, known in asked if start]
    assert len(starts) == 1
    assert all(known == (start - 1, 0.04 * (start - 1)) for start, known in starts)
    whole = model.segment(path, "a box", out=tmp_path / "whole", selection=part)
    assert (resumed.masks[:] == whole.masks[:]).all()
    names = ("scores.csv", "overlay.mp4")
    assert all((out / n).read_bytes() == (tmp_path / "whole" / n).read_bytes() for n in names)


def test_a_start_after_the_end_is_one_line(tmp_path: Path) -> None:
    path = reordered(tmp_path)
    with pytest.raises(VideoError, match=r"no frame .* from 9 s .*its last begins at 2\.36 s"):
        list(open_video(path, selection=Selection(start_s=9)))


def test_what_a_cut_file_lost_is_said_after_a_seek(tmp_path: Path) -> None:
    options = {"bf": "0", "g": str(GOP)}
    path = made(tmp_path / "a.mp4", "libx264", options=options, container={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.8)])
    with open_video(path) as reader:
        whole = list(reader)
        lost = list(reader.lost)
    with open_video(path, selection=Selection(start_s=1)) as reader:
        assert same(list(reader), whole[25:])
        assert reader.lost == lost and "it is cut short" in lost[0]
