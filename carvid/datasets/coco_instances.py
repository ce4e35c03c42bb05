"""COCO's instances: the objects of images as polygons or run lengths, drawn by pycocotools, whose
pixels are those that everybody compares with."""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import ConfigError, DatasetError
from carvid.base.files import read_text

MAX_INSTANCES_BYTES = 1_000_000_000
"""Longer files are not read; COCO's largest, of train2017, has 470 MB."""


@dataclass(frozen=True)
class CocoInstances:
    """The objects of some images."""

    sizes: Mapping[int, tuple[int, int]]
    """Height and width, pixels, by image id."""
    annotations: Mapping[int, Mapping[str, Any]]
    """By annotation id: `image_id` and `segmentation`, as COCO writes them."""

    def parts(self, annotation_id: int) -> NDArray[np.uint8]:
        """Count the polygons of an object that each pixel is in: uint8 (H, W); of run lengths 1.

        Raises:
            ConfigError: pycocotools is not installed.
            DatasetError: the object's outline cannot be drawn.
        """
        tools = mask_tools()
        annotation = self.annotations[annotation_id]
        height, width = self.sizes[annotation["image_id"]]
        outline = annotation["segmentation"]
        try:
            if isinstance(outline, list):
                codes = tools.frPyObjects(outline, height, width)
            elif isinstance(outline["counts"], list):
                codes = [tools.frPyObjects(outline, height, width)]
            else:
                codes = [outline]
            with warnings.catch_warnings():  # pycocotools hands NumPy 2 arrays in NumPy 1's way
                warnings.simplefilter("ignore", DeprecationWarning)
                planes = tools.decode(codes)
        except Exception as error:  # pycocotools raises Exception itself
            raise _not_drawn(annotation_id, " ".join(str(error).split())) from None
        if planes.shape[:2] != (height, width):
            raise _not_drawn(
                annotation_id, f"it is of {planes.shape[0]}×{planes.shape[1]} pixels, and its "
                f"image of {height}×{width}",
            )  # fmt: skip
        return np.asarray(planes.sum(axis=2), np.uint8)


def read_instances(path: Path, wanted: Collection[int]) -> CocoInstances:
    """Read COCO's `instances.json`.

    Args:
        path: the file.
        wanted: ids of the images whose objects are kept.

    Raises:
        DatasetError: it cannot be read, or is of another form.
    """
    try:
        values = json.loads(read_text(path, limit=MAX_INSTANCES_BYTES))
        images = [image for image in values["images"] if image["id"] in wanted]
        return CocoInstances(
            {int(each["id"]): (int(each["height"]), int(each["width"])) for each in images},
            {
                int(each["id"]): {
                    "image_id": int(each["image_id"]), "segmentation": each["segmentation"],
                }
                for each in values["annotations"]
                if each["image_id"] in wanted
            },
        )  # fmt: skip
    except OSError as error:
        raise DatasetError(f"cannot read '{path}': {error.strerror}; check the path") from None
    except KeyError as error:
        raise DatasetError(f"'{path}' lacks the key {error}; unpack it again") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise DatasetError(f"'{path}' cannot be read: {error}; unpack it again") from None


def mask_tools() -> Any:
    """Return `pycocotools.mask`.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError:
        raise ConfigError(
            "COCO's outlines are drawn by pycocotools; pip install 'carvid[coco]'"
        ) from None
    return mask


def _not_drawn(annotation_id: int, why: str) -> DatasetError:
    return DatasetError(f"annotation {annotation_id} cannot be drawn: {why}; unpack its file again")
