"""gRefCOCO on disk: sentences that name several objects, or none that is there.

    grefcoco/grefs(unc).json         or .p
    grefcoco/instances.json          the objects of its images

A ref has lists of ids; one without a target has `[-1]`. Liu, Ding and Jiang, *GRES: Generalized
Referring Expression Segmentation*, CVPR 2023.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from carvid.datasets.refcoco import ReferringSet
from carvid.datasets.referring_dataset import ReferringSample
from carvid.datasets.refs import Ref

GREFCOCO = ReferringSet(
    "gRefCOCO", ("grefcoco",), ("unc",), "grefs({})", "github.com/henghuiding/gRefCOCO", {}
)


def gref_samples(ref: Ref, image: Path) -> Iterator[ReferringSample]:
    """Make the samples of a ref: each sentence alone, as it was written; empty ones are left out,
    and keep their number."""
    for number, text in enumerate(ref.texts):
        if text.strip():
            yield ReferringSample(
                f"{ref.ref_id}_{number}", image, (text,), ref.annotations, ref.image_id
            )
