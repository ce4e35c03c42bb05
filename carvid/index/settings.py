"""The settings of an index, and which of them what it holds depends on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from carvid.config import KEY_EVERY_S, Config

INDEX_KEY_EVERY_S = 0.25
"""Seconds between an index's key frames, where the settings leave it at the usual value: more of
them would take more than 3 MB a second at 480p."""
INDEX_AFFINITY_TOP = 32
"""`proposals.affinity_top` of an index, where the settings keep all."""

STORED: dict[str, tuple[str, ...]] = {
    "weights": ("half_positions",),
    "proposals": (
        "method", "dense_variant", "dense_sigma", "dense_precision", "affinity_blocks",
        "affinity_top", "max_side", "size_multiple", "max_tokens",
    ),
    "temporal": (
        "carry_masks", "early_keys", "key_every", "key_every_s", "cut_trust", "cut_change",
        "flow_side",
    ),
}  # fmt: skip
"""Section → settings that decide which frames are key frames, and what is kept of them."""


def index_config(config: Config) -> Config:
    """Return the settings that a clip is indexed with, and answered from its index.

    Proposals are dense, and key frames come by time and cuts alone. What these settings leave at
    its usual value, precision, affinity and time between key frames, is set for a small index.
    """
    proposals, temporal = config.proposals, config.temporal
    seldom = not temporal.key_every and temporal.key_every_s == KEY_EVERY_S
    small = proposals.dense_precision == "float32"
    return replace(
        config,
        proposals=replace(
            proposals,
            method="dense",
            dense_precision="int8" if small else proposals.dense_precision,
            affinity_top=proposals.affinity_top or INDEX_AFFINITY_TOP,
        ),
        temporal=replace(
            temporal,
            carry_masks=True,
            early_keys=False,
            key_every_s=INDEX_KEY_EVERY_S if seldom else temporal.key_every_s,
        ),
    )


def differences(indexed: Config, asked: Config) -> Iterator[tuple[str, Any, Any]]:
    """Yield the settings that an index's contents depend on and that differ: name, the index's
    value, the other one."""
    for section, names in STORED.items():
        for name in names:
            theirs, ours = (getattr(getattr(each, section), name) for each in (indexed, asked))
            if theirs != ours:
                yield f"{section}.{name}", theirs, ours
