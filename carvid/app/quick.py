"""Quick answers: the clip's index is asked once, and θ is chosen afterwards, at once.

The index is asked with θ = 0, which keeps every expression in every key frame with its score; an
expression is there where that is above θ. This is what asking with θ itself says of a single
expression. Of several it can differ a little where one is dropped: CaR then looks once more for the
others, with the texts as in the template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carvid.car.competing import with_settings
from carvid.index.answer import Answer
from carvid.index.clip_index import ClipIndex
from carvid.pipeline import Carvid


def asked_for_all(model: Carvid, index: ClipIndex, texts: Sequence[str]) -> QuickAnswer:
    """Ask the index of a clip for expressions, whatever their scores.

    Raises:
        CarvidError: as `ClipIndex.ask`.
    """
    config = model.config
    every = with_settings(model, replace(config, car=replace(config.car, theta=0.0)))
    return QuickAnswer(every.open_index(index.folder).ask(list(texts)))


class QuickAnswer:
    """Where expressions are, roughly, for any θ.

    Args:
        answer: of an index that was asked with θ = 0.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    @property
    def texts(self) -> tuple[str, ...]:
        """What was asked for; text k, from 1, is label k."""
        return self.answer.texts

    def there(self, theta: float) -> NDArray[np.bool_]:
        """Return at which of K key frames the N expressions are, bool (K, N)."""
        return self.answer.kept & (self.answer.scores > theta)

    def labels(self, frame: int, theta: float) -> NDArray[np.uint8]:
        """Return the label map of a frame, uint8 (H, W); where masks lie over each other the one
        with the higher score is seen.

        Raises:
            IndexError: the clip has no such frame.
        """
        masks = self.answer.masks(frame)
        position = int(np.searchsorted(self.answer.key_frames, frame, side="right")) - 1
        there, scores = self.there(theta)[position], self.answer.scores[position]
        labels = np.zeros(masks.shape[1:], np.uint8)
        for query in np.argsort(scores, kind="stable").tolist():
            if there[query]:
                labels[masks[query]] = query + 1
        return labels

    def scores(self, frame: int) -> list[float]:
        """Return the N scores of the key frame that a frame belongs to, in [0, 1]."""
        position = int(np.searchsorted(self.answer.key_frames, frame, side="right")) - 1
        return [float(score) for score in self.answer.scores[position]]

    def to_json(self) -> dict[str, Any]:
        """Return what a page needs to draw the answer for any θ: key frames, and the scores there
        by label."""
        kept = np.where(self.answer.kept, self.answer.scores, 0.0)
        return {
            "key_frames": self.answer.key_frames.tolist(),
            "scores": np.round(kept.T.astype(float), 4).tolist(),
        }

    def spans(self, theta: float) -> list[dict[str, Any]]:
        """Return of each expression, for one θ, its best score and frame, and where it is: first
        frame and the one after the last of each stretch."""
        at = replace(self.answer, kept=self.there(theta))
        return at.to_json()["expressions"]  # type: ignore[no-any-return]
