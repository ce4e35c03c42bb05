"""VideoCarrier: SAM 2 carries masks from frame to frame, frame by frame, with bounded memory.

A frame comes by `step`, which says where each object has gone; then objects may be added to it,
corrected in it, or dropped. Each object is carried by itself, as if there were no other: SAM 2 does
so, too, but for the memory of a frame in which another object is given (transformers makes the
memories of all objects together, and cuts all their masks if one was given).

Backward in time is the same: the frames come in the other order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from carvid.sam.video_memory import ObjectMemory, to_array, to_tensor
from carvid.sam.video_weights import VideoNetwork, not_enough_memory

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, pixels."""


@dataclass(frozen=True, eq=False)
class Carried:
    """Objects in a frame."""

    numbers: tuple[int, ...]
    """The objects, as they were called when they were added, in that order."""
    maps: NDArray[np.float32]
    """float32 (M, h, w) in [0, 1]: SAM 2's probability; above 0.5 in the object."""
    scores: NDArray[np.float32]
    """float32 (M,) in [0, 1]: SAM 2's probability that the object is in the frame at all; below 0.5
    the map is zero."""


class VideoCarrier:
    """Objects of a video, carried by SAM 2; one frame is known at a time.

    Memory does not grow with the frames: for each object the memories of the last 6 frames and of
    up to `video_memory.PROMPTED_FRAMES` where it was given, half a megabyte each, and 15 pointers.

    Args:
        network: a SAM 2.
    """

    def __init__(self, network: VideoNetwork) -> None:
        self.network = network
        self._vision = network.session(dtype=network.dtype, inference_device=network.device,
                                       inference_state_device=network.device).cache  # fmt: skip
        self._objects: dict[int, ObjectMemory] = {}
        self._index = -1
        self._pixels: Tensor | None = None
        self._size_hw = (0, 0)
        mean, std = network.preprocessing.mean, network.preprocessing.std
        self._mean, self._std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (mean, std))

    @property
    def numbers(self) -> tuple[int, ...]:
        """The objects that are carried, in the order in which they were added."""
        return tuple(self._objects)

    def step(self, image: NDArray[np.uint8], size_hw: tuple[int, int] | None = None) -> Carried:
        """Carry all objects into the next frame.

        Args:
            image: uint8 (H, W, 3) RGB, of any size; its size may differ from the frame before.
            size_hw: height and width of the maps, pixels; those of the image, if None.

        Raises:
            WeightsError: memory is too small.
        """
        self._index += 1
        self._vision.clear_all()
        self._size_hw = (image.shape[0], image.shape[1])
        self._pixels = self._to_pixels(image)
        size_hw = size_hw or self._size_hw
        maps = np.zeros((len(self._objects), *size_hw), np.float32)
        scores = np.zeros(len(self._objects), np.float32)
        with not_enough_memory(self.network.name):
            for k, memory in enumerate(self._objects.values()):
                maps[k], scores[k] = _found(memory.carry(self._pixels, self._index), size_hw)
        self._share_positions()
        return Carried(self.numbers, maps, scores)

    def add_mask(self, number: int, mask: NDArray[np.bool_]) -> None:
        """Add an object by its mask in the frame, or correct one that is carried already.

        Args:
            number: what it is called.
            mask: bool (h, w), of any size: it covers the frame. Empty: a carried object is not in
                this frame.

        Raises:
            ValueError: no frame has come yet, or the mask of a new object is empty.
            WeightsError: memory is too small.
        """
        if number not in self._objects and not mask.any():
            raise ValueError(f"object {number} has an empty mask")
        pixels, square, memory = self._current(), self._to_square(mask), self._memory_of(number)
        with not_enough_memory(self.network.name):
            memory.give(pixels, self._index, square)
        self._keep(number, memory)

    def add_clicks(
        self,
        number: int,
        inside: NDArray[np.float64],
        outside: NDArray[np.float64],
        box: Box | None = None,
        size_hw: tuple[int, int] | None = None,
    ) -> Carried:
        """Add an object by points or a box in the frame, or correct one that is carried already.

        What is told of the same object in the same frame replaces what was told before.

        Args:
            number: what it is called.
            inside: float64 (P, 2): points in it, x and y in pixels of the frame.
            outside: float64 (P', 2): points that are not in it.
            box: around it.
            size_hw: as of `step`.

        Returns:
            The object alone, as SAM 2 finds it in the frame now.

        Raises:
            ValueError: no frame has come yet, or there is neither a point inside nor a box.
            WeightsError: memory is too small.
        """
        if not len(inside) and box is None:
            raise ValueError(f"object {number} has no point inside it, and no box")
        pixels = self._current()
        points, labels = self._prompt(inside, outside, box)
        memory = self._memory_of(number)
        with not_enough_memory(self.network.name):
            result = memory.click(pixels, self._index, points, labels)
        self._keep(number, memory)
        plane, score = _found(result, size_hw or self._size_hw)
        return Carried((number,), plane[None], np.array([score], np.float32))

    def drop(self, number: int) -> None:
        """Forget an object; one that is not carried is none to forget."""
        self._objects.pop(number, None)

    def forget(self) -> None:
        """Forget all objects."""
        self._objects.clear()

    def state(self) -> dict[str, NDArray[Any]]:
        """Return what is remembered between this frame and the next one, as plain arrays.

        Bfloat16 is uint16 of the same bits: `load` goes on as if nothing had been between.
        """
        state: dict[str, NDArray[Any]] = {
            "index": np.array(self._index),
            "numbers": np.array(self.numbers, np.int64),
        }
        for number, memory in self._objects.items():
            state |= {f"{number}/{name}": each for name, each in memory.arrays().items()}
            if memory.positions is not None:
                state["positions"] = to_array(memory.positions)
        return state

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on after the frame at which `state` was returned; its frame is not known any more.

        Raises:
            ValueError: it is no state, or that of another network; nothing has changed then.
        """
        try:
            positions = state.get("positions")
            shared = None if positions is None else to_tensor(positions).to(self.network.device)
            objects = {
                int(number): self._loaded(int(number), state, shared) for number in state["numbers"]
            }
            index = int(state["index"])
        except (LookupError, TypeError) as error:
            raise ValueError(f"no state of a VideoCarrier ({error})") from None
        self._objects, self._index, self._pixels = objects, index, None
        self._vision.clear_all()

    def _loaded(
        self, number: int, state: Mapping[str, NDArray[Any]], positions: Tensor | None
    ) -> ObjectMemory:
        prefix = f"{number}/"
        memory = ObjectMemory(self.network, self._vision)
        own = {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
        memory.load(own, positions)
        return memory

    def _memory_of(self, number: int) -> ObjectMemory:
        """What is remembered of an object; of a new one nothing."""
        return self._objects.get(number) or ObjectMemory(self.network, self._vision)

    def _keep(self, number: int, memory: ObjectMemory) -> None:
        """Carry an object from now on: only when the network has taken it up."""
        self._objects[number] = memory
        self._share_positions()

    def _current(self) -> Tensor:
        if self._pixels is None:
            raise ValueError("no frame has come yet; call step first")
        return self._pixels

    def _share_positions(self) -> None:
        """Keep one tensor of positions for all frames and objects: a megabyte each otherwise."""
        memories = list(self._objects.values())
        if memories and (positions := memories[0].positions) is not None:
            for memory in memories:
                memory.share(positions)

    def _to_pixels(self, image: NDArray[np.uint8]) -> Tensor:
        """A frame as the network sees it, float (1, 3, S, S): stretched to a square, bilinear and
        antialiased, as transformers' processor does (SAM 2's own loader is bicubic)."""
        side = self.network.side
        picture = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
        levels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float()
        pixels = (levels / 255 - self._mean) / self._std
        return pixels.to(self.network.device, self.network.dtype)

    def _to_square(self, mask: NDArray[np.bool_]) -> Tensor:
        """A mask as the network reads it, float32 (1, 1, S, S) of 0 and 1; one that is not empty
        stays so, however small it is."""
        side = self.network.side
        plane = torch.from_numpy(np.ascontiguousarray(mask)).to(self.network.device)[None, None]
        share = F.interpolate(plane.float(), (side, side), mode="bilinear", antialias=True)
        level = share.max().clamp(min=torch.finfo(torch.float32).tiny, max=0.5)
        return (share >= level).float()

    def _prompt(
        self, inside: NDArray[np.float64], outside: NDArray[np.float64], box: Box | None
    ) -> tuple[Tensor, Tensor]:
        """Points and a box as the network reads them: a box is its corners, labels 2 and 3."""
        corners = np.array(box, float).reshape(-1, 2) if box else np.zeros((0, 2))
        parts = [corners, np.reshape(inside, (-1, 2)), np.reshape(outside, (-1, 2))]
        labels = [2, 3] * bool(box) + [1] * len(parts[1]) + [0] * len(parts[2])
        height, width = self._size_hw
        points = np.concatenate(parts) * (self.network.side / width, self.network.side / height)
        device = self.network.device
        return (
            torch.from_numpy(points).float().to(device)[None, None],
            torch.tensor(labels, dtype=torch.int32, device=device)[None, None],
        )


def _found(found: tuple[Tensor, Tensor], size_hw: tuple[int, int]) -> tuple[Any, float]:
    """Logits of a mask and of its being there → its map, float32 (h, w), and a probability."""
    logits, there = found
    plane = torch.sigmoid(F.interpolate(logits, size_hw, mode="bilinear"))[0, 0]
    return plane.cpu().numpy(), float(torch.sigmoid(there))
