"""Short texts of objects that hold arrays, and no comparison of them value by value."""

from __future__ import annotations

import dataclasses
from reprlib import Repr
from typing import Any, ClassVar, cast

import numpy as np

_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxtuple, _SHORT.maxstring, _SHORT.maxother = 2, 4, 60, 60


class Brief:
    """Base of dataclasses that hold arrays.

    `repr` names dtype and shape of an array instead of its values. Two are equal if they are the
    same object: NumPy leaves open what the equality of two arrays is. To be declared with
    `@dataclass(eq=False, repr=False)`.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def __repr__(self) -> str:
        fields = dataclasses.fields(cast("Any", self))
        values = (f"{field.name}={_brief(getattr(self, field.name))}" for field in fields)
        return f"{type(self).__name__}({', '.join(values)})"


def _brief(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"<{value.dtype} {value.shape}>"
    if isinstance(value, Brief):
        return f"{type(value).__name__}(…)"
    if isinstance(value, dict):
        return f"<{len(value)} entries>"
    return _SHORT.repr(value)
