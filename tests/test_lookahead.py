"""Looking ahead: what later key frames repair, and that a run resumes to the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import carvid
from carvid.base.masks import iou
from carvid.car.choice import NO_TRACK
from carvid.config import TemporalConfig
from carvid.media.encode import VideoWriter
from carvid.media.open import Frame, VideoReader
from carvid.pipeline import Carvid
from carvid.temporal.carry import select_maps
from carvid.temporal.colors import count_colors
from carvid.temporal.lookahead import mix, smooth
from carvid.temporal.pending import CausalFrame
from carvid.temporal.state import TemporalState
from carvid.temporal.update import after_carrying
from tests.squares import SIZE_HW, box, meet, moving

TEXTS = ["a dog", "a white cat"]
WITH_CUT = 7
"""The cut of `long_clip` is before this frame."""
SETTINGS = [
    "crf.iterations=1", "car.theta=0.4", "weights.device=cpu", "temporal.key_every=3",
    "temporal.lag=2", "proposals.parts=2",
]  # fmt: skip
HERE, THERE = box(10), box(70)


@pytest.fixture
def model(weights: dict[str, str]) -> Carvid:
    return carvid.load("default", SETTINGS, **weights)


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 frames with a cut after the seventh."""
    path = tmp_path_factory.mktemp("long") / "clip.mp4"
    images = [image for image, _ in moving(20)]
    images[WITH_CUT:] = [np.ascontiguousarray(255 - image[::-1]) for image in images[WITH_CUT:]]
    with VideoWriter(path, SIZE_HW, Fraction(10)) as writer:
        for index, image in enumerate(images):
            writer.write(image, index / 10)
    return path


def test_looking_ahead_yields_every_frame_in_order(model: Carvid, long_clip: Path) -> None:
    ahead = model.segment(long_clip, TEXTS)
    with carvid.open_video(long_clip) as reader:
        causal = list(model.stream(reader.frames(), TEXTS))
    assert len(ahead) == len(causal) == 20
    # The last key frame has nothing to wait for.
    last = max(r.index for r in causal if r.state.since_key == 0)
    assert (causal[last].masks == ahead.masks[last]).all()


def hand_made_frames(seen: Sequence[bool]) -> Iterator[CausalFrame]:
    """Every second frame is a key frame; at the n-th one the query has chosen its track if
    `seen[n]`. The track is there in any case, and all paths come from it."""
    state, config = TemporalState.initial(1), TemporalConfig(key_every=2)
    for index, (image, mask) in enumerate(moving(2 * len(seen))):
        context = meet(state, image, config)
        if index % 2:
            assert context.alive is None
            state = after_carrying(context)
            proposals = select_maps(context.carried, state.chosen, 1, SIZE_HW)
        else:
            there = seen[index // 2]
            source = np.array([0 if index else NO_TRACK])
            state = replace(
                TemporalState.initial(1), owners=np.array([0]), sources=source,
                absent_sources=source, chosen=np.array([0 if there else NO_TRACK]),
                values=np.ones(1, np.float32), areas=np.array([mask.sum()]),
                maps=mask[None] * np.uint8(255), gray=context.gray,
                colors=count_colors(context.colors, mask)[None],
            )  # fmt: skip
            proposals = (mask & there)[None].astype(np.float32)
            context = replace(context, alive=np.ones(1, bool))
        yield CausalFrame(
            index=index, time_s=index / 10, image=image, context=context,
            masks=proposals > 0.5, maps=proposals, state=state,
        )  # fmt: skip


def test_a_gap_is_filled_when_the_thing_was_there_later() -> None:
    truths = [mask for _, mask in moving(10)]

    def found(lag: int, *seen: bool) -> list[bool]:
        config = TemporalConfig(lag=lag)
        sharpened.clear()
        results = list(smooth(hand_made_frames(seen), 1, config, sharpen))
        assert [r.index for r in results] == list(range(10))
        for result, truth in zip(results, truths, strict=True):
            assert not result.masks.any() or iou(result.masks[0], truth) > 0.8
        return [bool(r.masks.any()) for r in results]

    sharpened: list[int] = []

    def sharpen(
        image: NDArray[np.uint8], proposals: NDArray[np.float32], queries: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        sharpened.append(len(proposals))
        assert queries.tolist() == [0]
        return proposals > 0.5

    assert found(2, True, True, False, True, True) == [True] * 10
    assert sharpened == [1]
    assert found(2, False, False, True, True, True) == [True] * 10
    # Nothing that comes later speaks for it at the last key frame.
    assert found(1, True, True, True, False, False) == [True] * 8 + [False] * 2


def test_key_frames_on_both_sides_are_mixed_where_they_see_the_same_thing() -> None:
    nearly, nothing = box(12), np.zeros(SIZE_HW, np.float32)
    mixed = mix(HERE, nearly, 0.25)
    assert mixed.dtype == np.float32
    assert mixed == pytest.approx(0.75 * HERE + 0.25 * nearly)
    for share, taken_one in ((0.25, HERE), (0.5, HERE), (0.75, THERE)):
        assert (mix(HERE, THERE, share) == taken_one).all()
        assert (mix(HERE, nothing, share) == HERE).all()  # what was lost is kept so long
        assert (mix(nothing, THERE, share) == THERE).all()


@pytest.fixture(scope="module")
def whole(
    long_clip: Path, weights: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of it."""
    folder = tmp_path_factory.mktemp("long") / "whole"
    carvid.load("default", SETTINGS, **weights).segment(long_clip, TEXTS, out=folder)
    return folder


@pytest.mark.parametrize("stop", [1, 4, 8, 11, 13, 18])
def test_a_run_that_looks_ahead_resumes_to_the_same_bytes(
    model: Carvid, long_clip: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    stop: int,
) -> None:  # fmt: skip
    broken = tmp_path / "broken"
    reader = type(carvid.open_video(long_clip))
    frames = reader.frames

    def fail(self: VideoReader, start: int = 0) -> Iterator[Frame]:
        for frame in frames(self, start):  # type: ignore[arg-type]
            if frame.index == stop:
                raise KeyboardInterrupt
            yield frame

    monkeypatch.setattr(reader, "frames", fail)
    with pytest.raises(KeyboardInterrupt):
        model.segment(long_clip, TEXTS, out=broken)
    monkeypatch.setattr(reader, "frames", frames)
    model.segment(long_clip, TEXTS, out=broken, resume=True)
    for path in [*sorted((whole / "masks").iterdir()), whole / "scores.csv"]:
        assert (broken / path.relative_to(whole)).read_bytes() == path.read_bytes(), path.name
