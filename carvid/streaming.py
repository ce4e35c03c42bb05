"""Streaming: frames and expressions in, masks out; no files, no locks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from functools import partial

from carvid.base.memory import telling_out_of_memory
from carvid.car.classes import Texts, queries_of
from carvid.car.competing import takes_classes
from carvid.car.queries import Queries
from carvid.car.segmenter import RecurrentSegmenter
from carvid.car.step import StepResult
from carvid.car.trace import Trace
from carvid.clip.backbone import ClipBackbone
from carvid.config import Config
from carvid.corrections.prompts import NewPromptedFollower
from carvid.index.clip_index import ClipIndex
from carvid.media.given import to_frames
from carvid.media.open import Frame
from carvid.media.pictures import Picture, to_rgb
from carvid.run.result import FrameResult
from carvid.sam.refiner import SamRefiner
from carvid.temporal.causal import causal_pass
from carvid.temporal.lookahead import smooth
from carvid.temporal.memory import apply_memory
from carvid.temporal.observe import FrameContext
from carvid.temporal.sam2_carrier import new_carrier
from carvid.temporal.seen import AHEAD, SeenFrame, seen_frames
from carvid.temporal.state import TemporalState

Seen = tuple[Frame, SeenFrame]
"""A frame with what it shows."""


class Streaming:
    """Two frozen CLIPs and the settings they run with: what needs no files.

    Args:
        config: the resolved settings.
        generator: the CLIP of the mask proposal generator.
        classifier: the CLIP of the mask classifier; may be the same object.
        sam: what a SAM makes of a frame's masks.
    """

    def __init__(
        self,
        config: Config,
        generator: ClipBackbone,
        classifier: ClipBackbone,
        sam: SamRefiner | None = None,
    ) -> None:
        self.config = config
        self.backbones = (generator, classifier)
        self.segmenter = RecurrentSegmenter(generator, classifier, config, sam)
        self.key_frames: ClipIndex | None = None
        """What key frames are taken from, in place of the generator."""
        self.new_follower: NewPromptedFollower | None = None
        """Makes networks that carry masks from frame to frame; flow carries them, if None."""

    @takes_classes
    @telling_out_of_memory()
    def segment_image(
        self,
        image: Picture,
        texts: Texts,
        *,
        distractors: str | Iterable[str] = (),
        trace: Trace | None = None,
    ) -> StepResult:
        """CaR as published, on one image.

        Args:
            image: uint8 (H, W, 3) RGB, or another picture that `to_rgb` knows.
            texts: the N expressions, one, or classes.
            distractors: texts that compete but get no mask.
            trace: is filled with the recurrent steps.

        Raises:
            ValueError: `image` is no picture.
            ExpressionError: an expression is empty or too long.
        """
        queries = queries_of(texts, distractors)
        return self.segmenter.segment(to_rgb(image), queries, trace=trace)

    @takes_classes
    def stream(
        self,
        frames: Iterable[Frame | Picture],
        texts: Texts,
        *,
        distractors: str | Iterable[str] = (),
        state: TemporalState | None = None,
    ) -> Iterator[FrameResult]:
        """Yield the masks of each frame as it comes; strictly causal, endless input is fine.

        Args:
            frames: `Frame`s, or pictures: uint8 (H, W, 3) RGB, or others that `to_rgb` knows.
            texts: the N expressions, one, or classes.
            distractors: texts that compete but get no mask.
            state: the state that an earlier frame left (`FrameResult.state`), to go on from.

        Raises:
            ExpressionError: an expression is empty or too long.
            ValueError: a frame is no picture.
        """
        queries = queries_of(texts, distractors)
        seen = seen_frames(to_frames(frames), state, self.config.temporal)
        yield from self._follow(seen, queries, state, late=False)

    @takes_classes
    def offline(
        self,
        frames: Iterable[Frame | Picture],
        texts: Texts,
        *,
        distractors: str | Iterable[str] = (),
        state: TemporalState | None = None,
    ) -> Iterator[FrameResult]:
        """Yield the masks of each frame when `temporal.lag` further key frames have been seen, so
        that they have a say; as `stream` otherwise."""
        queries, config = queries_of(texts, distractors), self.config.temporal
        # Of frames that are made one by one none is asked for before its time.
        at_hand = config.looks_ahead and isinstance(frames, Sized)
        seen = seen_frames(to_frames(frames), state, config, ahead=AHEAD if at_hand else 0)
        yield from self._follow(seen, queries, state, late=config.looks_ahead)

    def _follow(
        self, seen: Iterable[Seen], queries: Queries, state: TemporalState | None, *, late: bool
    ) -> Iterator[FrameResult]:
        """Yield the masks of each frame; `late`: when later ones have had their say."""
        stuff = self.segmenter.stuff_of(queries)
        count, car, config = len(queries.texts), self.config.car, self.config.temporal
        state = state or TemporalState.initial(len(queries.all))
        carrier = new_carrier(self.config, self.new_follower)
        phrases = [self.segmenter.understand(text) for text in queries.all]
        causal = causal_pass(
            seen, state, partial(self._key_frame, queries), count, config, theta=car.theta,
            of_motion=[query for query, phrase in enumerate(phrases) if phrase.of_motion],
            always_there=self.segmenter.always_there(count), carrier=carrier,
        )  # fmt: skip
        decided = smooth(
            causal, count, config, self.segmenter.sharpen.of(stuff), present=car.present,
            carrier=carrier,
        )  # fmt: skip
        with telling_out_of_memory():
            for frame in decided if late else causal:
                yield FrameResult.of(frame, stuff if self.segmenter.competing else None)

    def _key_frame(self, queries: Queries, frame: Frame, context: FrameContext) -> StepResult:
        """CaR on a key frame, with what earlier frames say."""
        config = self.config.temporal
        return self.segmenter.segment(
            frame.image,
            queries,
            alive=context.alive,
            prior=context.prior(self.segmenter.size_of(frame.image), config),
            apply_memory=partial(apply_memory, context, config=config),
            encoded=None if self.key_frames is None else self.key_frames.encoding(frame.index),
        )
