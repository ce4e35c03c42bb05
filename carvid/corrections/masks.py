"""The masks of a run, with what corrections have changed in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from carvid.run.sequences import MasksOfLabels, PackedLabels, PackedMasks
from carvid.run.track import Track


class CorrectedMasks:
    """A run's masks and label maps; of frames that were changed, the new ones, packed.

    The masks of a run's folder are those of its label maps, and stay so: what is given to one
    expression is taken from the others. Masks in memory may overlap.

    Args:
        track: the run.
    """

    def __init__(self, track: Track) -> None:
        self._track = track
        self._labels: dict[int, bytes] = {}
        self._planes: dict[int, dict[int, bytes]] = {}
        self._overlap = not isinstance(track.masks, MasksOfLabels)
        self._size_hw = (track.masks.shape[2], track.masks.shape[3])

    def take(self, corrected: Track) -> None:
        """Take up what earlier corrections have changed in the same run, whose label maps are all
        that it is."""
        for index, labels in enumerate(corrected.label_maps):
            if (labels != self._track.label_maps[index]).any():
                self._labels[index] = PackedLabels.pack(labels)

    def read_from(self, track: Track) -> None:
        """Read what is not changed from another place, where the same run is."""
        self._track = track

    @property
    def changed(self) -> Sequence[int]:
        """Indices of the frames that were changed, sorted."""
        return sorted(self._labels)

    def mask(self, index: int, query: int) -> NDArray[np.bool_]:
        """Return an expression's mask in a frame, bool (H, W)."""
        if not self._overlap:
            return np.asarray(self.labels(index) == query + 1, bool)
        packed = self._planes.get(index, {}).get(query)
        if packed is None:
            return np.asarray(self._track.masks[index][query], bool)
        return PackedMasks.unpack(packed, self._size_hw)

    def others(self, index: int, query: int) -> NDArray[np.bool_]:
        """Return the masks of the other expressions in a frame, bool (N - 1, H, W)."""
        return np.delete(self.masks(index), query, axis=0)

    def masks(self, index: int) -> NDArray[np.bool_]:
        """Return a frame's masks, bool (N, H, W)."""
        count = self._track.masks.shape[1]
        if not self._overlap:
            numbers = np.arange(1, count + 1)[:, None, None]
            return np.asarray(self.labels(index) == numbers, bool)
        masks = self._track.masks[index].copy()
        for query, packed in self._planes.get(index, {}).items():
            masks[query] = PackedMasks.unpack(packed, self._size_hw)
        return masks

    def labels(self, index: int) -> NDArray[np.uint8]:
        """Return a frame's label map, uint8 (H, W)."""
        packed = self._labels.get(index)
        if packed is None:
            return self._track.label_maps[index]
        return PackedLabels.unpack(packed, self._size_hw)

    def put(self, index: int, query: int, mask: NDArray[np.bool_]) -> None:
        """Change an expression's mask in a frame, bool (H, W). In the label map it is above the
        others; where it is no longer, the first of the others that is there shows."""
        if (mask == self.mask(index, query)).all():
            return
        labels = self.labels(index).copy()
        gone = (labels == query + 1) & ~mask
        labels[gone] = 0
        if self._overlap:
            self._planes.setdefault(index, {})[query] = PackedMasks.pack(mask)
            masks = self.masks(index)
            labels[gone] = np.where(masks.any(axis=0), masks.argmax(axis=0) + 1, 0)[gone]
        labels[mask] = query + 1
        self._labels[index] = PackedLabels.pack(labels)
