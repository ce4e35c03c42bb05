"""`carvid run --instances`: every thing of an expression with a label of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from carvid.cli.classes import Asked
from carvid.cli.options import QUESTION

if TYPE_CHECKING:
    from carvid.config import Config

Instances = Annotated[
    bool,
    typer.Option(
        "--instances", rich_help_panel=QUESTION,
        help="Each thing of an expression has a label of its own, 'dog 1', 'dog 2'. Of one "
        "expression alone: -e 'dog*'.",
    ),
]  # fmt: skip


def which(expressions: Sequence[str], *, every: bool) -> tuple[list[str], bool | list[str]]:
    """Return expressions without the stars that mark some of them, and of which all things are
    wanted, as `Carvid.segment` takes it."""
    from carvid.car.marks import read_stars

    texts, marked = read_stars(expressions)
    return texts, every or [texts[index] for index in marked] or False


def check_all(
    sources: Sequence[str], texts: Asked, config: Config, instances: bool | list[str]
) -> None:
    """Say what stands against instances, and against what carries masks, without loading torch.

    Raises:
        CarvidError: as `check_instances` and `check_carrier`.
    """
    from carvid.car.classes import config_for
    from carvid.instances.check import check_instances
    from carvid.temporal.sam2_carrier import check_carrier

    check_carrier(config_for(texts, config))
    if instances:
        for source in sources or [""]:
            check_instances(source, texts, config)
