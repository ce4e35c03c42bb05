"""Numbers with their nouns, for messages."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """Return a number with its noun: "1 video", "2 videos"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
