"""J and F of many sequences, by several processes that each take a few frames at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
from tqdm import tqdm

from carvid.base.errors import CarvidError, DatasetError
from carvid.evaluation.sequences import (
    MaskSequence,
    Scores,
    Stretch,
    StretchScores,
    keep_memory,
    score_stretch,
)
from carvid.workers.processes import Processes

FRAMES_PER_STRETCH = 16
"""Predicted masks a process is given at a time; few, so that all of them end together."""


def score_sequences(
    sequences: Sequence[MaskSequence], workers: int, progress: bool
) -> list[Scores]:
    """Score sequences, those of one truth beside each other, in stretches of a few frames.

    Args:
        sequences: those that share their truth follow each other.
        workers: processes.
        progress: whether to show a bar on stderr.

    Raises:
        DatasetError: a file is not as it must be; the message tells the first and counts all.
        CarvidError: a process died.
    """
    groups = [tuple(group) for _, group in groupby(sequences, key=lambda each: each.truth)]
    stretches = [stretch for group in groups for stretch in _stretches(group)]
    frames = sum(len(each.truth) for each in sequences)
    with tqdm(total=frames, desc="eval", unit="frame", disable=not progress) as bar:
        scores = _score_stretches(stretches, workers, bar)
    following = iter(scores)
    return [
        _join(each)
        for group in groups
        for each in zip(*(next(following) for _ in _stretches(group)), strict=True)
    ]


def _score_stretches(
    stretches: Sequence[Stretch], workers: int, bar: tqdm[Any]
) -> list[StretchScores]:
    scores: dict[int, StretchScores] = {}
    faults: dict[int, DatasetError] = {}
    processes = Processes(workers, caller_helps=True)
    for event in processes.run(keep_memory, score_stretch, stretches):
        if event.kind == "failed":
            raise CarvidError(event.value)
        if event.kind != "step":
            continue
        if isinstance(event.value, DatasetError):
            faults[event.task] = event.value
        elif event.value is not None:
            scores[event.task] = event.value
        else:
            bar.update(len(stretches[event.task]))
    if faults:
        more = f" (and {len(faults) - 1} more such faults)" if len(faults) > 1 else ""
        raise DatasetError(f"{faults[min(faults)]}{more}")
    return [scores[index] for index in range(len(stretches))]


def _stretches(group: Sequence[MaskSequence]) -> Iterator[Stretch]:
    """Cut sequences of one truth into what a process does at a time."""
    frames = max(FRAMES_PER_STRETCH // len(group), 1)
    for start in range(0, len(group[0].truth), frames):
        yield tuple(replace(each, truth=each.truth[start : start + frames]) for each in group)


def _join(parts: Sequence[Scores]) -> Scores:
    return Scores(
        np.concatenate([part.j for part in parts], axis=2),
        np.concatenate([part.f for part in parts], axis=2),
        max(part.highest for part in parts),
        np.concatenate([part.found for part in parts]),
        np.concatenate([part.shown for part in parts]),
        set[str]().union(*(part.forms for part in parts)),
    )
