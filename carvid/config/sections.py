"""Every setting of carvid: its default, its meaning and its check, each written once.

A `Config` is a frozen dataclass of frozen sections. A resolved one saves as a plain mapping and
loads back equal.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carvid.base.errors import ConfigError, suggest
from carvid.config.declare import Section, names_of, setting
from carvid.config.instances import InstancesConfig
from carvid.config.old_settings import renamed
from carvid.config.overlay import OverlayConfig
from carvid.config.sam2 import Sam2Config

BACKGROUND_QUERIES = (
    "ground", "land", "grass", "tree", "building", "wall", "sky", "lake", "water", "river",
    "sea", "railway", "railroad", "helmet", "cloud", "house", "mountain", "ocean", "road",
    "rock", "street", "valley", "bridge",
)  # fmt: skip
"""Background queries of the released configurations: terrestrial, aquatic-atmospheric, man-made."""

TEMPLATE = "a clean origami {}."
"""The template of CLIP-ES and of the released CaR code; `{}` is the expression."""

KEY_EVERY_S = 1 / 6
"""Seconds between key frames: 4 frames at 24 a second."""

PROMPT_KINDS = ("blur", "gray", "black", "circle", "rectangle", "contour")
"""The visual prompts, in the order in which they are applied."""

SCALES = ("480p", "frame")
"""The size at which something works: the frame scaled down to 480p, if it is larger, or its own."""


@dataclass(frozen=True)
class WeightsConfig(Section):
    """The two frozen CLIPs, and where they run."""

    generator: str = setting("openai/clip-vit-base-patch16")
    """Mask proposal generator: a hub name, a local folder, or `tiny` (the embedded model)."""
    classifier: str = setting("openai/clip-vit-large-patch14")
    """Mask classifier: likewise."""
    device: str = setting("auto")
    """`auto` (CUDA, then MPS, then CPU), or a torch device such as `cuda:1`."""
    dtype: str = setting("auto", choices=("auto", "float32", "float16", "bfloat16"))
    """`auto` is float16 on CUDA, and bfloat16 on CPUs that multiply in it (AMX, AVX512_BF16), for
    networks at least 256 channels wide; float32 elsewhere."""
    half_positions: bool = setting(False)
    """Round position embeddings to float16, as the released code does on every device."""


@dataclass(frozen=True)
class ProposalsConfig(Section):
    """f, the mask proposal generator (paper section 3.2; CLIP-ES)."""

    method: str = setting("gradcam", choices=("gradcam", "dense"))
    """`gradcam`: a text's map is its gradient CAM (the paper), which costs a backward pass a text;
    `dense`: its probability in each patch, by features of a changed last block, one product for all
    texts."""
    dense_variant: str = setting("kk", choices=("kk", "qq", "sclip"))
    """`dense`, what attends to what: `kk` keys to keys, near ones more (NACLIP); `qq` queries to
    queries (ClearCLIP); `sclip` the sum of both, with residual and MLP (SCLIP)."""
    dense_sigma: float = setting(5.0, low=0.0)
    """`dense`, `kk`: standard deviation of the nearness, patches; 0 is none."""
    dense_precision: str = setting("float32", choices=("float32", "float16", "int8"))
    """`dense`: in which the features are kept; an index of a clip has `int8`, a quarter of the
    size."""
    dense_scale: float = setting(40.0, low=0.0)
    """`dense`: factor from cosine to logit of the softmax over texts and background; 40 (NACLIP) is
    for the released CLIPs, whose own is 100."""
    lambda_: float = setting(0.5, low=0.0, high=1.0)
    """λ: share of a CAM's maximum above which a patch belongs to an affinity box."""
    background: tuple[str, ...] = setting(BACKGROUND_QUERIES)
    """Background queries, which take away activations of things nobody asked for."""
    skip_own_words: bool = setting(True)
    """A background query that an expression names ("the road", "a tree in front of a house") does
    not compete with it, here and in the classifier; off in the released code."""
    template: str = setting(TEMPLATE, template=True)
    """Text of a query, `{}` being the expression."""
    switch_text: bool = setting(False)
    """Step 1 sees bare expressions, later steps the template (the released code)."""
    zero_cam: str = setting("similarity", choices=("similarity", "softmax"))
    """A gradient CAM of zeros is computed again: from the bare similarity, or (the released code)
    from the softmax without background queries, which is zero again for a single text."""
    affinity: bool = setting(True)
    """Refine CAMs by the attention of the last blocks; off is plain gradient CAM, or the dense map,
    which then needs no map of attention to be made."""
    affinity_blocks: int = setting(8, low=1)
    """How many of the last blocks lend their attention (all of them, where there are fewer)."""
    affinity_top: int = setting(0, low=0)
    """Of what a patch attends to, keep so many patches; 0 keeps all. An index of a clip has 32."""
    parts: int = setting(1, low=1)
    """1: a CAM is one proposal, with all its blobs (the paper). More: up to so many connected parts
    of a CAM are a proposal each, and for every query the one with the best score stays."""
    parts_level: float = setting(0.4, low=0.0, high=1.0)
    """Share of a CAM's maximum above which patches are connected to a part."""
    max_side: int = setting(0, low=0)
    """Scale frames down to this longer side in pixels before the generator; 0 keeps the size."""
    size_multiple: int = setting(0, low=0)
    """Frames get sides of a multiple of so many pixels; 0 is the generator's patch size. The
    released code has 16, so that of a patch of 14 pixels what is left over at the edges is lost."""
    max_tokens: int = setting(1620, low=0)
    """Scale frames down, too, until they are at most so many patches: each attends to every other
    one. 1620 is what 854×480 has of 16 pixels; 0 is no limit."""


@dataclass(frozen=True)
class PromptsConfig(Section):
    """v, visual prompting (paper section 3.2, figure 3)."""

    kinds: tuple[str, ...] = setting(("circle", "blur"), choices=PROMPT_KINDS)
    """Which prompts are drawn, in the fixed order blur, gray, black, circle, rectangle, contour."""
    eta: float = setting(0.5, low=0.0, high=1.0)
    """η: a proposal above it is inside the mask that is drawn."""
    stuff: tuple[str, ...] = setting(())
    """Expressions that name stuff, not things; they get `stuff_kinds`."""
    stuff_kinds: tuple[str, ...] = setting(("blur", "gray"), choices=PROMPT_KINDS)
    """The prompts of stuff."""
    scale: str = setting("480p", choices=SCALES)
    """`480p`: prompts are drawn, and proposals compared, on the frame made so small that its
    shorter side is 480 (a smaller frame as it is), so that their lines and blur are as strong in
    the classifier's view whatever the frame's size; `frame`: at the frame's own size."""
    swap_gray: bool = setting(False)
    """Grey weighs red and blue the wrong way round, as the released code does."""


@dataclass(frozen=True)
class ClassifierConfig(Section):
    """g, the mask classifier (paper section 3.2, equation 3)."""

    templates: tuple[str, ...] = setting((TEMPLATE,), template=True)
    """Texts of a query; several are scored each and summed."""
    view: str = setting("letterbox", choices=("letterbox", "center-crop", "mask-crop"))
    """What of a prompted frame is seen: all of it, its centre, or a square around the mask."""
    crop_margin: float = setting(1.5, low=1.0)
    """`mask-crop`: side of the square over the longer side of the mask's box."""
    last_block: bool = setting(True)
    """Run the last transformer block; the released code leaves it out."""
    competitors: str = setting("run", choices=("run", "living"))
    """Whose texts compete: those of the whole run, in every step and frame, or only those of the
    queries that are still alive (the released code)."""
    background: str = setting("always", choices=("always", "never"))
    """Background queries compete with the expressions; `never` in the released code."""


@dataclass(frozen=True)
class CarConfig(Section):
    """σ and the recurrence (paper section 3.1, algorithm 1)."""

    mode: str = setting("refer", choices=("refer", "semantic"))
    """`refer`: each query has its own CAM and CRF; `semantic`: queries compete in both."""
    theta: float = setting(0.3, low=0.0, high=1.0)
    """θ: a query stays while its score is above it."""
    present: str = setting("ask", choices=("ask", "best", "each"))
    """`ask`: an expression may name something that is not there. `best`: one of them is there, and
    where none passes, the best one is kept (the released code). `each`: all of them are, in every
    frame, and each keeps its best candidate (Ref-DAVIS)."""
    max_steps: int = setting(10, low=1)
    """Upper bound of the steps on one frame; 1 is CaR without recurrence."""
    stop: str = setting("fixed-point", choices=("fixed-point", "equal-counts"))
    """Stop when the kept queries are those of the step before (the paper); `equal-counts`
    compares counts, with 0 before the first step, so that there are at least two steps."""
    duplicates: str = setting("keep", choices=("keep", "collapse"))
    """Equal expressions keep a label each, or collapse onto the first (the released code)."""


@dataclass(frozen=True)
class CrfConfig(Section):
    """Dense CRF on the proposals (paper section 3.3; the released `crf.py`)."""

    enabled: bool = setting(True)
    """Off: a mask is the proposal above `prompts.eta`."""
    mode: str = setting("fast", choices=("fast", "exact"))
    """`exact` is pydensecrf's inference (`pip install "carvid[exact]"`); `fast` gives nearly its
    masks in a tenth of the time."""
    scale: str = setting("480p", choices=SCALES)
    """`480p`: it runs on a frame whose shorter side is 480 at most, and its masks are enlarged with
    the frame as a guide; `frame`: at the frame's own size, which its kernels were not made for."""
    iterations: int = setting(10, low=1)
    """Mean-field iterations."""
    smooth_sxy: float = setting(1.0, low=0.01, high=100.0)
    """Standard deviation of the smoothness kernel, pixels."""
    smooth_compat: float = setting(3.0, low=0.0)
    """Weight of the smoothness kernel."""
    bilateral_sxy: float = setting(67.0, low=0.01, high=1000.0)
    """Standard deviation of the appearance kernel in space, pixels."""
    bilateral_srgb: float = setting(3.0, low=0.01)
    """Standard deviation of the appearance kernel in colour, levels of 255."""
    bilateral_compat: float = setting(4.0, low=0.0)
    """Weight of the appearance kernel."""
    background_power: float = setting(1.0, low=0.0)
    """Background probability is (1 − the largest proposal) to this power."""
    wrap_colors: bool = setting(False)
    """Use BGR minus a mean, wrapped around in uint8, as the released code does."""
    pad_slow_sizes: bool = setting(True)
    """`exact`: pad 854 pixel sides to 856: 3 times faster, by pydensecrf's hashing."""


@dataclass(frozen=True)
class PhrasesConfig(Section):
    """Words about place, size and motion ("the dog on the left"), which are not for CLIP."""

    enabled: bool = setting(True)
    """Take them out of what CLIP looks for, and choose among the parts of its CAM by them."""
    weight: float = setting(1.0, low=0.0)
    """Weight of wishes, in units of score, when a thing is first seen."""
    parts: int = setting(4, low=1)
    """Up to so many connected parts of such a query's CAM are a proposal each."""


@dataclass(frozen=True)
class SamConfig(Section):
    """SAM on the masks (paper section 3.3); off unless `model` names one."""

    model: str = setting("")
    """A segment-anything checkpoint, a folder in `SamModel` format, or a hub name."""
    mode: str = setting("ensemble", choices=("ensemble", "prompted"))
    """`ensemble` matches SAM's automatic masks with a mask (the paper); `prompted` lets SAM draw
    the mask anew from its box, points in it and itself."""
    match: str = setting("paper", choices=("paper", "released"))
    """`paper`: the union of what matches replaces a mask if their IoU is above φ_iou; `released`:
    whatever the IoU, and the best IoM stands in where nothing matches."""
    phi_iom: float = setting(0.7, low=0.0, high=1.0)
    """φ_iom: an automatic mask matches above this intersection over the smaller mask."""
    phi_iou: float = setting(0.7, low=0.0, high=1.0)
    """φ_iou: what SAM gives replaces a mask above this IoU."""
    points_per_side: int = setting(32, low=1)
    """Automatic masks: the grid has this many points in each direction."""
    points_per_batch: int = setting(64, low=1)
    """Points that are asked together; fewer take less memory."""
    min_iou: float = setting(0.88)
    """Automatic masks: SAM's own rating must be above it."""
    min_stability: float = setting(0.95, low=0.0, high=1.0)
    """Automatic masks: least IoU of the masks at thresholds a little above and below."""
    max_box_iou: float = setting(0.7, low=0.0, high=1.0)
    """Automatic masks: of those whose boxes overlap more, the best stays."""
    cache: str = setting("auto")
    """Folder that keeps automatic masks; `auto` is carvid/sam in the user's cache, `off` none."""
    cache_mb: int = setting(2000, low=1)
    """All that is kept, megabytes; what was used longest ago makes room."""


@dataclass(frozen=True)
class TemporalConfig(Section):
    """What one frame leaves to the next."""

    carry_queries: bool = setting(True)
    """Queries are dropped and offered again along time; off asks all of them at each key frame."""
    carry_masks: bool = setting(True)
    """Masks are carried along; off makes every frame a key frame, decided by itself."""
    carrier: str = setting("flow", choices=("flow", "sam2"))
    """What carries masks: optical flow, or SAM 2 (`sam2.model`), which is told what CaR finds."""
    key_every_s: float = setting(KEY_EVERY_S, low=0.0)
    """Seconds between key frames, which get CaR's step; one comes earlier where carrying is
    doubtful (`min_trust`, `area_jump`)."""
    key_every: int = setting(0, low=0)
    """K: every K-th frame is a key frame instead; 0 leaves it to `key_every_s`."""
    tracks: int = setting(2, low=1)
    """Most tracks of a query from the key frame where it is first seen to the next one, so that a
    wrong one can be left."""
    max_new: int = setting(2, low=1)
    """Most new proposals at a key frame of a query that was there at the one before."""
    same_iou: float = setting(0.5, low=0.0, high=1.0)
    """IoU above which two candidates of a query are classified once."""
    smoothing: float = setting(0.5, low=0.0, high=1.0)
    """Weight of the past: path value = (1 - smoothing) · score + smoothing · (best path value of
    the key frame before - hysteresis, if it changes)."""
    hysteresis: float = setting(0.2, low=0.0)
    """Cost, in units of score, of a path that changes from one thing to another, loses it, or finds
    it again."""
    drop_after: int = setting(2, low=1)
    """A query that was not there at so many key frames in a row is dropped ..."""
    reoffer_every: int = setting(1, low=1)
    """... until all queries are offered again, every so many key frames."""
    motion: float = setting(0.5, low=0.0, high=1.0)
    """Weight, in a key frame's proposal before the CRF, of what moves as its mask does."""
    color: float = setting(0.7, low=0.0, high=5.0)
    """Weight of the log odds of a track's colours so far: before a key frame's CRF, and where flow
    that carried a mask is not trusted."""
    early_keys: bool = setting(True)
    """A frame where carrying is doubtful becomes a key frame; off: key frames come by time and cuts
    alone, and so are the same whatever is looked for (an index of a clip)."""
    min_trust: float = setting(0.2, low=0.0, high=1.0)
    """Mean trust in the flow within a carried mask, in [0, 1], below which the frame becomes a key
    frame."""
    area_jump: float = setting(5.0, low=1.0)
    """Factor by which a carried mask's area has grown or shrunk since the last key frame, above
    which the frame becomes one."""
    lag: int = setting(4, low=0)
    """Key frames to look ahead: a file's key frame is decided when so many further ones have been
    seen; 0 decides at once, as live input does."""
    cut_trust: float = setting(0.35, low=0.0, high=1.0)
    """Mean trust in the flow over the whole frame below which, where the picture has changed too,
    there is a scene cut: masks and scores are forgotten. 0 looks for no cuts, dissolves and
    flashes."""
    cut_change: float = setting(0.45)
    """Change of the picture (`carvid.temporal.cuts.change`, in [-2, 2]) above which it has."""
    flow_side: int = setting(854, low=16)
    """The longer side at which flow is computed and masks are carried, pixels."""
    snap_radius: int = setting(3, low=1)
    """Window of the guided filter that carried masks are snapped to edges with, pixels."""
    snap_epsilon: float = setting(0.001, low=0.0)
    """Variance of grey in [0, 1] under which that filter counts a window as flat."""

    @property
    def looks_ahead(self) -> bool:
        """Whether later frames have a say, where there are any to wait for."""
        return self.carry_masks and self.lag > 0


@dataclass(frozen=True, repr=False)
class Config:
    """All settings of a run."""

    weights: WeightsConfig = dataclasses.field(default_factory=WeightsConfig)
    proposals: ProposalsConfig = dataclasses.field(default_factory=ProposalsConfig)
    prompts: PromptsConfig = dataclasses.field(default_factory=PromptsConfig)
    classifier: ClassifierConfig = dataclasses.field(default_factory=ClassifierConfig)
    car: CarConfig = dataclasses.field(default_factory=CarConfig)
    crf: CrfConfig = dataclasses.field(default_factory=CrfConfig)
    phrases: PhrasesConfig = dataclasses.field(default_factory=PhrasesConfig)
    sam: SamConfig = dataclasses.field(default_factory=SamConfig)
    sam2: Sam2Config = dataclasses.field(default_factory=Sam2Config)
    temporal: TemporalConfig = dataclasses.field(default_factory=TemporalConfig)
    instances: InstancesConfig = dataclasses.field(default_factory=InstancesConfig)
    overlay: OverlayConfig = dataclasses.field(default_factory=OverlayConfig)

    def __repr__(self) -> str:
        """What differs from the defaults; `to_dict` has all."""
        usual = Config().to_dict()
        changes = (
            f"{section}.{key}={value!r}"
            for section, values in self.to_dict().items()
            for key, value in values.items()
            if value != usual[section][key]
        )
        return f"Config({', '.join(changes)})"

    @property
    def networks(self) -> dict[str, str]:
        """What a network is for → the name of its weights: `generator`, `classifier`, and `sam` and
        `sam2` where they are used."""
        named = {"generator": self.weights.generator, "classifier": self.weights.classifier}
        if self.sam.model:
            named["sam"] = self.sam.model
        if self.temporal.carrier == "sam2":
            named["sam2"] = self.sam2.model
        return named

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return a plain mapping (tuples as lists) that `from_dict` loads back equal."""
        return {
            section: {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
            for section, values in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, base: Config | None = None) -> Config:
        """Return `base` (the defaults, if none) with `values` put over it.

        Raises:
            ConfigError: an unknown section or key, or a value of the wrong type or range.
        """
        config = base or cls()
        for name, changes in values.items():
            if name not in names_of(cls):
                raise ConfigError(f"unknown section '{name}'{suggest(name, names_of(cls))}")
            if not isinstance(changes, Mapping):
                raise ConfigError(f"section '{name}' must be a mapping of settings")
            section = getattr(config, name)
            known = names_of(section)
            changes = renamed(name, changes)
            for key in changes:
                if key not in known:
                    raise ConfigError(f"unknown key '{name}.{key}'{suggest(key, known)}")
            clean = {k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()}
            config = dataclasses.replace(config, **{name: dataclasses.replace(section, **clean)})
        return config
