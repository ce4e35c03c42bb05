"""A frame that looking ahead decides: as the causal pass left it, while it waits, when decided.

Memory is that of `temporal.lag` key frames and the frames between them: masks are kept as bits,
maps in steps of 1/255, images larger than 480p as JPEGs, and grey where colour is not needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.base.scale import cut_masks, small_size
from carvid.temporal.carry import to_levels
from carvid.temporal.flow import PixelMap
from carvid.temporal.observe import FrameContext
from carvid.temporal.state import TemporalState

JPEG_QUALITY = 95
"""Of images that are kept, of 100."""


@dataclass(frozen=True)
class CausalFrame:
    """A frame as the causal pass leaves it, for N expressions."""

    index: int
    """The frame's index, from 0."""
    time_s: float
    """The frame's time, seconds; NaN where the input has none."""
    image: NDArray[np.uint8]
    """uint8 (H, W, 3) RGB."""
    context: FrameContext
    """The frame with what the state before it says."""
    masks: NDArray[np.bool_]
    """bool (N, H, W)."""
    maps: NDArray[np.float32]
    """float32 (N, h, w) in [0, 1]: what the masks were made from."""
    state: TemporalState
    """The state that this frame leaves to the next."""


@dataclass(frozen=True)
class DecidedFrame:
    """A frame that later ones change no more, for N expressions."""

    index: int
    """The frame's index, from 0."""
    time_s: float
    """The frame's time, seconds; NaN where the input has none."""
    masks: NDArray[np.bool_]
    """bool (N, H, W)."""
    maps: NDArray[np.float32]
    """float32 (N, h, w) in [0, 1]: what the masks were made from."""
    state: TemporalState
    """The state of the causal pass, with the tracks that looking ahead chose (`smoothed`)."""


@dataclass(frozen=True, eq=False)  # a frame equals itself alone
class PendingFrame:
    """What is kept of a frame that waits for later ones, for N expressions."""

    index: int
    """The frame's index, from 0."""
    time_s: float
    """The frame's time, seconds; NaN where the input has none."""
    size_hw: tuple[int, int]
    """H, W: the frame's height and width, pixels."""
    state: TemporalState
    """The state that the causal pass left after it."""
    colors: NDArray[np.uint16] | None
    """uint16 (h, w): each pixel's colour; None in a flash."""
    forward_map: PixelMap | None
    """For each pixel of the frame before its place in this one; None where a shot begins."""
    trust: NDArray[np.uint8] | None
    """uint8 (h, w): trust in this frame's flow, in steps of 1/255; None where a shot begins."""
    image: KeptImage | None
    """RGB of a key frame, and of all where what carries masks back looks at them; else grey of one
    between, or None where its maps are of the frame's size."""
    maps: NDArray[np.uint8] | None
    """uint8 (N, h, w): a key frame's maps, in steps of 1/255; None of a frame between."""
    masks: NDArray[np.uint8] | None
    """uint8: a key frame's masks, bool (N, H, W), as bits; None of a frame between."""

    @classmethod
    def of(cls, frame: CausalFrame, *, in_color: bool = False) -> PendingFrame:
        """Keep what is needed of a frame; `in_color`: its image, too, if no key frame."""
        context = frame.context
        return cls(
            index=frame.index,
            time_s=frame.time_s,
            size_hw=(frame.image.shape[0], frame.image.shape[1]),
            state=frame.state,
            colors=context.colors,
            forward_map=None if context.flow is None else context.flow.forward_map,
            trust=None if context.flow is None else to_levels(context.flow.trust),
            image=KeptImage(frame.image) if in_color else _kept_image(frame),
            maps=to_levels(frame.maps) if context.is_key else None,
            masks=np.packbits(frame.masks) if context.is_key else None,
        )

    @property
    def is_key(self) -> bool:
        """Whether it is a key frame."""
        return self.masks is not None

    @property
    def flow_size_hw(self) -> tuple[int, int]:
        """h, w: height and width at which masks are carried, pixels."""
        assert self.state.gray is not None
        return self.state.gray.shape[0], self.state.gray.shape[1]

    def unpack_masks(self) -> NDArray[np.bool_]:
        """Return a key frame's masks, bool (N, H, W)."""
        assert self.masks is not None and self.maps is not None
        shape = (len(self.maps), *self.size_hw)
        return np.unpackbits(self.masks, count=math.prod(shape)).reshape(shape).view(bool)

    def cut(self, maps: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return the masks, bool (N, H, W), that maps, float32 (N, h, w), become in this frame."""
        assert self.state.gray is not None
        return cut_masks(maps, self.state.gray if self.image is None else self.image.image())


def _kept_image(frame: CausalFrame) -> KeptImage | None:
    """The part of a frame's image that is still needed when the frame is decided."""
    gray = frame.context.gray
    if frame.context.is_key:
        return KeptImage(frame.image)
    if gray is None or gray.shape == frame.image.shape[:2]:
        return None
    return KeptImage(np.asarray(cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY), np.uint8))


class KeptImage:
    """A frame's image until the frame is decided: as it is up to 480p, as a JPEG if it is larger (a
    tenth of the memory).

    Args:
        image: uint8 (H, W, 3) RGB, or (H, W) grey.
    """

    def __init__(self, image: NDArray[np.uint8]) -> None:
        self._color = image.ndim == 3
        self._is_packed = small_size((image.shape[0], image.shape[1])) != image.shape[:2]
        self._data = self._packed(image) if self._is_packed else image

    def image(self) -> NDArray[np.uint8]:
        """Return the image, but for what JPEG takes away."""
        if not self._is_packed:
            return self._data
        how = cv2.IMREAD_COLOR if self._color else cv2.IMREAD_GRAYSCALE
        image = cv2.imdecode(self._data, how)
        assert image is not None
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if self._color else image)

    def _packed(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        picture = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if self._color else image
        done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        assert done
        return np.asarray(data, np.uint8)
