"""ClipIndex: an index that is there, and answers from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from carvid.base.errors import ConfigError
from carvid.base.names import existing
from carvid.car.classes import Texts, config_for, queries_of
from carvid.car.proposals import EncodedFrame
from carvid.car.queries import Queries
from carvid.car.segmenter import RecurrentSegmenter
from carvid.config import Config
from carvid.index.answer import Answer
from carvid.index.facts import AGAIN, IndexFacts, read_index_json
from carvid.index.pieces import Piece, coarse_size, read_picture, read_piece
from carvid.index.place import PIECES, index_files
from carvid.index.quick import (
    Anchor,
    QuickSegmenter,
    anchor_of,
    forgetting,
    peak,
    probabilities,
    strongest,
    with_config,
    without_crf,
)
from carvid.run.progress import NOT_OURS
from carvid.temporal.carry import to_levels

PIECES_IN_MEMORY = 128
"""Of an index so many key frames, of about a megabyte each, stay in memory."""
QUESTIONS_IN_MEMORY = 16
"""Of so many questions what the classifier has said is known."""
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
        ConfigError: there is no index, it is not finished, damaged, or of another format.
    """

    def __init__(self, folder: str | Path, unit: RecurrentSegmenter) -> None:
        self.folder, self._unit = existing(folder), unit
        values = read_index_json(self.folder)
        try:
            self.facts = IndexFacts.from_dict(values)
            self.frame_count = int(values["frame_count"])
            self.key_frames = tuple(int(key) for key in values["key_frames"])
            self.lost = tuple(map(str, values["lost"]))
            self._position = {key: position for position, key in enumerate(self.key_frames)}
            if not self.key_frames:
                raise ValueError("it has no key frame")
        except NOT_OURS:
            raise ConfigError(f"'{self.folder}' is damaged; {AGAIN}") from None
        self._piece = lru_cache(PIECES_IN_MEMORY)(self._read)
        self._known: dict[tuple[Config, Any, Queries], dict[str, Anchor]] = {}
        """By settings, classifier and question."""

    def __repr__(self) -> str:
        return f"ClipIndex('{self.folder}', {len(self.key_frames)} key frames)"

    @property
    def size_bytes(self) -> int:
        """What it takes on the disk."""
        return sum(path.stat().st_size for path in index_files(self.folder) if path.is_file())

    def encoding(self, frame: int) -> EncodedFrame:
        """Return what the generator made of a key frame, by its index.

        Raises:
            ConfigError: the index has no such key frame, or it is damaged.
        """
        if frame not in self._position:
            raise ConfigError(f"'{self.folder}' has no key frame {frame}; {AGAIN}")
        return self._piece(frame).encoded

    def ask(self, texts: Texts, *, distractors: str | Iterable[str] = ()) -> Answer:
        """Return a first answer: masks, roughly, of all frames, and scores at key frames.

        The clip itself is not read. The classifier is asked at `BEST` key frames for each text;
        of what was asked before, not again.

        Args:
            texts: the N expressions, one, or classes.
            distractors: texts that compete but get no mask.

        Raises:
            ExpressionError: an expression is empty or too long.
            ConfigError: the index is damaged.
        """
        queries, unit = queries_of(texts, distractors), self._unit_for(texts)
        unit.check_texts(queries)
        quick = self.quick(unit, queries)
        rough = QuickSegmenter(without_crf(unit), quick.anchors)
        # A picture whose size alone matters.
        size_hw = coarse_size(self._piece(self.key_frames[0]))
        nothing = np.broadcast_to(np.uint8(0), (*size_hw, 3))
        scores, kept, maps, times_s = [], [], [], []
        for piece in self._pieces():
            step = rough.segment(nothing, queries, encoded=piece.encoded)
            scores.append(step.scores)
            kept.append(step.kept)
            maps.append(to_levels(step.maps))
            times_s.append(piece.times_s)
        return Answer(
            texts=queries.texts,
            times_s=np.concatenate(times_s),
            key_frames=np.array(self.key_frames, np.int64),
            scores=np.stack(scores),
            kept=np.stack(kept),
            anchors=tuple(
                quick.anchors[unit.text_of(queries, query)] for query in range(len(queries.texts))
            ),
            size_hw=self.facts.video.size_hw,
            eta=unit.config.prompts.eta,
            maps=np.stack(maps),
            motion_of=lambda key: self._piece(key).motion,
        )

    def quick(self, unit: RecurrentSegmenter, queries: Queries) -> QuickSegmenter:
        """Return CaR whose classifier is not asked but at the few key frames of a first answer.

        Args:
            unit: CaR with settings that the index answers with.
            queries: all that is asked for.
        """
        return QuickSegmenter(unit, self._anchors(unit, queries))

    def _unit_for(self, texts: Texts) -> RecurrentSegmenter:
        """CaR with the settings that texts need: classes compete."""
        config = config_for(texts, self._unit.config)
        return self._unit if config is self._unit.config else with_config(self._unit, config)

    def _anchors(self, unit: RecurrentSegmenter, queries: Queries) -> dict[str, Anchor]:
        """What the classifier says of each query's text."""
        asked = (unit.config, unit.classifier.backbone.model, queries)
        if asked not in self._known:
            while len(self._known) >= QUESTIONS_IN_MEMORY:
                del self._known[next(iter(self._known))]
            self._known[asked] = self._new_anchors(without_crf(unit), queries)
        return self._known[asked]

    def _new_anchors(self, unit: RecurrentSegmenter, queries: Queries) -> dict[str, Anchor]:
        texts = [unit.text_of(queries, query) for query in range(len(queries.all))]
        distinct = list(dict.fromkeys(texts))
        # Background words, which are many, are encoded where they stay known.
        probabilities(unit, self._piece(self.key_frames[0]).encoded, distinct)
        unit, peaks, times_s = forgetting(unit, queries), [], []
        for piece in self._pieces():
            chances = probabilities(unit, piece.encoded, distinct)
            peaks.append([peak(chances[text]) for text in distinct])
            times_s.append(piece.times_s[0])
        orders = np.array(peaks).T  # (texts, K)
        return {
            text: anchor_of(
                unit, queries, texts.index(text),
                [self._key_frame(at) for at in strongest(order, np.array(times_s), BEST, APART_S)],
            )
            for text, order in zip(distinct, orders, strict=True)
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
