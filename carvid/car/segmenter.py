"""σ and the loop: the recurrent unit f → v → g → σ on one frame (CaR section 3.1, algorithm 1).

    y_t = f(x, h_{t-1})    x'_t = v(x, y_t)    P_t = g(x'_t, h_{t-1})    h_t = σ(P_t)

The queries are the expressions and the distractors; h is the set of those still alive.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from carvid.base.memory import release_unused
from carvid.base.scale import Scales, cut, resize, shrink, working_size
from carvid.car.choice import Candidates, TrackPrior, rate, representatives
from carvid.car.classifier import MaskClassifier
from carvid.car.competitors import Competitors, compete
from carvid.car.crf import crf_masks
from carvid.car.phrases import Phrase, understand
from carvid.car.prompts import draw_prompts
from carvid.car.proposals import EncodedFrame, ProposalGenerator, Proposals, split_parts, to_masks
from carvid.car.queries import Queries
from carvid.clip.backbone import ClipBackbone
from carvid.config import Config
from carvid.sam.automatic import SamRefiner

ApplyMemory = Callable[[NDArray[np.float32], Sequence[Candidates]], NDArray[np.float32]]
"""Proposals, float32 (n, H, W), and the candidates that each is the best of, to proposals."""


@dataclass(frozen=True)
class StepResult:
    """What the recurrent unit leaves of one frame: N expressions and D distractors, Q queries."""

    maps: NDArray[np.float32]
    """float32 (N, h, w) in [0, 1], the proposals, at the size at which the loop works
    (`prompts.scale`); zeros where a query is not kept."""
    masks: NDArray[np.bool_]
    """bool (N, H, W); empty where a query is not kept."""
    query_scores: NDArray[np.float32]
    """float32 (Q,): P[i, i] when query i was last asked; 0 where it was not."""
    query_cosines: NDArray[np.float32]
    """float32 (Q,): cosine of the same view with the query's text; NaN where it was not asked, or
    nothing competed with it."""
    queries_kept: NDArray[np.bool_]
    """bool (Q,): h, the queries that are there."""
    candidates: dict[int, Candidates]
    """Of each query that was asked: what it could choose from when it was asked last."""

    @property
    def proposals(self) -> NDArray[np.float32]:
        """`maps` at the frame's size, float32 (N, H, W)."""
        return resize(self.maps, (self.masks.shape[1], self.masks.shape[2]))

    @property
    def scores(self) -> NDArray[np.float32]:
        """float32 (N,): the expressions' scores."""
        return self.query_scores[: len(self.masks)]

    @property
    def cosines(self) -> NDArray[np.float32]:
        """float32 (N,): the expressions' cosines."""
        return self.query_cosines[: len(self.masks)]

    @property
    def kept(self) -> NDArray[np.bool_]:
        """bool (N,): the expressions that are there."""
        return self.queries_kept[: len(self.masks)]

    @property
    def distractor_scores(self) -> NDArray[np.float32]:
        """float32 (D,): the distractors' scores."""
        return self.query_scores[len(self.masks) :]

    @property
    def distractors_kept(self) -> NDArray[np.bool_]:
        """bool (D,): the distractors that are there."""
        return self.queries_kept[len(self.masks) :]


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
    cosines: NDArray[np.float32]
    """float32 (len(queries),): cosine of the same view and text; NaN where nothing competed."""
    kept: tuple[int, ...]
    """h_t: indices into `Queries.all`."""
    candidates: tuple[Candidates, ...]
    """What each of `queries` could choose from."""


@dataclass
class Trace:
    """The steps of one frame, in order."""

    steps: list[TraceStep] = field(default_factory=list)
    """Filled by `RecurrentSegmenter.segment`."""


@dataclass
class _Frame:
    """What is computed once for a frame, whatever the number of steps."""

    image: NDArray[np.uint8]
    """uint8 (h, w, 3) RGB, as small as `prompts.scale` wants it."""
    full: NDArray[np.uint8]
    """uint8 (H, W, 3) RGB."""
    encoded: EncodedFrame
    prior: TrackPrior | None
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
        sam: SamRefiner | None = None,
    ) -> None:
        self.config = config
        self.sam = sam
        self.competing = config.car.mode == "semantic"
        self.generator = ProposalGenerator(generator, config.proposals, competing=self.competing)
        self.classifier = MaskClassifier(classifier, config.classifier)

    def understand(self, text: str) -> Phrase:
        """Return what an expression asks of CLIP, and what of place, size and motion."""
        return understand(text, self.config.phrases)

    def check_texts(self, queries: Queries) -> None:
        """Encode the texts of a run, once: one that is too long is found before any frame.

        Raises:
            ExpressionError: an expression is longer than a text encoder reads.
        """
        texts = [self.understand(text).text for text in queries.all]
        template = self.config.proposals.template
        self.generator.backbone.encode_texts([template.format(text) for text in texts])
        for template in self.config.classifier.templates:
            self.classifier.backbone.encode_texts([template.format(text) for text in texts])

    def size_of(self, image: NDArray[np.uint8]) -> tuple[int, int]:
        """Return height and width at which the loop works on an image (`prompts.scale`)."""
        return working_size(image, self.config.prompts.scale)

    def segment(
        self,
        image: NDArray[np.uint8],
        queries: Queries,
        *,
        alive: NDArray[np.bool_] | None = None,
        prior: TrackPrior | None = None,
        trace: Trace | None = None,
        apply_memory: ApplyMemory | None = None,
    ) -> StepResult:
        """Run the loop on one image until h no longer changes.

        Args:
            image: uint8 (H, W, 3) RGB.
            queries: expressions and distractors, Q together.
            alive: bool (Q,), h_0: the queries to ask; all of them, if none is given.
            prior: what earlier frames say, at `size_of` the image; each of its tracks is a further
                proposal of its query.
            trace: filled with the steps.
            apply_memory: turns the last proposals into those that memory would make, before they
                become masks.

        Raises:
            ValueError: `image` has another dtype or shape.
            ExpressionError: a text is longer than the text encoder reads.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
        total = len(queries.all)
        h = list(range(total)) if alive is None else np.flatnonzero(alive).tolist()
        scores, cosines = np.zeros(total, np.float32), np.full(total, np.nan, np.float32)
        planes: dict[int, NDArray[np.float32]] = {}
        candidates: dict[int, Candidates] = {}
        small = shrink(image, self.size_of(image))
        frame = _Frame(small, image, self.generator.encode(image), prior) if h else None
        before = 0 if self.config.car.stop == "equal-counts" else len(h)
        for step in range(self.config.car.max_steps):
            if frame is None or not h:
                break
            outcome = self._step(frame, queries, h, first=step == 0)
            if trace is not None:
                trace.steps.append(outcome)
            if outcome.proposals.masks.any():  # else the proposals of the step before stand
                planes = dict(zip(h, outcome.proposals.masks, strict=True))
            candidates.update(zip(h, outcome.candidates, strict=True))
            scores[h], cosines[h] = outcome.own, outcome.cosines
            h = list(outcome.kept)
            if len(h) == before:
                break
            before = len(h)
        if frame is not None and small is not image:
            frame = None
            release_unused()
        return self._finish(image, queries, h, planes, (scores, cosines), candidates, apply_memory)

    def _step(self, frame: _Frame, queries: Queries, h: list[int], *, first: bool) -> TraceStep:
        """One pass of f, v, g and σ over the living queries."""
        phrases = [self.understand(queries.all[i]) for i in h]
        texts = [phrase.text for phrase in phrases]
        proposals = self._propose(frame, texts, first=first)  # y_t
        masks, owners = self._candidates(frame, proposals, h, phrases)
        competitors = self._competitors(queries, h)
        seen_as = [texts[i] for i in owners]
        scores, cosines = self._scores(frame, seen_as, owners, masks, competitors)  # P_t
        own = scores[np.arange(len(owners)), competitors.own[owners]]
        rated = [
            rate(
                own[owners == row], masks[owners == row], query, phrase,
                theta=self.config.car.theta, wish_weight=self.config.phrases.weight,
                prior=frame.prior, surely=query in self.surely_there(len(queries.texts)),
            )
            for row, (query, phrase) in enumerate(zip(h, phrases, strict=True))
        ]  # fmt: skip
        best = [np.flatnonzero(owners == row)[each.best] for row, each in enumerate(rated)]
        return TraceStep(
            tuple(h),
            dataclasses.replace(
                proposals, masks=np.stack([each.masks[each.best] for each in rated])
            ),
            competitors.texts,
            scores[best],
            own[best],
            cosines[best],
            self._sigma(h, rated, len(queries.texts)),
            tuple(rated),
        )

    def _candidates(
        self, frame: _Frame, proposals: Proposals, h: list[int], phrases: Sequence[Phrase]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Masks to classify, float32 (C, H, W), and the row of the query of each."""
        config, prior = self.config, frame.prior
        masks, owners = proposals.masks, np.arange(len(proposals.masks))
        for_wishes = max(config.proposals.parts, config.phrases.parts)
        parts = [for_wishes if phrase.wishes else config.proposals.parts for phrase in phrases]
        if prior is not None:  # a known thing is not looked for everywhere
            parts = [
                min(most, prior.max_new)
                if prior.key_frames_seen[query] > phrase.of_motion
                else most
                for query, phrase, most in zip(h, phrases, parts, strict=True)
            ]
        if max(parts) > 1:
            maps, owners = split_parts(proposals.refined, config.proposals.parts_level, parts)
            masks = to_masks(maps, frame.size_hw)
        if prior is None:
            return masks, owners
        tracks = [prior.of(query) for query in h]
        return (
            np.concatenate([masks, *(prior.masks[mine] for mine in tracks)]),
            np.concatenate([owners, np.repeat(np.arange(len(h)), [len(mine) for mine in tracks])]),
        )

    def _propose(self, frame: _Frame, texts: list[str], *, first: bool) -> Proposals:
        """Proposals of this step, taken from an earlier one where nothing they see has changed."""
        as_said = first and self.config.proposals.switch_text
        cam_texts = texts if as_said else [self.config.proposals.template.format(t) for t in texts]
        # Texts compete in semantic mode, so there a proposal belongs to its whole group.
        groups = [tuple(cam_texts)] if self.competing else [(text,) for text in cam_texts]
        missing = [group for group in dict.fromkeys(groups) if group not in frame.proposals]
        if missing:
            flat = [text for group in missing for text in group]
            bare = [texts[cam_texts.index(text)] for text in flat]
            made = self.generator.propose(frame.encoded, flat, frame.size_hw, bare=bare)
            for group in missing:
                rows = [flat.index(text) for text in group]
                frame.proposals[group] = _take(made, rows)
        return _join([frame.proposals[group] for group in groups])

    def _scores(
        self,
        frame: _Frame,
        texts: Sequence[str],
        owners: NDArray[np.int64],
        planes: NDArray[np.float32],
        competitors: Competitors,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """P_t: float32 (n, M), the scores of each candidate's view among the competitors; and each
        one's cosine with its own text, float32 (n,), NaN where nothing had to be looked at."""
        if len(competitors.texts) == 1:  # a softmax over one text is 1, whatever it sees
            return np.ones((len(planes), 1), np.float32), np.full(len(planes), np.nan, np.float32)
        features = self._classify(frame, texts, planes)
        allowed = competitors.allowed[owners]
        scores = self.classifier.score(features, competitors.texts, allowed)
        cosines = self.classifier.cosines(features, competitors.texts)
        return scores, cosines[np.arange(len(owners)), competitors.own[owners]]

    def _classify(self, frame: _Frame, texts: Sequence[str], planes: NDArray[np.float32]) -> Tensor:
        """Features of the prompted images, float32 (n, D); an image already seen is not encoded."""
        config = self.config.prompts
        masks = planes > config.eta
        kinds_of = [config.stuff_kinds if text in config.stuff else config.kinds for text in texts]
        if frame.prior is not None:  # what was carried here is often what is found here
            masks = masks[representatives(masks, kinds_of, frame.prior.same_iou)]
        keys, images, new = [], [], []
        for kinds, mask in zip(kinds_of, masks, strict=True):  # x'_t
            key = " ".join(kinds).encode() + np.packbits(mask).tobytes()
            if key not in frame.prompted and key not in keys:
                images.append(draw_prompts(frame.image, mask, kinds, swap_gray=config.swap_gray))
                new.append((key, mask))
            keys.append(key)
        if new:
            scales = Scales(frame.image, frame.full)
            encoded = self.classifier.encode(images, np.stack([mask for _, mask in new]), scales)
            frame.prompted.update(zip((key for key, _ in new), encoded, strict=True))
        return torch.stack([frame.prompted[key] for key in keys])

    def _competitors(self, queries: Queries, h: list[int]) -> Competitors:
        """The texts of the softmax: those of the run (or only of the living queries, as in the
        released code), and background words."""
        config = self.config
        everybody = (
            h if config.classifier.competitors == "living" else list(range(len(queries.all)))
        )
        return compete(
            [self.understand(queries.all[i]).text for i in everybody],
            [everybody.index(i) for i in h],
            config.proposals.background if config.classifier.background == "always" else (),
            collapse=config.car.duplicates == "collapse",
            skip_own=config.proposals.skip_own_words,
        )

    def _sigma(self, h: list[int], rated: Sequence[Candidates], count: int) -> tuple[int, ...]:
        """σ: the queries that score above θ (in a video: whose path is worth more than "not
        there"); the best of the `count` expressions, if one of them is there, when none does."""
        kept = {i for i, candidates in zip(h, rated, strict=True) if candidates.there}
        path_values = {
            i: each.values[each.best] for i, each in zip(h, rated, strict=True) if i < count
        }
        if self.config.car.present == "best" and path_values and not kept & path_values.keys():
            kept.add(max(path_values, key=lambda i: path_values[i]))
        return tuple(sorted(kept))

    def surely_there(self, count: int) -> range:
        """Which of `count` expressions are there in every frame (`car.present`)."""
        present = self.config.car.present
        return range(count if present == "each" or (present == "best" and count == 1) else 0)

    def _finish(
        self,
        image: NDArray[np.uint8],
        queries: Queries,
        h: list[int],
        planes: dict[int, NDArray[np.float32]],
        scores: tuple[NDArray[np.float32], NDArray[np.float32]],
        candidates: dict[int, Candidates],
        apply_memory: ApplyMemory | None,
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
        maps = np.zeros((count, *self.size_of(image)), np.float32)
        masks = np.zeros((count, *image.shape[:2]), bool)
        # In a joint CRF distractors compete too; one by one, nobody would see their masks.
        drawn = [i for i in h if kept[i] and i in planes and (self.competing or i < count)]
        if drawn:
            stack = np.stack([planes[i] for i in drawn])
            if apply_memory is not None:
                stack = apply_memory(stack, [candidates[i] for i in drawn])
            for i, proposal, mask in zip(drawn, stack, self.sharpen(image, stack), strict=True):
                if i < count:
                    maps[i], masks[i] = proposal, mask
                    if self.config.car.present == "each" and not mask.any():
                        masks[i] = cut(proposal[None] / (proposal.max() or 1), image)[0]
        return StepResult(maps, masks, *scores, kept, candidates)

    def sharpen(
        self, image: NDArray[np.uint8], proposals: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """Turn proposals, float32 (n, h, w), into masks of the image, bool (n, H, W) (section
        3.3)."""
        crf = self.config.crf
        if crf.enabled:
            small = shrink(image, working_size(image, crf.scale))
            proposals = resize(proposals, (small.shape[0], small.shape[1]))
            found = crf_masks(small, proposals, crf, joint=self.competing)
            masks = found if small is image else cut(found.astype(np.float32), image)
        else:
            masks = np.zeros((len(proposals), *image.shape[:2]), bool)
            for mask, plane in zip(masks, proposals, strict=True):
                mask[:] = resize(plane[None], mask.shape)[0] > self.config.prompts.eta
        return masks if self.sam is None else self.sam(image, masks)


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
