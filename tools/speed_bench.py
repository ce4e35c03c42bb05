"""Where the time of a frame goes, against what its network passes alone would cost.

The networks have the real architectures and random weights. The *floor* of a frame is one image
encode, one forward and N backward passes of the last block, and one batched classifier pass, with
fused attention and nothing else. The released code's pattern (`OneByOne`) is made of our own parts:
the image is encoded for each expression and step, with every attention map made; prompted images
once for each template; texts in each step; the CRF is pydensecrf's, mask by mask.
"""

from __future__ import annotations

import functools
import queue
import resource
import tempfile
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import BatchEncoding, CLIPConfig, CLIPModel

import carvid.car.proposals
import carvid.car.segmenter
import carvid.car.sharpen
import carvid.media.image_readers
import carvid.media.open
import carvid.pipeline
import carvid.streaming
from carvid.car.affinity import normalize_affinity
from carvid.car.classifier import MaskClassifier
from carvid.car.competitors import Competitors
from carvid.car.crf import crf_masks
from carvid.car.proposals import EncodedFrame, ProposalGenerator, patch_multiple
from carvid.car.queries import Queries
from carvid.car.segmenter import RecurrentSegmenter
from carvid.car.sharpen import Sharpener
from carvid.car.step import StepResult
from carvid.car.trace import Trace
from carvid.clip.backbone import ClipBackbone
from carvid.clip.gradient_cam import PatchFeatures, through_last_block
from carvid.clip.layers import split_heads
from carvid.clip.preprocessing import to_pixels
from carvid.config import Config, load_config
from carvid.media.label_png import write_label_png
from carvid.pipeline import Carvid
from carvid.run.folder import RunFolder
from carvid.temporal import carrier, causal, lookahead, pending, seen
from carvid.temporal.observe import FrameContext

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "B/16": {"projection": 512, "text": (512, 12, 8), "vision": (768, 12, 12), "patch": 16},
    "L/14": {"projection": 768, "text": (768, 12, 12), "vision": (1024, 24, 16), "patch": 14},
}
"""Published CLIPs: width, blocks and heads of both towers."""
EXPRESSIONS = ("a black car", "a white dog", "the man on the right", "a tree", "a parked bike")
CAM_TOLERANCE, MASK_IOU = 2e-3, 0.99
"""What both sides may differ by: CAMs in [0, 1], masks before the CRF."""
Stages = dict[str, tuple[tuple[Any, str], ...]]
STAGES: Stages = {
    "decode": ((carvid.media.image_readers, "_values_of"),),
    "image": (
        (ClipBackbone, "encode_patches"), (ClipBackbone, "encode_dense"),
        (carvid.car.proposals, "to_pixels"),
    ),
    "text": ((ClipBackbone, "_encode_texts"),),
    "cam": (
        (ClipBackbone, "gradient_cams"), (ClipBackbone, "similarity_cams"),
        (carvid.car.proposals, "dense_maps"),
    ),
    "affinity": tuple(
        (carvid.car.proposals, name)
        for name in ("normalize_affinity", "refine", "affinity_boxes", "to_masks")
    ),
    "prompts": (
        (carvid.car.segmenter, "draw_prompts"), (MaskClassifier, "_view"),
        (carvid.car.segmenter, "shrink"), (carvid.car.sharpen, "shrink"),
    ),
    "classifier": ((ClipBackbone, "encode_images"),),
    "crf": (
        (carvid.car.sharpen, "crf_masks"), (carvid.car.sharpen, "cut_masks"),
        (carvid.car.segmenter, "cut_masks"),
    ),
    "carry": (
        *((causal, name) for name in ("observe", "after_carrying")),
        *((carrier, name) for name in ("after_key", "carry_back")),
        (seen, "see"),
        (causal, "select_maps"),
        (carvid.streaming, "apply_memory"), (FrameContext, "prior"),
        (lookahead._Smoother, "_masks_of"),
        *((lookahead, name) for name in ("select_maps", "_decided")),
        (pending, "cut_masks"), (causal, "cut_masks"),
    ),
    "write": ((RunFolder, "add"), (RunFolder, "finish")),
    "wait": (
        (queue.Queue, "get"), (queue.Queue, "put"), (threading.Condition, "wait_for"),
        (threading.Thread, "join"),
    ),
}  # fmt: skip
"""Which functions a stage is made of; what calls the others counts without them. `wait` is for what
other threads read and write."""
FILES = ("decode", "text", "write", "wait")
"""The stages that neither see nor segment anything."""


class Clock:
    """Seconds by stage, each without the stages that it calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        """Of the main thread."""
        self.behind: dict[str, float] = defaultdict(float)
        """Of the others, which work at the same time."""
        self._local = threading.local()

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            stack = self._local.__dict__.setdefault("stack", [])
            stack.append(0.0)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.perf_counter() - start
                is_main = threading.current_thread() is threading.main_thread()
                seconds = self.seconds if is_main else self.behind
                seconds[stage] += spent - stack.pop()
                if stack:
                    stack[-1] += spent

        return run

    @contextmanager
    def running(self, stages: Stages | None = None) -> Iterator[None]:
        """Time the stages within; None: `STAGES`."""
        with ExitStack() as patches:
            for stage, functions in (stages or STAGES).items():
                for owner, name in functions:
                    # The descriptor itself, so that a static method stays one.
                    plain = vars(owner)[name]
                    timed = self.timed(stage, getattr(owner, name))
                    wrapped = staticmethod(timed) if isinstance(plain, staticmethod) else timed
                    patches.enter_context(mock.patch.object(owner, name, wrapped))
            yield


class WordTokenizer:
    """A number for every word; the network's size is real, its vocabulary need not be."""

    def __init__(self, config: CLIPConfig) -> None:
        self._text = config.text_config

    def __call__(self, texts: Sequence[str], **_: Any) -> BatchEncoding:
        start, end = self._text.bos_token_id, self._text.eos_token_id
        rows = [
            [start, *(1 + zlib.crc32(word.encode()) % (start - 1) for word in text.split()), end]
            for text in texts
        ]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [end] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        return BatchEncoding({"input_ids": ids, "attention_mask": mask})


def random_backbone(
    name: str, seed: int, *, half_positions: bool, dtype: torch.dtype = torch.float32
) -> ClipBackbone:
    """Make a full-size CLIP with random weights, whose attention is not uniform."""
    shape = ARCHITECTURES[name]
    towers = []
    for width, layers, heads in (shape["text"], shape["vision"]):
        towers.append(
            {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
             "intermediate_size": 4 * width, "projection_dim": shape["projection"]}
        )  # fmt: skip
    tokens = {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
    config = CLIPConfig(
        projection_dim=shape["projection"],
        text_config={**towers[0], **tokens, "vocab_size": 49408},
        vision_config={**towers[1], "patch_size": shape["patch"], "image_size": 224},
    )
    torch.manual_seed(seed)
    model = CLIPModel(config)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.ndim >= 2 and "embedding" not in key:
                parameter.normal_(0, 1.4 * parameter.shape[-1] ** -0.5)
            elif "position" in key:
                parameter.normal_(0, 0.3)
        model.logit_scale.fill_(float(np.log(100)))
    return ClipBackbone(
        model, WordTokenizer(config),  # type: ignore[arg-type]
        dtype=dtype, half_positions=half_positions, name=f"random {name}",
    )  # fmt: skip


def random_model(config: Config) -> Carvid:
    """The two networks that a preset names, with random weights; `auto` is float32 here."""
    first, second = (
        "L/14" if "large" in name else "B/16"
        for name in (config.weights.generator, config.weights.classifier)
    )
    named = config.weights.dtype
    options: dict[str, Any] = {
        "half_positions": config.weights.half_positions,
        "dtype": torch.float32 if named == "auto" else getattr(torch, named),
    }
    generator = random_backbone(first, 0, **options)
    same = config.weights.generator == config.weights.classifier
    classifier = generator if same else random_backbone(second, 1, **options)
    return Carvid(config, generator, classifier)


class OneByOneProposals(ProposalGenerator):
    """The image is encoded anew for each expression and step, and each has its own backward."""

    def encode(self, image: NDArray[np.uint8]) -> EncodedFrame:
        self._image, self._fresh = image, True
        size_hw = self.input_size(image.shape[:2])
        pixels = to_pixels(image, size_hw)
        features = encode_with_maps(self.backbone, pixels, self.config.affinity_blocks)
        return EncodedFrame(features, normalize_affinity(features.attention))

    def _cams(
        self,
        features: PatchFeatures,
        texts: Sequence[str],
        bare: Sequence[str],
        words: Sequence[str],
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        rows, zero, against = [], [], self._competing_background(bare, words)
        for index in range(len(texts)):
            if not self._fresh:
                features = self.encode(self._image).features
            self._fresh = False
            names = [self.config.template.format(word) for word in words]
            every = self.backbone.encode_texts([*texts, *names])
            queries, background = every[: len(texts)], every[len(texts) :]
            if against is not None:
                background = background[torch.from_numpy(against[index])]
            if self.competing:
                background = torch.cat([queries[:index], queries[index + 1 :], background])
            one = queries[index : index + 1]
            cam = self.backbone.gradient_cams(features, one, background, competing=False)[0]
            zero.append(not bool(cam.max() > 0))
            rows.append(self._cam_without_background(features, queries, index) if zero[-1] else cam)
        scaled = carvid.car.proposals.min_max(torch.stack(rows).cpu().numpy())
        return carvid.car.proposals.min_max(scaled), np.array(zero)


class OneByOne(RecurrentSegmenter):
    """The released code's pattern of calls, with the same answers."""

    def __init__(self, model: Carvid) -> None:
        config = replace(
            model.config, crf=replace(model.config.crf, mode="exact", pad_slow_sizes=False)
        )
        super().__init__(*model.backbones, config)
        self.sharpen = OneByOneSharpener(config, None)
        self.generator = OneByOneProposals(
            model.backbones[0], config.proposals, competing=self.competing
        )

    def _propose(
        self, frame: Any, texts: list[str], background: tuple[str, ...], *, first: bool
    ) -> Any:
        frame.proposals.clear()
        for backbone in (self.generator.backbone, self.classifier.backbone):
            backbone.forget_texts()
        return super()._propose(frame, texts, background, first=first)

    def _scores(
        self,
        frame: Any,
        kinds: Sequence[tuple[str, ...]],
        owners: NDArray[np.int64],
        masks: NDArray[np.float32],
        competitors: Competitors,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """One text alone is classified too; the released code has no cosines."""
        features = self._classify(frame, kinds, masks)
        allowed = competitors.allowed[owners]
        scores = self.classifier.score(features, competitors.texts, allowed)
        return scores, np.full(len(masks), np.nan, np.float32)

    def _classify(
        self, frame: Any, kinds: Sequence[tuple[str, ...]], candidates: NDArray[np.float32]
    ) -> Tensor:
        for _ in self.config.classifier.templates:
            frame.prompted.clear()
            features = super()._classify(frame, kinds, candidates)
        return features


class OneByOneSharpener(Sharpener):
    """Masks of different expressions have a CRF each, one after the other."""

    def __call__(
        self,
        image: NDArray[np.uint8],
        proposals: NDArray[np.float32],
        stuff: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.bool_]:
        crf = self.config.crf
        if not crf.enabled or self.config.car.mode == "semantic":
            return super().__call__(image, proposals, stuff)
        each = [crf_masks(image, proposal[None], crf, joint=False) for proposal in proposals]
        return np.concatenate(each)


@torch.inference_mode()
def encode_with_maps(backbone: ClipBackbone, pixels: Tensor, blocks: int) -> PatchFeatures:
    """As `encode_patches`, with PyTorch's own multi-head attention, as the released code has it:
    every head's map of a block is made, and their mean kept."""
    layers = backbone.model.vision_model.encoder.layers
    x = backbone._embed(pixels[None])
    maps = []
    for layer in layers:
        attention, normed = layer.self_attn, layer.layer_norm1(x).transpose(0, 1)  # (L, 1, D)
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        mixed, weights = F.multi_head_attention_forward(
            normed, normed, normed, attention.embed_dim, attention.num_heads,
            in_proj_weight=None, in_proj_bias=torch.cat([each.bias for each in projections]),
            bias_k=None, bias_v=None, add_zero_attn=False, dropout_p=0.0,
            out_proj_weight=attention.out_proj.weight, out_proj_bias=attention.out_proj.bias,
            training=False, use_separate_proj_weight=True, q_proj_weight=projections[0].weight,
            k_proj_weight=projections[1].weight, v_proj_weight=projections[2].weight,
        )  # fmt: skip
        assert weights is not None
        maps.append(weights[0, 1:, 1:])
        if layer is not layers[-1]:
            x = x + mixed.transpose(0, 1)  # (1, L, D)
            x = x + layer.mlp(layer.layer_norm2(x))
    heads = split_heads(layers[-1].self_attn, layers[-1].layer_norm1(x))
    mixed = F.scaled_dot_product_attention(*heads)
    grid_hw = (pixels.shape[1] // backbone.patch_size, pixels.shape[2] // backbone.patch_size)
    mean = torch.stack(maps[-blocks:]).mean(dim=0)
    return through_last_block(backbone.model.vision_model, x, heads, mixed, grid_hw, mean)


def network_passes(model: Carvid, image: NDArray[np.uint8], count: int) -> None:
    """The floor: what a frame of `count` expressions needs of its networks, and nothing else."""
    generator, classifier = model.backbones
    proposals = model.config.proposals
    limits = (proposals.max_side, proposals.max_tokens)
    size_hw = patch_multiple(image.shape[:2], generator.patch_size, *limits)
    pixels = to_pixels(image, size_hw)[None]
    generator.encode_images(pixels, last_block=False)
    vision = generator.model.vision_model
    with torch.enable_grad():
        target = generator._embed(pixels).to(generator.dtype, copy=True).requires_grad_()
        out = vision.encoder.layers[-1](target, attention_mask=None)
        pooled = generator.model.visual_projection(vision.post_layernorm(out[0, 1:]).mean(dim=0))
        scores = F.normalize(pooled, dim=0)[:count]
        for score in scores:
            torch.autograd.grad(score, target, retain_graph=True)
    side = classifier.image_size
    views = to_pixels(image, (side, side)).expand(count, -1, -1, -1)
    classifier.encode_images(views, last_block=model.config.classifier.last_block)


@dataclass(frozen=True)
class Case:
    """One thing to measure."""

    size_hw: tuple[int, int]
    count: int
    """N."""
    survive: str
    """`all` expressions stay, or the best `one`: random weights cannot tell."""
    crf: bool
    runs: int
    baseline: bool


def measure_image(model: Carvid, images: Sequence[NDArray[np.uint8]], case: Case) -> dict[str, Any]:
    """Time one image, run after run, beside the floor and (if asked for) the released pattern.

    Raises:
        ValueError: the two sides' answers differ.
    """
    model = with_settings(model, case)
    queries = Queries(EXPRESSIONS[: case.count])
    plain = OneByOne(model) if case.baseline else None
    warm_up(model, images[0], queries)
    totals: dict[str, list[float]] = defaultdict(list)
    stages: dict[str, list[float]] = defaultdict(list)
    peaks: dict[str, float] = defaultdict(float)
    worst: dict[str, float] = {"cam": 0.0, "iou": 1.0, "crf_iou": 1.0}
    steps = 0
    with tempfile.TemporaryDirectory() as folder:
        for run in range(case.runs):
            image, clock, trace = images[run % len(images)], Clock(), Trace()
            path = Path(folder) / "frame.jpg"
            Image.fromarray(image).save(path, quality=95)
            for backbone in model.backbones:
                backbone.forget_texts()
            with peak_of(peaks, "ours"), clock.running(), spent(totals["ours"]):
                read = next(iter(carvid.media.open.open_video(path))).image
                found = model.segmenter.segment(read, queries, trace=trace)
                write = clock.timed("write", write_label_png)
                write(Path(folder) / "mask.png", labels_of(found))
            for stage in STAGES:
                stages[stage].append(clock.seconds[stage])
            stages["rest"].append(totals["ours"][-1] - sum(clock.seconds.values()))
            with spent(totals["floor"]):
                network_passes(model, image, case.count)
            steps = len(trace.steps)
            if plain is None:
                continue
            other = Trace()
            with peak_of(peaks, "released"), spent(totals["released"]):
                expected = plain.segment(read, queries, trace=other)
            compare(trace, other, model.config.prompts.eta, worst)
            pairs = zip(found.masks, expected.masks, strict=True)
            worst["crf_iou"] = min(worst["crf_iou"], *(agreement(a, b) for a, b in pairs))
    if worst["cam"] > CAM_TOLERANCE or worst["iou"] < MASK_IOU:
        raise ValueError(f"the released pattern gives other answers: {worst}")
    medians = {name: float(np.median(values)) for name, values in totals.items()}
    result: dict[str, Any] = {
        "n": case.count, "t": 1, "crf": case.crf, "steps": steps, "s": medians["ours"],
        "frames_per_s": 1 / medians["ours"], "floor_s": medians["floor"],
        "ratio_to_floor": medians["ours"] / medians["floor"], "peak_mb": peaks["ours"],
        "stages_s": {stage: float(np.median(values)) for stage, values in stages.items()},
    }  # fmt: skip
    if plain is not None:
        result |= {
            "released_s": medians["released"],
            "gain": medians["released"] / medians["ours"],
            "released_peak_mb": peaks["released"], "cam_difference": worst["cam"],
            "iou": worst["iou"], "iou_after_crf": worst["crf_iou"],
        }  # fmt: skip
    return result


def measure_clip(model: Carvid, images: Sequence[NDArray[np.uint8]], case: Case) -> dict[str, Any]:
    """Time a clip from files to files, beside the floor and the released code's way with one frame:
    its pattern of calls under preset `reference`, whatever the clip's own preset leaves out."""
    model = with_settings(model, case)
    totals: dict[str, list[float]] = defaultdict(list)
    peaks: dict[str, float] = defaultdict(float)
    stages: dict[str, list[float]] = defaultdict(list)
    files: list[float] = []
    queries = Queries(EXPRESSIONS[: case.count])
    warm_up(model, images[0], queries)
    before = model.backbones[0].counts["patches"]
    for _ in range(case.runs):
        with tempfile.TemporaryDirectory() as folder:
            frames = Path(folder) / "frames"
            frames.mkdir()
            for index, image in enumerate(images):
                Image.fromarray(image).save(frames / f"{index:05d}.jpg", quality=95)
            clock = Clock()
            for backbone in model.backbones:
                backbone.forget_texts()
            with peak_of(peaks, "ours"), clock.running(), spent(totals["ours"]):
                model.segment(frames, queries.texts, out=Path(folder) / "out")
        for stage in STAGES:
            stages[stage].append(clock.seconds[stage])
        for stage in ("decode", "write"):
            stages[f"{stage} (behind)"].append(clock.behind[stage])
        files.append(sum(clock.seconds[stage] for stage in FILES) / totals["ours"][-1])
        with spent(totals["floor"]):
            network_passes(model, images[0], case.count)
    keys = (model.backbones[0].counts["patches"] - before) / case.runs
    if case.baseline:
        reference = Carvid(load_config("reference"), *model.backbones)
        plain = OneByOne(with_settings(reference, case))
        for image in (images[0], images[-1]):
            with peak_of(peaks, "released"), spent(totals["released"]):
                plain.segment(image, queries)
    medians = {name: float(np.median(values)) for name, values in totals.items()}
    each = medians["ours"] / len(images)
    result: dict[str, Any] = {
        "n": case.count, "t": len(images), "crf": case.crf, "key_frames": keys, "s": each,
        "frames_per_s": 1 / each, "floor_s": medians["floor"] * keys / len(images),
        "ratio_to_floor": medians["ours"] / (medians["floor"] * keys), "peak_mb": peaks["ours"],
        "stages_s": {k: float(np.median(v)) / len(images) for k, v in stages.items()},
        "files_share": float(np.median(files)),
    }  # fmt: skip
    if case.baseline:
        result |= {"released_s": medians["released"], "gain": medians["released"] / each,
                   "released_peak_mb": peaks["released"]}  # fmt: skip
    return result


def measure_classes(
    counts: Sequence[int],
    size_hw: tuple[int, int],
    preset: str,
    changes: Mapping[str, Sequence[str]],
    runs: int,
    threads: int,
) -> Iterator[dict[str, Any]]:
    """Time the generator on an image of so many classes, from its pass over the image to proposals,
    texts encoded before; ways and counts in turn, so that all see the machine as it is.

    Args:
        counts: of classes.
        size_hw: of the image.
        preset: its generator gets random weights.
        changes: name of a way → settings over the preset.
        runs: of each, after one that does not count.
        threads: of torch.
    """
    torch.set_num_threads(threads)
    models = {name: load_config(preset, each) for name, each in changes.items()}
    backbone = random_model(load_config(preset)).backbones[0]
    generators = {
        name: ProposalGenerator(
            backbone, config.proposals, competing=config.car.mode == "semantic"
        )
        for name, config in models.items()
    }  # fmt: skip
    noise = np.random.default_rng(0).integers(0, 256, (*size_hw, 3)).astype(np.uint8)
    image = cv2.GaussianBlur(noise, (0, 0), 8)
    names = [f"class {number}" for number in range(max(counts))]
    seconds: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for _ in range(runs + 1):
        for count in counts:
            for name, generator in generators.items():
                began = time.perf_counter()
                encoded = generator.encode(image)
                between = time.perf_counter()
                generator.propose(encoded, names[:count], size_hw)
                seconds[name, count].append((between - began, time.perf_counter() - between))
    medians = {key: np.median(each[1:], axis=0) for key, each in seconds.items()}
    for (name, count), (image_s, texts_s) in medians.items():
        fewest_image_s, fewest_texts_s = medians[name, min(counts)]
        times = (image_s + texts_s) / (fewest_image_s + fewest_texts_s)
        yield {
            "maps": name, "classes": count, "seconds": round(image_s + texts_s, 3),
            "times_the_fewest": round(times, 2), "without_the_image_s": round(texts_s, 3),
            "without_it_times": round(texts_s / fewest_texts_s, 2),
        }  # fmt: skip


def warm_up(model: Carvid, image: NDArray[np.uint8], queries: Queries) -> None:
    """First calls allocate, and choose kernels; they are no part of a frame's cost."""
    network_passes(model, image, len(queries.texts))
    model.segmenter.check_texts(queries)


def with_settings(model: Carvid, case: Case) -> Carvid:
    """The same networks, with θ and the CRF as a case wants them."""
    theta = 0.0 if case.survive == "all" else 1.0
    config = replace(
        model.config,
        car=replace(model.config.car, theta=theta, present="best"),
        crf=replace(model.config.crf, enabled=case.crf, mode="fast"),
    )
    return Carvid(config, *model.backbones)


def compare(ours: Trace, others: Trace, eta: float, worst: dict[str, float]) -> None:
    """Note by how much two traces differ, at most.

    Raises:
        ValueError: other queries survived.
    """
    if [step.kept for step in ours.steps] != [step.kept for step in others.steps]:
        raise ValueError("the released pattern keeps other expressions")
    for a, b in zip(ours.steps, others.steps, strict=True):
        difference = float(np.abs(a.proposals.cams - b.proposals.cams).max())
        worst["cam"] = max(worst["cam"], difference)
        pairs = zip(a.proposals.masks > eta, b.proposals.masks > eta, strict=True)
        worst["iou"] = min(worst["iou"], *(agreement(*pair) for pair in pairs))


def agreement(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """IoU of two masks, bool (H, W); 1 if both are empty."""
    return float((a & b).sum() / (a | b).sum()) if (a | b).any() else 1.0


def labels_of(result: StepResult) -> NDArray[np.uint8]:
    labels = np.zeros(result.masks.shape[1:], np.uint8)
    for k, mask in enumerate(result.masks, start=1):
        labels[mask] = k
    return labels


@contextmanager
def spent(times: list[float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    times.append(time.perf_counter() - start)


@contextmanager
def peak_of(peaks: dict[str, float], name: str) -> Iterator[None]:
    """Note the process's largest resident memory within, MB; where the system does not let it be
    reset, the largest so far."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")
    yield
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if reset.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        largest = int(lines["VmHWM"].split()[0]) / 1024
    peaks[name] = max(peaks[name], largest)


def read_images(folder: Path, count: int, size_hw: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """The first `count` frames of a folder, uint8 (H, W, 3) RGB; there and back if it has fewer."""
    paths = sorted(folder.glob("*.jpg"))
    order = [*range(len(paths)), *range(len(paths) - 2, 0, -1)]
    chosen = [paths[order[i % len(order)]] for i in range(count)]
    images = [np.asarray(Image.open(path).convert("RGB")) for path in chosen]
    return [
        np.asarray(cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)
        for image in images
    ]


HEAD = (
    "| preset | N | T | CRF | s a frame | floor, s | × floor | released, s | gain | peak, MB | "
    "released, MB |\n|-|-|-|-|-|-|-|-|-|-|-|"
)


def row(preset: str, result: dict[str, Any]) -> str:
    cells = [
        preset, str(result["n"]), str(result["t"]), "yes" if result["crf"] else "no",
        f"{result['s']:.2f}", f"{result['floor_s']:.2f}", f"{result['ratio_to_floor']:.2f}",
        f"{result['released_s']:.1f}" if "gain" in result else "",
        f"{result['gain']:.1f}" if "gain" in result else "", f"{result['peak_mb']:.0f}",
        f"{result['released_peak_mb']:.0f}" if "gain" in result else "",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def split(result: dict[str, Any]) -> str:
    """The stages of a result, in one line: seconds a frame."""
    shown = [f"{stage} {seconds:.3f}" for stage, seconds in result["stages_s"].items() if seconds]
    line = "  " + ", ".join(shown)
    if "files_share" in result:
        line += f"; reading, texts, writing, and waiting for them: {result['files_share']:.1%}"
    return line
