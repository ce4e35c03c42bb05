#!/usr/bin/env python
"""Compare carvid with files of the released evaluation on the image benchmarks.

    tools/check_bench_golden.py FILE.json [FILE.json ...] --data DIR [--threads 2]

Beside each FILE.json lies its .npz; DIR has the images and their truth: voc, coco, context, ade and
refer, each in its data set's own layout. Prints a line for each image, expression or number, and
exits 1 if any is out. What the released code does by a fault, and carvid does not, is listed as
not reproduced.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from check_golden import Line
from golden_metrics import check_predicted_metrics, check_semantic_metrics
from golden_referring import check_refer_metrics, check_referring
from golden_semantic import NETWORKS, check_ablation, check_semantic, golden_backbone


def check_file(path: Path, data: Path) -> Iterator[Line]:
    """Compare one file, whichever kind it is of."""
    golden = json.loads(path.read_text(encoding="utf-8"))
    if "semantic" in golden:
        yield from check_semantic_metrics(path, data)
        yield from check_refer_metrics(golden, np.load(path.with_suffix(".npz")))
    elif "runs" in golden:
        clips = {name: golden_backbone(name, path.parent) for name in NETWORKS}
        yield from check_referring(path, data, clips)
    elif "rows" in golden:
        yield from check_ablation(path, data)
    else:
        yield from check_predicted_metrics(path, data)
        yield from check_semantic(path, data)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.json")
    parser.add_argument("--data", required=True, type=Path, metavar="DIR")
    parser.add_argument("--threads", type=int, default=1, help="of torch: they sum in other orders")
    options = parser.parse_args()
    for path in (*options.files, options.data):
        if not path.exists():
            print(f"check_bench_golden: there is no '{path}'", file=sys.stderr)
            return 1
    torch.set_num_threads(options.threads)
    good = True
    for path in options.files:
        for line in check_file(path, options.data):
            good &= line.passed
            print(f"{'ok  ' if line.passed else 'OUT '} {path.stem} {line.name}: {line.detail}")
    if not good:
        print("check_bench_golden: carvid differs from the golden files", file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
