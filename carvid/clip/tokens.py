"""Whether a tokenizer and a text encoder belong together.

transformers makes an almost empty tokenizer of a folder that has none, reads any token as the end
of a text, and says nothing: every text then has the same features.
"""

from __future__ import annotations

import re
from typing import Any

PROBES = ("a", "a photo of the red dog")
"""Texts of different lengths, so that one is padded."""
OLD_END = 2
"""Older configs have this `eos_token_id`, and another start: there the highest token is the end."""
PADDED_ROWS = 128
"""A table of embeddings may be rounded up to a multiple of so many rows."""

WORDS = 20
"""How many words of a vocabulary are tried."""


def check_tokenizer(tokenizer: Any, config: Any) -> None:
    """Check that a text encoder has a row for each token, and finds the end of a text.

    Args:
        tokenizer: a `CLIPTokenizer`.
        config: a `CLIPTextConfig`.

    Raises:
        ValueError: they do not belong together.
    """
    count = 1 + max(tokenizer.get_vocab().values())
    if not count <= config.vocab_size < count + PADDED_ROWS:
        raise ValueError(
            f"its tokenizer has {count} tokens, its text encoder {config.vocab_size}: it is not "
            "the tokenizer of these weights"
        )
    if not _knows_its_words(tokenizer):
        raise ValueError("its tokenizer spells the words that it has: its merges are missing")
    old = config.eos_token_id == OLD_END
    begin = tokenizer.bos_token_id if old or not config.bos_token_id else config.bos_token_id
    batch = tokenizer(list(PROBES), padding=True, return_tensors="pt")
    ids, last = batch["input_ids"], batch["attention_mask"].sum(dim=1) - 1
    # A `CLIPTextModel` takes a text's feature at:
    end = (ids if old else (ids == config.eos_token_id).int()).argmax(dim=1)
    ends = ids.gather(1, last[:, None]) == tokenizer.eos_token_id
    if not ((ids[:, 0] == begin).all() and ends.all() and (end == last).all()):
        raise ValueError(
            "its text encoder does not know the first or the last token that its tokenizer gives "
            "a text: it is not the tokenizer of these weights"
        )


def _knows_its_words(tokenizer: Any) -> bool:
    """Whether any of the last whole words of a vocabulary, if it has some, is read as one token."""
    end = "</w>"
    rows = sorted((row, token) for token, row in tokenizer.get_vocab().items())
    words = [token for _, token in rows if re.fullmatch(f"[a-z]{{2,}}{end}", token)][-WORDS:]
    return not words or any(tokenizer.tokenize(word.removesuffix(end)) == [word] for word in words)
