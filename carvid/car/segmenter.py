"""σ and the loop: the recurrent unit f → v → g → σ on one frame (CaR section 3.1, algorithm 1).

    y_t = f(x, h_{t-1})    x'_t = v(x, y_t)    P_t = g(x'_t, h_{t-1})    h_t = σ(P_t)

The queries are the expressions and the distractors; h is the set of those still alive.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from carvid.car.classifier import MaskClassifier
from carvid.car.prompts import draw_prompts
from carvid.car.proposals import EncodedFrame, ProposalGenerator, Proposals, split_parts, to_masks
from carvid.car.refine import crf_masks
from carvid.car.sam import Sharpen
from carvid.clip.backbone import ClipBackbone
from carvid.config import Config
from carvid.errors import ExpressionError


@dataclass(frozen=True)
class Queries:
    """What is asked of a frame.

    Raises:
        ExpressionError: no expression at all, or an empty one.
    """

    texts: tuple[str, ...]
    """The N expressions, in the user's order; expression k, from 1, is label k."""
    distractors: tuple[str, ...] = ()
    """Further queries, which compete but get neither label nor mask."""

    def __post_init__(self) -> None:
        if not self.texts:
            raise ExpressionError("no expression is given; name at least one object")
        for text in self.all:
            if not text.strip():
                raise ExpressionError("an expression is empty; write what to look for")

    @property
    def all(self) -> tuple[str, ...]:
        """Expressions, then distractors: Q queries."""
        return (*self.texts, *self.distractors)


@dataclass(frozen=True)
class StepResult:
    """What the recurrent unit leaves of one frame, for N expressions of Q queries."""

    proposals: NDArray[np.float32]
    """float32 (N, H, W) in [0, 1]; zeros where a query is not kept."""
    masks: NDArray[np.bool_]
    """bool (N, H, W); empty where a query is not kept."""
    scores: NDArray[np.float32]
    """float32 (Q,): P[i, i] when query i was last asked; 0 where it was not."""
    kept: NDArray[np.bool_]
    """bool (Q,): h, the queries that are there."""


@dataclass(frozen=True)
class TraceStep:
    """One recurrent step, for those who want to look inside."""

    queries: tuple[int, ...]
    """h_{t-1}: indices into `Queries.all`."""
    proposals: Proposals
    """y_t with its stages, one for each of `queries`."""
    competitors: tuple[str, ...]
    """Texts of the columns of `scores`."""
    scores: NDArray[np.float32]
    """P_t: float32 (len(queries), M), rows sum to 1."""
    own: NDArray[np.float32]
    """float32 (len(queries),): P[i, i], each query's score for its own text."""
    kept: tuple[int, ...]
    """h_t: indices into `Queries.all`."""


@dataclass
class Trace:
    """The steps of one frame, in order."""

    steps: list[TraceStep] = field(default_factory=list)
    """Filled by `RecurrentSegmenter.segment`."""


@dataclass
class _Frame:
    """What is computed once for a frame, whatever the number of steps."""

    image: NDArray[np.uint8]
    encoded: EncodedFrame
    proposals: dict[tuple[str, ...], Proposals] = field(default_factory=dict)
    prompted: dict[bytes, Tensor] = field(default_factory=dict)

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]


class RecurrentSegmenter:
    """The frozen unit that all frames share."""

    def __init__(
        self,
        generator: ClipBackbone,
        classifier: ClipBackbone,
        config: Config,
        sharpen: Sharpen | None = None,
    ) -> None:
        self.config = config
        self.sharpen = sharpen
        self.competing = config.car.mode == "semantic"
        self.generator = ProposalGenerator(generator, config.proposals, competing=self.competing)
        self.classifier = MaskClassifier(classifier, config.classifier)

    def segment(
        self,
        image: NDArray[np.uint8],
        queries: Queries,
        *,
        alive: NDArray[np.bool_] | None = None,
        trace: Trace | None = None,
    ) -> StepResult:
        """Run the loop on one image until h no longer changes.

        Args:
            image: uint8 (H, W, 3) RGB.
            queries: expressions and distractors, Q together.
            alive: bool (Q,), h_0: the queries to ask; all of them, if none is given.
            trace: filled with the steps.

        Raises:
            ValueError: `image` has another dtype or shape.
            ExpressionError: a text is longer than the text encoder reads.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
        total = len(queries.all)
        h = list(range(total)) if alive is None else np.flatnonzero(alive).tolist()
        scores = np.zeros(total, np.float32)
        planes: dict[int, NDArray[np.float32]] = {}
        frame = _Frame(image, self.generator.encode(image)) if h else None
        before = 0 if self.config.car.stop == "equal-counts" else len(h)
        for step in range(self.config.car.max_steps):
            if frame is None or not h:
                break
            outcome = self._step(frame, queries, h, first=step == 0)
            if trace is not None:
                trace.steps.append(outcome)
            if outcome.proposals.masks.any():  # else the proposals of the step before stand
                planes = dict(zip(h, outcome.proposals.masks, strict=True))
            scores[h] = outcome.own
            h = list(outcome.kept)
            if len(h) == before:
                break
            before = len(h)
        return self._finish(image, queries, h, planes, scores)

    def _step(self, frame: _Frame, queries: Queries, h: list[int], *, first: bool) -> TraceStep:
        """One pass of f, v, g and σ over the living queries."""
        texts = [queries.all[i] for i in h]
        proposals = self._propose(frame, texts, first=first)  # y_t
        masks, owners = self._candidates(frame, proposals)
        features = self._classify(frame, [texts[i] for i in owners], masks)  # x'_t
        competitors = self._competitors(texts)
        scores = self.classifier.score(features, competitors)  # P_t, a row for each candidate
        own = scores[np.arange(len(owners)), np.array(self._columns(texts, competitors))[owners]]
        best = [max(np.flatnonzero(owners == i), key=own.__getitem__) for i in range(len(h))]
        chosen = dataclasses.replace(proposals, masks=masks[best])
        kept = self._sigma(h, own[best])
        return TraceStep(tuple(h), chosen, competitors, scores[best], own[best], kept)

    def _candidates(
        self, frame: _Frame, proposals: Proposals
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Masks to classify, float32 (C, H, W), and the query of each: one, or parts of one."""
        config = self.config.proposals
        if config.parts == 1:
            return proposals.masks, np.arange(len(proposals.masks))
        parts, owners = split_parts(proposals.refined, config.parts_level, config.parts)
        return to_masks(parts, frame.size_hw), owners

    def _propose(self, frame: _Frame, texts: list[str], *, first: bool) -> Proposals:
        """Proposals of this step, taken from an earlier one where nothing they see has changed."""
        bare = first and self.config.proposals.switch_text
        cam_texts = texts if bare else [self.config.proposals.template.format(t) for t in texts]
        # Texts compete in semantic mode, so there a proposal belongs to its whole group.
        groups = [tuple(cam_texts)] if self.competing else [(text,) for text in cam_texts]
        missing = [group for group in dict.fromkeys(groups) if group not in frame.proposals]
        if missing:
            flat = [text for group in missing for text in group]
            made = self.generator.propose(frame.encoded, flat, frame.size_hw)
            for group in missing:
                rows = [flat.index(text) for text in group]
                frame.proposals[group] = _take(made, rows)
        return _join([frame.proposals[group] for group in groups])

    def _classify(self, frame: _Frame, texts: Sequence[str], planes: NDArray[np.float32]) -> Tensor:
        """Features of the prompted images, float32 (n, D); an image already seen is not encoded."""
        config = self.config.prompts
        masks = planes > config.eta
        keys, images, new = [], [], []
        for text, mask in zip(texts, masks, strict=True):
            kinds = config.stuff_kinds if text in config.stuff else config.kinds
            key = " ".join(kinds).encode() + np.packbits(mask).tobytes()
            if key not in frame.prompted and key not in keys:
                images.append(draw_prompts(frame.image, mask, kinds, swap_gray=config.swap_gray))
                new.append((key, mask))
            keys.append(key)
        if new:
            encoded = self.classifier.encode(images, np.stack([mask for _, mask in new]))
            frame.prompted.update(zip((key for key, _ in new), encoded, strict=True))
        return torch.stack([frame.prompted[key] for key in keys])

    def _competitors(self, texts: list[str]) -> tuple[str, ...]:
        """The texts of the softmax: the living queries, and background words where asked for."""
        if self.config.car.duplicates == "keep":  # equal expressions do not compete
            texts = list({_normal(text): text for text in reversed(texts)}.values())[::-1]
        mode = self.config.classifier.background
        alone = mode == "always" or (mode == "auto" and len(texts) == 1)
        words = self.config.proposals.background if alone else ()
        taken = {_normal(text) for text in texts}
        return (*texts, *(word for word in words if word not in taken))

    def _columns(self, texts: list[str], competitors: Sequence[str]) -> list[int]:
        """The column of P that is each text's own."""
        if self.config.car.duplicates == "collapse":
            return list(range(len(texts)))
        order = [_normal(text) for text in competitors]
        return [order.index(_normal(text)) for text in texts]

    def _sigma(self, h: list[int], own: NDArray[np.float32]) -> tuple[int, ...]:
        """σ: the queries whose own score is above θ; the best one, if asked for, when none is."""
        kept = [i for i, score in zip(h, own, strict=True) if score > self.config.car.theta]
        if not kept and self.config.car.keep_best:
            kept = [h[int(own.argmax())]]
        return tuple(kept)

    def _finish(
        self,
        image: NDArray[np.uint8],
        queries: Queries,
        h: list[int],
        planes: dict[int, NDArray[np.float32]],
        scores: NDArray[np.float32],
    ) -> StepResult:
        """Turn the last proposals into masks (section 3.3) and put everything in its place."""
        count = len(queries.texts)
        kept = np.zeros(len(queries.all), bool)
        kept[h] = True
        if self.config.car.duplicates == "collapse":
            seen: set[str] = set()
            for i, text in enumerate(queries.all):
                kept[i] &= text not in seen
                seen.add(text)
        proposals = np.zeros((count, *image.shape[:2]), np.float32)
        masks = np.zeros(proposals.shape, bool)
        # In a joint CRF distractors compete too; one by one, nobody would see their masks.
        drawn = [i for i in h if kept[i] and i in planes and (self.competing or i < count)]
        if drawn:
            stack = np.stack([planes[i] for i in drawn])
            crf = self.config.crf
            refined = (
                crf_masks(image, stack, crf, joint=self.competing)
                if crf.enabled
                else stack > self.config.prompts.eta
            )
            if self.sharpen is not None:
                refined = self.sharpen(image, refined)
            for i, proposal, mask in zip(drawn, stack, refined, strict=True):
                if i < count:
                    proposals[i], masks[i] = proposal, mask
        return StepResult(proposals, masks, scores, kept)


def _normal(text: str) -> str:
    """An expression as CLIP's tokenizer reads it: lower case, single spaces."""
    return " ".join(text.lower().split())


def _take(proposals: Proposals, rows: list[int]) -> Proposals:
    return Proposals(
        proposals.cams[rows],
        proposals.recomputed[rows],
        tuple(proposals.boxes[row] for row in rows),
        proposals.refined[rows],
        proposals.masks[rows],
    )


def _join(parts: list[Proposals]) -> Proposals:
    if len(parts) == 1:
        return parts[0]
    return Proposals(
        np.concatenate([part.cams for part in parts]),
        np.concatenate([part.recomputed for part in parts]),
        tuple(boxes for part in parts for boxes in part.boxes),
        np.concatenate([part.refined for part in parts]),
        np.concatenate([part.masks for part in parts]),
    )
