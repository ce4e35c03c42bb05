"""RefCOCO, RefCOCO+ and RefCOCOg on disk.

    refcoco/refs(unc).p              refs(google).p too: splits of Google's
    refcoco+/refs(unc).p
    refcocog/refs(umd).p             refs(google).p too
    refcoco/instances.json           in each: the objects of its images

or, instead of both files, the hub's `<split>-*.parquet`. Yu, Poirson, Yang, Berg and Berg,
*Modeling Context in Referring Expressions*, ECCV 2016; Mao, Huang, Toshev, Camburu, Yuille and
Murphy, *Generation and Comprehension of Unambiguous Object Descriptions*, CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from carvid.datasets.referring_dataset import ReferringSample
from carvid.datasets.refs import Ref

REMOVED = str.maketrans("", "", '"/')
"""What the released code takes out of a sentence."""


@dataclass(frozen=True)
class ReferringSet:
    """What is known of a data set without its files."""

    title: str
    """As papers write it."""
    folders: tuple[str, ...]
    """What its folder may be called."""
    makers: tuple[str, ...]
    """Who made splits of it, the usual ones first."""
    stem: str
    """Of the files of refs, with the maker's name for `{}`."""
    source: str
    """Where its files are to be had."""
    hub_splits: Mapping[str, str]
    """Split → how the hub's parquet files call it; none if there are no such files."""


_REFER = "{} of github.com/lichengunc/refer (data)"
_UNC = {"train": "train", "val": "validation", "testA": "test", "testB": "testB"}
"""The hub's `test` is testA."""

REFCOCO = ReferringSet(
    "RefCOCO", ("refcoco",), ("unc", "google"), "refs({})", _REFER.format("refcoco.zip"), _UNC
)
REFCOCO_PLUS = ReferringSet(
    "RefCOCO+", ("refcoco+", "refcocoplus"), ("unc",), "refs({})", _REFER.format("refcoco+.zip"),
    _UNC,
)  # fmt: skip
REFCOCOG = ReferringSet(
    "RefCOCOg", ("refcocog",), ("umd", "google"), "refs({})", _REFER.format("refcocog.zip"),
    {"train": "train", "val": "validation", "test": "test"},
)  # fmt: skip


def ref_samples(ref: Ref, image: Path) -> Iterator[ReferringSample]:
    """Make the sample of a ref: all its sentences together, as released: in small letters, without
    `"` and `/`. What is empty then is left out; a ref of which nothing is left has no sample."""
    texts = (text.lower().translate(REMOVED) for text in ref.texts)
    sentences = tuple(text for text in texts if text.strip())
    if sentences:
        yield ReferringSample(str(ref.ref_id), image, sentences, ref.annotations, ref.image_id)
