"""Which precision a network computes in: half on CUDA, bfloat16 on processors that multiply in it.

On others bfloat16 is many times slower than float32, since each number is converted.
"""

from __future__ import annotations

import os

import torch

BFLOAT16_CAPS = {
    "_is_amx_tile_supported": frozenset(
        {"", "DEFAULT", "ALL", "AVX512_CORE_AMX", "AVX512_CORE_AMX_FP16", "AVX10_1_512_AMX",
         "AVX10_1_512_AMX_FP16", "AVX10_2_512_AMX_2", "AVX10_2_AMX_2"}
    ),
    "_is_avx512_bf16_supported": frozenset(
        {"", "DEFAULT", "ALL", "AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX512_CORE_AMX",
         "AVX512_CORE_AMX_FP16", "AVX10_1_512", "AVX10_1_512_AMX", "AVX10_1_512_AMX_FP16",
         "AVX10_2_512", "AVX10_2_512_AMX_2", "AVX10_2", "AVX10_2_AMX_2"}
    ),
}  # fmt: skip
"""Functions of `torch.cpu` that tell an instruction set which multiplies bfloat16, and the values
of `ONEDNN_MAX_CPU_ISA` that leave it to oneDNN, which multiplies for torch (its "CPU Dispatcher
Control"). AVX512_BF16 without AMX is here because it makes each network pass of a key frame more
than twice as fast (AMD EPYC of family 26, `tools/bench.py bfloat16`)."""
CAPS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
"""Variables that cap what oneDNN uses, by its new and its old name; the first that is set holds."""
BFLOAT16_WIDTH = 256
"""Channels of an image encoder from which on `auto` may be bfloat16; the published CLIPs have 768
and more. Narrower ones (the embedded model has 192) see an image in some hundredths of a second, of
which bfloat16 would save less than half: they keep every bit."""


def resolve_dtype(name: str, device: torch.device, width: int) -> torch.dtype:
    """Return the precision for `auto` or a precision's name.

    `auto` is float16 on CUDA; bfloat16 on a CPU that multiplies in it, for wide networks; float32
    elsewhere.

    Args:
        name: of `weights.dtype`.
        device: where the network runs.
        width: channels of its image encoder.
    """
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    if device.type == "cuda":
        return torch.float16
    wide = width >= BFLOAT16_WIDTH
    return torch.bfloat16 if device.type == "cpu" and wide and has_bfloat16() else torch.float32


def has_bfloat16() -> bool:
    """Whether this processor multiplies matrices in bfloat16 (AMX, AVX512_BF16), and torch may.

    It may not where oneDNN or torch's own functions are capped to an older processor's
    (`ONEDNN_MAX_CPU_ISA`, `ATEN_CPU_CAPABILITY`), nor in a torch without oneDNN or without the
    functions that tell.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False
    cap = next((value for name in CAPS if (value := os.environ.get(name))), "").upper()
    return any(
        cap in caps and getattr(torch.cpu, name, bool)() for name, caps in BFLOAT16_CAPS.items()
    )
