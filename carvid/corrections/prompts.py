"""What SAM 2 is told of a corrected frame: clicks as points, and a box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.base.scale import cut_masks
from carvid.run.corrections import Correction
from carvid.temporal.sam2_carrier import Follower, Found

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, pixels."""


class PromptedFollower(Follower, Protocol):
    """A network that follows things, also those that are pointed at."""

    def add_clicks(
        self,
        number: int,
        inside: NDArray[np.float64],
        outside: NDArray[np.float64],
        box: Box | None,
        size_hw: tuple[int, int] | None,
    ) -> Found:
        """Follow what points, float64 (P, 2) in pixels, lie inside of and outside of, or what a box
        holds; return it alone, with the size `size_hw`."""


NewPromptedFollower = Callable[[], PromptedFollower]
"""Makes a network that follows nothing yet."""


@dataclass(frozen=True, eq=False)
class Prompts:
    """Points and a box of one thing; there is a point inside it, or a box."""

    inside: NDArray[np.float64]
    """float64 (P, 2): points in it, x and y, pixels of the frame."""
    outside: NDArray[np.float64]
    """float64 (P', 2): points that are not in it."""
    box: Box | None
    """Around it."""


def prompts_of(said: Sequence[Correction], rest: Callable[[], NDArray[np.bool_]]) -> Prompts | None:
    """Return what SAM 2 is told of a frame; None if nothing says where the thing is.

    Args:
        said: all corrections of an expression in the frame; of several boxes the last one counts.
        rest: returns what remains of the run's mask, bool (H, W); it is asked where corrections
            say only what the thing is not.
    """
    inside, outside = (
        [each.point for each in said if each.point is not None and each.wanted == wanted]
        for wanted in (True, False)
    )
    box = next((each.box for each in reversed(said) if each.box is not None), None)
    if not inside and box is None:
        remains = rest()
        if not remains.any():
            return None
        inside = [_innermost(remains)]
    return Prompts(_points(inside), _points(outside), box)


def mask_of(
    follower: PromptedFollower,
    prompts: Prompts,
    image: NDArray[np.uint8],
    size_hw: tuple[int, int],
) -> NDArray[np.bool_]:
    """Return the mask that SAM 2 makes of points and a box, bool (H, W).

    Args:
        follower: follows nothing, and has seen the frame; follows nothing after.
        prompts: the points and the box.
        image: uint8 (H, W, 3) RGB: the frame.
        size_hw: height and width of the map that the mask is cut from, as in other frames.

    Raises:
        WeightsError: memory is too small.
    """
    found = follower.add_clicks(0, prompts.inside, prompts.outside, prompts.box, size_hw)
    follower.forget()
    return np.asarray(cut_masks(found.maps, image)[0], bool)


def depth_in(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return how far each pixel of a mask, bool (H, W), is from its edge, or the picture's: float32
    (H, W), pixels."""
    depth = cv2.distanceTransform(np.pad(mask.view(np.uint8), 1), cv2.DIST_L2, 5)
    return np.asarray(depth[1:-1, 1:-1], np.float32)


def _innermost(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """The point of a mask that is deepest in it."""
    y, x = np.unravel_index(int(depth_in(mask).argmax()), mask.shape)
    return float(x), float(y)


def _points(points: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
    return np.array(points, np.float64).reshape(-1, 2)
