"""σ and the loop: the recurrent unit f → v → g → σ on one frame (CaR section 3.1, algorithm 1).

    y_t = f(x, h_{t-1})       mask proposals                       `proposals`
    x'_t = v(x, y_t)          the frame with visual prompts        `prompts`
    P_t = g(x'_t, h_{t-1})    scores of each query's own text      `classifier`
    h_t = σ(P_t)              the queries that score above θ       `RecurrentSegmenter._sigma`

until h_t = h_{t-1}; the last y_t become masks (section 3.3). The queries are the expressions and
the distractors; h holds the indices of those that are still there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from carvid.base.memory import release_unused
from carvid.base.scale import cut_masks, shrink, shrink_masks, working_size
from carvid.car.choice import Candidates, TrackPrior, most_parts, rate, representatives, rows_in
from carvid.car.classifier import MaskClassifier
from carvid.car.competitors import Competitors, compete
from carvid.car.frame import LoopFrame, Outcome
from carvid.car.passes import Pass, passes_of, stuff_rows
from carvid.car.phrases import Phrase, understand
from carvid.car.proposals import (
    EncodedFrame,
    ProposalGenerator,
    Proposals,
    join_proposals,
    split_parts,
    take_rows,
    to_masks,
)
from carvid.car.queries import Queries, in_template
from carvid.car.sharpen import Sharpener
from carvid.car.step import StepResult
from carvid.car.trace import Trace, TraceStep
from carvid.car.views import encode_views
from carvid.clip.backbone import ClipBackbone
from carvid.config import Config
from carvid.sam.refiner import SamRefiner

ApplyMemory = Callable[[NDArray[np.float32], Sequence[Candidates]], NDArray[np.float32]]
"""Proposals, float32 (n, H, W), and the candidates that each is the best of → proposals."""


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
        self.sharpen = Sharpener(config, sam, generator.device)
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
        texts = [self.text_of(queries, i) for i in range(len(queries.all))]
        template = self.config.proposals.template
        self.generator.backbone.encode_texts([in_template(template, text) for text in texts])
        for template in self.config.classifier.templates:
            self.classifier.backbone.encode_texts([in_template(template, text) for text in texts])

    def stuff_of(self, queries: Queries) -> NDArray[np.bool_]:
        """Return which of the expressions name stuff, bool (N,)."""
        return stuff_rows(queries, self.config)[: len(queries.texts)]

    def text_of(self, queries: Queries, query: int) -> str:
        """Return what CLIP is asked for, without template; a line for each synonym."""
        return "\n".join((self.understand(queries.all[query]).text, *queries.synonyms_of(query)))

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
        encoded: EncodedFrame | None = None,
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
            encoded: what the generator made of the image, if that is known.

        Raises:
            ValueError: `image` has another dtype or shape.
            ExpressionError: a text is longer than the text encoder reads.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
        total = len(queries.all)
        h = list(range(total)) if alive is None else np.flatnonzero(alive).tolist()
        outcome = Outcome(total)
        small = shrink(image, self.size_of(image))
        frame = None
        if h:
            frame = LoopFrame(small, image, encoded or self.generator.encode(image), prior)
        left: list[int] = []
        for asked in passes_of(queries, self.config):
            alive_in_pass = [i for i in h if i in asked.queries]
            if frame is not None and alive_in_pass:
                left += self._loop(frame, queries, asked, alive_in_pass, outcome, trace)
        if frame is not None and small is not image:
            frame = None
            release_unused()
        kept = self._kept(queries, left)
        maps, masks = self._masks(image, queries, kept, outcome, apply_memory)
        return StepResult(maps, masks, outcome.scores, outcome.cosines, kept, outcome.candidates)

    def score_masks(
        self,
        image: NDArray[np.uint8],
        queries: Queries,
        query: int,
        masks: NDArray[np.bool_],
        encoded: EncodedFrame,
    ) -> NDArray[np.float32]:
        """Return what the classifier says of masks for one query, float32 (C,) in [0, 1]: P[i, i]
        among all that compete; 0 of an empty mask.

        Args:
            image: uint8 (H, W, 3) RGB.
            queries: expressions and distractors.
            query: the query's index.
            masks: bool (C, H, W).
            encoded: what the generator made of the image.
        """
        scores = np.zeros(len(masks), np.float32)
        there = np.flatnonzero(masks.any(axis=(1, 2)))
        if len(there):
            asked = next(each for each in passes_of(queries, self.config) if query in each.queries)
            small = shrink(image, self.size_of(image))
            frame = LoopFrame(small, image, encoded, None)
            owners = np.zeros(len(there), np.int64)
            competitors = self._competitors(queries, asked, [query])
            kinds = self._kinds_of(queries, [query] * len(there))
            maps = shrink_masks(masks[there], frame.size_hw)
            found, _ = self._scores(frame, kinds, owners, maps, competitors)
            scores[there] = found[:, competitors.own[0]]
        return scores

    def _loop(
        self,
        frame: LoopFrame,
        queries: Queries,
        asked: Pass,
        h: list[int],
        outcome: Outcome,
        trace: Trace | None,
    ) -> list[int]:
        """Repeat steps from h_0 = `h`, queries of one pass, until it no longer changes; return the
        last one."""
        before = 0 if self.config.car.stop == "equal-counts" else len(h)
        for t in range(self.config.car.max_steps):
            step = self._step(frame, queries, asked, h, first=t == 0)
            if trace is not None:
                trace.steps.append(step)
            outcome.add(step, asked.queries)
            h = list(step.kept)
            if not h or len(h) == before:
                break
            before = len(h)
        return h

    def _step(
        self, frame: LoopFrame, queries: Queries, asked: Pass, h: list[int], *, first: bool
    ) -> TraceStep:
        """One time f, v, g and σ over the queries of h."""
        phrases = [self.understand(queries.all[i]) for i in h]
        texts = [self.text_of(queries, i) for i in h]
        proposals = self._propose(frame, texts, asked.background, first=first)  # f: y_t
        masks, owners = self._candidates(frame, proposals, h, phrases)
        competitors = self._competitors(queries, asked, h)
        kinds = self._kinds_of(queries, [h[row] for row in owners])
        scores, cosines = self._scores(frame, kinds, owners, masks, competitors)  # v, g
        own = scores[np.arange(len(owners)), competitors.own[owners]]  # P_t[i, i]
        rows_of = [rows_in(owners, row) for row in range(len(h))]
        rated = [
            rate(
                own[rows], masks[rows], query, phrase,
                theta=self.config.car.theta, wish_weight=self.config.phrases.weight,
                prior=frame.prior, always_there=query in self.always_there(len(queries.texts)),
            )
            for rows, query, phrase in zip(rows_of, h, phrases, strict=True)
        ]  # fmt: skip
        every = np.arange(len(owners))
        best = [every[rows][each.best] for rows, each in zip(rows_of, rated, strict=True)]
        chosen = masks if len(masks) == len(h) else masks[best]
        return TraceStep(
            queries=tuple(h),
            proposals=dataclasses.replace(proposals, masks=chosen),
            competitors=competitors.texts,
            scores=scores[best],
            own=own[best],
            cosines=cosines[best],
            kept=self._sigma(h, rated, len(queries.texts)),
            candidates=tuple(rated),
        )

    def _candidates(
        self, frame: LoopFrame, proposals: Proposals, h: list[int], phrases: Sequence[Phrase]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Candidate masks of the queries in h: connected parts of their CAMs, and their tracks.

        Returns:
            float32 (C, H, W) in [0, 1], and the row in h of each one's query, int64 (C,).
        """
        prior = frame.prior
        masks, owners = proposals.masks, np.arange(len(proposals.masks))
        most = [most_parts(*pair, prior, self.config) for pair in zip(h, phrases, strict=True)]
        if max(most) > 1:
            level = self.config.proposals.parts_level
            maps, owners = split_parts(proposals.refined, level, most)
            masks = to_masks(maps, frame.size_hw)
        if prior is None:
            return masks, owners
        tracks = [prior.tracks_of(query) for query in h]
        return (
            np.concatenate([masks, *(prior.masks[mine] for mine in tracks)]),
            np.concatenate([owners, np.repeat(np.arange(len(h)), [len(mine) for mine in tracks])]),
        )

    def _propose(
        self, frame: LoopFrame, texts: list[str], background: tuple[str, ...], *, first: bool
    ) -> Proposals:
        """f: the proposals y_t; those of an earlier step where they would be the same."""
        as_said, template = (
            first and self.config.proposals.switch_text,
            self.config.proposals.template,
        )
        cam_texts = texts if as_said else [in_template(template, text) for text in texts]
        # Texts compete in semantic mode, so there a proposal belongs to its whole group.
        groups = [tuple(cam_texts)] if self.competing else [(text,) for text in cam_texts]
        made = frame.proposals
        missing = [each for each in dict.fromkeys(groups) if (each, background) not in made]
        if missing:
            flat = [text for group in missing for text in group]
            bare = [texts[cam_texts.index(text)] for text in flat]
            new = self.generator.propose(
                frame.encoded, flat, frame.size_hw, bare=bare, background=background
            )
            for group in missing:
                whole = len(missing) == 1 and len(set(flat)) == len(flat)
                rows = [flat.index(text) for text in group]
                made[group, background] = new if whole else take_rows(new, rows)
        return join_proposals([made[group, background] for group in groups])

    def _kinds_of(self, queries: Queries, asked: Sequence[int]) -> list[tuple[str, ...]]:
        """The prompts that each of the queries `asked` gets."""
        prompts, stuff = self.config.prompts, stuff_rows(queries, self.config)
        return [prompts.stuff_kinds if stuff[query] else prompts.kinds for query in asked]

    def _scores(
        self,
        frame: LoopFrame,
        kinds: Sequence[tuple[str, ...]],
        owners: NDArray[np.int64],
        masks: NDArray[np.float32],
        competitors: Competitors,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """v and g: what the classifier says of candidates.

        Args:
            frame: the frame.
            kinds: C times the prompts that are drawn.
            owners: int64 (C,): the row in h of each one's query.
            masks: float32 (C, H, W) in [0, 1].
            competitors: M texts.

        Returns:
            P_t, float32 (C, M), each candidate's scores among the competitors; and its cosine with
            its own text, float32 (C,), NaN if nothing competes.
        """
        if len(competitors.texts) == 1:  # a softmax over one text is 1, whatever it sees
            return np.ones((len(masks), 1), np.float32), np.full(len(masks), np.nan, np.float32)
        features = self._classify(frame, kinds, masks)
        allowed = competitors.allowed[owners]
        scores = self.classifier.score(features, competitors.texts, allowed)
        cosines = self.classifier.cosines(features, competitors.texts)
        return scores, cosines[np.arange(len(owners)), competitors.own[owners]]

    def _classify(
        self,
        frame: LoopFrame,
        kinds: Sequence[tuple[str, ...]],
        candidates: NDArray[np.float32],
    ) -> Tensor:
        """v, and the image encoder of g: features, float32 (C, D), of the frame with the prompt of
        each candidate, float32 (C, H, W). No image is encoded twice."""
        masks = candidates > self.config.prompts.eta
        if frame.prior is not None:  # what was carried here is often what is found here
            masks = masks[representatives(masks, kinds, frame.prior.same_iou)]
        return encode_views(frame, masks, kinds, self.classifier, self.config.prompts)

    def _competitors(self, queries: Queries, asked: Pass, h: list[int]) -> Competitors:
        """The texts of the softmax: those of all queries of the pass (or only of h, as in the
        released code), and background words."""
        config = self.config
        competing = h if config.classifier.competitors == "living" else list(asked.queries)
        return compete(
            [self.text_of(queries, i) for i in competing],
            [competing.index(i) for i in h],
            asked.background if config.classifier.background == "always" else (),
            collapse=config.car.duplicates == "collapse",
            skip_own=config.proposals.skip_own_words,
        )

    def _sigma(self, h: list[int], rated: Sequence[Candidates], count: int) -> tuple[int, ...]:
        """σ: the queries of h that score above θ; along time, those whose path value is above that
        of "not there". If none of the `count` expressions does, though one is there for certain
        (`car.present=best`), the one with the highest value is kept."""
        kept = {i for i, candidates in zip(h, rated, strict=True) if candidates.is_there}
        path_values = {
            i: each.values[each.best] for i, each in zip(h, rated, strict=True) if i < count
        }
        if self.config.car.present == "best" and path_values and not kept & path_values.keys():
            kept.add(max(path_values, key=lambda i: path_values[i]))
        return tuple(sorted(kept))

    def always_there(self, count: int) -> range:
        """Which of `count` expressions are there in every frame (`car.present`)."""
        present = self.config.car.present
        return range(count if present == "each" or (present == "best" and count == 1) else 0)

    def _kept(self, queries: Queries, h: list[int]) -> NDArray[np.bool_]:
        """h as bool (Q,); of equal texts only the first, if they collapse (`car.duplicates`)."""
        kept = np.zeros(len(queries.all), bool)
        kept[h] = True
        if self.config.car.duplicates == "collapse":
            kept &= [queries.all.index(text) == i for i, text in enumerate(queries.all)]
        return kept

    def _masks(
        self,
        image: NDArray[np.uint8],
        queries: Queries,
        kept: NDArray[np.bool_],
        outcome: Outcome,
        apply_memory: ApplyMemory | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Turn the last proposals into masks of the N expressions (section 3.3).

        Returns:
            The proposals, float32 (N, h, w), and the masks, bool (N, H, W); empty where a query is
            not kept.
        """
        count = len(queries.texts)
        maps = np.zeros((count, *self.size_of(image)), np.float32)
        masks = np.zeros((count, *image.shape[:2]), bool)
        # Distractors have no mask of their own, but in a joint CRF they compete for pixels.
        drawn = [i for i in np.flatnonzero(kept).tolist() if self.competing or i < count]
        drawn = [i for i in drawn if i in outcome.proposals]
        if not drawn:
            return maps, masks
        last = np.stack([outcome.proposals[i] for i in drawn])
        if apply_memory is not None:
            last = apply_memory(last, [outcome.candidates[i] for i in drawn])
        sharp = self.sharpen(image, last, stuff_rows(queries, self.config)[drawn])
        for i, proposal, mask in zip(drawn, last, sharp, strict=True):
            if i >= count:
                continue
            maps[i], masks[i] = proposal, mask
            if self.config.car.present == "each" and not mask.any():
                masks[i] = cut_masks(proposal[None] / (proposal.max() or 1), image)[0]
        return maps, masks
