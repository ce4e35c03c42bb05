"""ClipIndex: an index that is there, and answers from it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from carvid.base.errors import ConfigError
from carvid.car.classes import Texts, queries_of
from carvid.car.proposals import EncodedFrame
from carvid.car.queries import Queries
from carvid.car.segmenter import RecurrentSegmenter
from carvid.index.answer import Answer
from carvid.index.facts import AGAIN, IndexFacts, read_index_json
from carvid.index.folder import PIECES
from carvid.index.pieces import Piece, coarse_size, read_picture, read_piece
from carvid.index.quick import (
    Anchor,
    QuickSegmenter,
    anchor_of,
    probabilities,
    strongest,
    without_crf,
)

PIECES_IN_MEMORY = 128
"""Of an index so many key frames, of about a megabyte each, stay in memory."""
BEST = 2
"""At so many key frames the classifier is asked for each expression."""
APART_S = 1.0
"""Least time between two of these, seconds, as far as the clip is long enough."""


class ClipIndex:
    """An index on disk, and the networks to ask of it.

    Args:
        folder: the index's.
        unit: CaR with the settings of the index.

    Raises:
        ConfigError: there is no index, it is damaged, or was made by another carvid.
    """

    def __init__(self, folder: str | Path, unit: RecurrentSegmenter) -> None:
        self.folder, self._unit = Path(folder), unit
        values = read_index_json(self.folder)
        try:
            self.facts = IndexFacts.from_dict(values)
            self.frame_count = int(values["frame_count"])
            self.key_frames = tuple(int(key) for key in values["key_frames"])
            self._position = {key: position for position, key in enumerate(self.key_frames)}
        except (ValueError, LookupError, TypeError, AttributeError):
            raise ConfigError(f"'{self.folder}' is damaged; {AGAIN}") from None
        self._piece = lru_cache(PIECES_IN_MEMORY)(self._read)

    def __repr__(self) -> str:
        return f"ClipIndex('{self.folder}', {len(self.key_frames)} key frames)"

    def encoding(self, frame: int) -> EncodedFrame:
        """Return what the generator made of a key frame, by its index.

        Raises:
            ConfigError: the index has no such key frame, or it is damaged.
        """
        if frame not in self._position:
            raise ConfigError(f"'{self.folder}' has no key frame {frame}; {AGAIN}")
        return self._piece(frame).encoded

    def ask(self, texts: Texts, *, distractors: str | tuple[str, ...] = ()) -> Answer:
        """Return a first answer: masks, roughly, of all frames, and scores at key frames.

        The clip itself is not read. The classifier is asked at `BEST` key frames for each text.

        Args:
            texts: the N expressions, one, or classes.
            distractors: texts that compete but get no mask.

        Raises:
            ExpressionError: an expression is empty or too long.
            ConfigError: the index is damaged.
        """
        queries = queries_of(texts, distractors)
        unit = without_crf(self._unit)
        unit.check_texts(queries)
        anchors = self._anchors(unit, queries)
        quick = QuickSegmenter(unit, anchors)
        first = self._piece(self.key_frames[0])
        size_hw = coarse_size(first)
        nothing = np.broadcast_to(np.uint8(0), (*size_hw, 3))  # whose size alone matters
        steps = [
            quick.segment(nothing, queries, encoded=piece.encoded) for piece in self._pieces()
        ]
        count = len(queries.texts)
        return Answer(
            texts=queries.texts,
            times_s=np.concatenate([piece.times_s for piece in self._pieces()]),
            key_frames=np.array(self.key_frames, np.int64),
            scores=np.stack([step.scores for step in steps]),
            kept=np.stack([step.kept for step in steps]),
            anchors=tuple(
                anchors[unit.text_of(queries, query)] for query in range(count)
            ),
            size_hw=self.facts.video.size_hw,
            maps=np.stack([step.maps for step in steps]),
            motion_of=lambda key: self._piece(key).motion,
        )

    def quick(self, queries: Queries) -> QuickSegmenter:
        """Return CaR whose classifier is not asked but at the few key frames of a first answer."""
        return QuickSegmenter(self._unit, self._anchors(without_crf(self._unit), queries))

    def _anchors(self, unit: RecurrentSegmenter, queries: Queries) -> dict[str, Anchor]:
        """What the classifier says of each query's text."""
        texts = [unit.text_of(queries, query) for query in range(len(queries.all))]
        distinct = list(dict.fromkeys(texts))
        chances = np.stack(
            [
                np.stack(list(probabilities(unit, piece.encoded, distinct).values()))
                for piece in self._pieces()
            ],
            axis=1,
        )  # (texts, K, h, w)
        times_s = np.array([piece.times_s[0] for piece in self._pieces()])
        return {
            text: anchor_of(
                unit, queries, texts.index(text),
                [self._key_frame(key) for key in strongest(maps, times_s, BEST, APART_S)],
            )
            for text, maps in zip(distinct, chances, strict=True)
        }  # fmt: skip

    def _key_frame(self, position: int) -> tuple[int, NDArray[np.uint8], EncodedFrame]:
        """Index, image and encoding of the key frame at a position among them."""
        key = self.key_frames[position]
        return key, read_picture(self._path(key).with_suffix(".jpg")), self._piece(key).encoded

    def _pieces(self) -> Iterator[Piece]:
        return map(self._piece, self.key_frames)

    def _read(self, key: int) -> Piece:
        return read_piece(self._path(key), self._device)

    def _path(self, key: int) -> Path:
        return self.folder / PIECES / f"{key:05d}.npz"

    @property
    def _device(self) -> torch.device:
        return self._unit.generator.backbone.device
