"""ObjectMemory: what SAM 2 remembers of one object, bounded however long the video is.

transformers' session keeps all frames, prompts and outputs. Here it is used for one object and one
frame at a time, and all that the network will not look at again is removed after each: beyond the
last `num_maskmem` frames the memory, beyond the last `max_object_pointers_in_encoder` the pointer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from carvid.sam.video_weights import VideoNetwork

PROMPTED_FRAMES = 4
"""So many of the frames where an object was given are remembered, the latest ones. SAM 2 looks at
all of them, however many there are."""
POINTER, FEATURES, POSITIONS = "object_pointer", "maskmem_features", "maskmem_pos_enc"
"""What transformers calls an object's pointer in a frame, the memory of that frame, and the
positions in it."""
GIVEN, CARRIED = "cond_frame_outputs", "non_cond_frame_outputs"
"""Likewise the frames where an object was given, and those that it was carried into."""


class ObjectMemory:
    """One object of a video.

    Args:
        network: a SAM 2.
        vision: transformers' cache of a frame's features, which all objects share.
    """

    def __init__(self, network: VideoNetwork, vision: Any) -> None:
        self._network = network
        self._session = network.session(
            inference_device=network.device,
            inference_state_device=network.device,
            video_storage_device=network.device,
            dtype=network.dtype,
        )
        self._session.cache = vision
        self._session.obj_id_to_idx(0)

    def carry(self, pixels: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """Find the object in a frame.

        Args:
            pixels: float (1, 3, S, S).
            index: the frame's, one more than that of the frame before.

        Returns:
            Logits, float32 (1, 1, s, s), in the object above 0; the logit that it is there at all,
            float32 ().
        """
        return self._run(pixels, index)

    def give(self, pixels: Tensor, index: int, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Tell the object's mask in the frame, float (1, 1, S, S) of 0 and 1; as `carry`."""
        self._forget_carried(index)
        self._session.add_mask_inputs(0, index, mask)
        return self._run_given(pixels, index)

    def click(
        self, pixels: Tensor, index: int, points: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Tell points of the object in the frame; as `carry`.

        Where it was carried into the frame, they correct what SAM 2 remembers; else they are all
        that it knows.

        Args:
            pixels: float (1, 3, S, S).
            index: the frame's.
            points: float32 (1, 1, P, 2), x and y in pixels of the square.
            labels: int32 (1, 1, P): 1 in the object, 0 not; 2 and 3 a box's corners.
        """
        inputs = {"point_coords": points.to(self._network.dtype), "point_labels": labels}
        self._session.add_point_inputs(0, index, inputs)
        return self._run_given(pixels, index)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what is remembered, for `load`; the positions apart (`positions`)."""
        return {
            f"{place}/{index}/{what}": to_array(values[what])
            for place in (GIVEN, CARRIED)
            for index, values in self._outputs[place].items()
            for what in (POINTER, FEATURES)
            if what in values
        }

    def load(self, arrays: Mapping[str, NDArray[Any]], positions: Tensor | None) -> None:
        """Take up what `arrays` returned.

        Raises:
            ValueError: it is something else, or of another network.
        """
        for name, array in arrays.items():
            place, index, what = name.split("/")
            if place not in (GIVEN, CARRIED) or what not in (POINTER, FEATURES):
                raise ValueError(f"'{name}' is nothing that SAM 2 remembers")
            model = self._network.model
            width = model.hidden_dim if what == POINTER else model.mem_dim
            if array.ndim < 2 or array.shape[-1] != width:
                raise ValueError(f"'{name}' is of another network: {array.shape}, not {width}")
            values = self._outputs[place].setdefault(int(index), {})
            values[what] = to_tensor(array).to(self._network.device)
            if what == FEATURES:
                values[POSITIONS] = positions
        if not self._outputs[GIVEN]:
            raise ValueError("an object that was never given")

    @property
    def positions(self) -> Tensor | None:
        """Positions in the memory of a frame; the same for each frame and object."""
        return next((values[POSITIONS] for values in self._outputs[GIVEN].values()), None)

    def share(self, positions: Tensor) -> None:
        """Keep another object's positions instead of its own, which are equal."""
        for place in (GIVEN, CARRIED):
            for values in self._outputs[place].values():
                own = values.get(POSITIONS, positions)
                if own is not positions and torch.equal(own, positions):
                    values[POSITIONS] = positions

    @property
    def bytes(self) -> int:
        """Size of what is remembered, the positions apart."""
        return sum(array.nbytes for array in self.arrays().values())

    @property
    def _outputs(self) -> dict[str, dict[int, dict[str, Any]]]:
        outputs: dict[str, dict[int, dict[str, Any]]] = self._session.output_dict_per_obj[0]
        return outputs

    def _forget_carried(self, index: int) -> None:
        """A mask that is given stands for itself: the frame is no more one that it was carried
        into."""
        self._session.frames_tracked_per_obj[0].pop(index, None)
        self._outputs[CARRIED].pop(index, None)

    def _run_given(self, pixels: Tensor, index: int) -> tuple[Tensor, Tensor]:
        self._session.obj_with_new_inputs = [0]
        found = self._run(pixels, index)
        if index in self._outputs[CARRIED]:  # what a person corrects is remembered as given
            self._outputs[GIVEN][index] = self._outputs[CARRIED].pop(index)
            self._trim(index)
        return found

    def _run(self, pixels: Tensor, index: int) -> tuple[Tensor, Tensor]:
        output = self._network.model(self._session, frame_idx=index, frame=pixels)
        logits = output.pred_masks.float().reshape(1, 1, *output.pred_masks.shape[-2:])
        there = output.object_score_logits.float().reshape(())
        self._trim(index)
        return logits, there

    def _trim(self, index: int) -> None:
        """Remove what the network will not look at again, in this frame or a later one."""
        session, config = self._session, self._network.model.config
        session.processed_frames = None
        session.mask_inputs_per_obj[0].clear()
        session.point_inputs_per_obj[0].clear()
        tracked = session.frames_tracked_per_obj[0]
        for earlier in [each for each in tracked if each < index]:
            del tracked[earlier]
        given, carried = self._outputs[GIVEN], self._outputs[CARRIED]
        for earlier in sorted(given)[:-PROMPTED_FRAMES]:
            del given[earlier]
        for earlier in [i for i in carried if index - i >= self._reach]:
            del carried[earlier]
        for place in (given, carried):
            for earlier, values in place.items():
                recent = place is given or index - earlier < config.num_maskmem
                place[earlier] = _kept(values, (POINTER, *(FEATURES, POSITIONS) * recent))

    @property
    def _reach(self) -> int:
        """From so many frames back on nothing is looked at."""
        config = self._network.model.config
        return max(int(config.num_maskmem), int(config.max_object_pointers_in_encoder))


def _kept(values: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    # Features as they lie in memory after loading: the order of numbers may decide how they add up.
    return {name: values[name].contiguous() for name in names if name in values}


def to_array(tensor: Tensor) -> NDArray[Any]:
    """Return an array of the same bits; numpy has no bfloat16, which becomes uint16."""
    tensor = tensor.cpu()
    bits = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
    array = bits.numpy()
    return array.view(np.uint16) if tensor.dtype == torch.bfloat16 else array


def to_tensor(array: NDArray[Any]) -> Tensor:
    """Return the tensor that `to_array` made an array of, on the CPU."""
    if array.dtype == np.uint16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())
