#!/usr/bin/env python
"""Compare carvid's `reference` behaviour with golden files of the released CaR code.

    tools/check_golden.py FILE.npz [FILE.npz ...] [--threads 2]

Prints one line for each array, with the largest difference, and exits 1 if any is out. Every step
is fed with the texts that the file records for it, and a stage whose rounding could decide
(a threshold on a float) is checked from the file's own input array, so that only a wrong rule
fails. In semantic files the whole loop also runs end to end. There a pixel whose proposal is at η
may be drawn on one processor and not on another, so a score is compared as closely as the pixels
that fall the other way allow (`_score_tolerances`).

The networks are small CLIPs whose weights follow from a seed; text features are in the file, so
that no tokenizer is needed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import CLIPConfig, CLIPModel

from carvid.car.crf import crf_masks
from carvid.car.prompts import draw_prompts
from carvid.car.proposals import affinity_boxes, refine, to_masks
from carvid.car.queries import Queries
from carvid.car.segmenter import RecurrentSegmenter
from carvid.car.step import Trace, TraceStep
from carvid.clip.backbone import ClipBackbone
from carvid.config import Config, load_config

TOLERANCES = {
    "cam": 2e-3,  # after min-max, range 1
    "affinity": 1e-2,  # share of the map's own range
    "proposal": 1e-4,  # from the file's affinity, range 1
    "score": 2e-3,  # a probability
    "crf_iou": 0.995,
    "end_to_end_iou": 0.99,  # a pixel at a threshold may fall either way
}
"""Float tolerances, all of them; everything else is compared exactly."""

CLIPS: dict[str, dict[str, Any]] = {
    "generator": {
        "seed": 107, "projection": 48, "text": (64, 2),
        "vision": {"hidden_size": 128, "num_hidden_layers": 10, "patch_size": 16, "image_size": 64},
    },
    "classifier": {
        "seed": 202, "projection": 32, "text": (64, 2),
        "vision": {"hidden_size": 128, "num_hidden_layers": 4, "patch_size": 14, "image_size": 56},
    },
}  # fmt: skip
"""Shapes and seeds of the two golden networks."""
HEAD_WIDTH = 64
SPECIAL_TOKENS = {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}


@dataclass(frozen=True)
class Line:
    """One compared array."""

    name: str
    passed: bool
    detail: str


def golden_clip(name: str) -> CLIPModel:
    """Rebuild the network called `generator` or `classifier`, float32, in eval mode.

    Parameters are drawn in the order of their names from NumPy's legacy generator, scaled by
    kind, and rounded to float16.
    """
    spec = CLIPS[name]
    text_width, text_layers = spec["text"]
    vision = dict(spec["vision"])
    common = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
    width = vision["hidden_size"]
    config = CLIPConfig(
        projection_dim=spec["projection"],
        text_config={
            "vocab_size": 49408, "max_position_embeddings": 77, "hidden_size": text_width,
            "intermediate_size": 4 * text_width, "num_hidden_layers": text_layers,
            "num_attention_heads": text_width // HEAD_WIDTH,
            "projection_dim": spec["projection"], **SPECIAL_TOKENS, **common,
        },
        vision_config={
            **vision, "intermediate_size": 4 * width, "num_attention_heads": width // HEAD_WIDTH,
            "projection_dim": spec["projection"], **common,
        },
    )  # fmt: skip
    model = CLIPModel(config).eval()
    generator = np.random.RandomState(spec["seed"])
    with torch.no_grad():
        for key, parameter in sorted(model.named_parameters()):
            if key == "logit_scale":
                parameter.fill_(float(np.log(100)))
                continue
            noise = generator.standard_normal(tuple(parameter.shape)).astype(np.float32)
            parameter.copy_(torch.from_numpy(noise * _scale(key, parameter.shape)))
            if key.endswith("weight") and _is_norm(key):
                parameter.add_(1)
            parameter.copy_(parameter.half().float())
    return model


def _is_norm(key: str) -> bool:
    return "norm" in key or "layrnorm" in key


def _scale(key: str, shape: torch.Size) -> np.float32:
    """Standard deviation of a parameter's noise."""
    fan_in = float(np.prod(shape[1:])) if len(shape) > 1 else 1.0
    if _is_norm(key):
        scale = 0.05
    elif key.endswith("bias"):
        scale = 0.02
    elif "patch_embedding" in key:
        scale = fan_in**-0.5
    elif len(shape) >= 2 and "embedding" not in key:
        scale = 1.4 * fan_in**-0.5
    else:
        scale = 0.3
    return np.float32(scale)


def reference_config(values: dict[str, Any]) -> Config:
    """Return the `reference` preset with the settings that a golden file names."""
    config = load_config("reference")
    return replace(
        config,
        proposals=replace(
            config.proposals, lambda_=values["lam"], background=tuple(values["bg_cls"])
        ),
        prompts=replace(
            config.prompts, eta=values["eta"], kinds=tuple(values["visual_prompt_type"])
        ),
        classifier=replace(config.classifier, templates=tuple(values["templates"])),
        car=replace(config.car, mode=values["mode"], theta=values["theta"]),
    )


def check_file(path: Path, clips: dict[str, ClipBackbone]) -> Iterator[Line]:
    """Compare one golden file, stage by stage."""
    golden = dict(np.load(path, allow_pickle=False))
    config = reference_config(json.loads(str(golden["config"])))
    strings = [str(text) for text in golden["text_strings"]]
    for name, clip in clips.items():
        clip.remember_texts(strings, torch.from_numpy(golden[f"text_{name}"]))
    segmenter = RecurrentSegmenter(clips["generator"], clips["classifier"], config)
    encoded = segmenter.generator.encode(golden["image"])
    # A file without n_iter is of the same form: its steps say how many there are.
    steps = sorted(
        int(k[2 : -len("_cams")]) for k in golden if k.startswith("it") and k.endswith("_cams")
    )
    for step in steps:
        arrays = {k.split("_", 1)[1]: v for k, v in golden.items() if k.startswith(f"it{step}_")}
        for line in _check_step(arrays, golden["image"], segmenter, encoded, config):
            yield replace(line, name=f"it{step}_{line.name}")
    yield from _check_crf(golden, steps, config)
    if config.car.mode == "semantic":
        yield from _check_loop(golden, steps, segmenter)


def _check_step(
    golden: dict[str, NDArray[Any]],
    image: NDArray[np.uint8],
    segmenter: RecurrentSegmenter,
    encoded: Any,
    config: Config,
) -> Iterator[Line]:
    texts = [str(text) for text in golden["cam_texts"]]
    size_hw = (image.shape[0], image.shape[1])
    made = segmenter.generator.propose(encoded, texts, size_hw)
    yield _close("cam_low", made.cams, golden["cam_low"], TOLERANCES["cam"])
    yield _equal("cam_fg_fallback", made.recomputed.astype(int), golden["cam_fg_fallback"])

    boxes = [affinity_boxes(cam, config.proposals.lambda_) for cam in golden["cam_low"]]
    yield _equal("boxes", [[list(b) for b in each] for each in boxes], _json(golden["boxes"]))

    refined = refine(encoded.affinity, golden["cam_low"], boxes)
    span = float(np.ptp(golden["aff_low"])) or 1.0
    yield _close("aff_low", refined, golden["aff_low"], TOLERANCES["affinity"] * span)
    masks = to_masks(golden["aff_low"], size_hw)
    yield _close("cams", masks, golden["cams"], TOLERANCES["proposal"])

    drawn = golden["cams"] > config.prompts.eta
    prompted = [
        draw_prompts(image, mask, config.prompts.kinds, swap_gray=config.prompts.swap_gray)
        for mask in drawn
    ]
    hashes = [hashlib.sha1(np.ascontiguousarray(p).tobytes()).hexdigest() for p in prompted]
    yield _equal("prompt_sha", hashes, [str(sha) for sha in golden["prompt_sha"]])

    rows = _json(golden["cls_texts"])
    templates = rows if isinstance(rows[0], list) else [rows]
    features = segmenter.classifier.encode(prompted, drawn)
    scores = segmenter.classifier.score_templates(features, templates)
    yield _close("scores", scores, golden["scores"], TOLERANCES["score"])

    own = np.diagonal(golden["scores"])
    kept = np.flatnonzero(own > config.car.theta).tolist() or [int(own.argmax())]
    yield _equal("keep_local", kept, golden["keep_local"].tolist())


def _check_crf(golden: dict[str, Any], steps: list[int], config: Config) -> Iterator[Line]:
    """The CRF from the file's own last proposals that are not all zero."""
    last = max((step for step in steps if golden[f"it{step}_cams"].any()), default=steps[0])
    proposals = golden[f"it{last}_cams"]
    # What was dropped at the last step itself gets no mask.
    count = len(golden["crf_masks"])
    kept = golden[f"it{last}_keep_local"].tolist()
    if len(proposals) != count:
        proposals = proposals[kept]
    masks = crf_masks(golden["image"], proposals, config.crf, joint=config.car.mode == "semantic")
    yield _overlap("crf_masks", masks, golden["crf_masks"].astype(bool), TOLERANCES["crf_iou"])


def _check_loop(
    golden: dict[str, Any], steps: list[int], segmenter: RecurrentSegmenter
) -> Iterator[Line]:
    """The whole loop, from the image and the texts alone."""
    trace = Trace()
    queries = Queries(tuple(str(text) for text in golden["texts"]))
    result = segmenter.segment(golden["image"], queries, trace=trace)
    yield _equal("loop: steps", len(trace.steps), len(steps))
    for step, made in zip(steps, trace.steps, strict=False):
        yield _equal(f"loop: it{step}_keep", list(made.kept), golden[f"it{step}_keep"].tolist())
        yield _close(
            f"loop: it{step}_cams",
            made.proposals.masks,
            golden[f"it{step}_cams"],
            TOLERANCES["cam"],
        )
    scores = np.where(result.kept, result.scores, 0)
    allowed = _score_tolerances(golden, f"it{steps[-1]}", trace.steps[-1], segmenter)
    yield _close("loop: scores", scores, golden["scores"], allowed)
    masks = golden["masks"].astype(bool)
    yield _overlap("loop: masks", result.masks, masks, TOLERANCES["end_to_end_iou"])


def _score_tolerances(
    golden: dict[str, Any], step: str, made: TraceStep, segmenter: RecurrentSegmenter
) -> NDArray[np.float64]:
    """How closely each query's score can be compared: float64 (Q,).

    A pixel whose golden proposal is within the tolerance of η may be inside the mask that is drawn
    or outside. Where such pixels fall the other way, the score's own tolerance grows by what they
    change: the difference of this classifier's scores for the golden's mask and for ours.
    """
    prompts = segmenter.config.prompts
    allowed = np.full(len(golden["scores"]), TOLERANCES["score"])
    ours, theirs = made.proposals.masks > prompts.eta, golden[f"{step}_cams"] > prompts.eta
    if ours.shape != theirs.shape:
        return allowed
    at_eta = np.abs(golden[f"{step}_cams"] - prompts.eta) <= TOLERANCES["cam"]
    for row, query in enumerate(made.queries):
        differs = ours[row] != theirs[row]
        if differs.any() and not (differs & ~at_eta[row]).any():
            pair = np.stack([ours[row], theirs[row]])
            images = [
                draw_prompts(golden["image"], mask, prompts.kinds, swap_gray=prompts.swap_gray)
                for mask in pair
            ]
            features = segmenter.classifier.encode(images, pair)
            own = segmenter.classifier.score(features, made.competitors)[:, row]
            allowed[query] += abs(float(own[0] - own[1]))
    return allowed


def _json(value: Any) -> Any:
    return json.loads(str(value))


def _close(name: str, made: Any, wanted: Any, tolerance: float | NDArray[np.float64]) -> Line:
    if made.shape != wanted.shape:
        return Line(name, False, f"shape {made.shape}, golden {wanted.shape}")
    if not made.size:
        return Line(name, True, "empty")
    difference = np.abs(np.asarray(made, np.float64) - wanted)
    allowed = np.broadcast_to(tolerance, difference.shape)
    worst = np.unravel_index(int((difference - allowed).argmax()), difference.shape)
    detail = f"largest difference {difference[worst]:.2e}, allowed {allowed[worst]:.2e}"
    passed = bool((difference <= allowed).all())  # False for NaN
    if not passed:
        bad = np.argwhere(~(difference <= allowed))[0].tolist()
        detail += f", first at {bad}: {made[tuple(bad)]:.6g}, golden {wanted[tuple(bad)]:.6g}"
    return Line(name, passed, detail)


def _equal(name: str, made: Any, wanted: Any) -> Line:
    made, wanted = (x.tolist() if isinstance(x, np.ndarray) else x for x in (made, wanted))
    passed = bool(made == wanted)
    return Line(name, passed, "equal" if passed else f"got {made}, golden {wanted}")


def _overlap(name: str, made: Any, wanted: Any, least: float) -> Line:
    if made.shape != wanted.shape:
        return Line(name, False, f"shape {made.shape}, golden {wanted.shape}")
    union = (made | wanted).sum(axis=(1, 2))
    both = (made & wanted).sum(axis=(1, 2))
    iou = float(np.where(union > 0, both / np.maximum(union, 1), 1.0).min())
    pixels = int((made != wanted).sum())
    return Line(name, iou >= least, f"IoU ≥ {iou:.4f}, {pixels} pixels differ, allowed {least}")


def check(paths: list[Path], threads: int) -> bool:
    """Check all files, print a line for each array; return whether all are within tolerance."""
    torch.set_num_threads(threads)
    clips = {
        name: ClipBackbone(golden_clip(name), None, half_positions=True, name=name)
        for name in CLIPS
    }
    good = True
    for path in paths:
        for line in check_file(path, clips):
            good &= line.passed
            print(f"{'ok  ' if line.passed else 'OUT '} {path.stem} {line.name}: {line.detail}")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=1, help="of torch: they sum in other orders")
    options = parser.parse_args()
    paths = options.files
    for path in paths:
        if not path.is_file():
            print(f"check_golden: no file '{path}'", file=sys.stderr)
            return 1
    if not check(paths, options.threads):
        print("check_golden: carvid differs from the golden files", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
