"""What `tools/mutants.py` breaks: targets, and a small named change of each.

A mutant takes a function of carvid and gives what shall stand in its place. Targets are named by
the parameters' names, too: where one is gone, the mutant says so and is not taken for caught.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import numpy as np

Function = Callable[..., Any]

TARGETS = {
    "read frames": "carvid.media.frames:VideoReader.frames",
    "generator's image": "carvid.car.proposals:ProposalGenerator.encode",
    "CAMs": "carvid.clip.backbone:ClipBackbone.gradient_cams",
    "nearness": "carvid.clip.dense:nearness",
    "dense probabilities": "carvid.clip.dense:log_probabilities",
    "maps to masks": "carvid.car.proposals:to_masks",
    "parts": "carvid.car.proposals:split_parts",
    "prompts": "carvid.car.prompts:draw_prompts",
    "classifier's images": "carvid.car.classifier:MaskClassifier.encode",
    "view": "carvid.car.classifier:letterbox",
    "scores": "carvid.car.classifier:MaskClassifier.score",
    "wishes": "carvid.car.phrases:rate_wishes",
    "choice": "carvid.car.choice:rate",
    "is it there": "carvid.car.choice:Candidates.is_there",
    "queries": "carvid.car.queries:Queries.all",
    "masks of the package": "carvid.sam.package:_generate",
    "maker of masks in json": "carvid.sam.installed:made_by_in_json",
    "masks of proposals": "carvid.car.sharpen:Sharpener.__call__",
    "CRF": "carvid.car.crf:crf_masks",
    "flow": "carvid.temporal.flow:flow_between",
    "carrying": "carvid.temporal.carry:carry",
    "colours": "carvid.temporal.colors:count_colors",
    "new frame": "carvid.temporal.seen:see",
    "carried mask": "carvid.temporal.carry:correct_carried",
    "memory": "carvid.temporal.memory:apply_memory",
    "key frame": "carvid.temporal.update:after_key",
    "resizing": "carvid.base.scale:resize",
    "looking ahead": "carvid.temporal.lookahead:smooth",
    "both sides": "carvid.temporal.lookahead:mix",
    "offline": "carvid.streaming:Streaming.offline",
    "peaks": "carvid.car.peaks:split_peaks",
    "found and followed": "carvid.temporal.matching:match_seen",
    "found and hidden": "carvid.temporal.matching:match_hidden",
    "division": "carvid.temporal.matching:divide",
    "things": "carvid.temporal.census:Census.things",
    "label map": "carvid.run.result:FrameResult.labels",
    "score rows": "carvid.run.result:FrameResult.rows",
    "mask files": "carvid.run.folder:RunFolder.write_masks",
    "label PNG": "carvid.media.label_png:write_label_png",
    "overlay": "carvid.show.overlay:draw_overlay",
    "overlay's colour": "carvid.show.overlay:color_of",
    "J and F": "carvid.evaluation.regions:frame_scores",
    "run lengths": "carvid.media.run_lengths:RunLengths.decode",
    "when and where": "carvid.evaluation.measures:time_overlap",
    "place in a zip": "carvid.benchmark.submit:_entry",
    "passes": "carvid.car.passes:passes_of",
    "classes' map": "carvid.car.label_map:label_map",
    "confusion": "carvid.evaluation.confusion:confusion",
    "merged sentences": "carvid.evaluation.referring:merge_masks",
    "index's motion": "carvid.index.pieces:coarse_motion",
    "index's key frames": "carvid.index.clip_index:ClipIndex.encoding",
    "spreading": "carvid.temporal.spread:Spread.into",
    "what is spread": "carvid.temporal.spread:Spread.__init__",
    "clip outward": "carvid.corrections.clip:Clip.outward",
    "regions": "carvid.car.regions:regions_at",
    "what fits": "carvid.corrections.anchor:fits",
    "earlier corrections": "carvid.corrections.write:corrections_in",
    "corrected folder": "carvid.corrections.models:CorrectingModel._correct_folder",
    "writing corrections": "carvid.corrections.write:write_corrected",
    "app's frames": "carvid.app.clips:FrameSource.image",
    "app's masks": "carvid.app.pictures:draw",
    "app's θ": "carvid.app.quick:QuickAnswer.there",
    "lost node": "carvid.workers.ray_crew:Crew._lose",
    "tasks of a call": "carvid.workers.ray_crew:Crew._next_tasks",
    "what a node says": "carvid.workers.ray_nodes:_fault_of",
    "who is let in": "carvid.app.doorkeeper:Doorkeeper._refusal",
    "corners": "carvid.exports.polygons:corners",
    "rings": "carvid.exports.polygons:rings",
    "what is for validation": "carvid.exports.yolo:_part_of",
    "kinds of things": "carvid.exports.data_set:category_names",
    "numbers in the video": "carvid.exports.numbered:frame_numbers",
    "SAM 2's pixels": "carvid.sam.video:VideoCarrier._to_pixels",
    "SAM 2's reach": "carvid.sam.video_memory:ObjectMemory._reach",
    "SAM 2's forgetting": "carvid.sam.video_memory:ObjectMemory._trim",
    "SAM 2's saved state": "carvid.sam.video_memory:to_tensor",
    "points for SAM 2": "carvid.sam.video:VideoCarrier._prompt",
    "followed tracks": "carvid.temporal.sam2_carrier:_new_followed",
    "telling": "carvid.temporal.sam2_carrier:Sam2Carrier._tell",
    "things told": "carvid.temporal.instance_carrier:Sam2Instances.at_key",
    "standing things": "carvid.temporal.claims:Standing._stays",
    "better mask": "carvid.temporal.sam2_carrier:Sam2Carrier._is_better",
    "old memory": "carvid.run.memory_files:MemoryFiles.keep",
    "clicks for SAM 2": "carvid.corrections.prompts:prompts_of",
    "what SAM 2 has": "carvid.temporal.spread_carrier:ByFollower.take",
}
"""Where each function is defined: module, and name in it."""

NEED_GRADIO = ("carvid.app.api", "carvid.app.routes", "carvid.app.web")
"""Modules that the extra `app` alone lets import."""
FLOOR = "tests/test_floors.py::test_masks_are_right[{}]"
OWN_FRAMES = "tests/test_floors.py::test_masks_belong_to_their_own_frames[{}]"
SEEN = "tests/test_floors.py::test_the_classifier_sees_what_a_mask_marks"
ON_DISK = "tests/test_floors.py::test_a_run_on_disk_is_right"
GOLDEN = "tests/test_golden.py::test_other_sums_than_the_golden_processors"


@dataclass(frozen=True)
class Mutant:
    """One way to spoil carvid."""

    name: str
    what: str
    """What is wrong then, in a sentence."""
    target: str
    """A key of `TARGETS`."""
    test: str
    """Node id of the test that must break."""
    change: Callable[[Function], Function]
    """From the function to what takes its place."""


MUTANTS: list[Mutant] = []


def breaks(test: str, target: str) -> Callable[[Callable[[Function], Function]], None]:
    """Enter a mutant: the decorated function's name is its name, its docstring what it does."""

    def enter(change: Callable[[Function], Function]) -> None:
        name = change.__name__.replace("_", "-")
        MUTANTS.append(Mutant(name, str(change.__doc__), target, test, change))

    return enter


# putting a mutant in place -------------------------------------------------------------------


def modules() -> list[Any]:
    """Import all of carvid's modules and return them."""
    package = importlib.import_module("carvid")
    has_gradio = importlib.util.find_spec("gradio") is not None
    for found in pkgutil.walk_packages(package.__path__, "carvid."):
        if found.name.endswith("__main__") or (found.name in NEED_GRADIO and not has_gradio):
            continue
        importlib.import_module(found.name)
    return [module for name, module in sys.modules.items() if name.partition(".")[0] == "carvid"]


def find(target: str) -> tuple[Any, str, Any]:
    """Return the module or class of a target, its name in there, and what stands there.

    Raises:
        LookupError: it is no longer there.
    """
    where, _, path = TARGETS[target].partition(":")
    owner: Any = importlib.import_module(where)
    *outer, name = path.split(".")
    for each in outer:
        owner = getattr(owner, each)
    if name not in vars(owner):
        raise LookupError(f"'{TARGETS[target]}' is gone; say in TARGETS where '{target}' is now")
    return owner, name, vars(owner)[name]


def install(mutant: Mutant) -> list[int]:
    """Put a mutant in place, for good; return the number of its calls, counted in [0]."""
    held_in = modules()
    owner, name, original = find(mutant.target)
    is_property = isinstance(original, property)
    changed, calls = mutant.change(original.fget if is_property else original), [0]

    @wraps(changed)
    def counted(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        return changed(*args, **kwargs)

    if inspect.isclass(owner):
        setattr(owner, name, property(counted) if is_property else counted)
        return calls
    for module in held_in:
        for other, value in list(vars(module).items()):
            if value is original:
                setattr(module, other, counted)
    return calls


def with_argument(original: Function, name: str, change: Callable[[Any], Any]) -> Function:
    """A function that changes one of its arguments.

    Raises:
        LookupError: it has no such parameter.
    """
    signature = inspect.signature(original)
    if name not in signature.parameters:
        raise LookupError(f"{original.__qualname__} has no parameter '{name}' any more")

    @wraps(original)
    def changed(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        bound.arguments[name] = change(bound.arguments[name])
        return original(*bound.args, **bound.kwargs)

    return changed


def with_result(original: Function, change: Callable[[Any], Any]) -> Function:
    """A function that changes its result."""

    @wraps(original)
    def changed(*args: Any, **kwargs: Any) -> Any:
        return change(original(*args, **kwargs))

    return changed


def upside_down(planes: Any) -> Any:
    """Arrays (N, H, W) turned upside down."""
    return np.ascontiguousarray(planes[:, ::-1])


def bgr(image: Any) -> Any:
    """An image (H, W, 3) with red and blue exchanged."""
    return np.ascontiguousarray(image[..., ::-1])


def transposed(planes: Any) -> Any:
    """Arrays (N, H, W) as (N, W, H)."""
    return np.ascontiguousarray(planes.transpose(0, 2, 1))


# frames in -----------------------------------------------------------------------------------


@breaks(FLOOR.format("colors"), "read frames")
def frames_read_as_bgr(frames: Function) -> Function:
    """Frames are read with red and blue exchanged."""
    return with_result(
        frames, lambda read: (replace(frame, image=bgr(frame.image)) for frame in read)
    )


@breaks(OWN_FRAMES.format("causal"), "read frames")
def frames_off_by_one(frames: Function) -> Function:
    """Each frame shows the picture of the one before."""

    def late(read: Iterator[Any]) -> Iterator[Any]:
        before = None
        for frame in read:
            yield frame if before is None else replace(frame, image=before)
            before = frame.image

    return with_result(frames, late)


# f -------------------------------------------------------------------------------------------


@breaks(FLOOR.format("demo"), "generator's image")
def generators_image_rotated(encode: Function) -> Function:
    """The mask proposal generator sees the frame rotated by 180 degrees."""
    return with_argument(encode, "image", lambda image: image[::-1, ::-1].copy())


@breaks(FLOOR.format("colors"), "generator's image")
def generators_image_in_bgr(encode: Function) -> Function:
    """The mask proposal generator sees red and blue exchanged."""
    return with_argument(encode, "image", bgr)


@breaks(FLOOR.format("hd"), "generator's image")
def hd_frames_cut_off(encode: Function) -> Function:
    """Of a frame larger than 720p the generator sees as much as whole factors leave: 8 of 9."""

    def cut_off(image: Any) -> Any:
        height, width = (side * 8 // 9 for side in image.shape[:2])
        return image[:height, :width] if max(image.shape) > 1280 else image

    return with_argument(encode, "image", cut_off)


@breaks("tests/test_dense.py::test_features_equal_the_formulas[kk-5.0]", "nearness")
def cls_is_near_everything(nearness: Function) -> Function:
    """Dense features: patches attend to CLS as if it were where they are."""

    def with_cls(near: Any) -> Any:
        near[:, 0] = 1
        return near

    return with_result(nearness, with_cls)


@breaks("tests/test_dense.py::test_features_equal_the_formulas[kk-1.5]", "nearness")
def nearness_too_narrow(nearness: Function) -> Function:
    """Dense features: a distance's square is divided by σ², not by 2 σ²."""
    return with_argument(nearness, "sigma", lambda sigma: sigma / 2**0.5)


@breaks(
    "tests/test_dense.py::test_maps_equal_a_softmax_for_each_text_and_patch[background-semantic]",
    "dense probabilities",
)
def background_missing_in_dense_maps(log_probabilities: Function) -> Function:
    """Dense maps: background words are not in the softmax."""
    return with_argument(log_probabilities, "background", lambda background: background[:0])


@breaks(FLOOR.format("cut"), "generator's image")
def generator_sees_the_first_frame(encode: Function) -> Function:
    """Every key frame's proposals are made from the first frame."""
    first: list[Any] = []

    def kept(image: Any) -> Any:
        first.append(image)
        return first[0]

    return with_argument(encode, "image", kept)


@breaks(GOLDEN, "CAMs")
def no_background_in_the_cams(gradient_cams: Function) -> Function:
    """Background queries do not compete in the CAMs."""
    return with_argument(gradient_cams, "background", lambda features: features[:0])


@breaks(FLOOR.format("cut"), "CAMs")
def cams_of_the_wrong_text(gradient_cams: Function) -> Function:
    """Each text has the CAM of another one."""
    return with_argument(gradient_cams, "texts", lambda features: features.roll(1, 0))


@breaks(FLOOR.format("demo"), "maps to masks")
def proposals_with_x_and_y_exchanged(to_masks: Function) -> Function:
    """Maps of patches are transposed before they are resized to the frame."""
    return with_argument(to_masks, "maps", transposed)


@breaks(FLOOR.format("look-alikes"), "parts")
def cams_not_cut_into_parts(split_parts: Function) -> Function:
    """A map with two things in it stays one proposal."""
    return with_argument(split_parts, "most", lambda most: [1] * len(most))


# v, g ----------------------------------------------------------------------------------------


@breaks(SEEN, "prompts")
def prompts_not_drawn(draw_prompts: Function) -> Function:
    """The classifier sees the frame without visual prompts."""
    return with_argument(draw_prompts, "kinds", lambda kinds: ())


@breaks(FLOOR.format("demo"), "classifier's images")
def crop_of_the_mirrored_mask(encode: Function) -> Function:
    """The classifier's view is cut out where the mask would be in a mirror."""
    return with_argument(encode, "masks", lambda masks: np.ascontiguousarray(masks[..., ::-1]))


@breaks(SEEN, "view")
def view_rotated(letterbox: Function) -> Function:
    """The classifier's view is rotated by 180 degrees."""
    return with_result(letterbox, lambda view: view.flip(1, 2))


@breaks(FLOOR.format("colors"), "view")
def view_in_bgr(letterbox: Function) -> Function:
    """The classifier sees red and blue exchanged."""
    return with_argument(letterbox, "image", bgr)


@breaks(FLOOR.format("absent"), "scores")
def scores_of_two_queries_swapped(score: Function) -> Function:
    """The first two texts have each other's scores."""

    def swapped(scores: Any) -> Any:
        order = [1, 0, *range(2, scores.shape[1])][: scores.shape[1]]
        return scores[:, order]

    return with_result(score, swapped)


@breaks(FLOOR.format("absent-alone"), "scores")
def no_background_in_the_classifier(score: Function) -> Function:
    """Background words do not compete in the classifier."""
    from carvid.config import Config

    words = set(Config().proposals.background)

    @wraps(score)
    def without(self: Any, features: Any, texts: Sequence[str], allowed: Any) -> Any:
        return score(self, features, texts, allowed & [text not in words for text in texts])

    return without


# σ -------------------------------------------------------------------------------------------


@breaks(FLOOR.format("look-alikes"), "wishes")
def left_is_right(rate_wishes: Function) -> Function:
    """What fulfils a wish about place or motion least is taken for the best."""
    return with_result(rate_wishes, lambda fulfilled: 1 - fulfilled)


@breaks(FLOOR.format("absent"), "choice")
def choice_ignores_scores(rate: Function) -> Function:
    """All candidates of a query score the same."""
    return with_argument(rate, "scores", np.ones_like)


@breaks(FLOOR.format("motions"), "choice")
def choice_ignores_the_past(rate: Function) -> Function:
    """Each key frame is decided by itself."""
    return with_argument(rate, "prior", lambda prior: None)


@breaks(FLOOR.format("absent"), "is it there")
def what_is_absent_is_kept(there: Function) -> Function:
    """Everything that is asked for is there."""
    return with_result(there, lambda is_there: True)


@breaks(FLOOR.format("distractor"), "queries")
def distractors_come_first(everything: Function) -> Function:
    """A distractor's mask is given the first expression's label."""
    return wraps(everything)(lambda self: (*self.distractors, *self.texts))


# masks ---------------------------------------------------------------------------------------


@breaks(FLOOR.format("demo"), "masks of proposals")
def masks_upside_down(sharpen: Function) -> Function:
    """The masks that are made of proposals are upside down."""
    return with_result(sharpen, upside_down)


@breaks(FLOOR.format("demo"), "CRF")
def crf_skipped(crf_masks: Function) -> Function:
    """A mask is where its proposal is above one half."""
    return wraps(crf_masks)(lambda image, proposals, *args, **kwargs: proposals > 0.5)


@breaks(FLOOR.format("demo"), "CRF")
def crfs_unary_inverted(crf_masks: Function) -> Function:
    """The CRF takes what a proposal says for its opposite."""
    return with_argument(crf_masks, "proposals", lambda proposals: 1 - proposals)


# along time ----------------------------------------------------------------------------------


@breaks(FLOOR.format("demo"), "key frame")
def key_frames_upside_down(after_key: Function) -> Function:
    """A key frame's own result is upside down; what is carried from it is not."""
    return with_result(
        after_key, lambda found: (upside_down(found[0]), upside_down(found[1]), *found[2:])
    )


@breaks(FLOOR.format("demo-causal"), "carrying")
def carried_masks_upside_down(carry: Function) -> Function:
    """Masks are turned upside down as they are carried."""
    return with_argument(carry, "planes", lambda planes: [upside_down(p[None])[0] for p in planes])


@breaks(FLOOR.format("motions"), "carrying")
def carried_masks_stay(carry: Function) -> Function:
    """Between key frames masks stay where they were."""
    return wraps(carry)(lambda planes, pixel_map, box: [plane[box] for plane in planes])


@breaks(FLOOR.format("motions"), "flow")
def flow_reversed(flow_between: Function) -> Function:
    """Flow goes from the frame before to this one instead of back."""
    return wraps(flow_between)(lambda before, now: flow_between(now, before))


@breaks(FLOOR.format("motions"), "flow")
def looking_back_goes_on(flow_between: Function) -> Function:
    """Masks of the next key frame are carried on in time instead of back."""
    return with_result(flow_between, lambda flow: replace(flow, forward_map=flow.backward_map))


@breaks("tests/test_observe.py::test_a_cut_forgets_everything", "new frame")
def cuts_not_noticed(see: Function) -> Function:
    """Nothing is forgotten at a cut."""
    return with_argument(see, "config", lambda config: replace(config, cut_trust=0.0))


@breaks(
    "tests/test_carry.py::test_a_mask_that_went_astray_is_led_back_by_its_colors", "carried mask"
)
def carried_masks_not_corrected(correct_carried: Function) -> Function:
    """Carried masks are neither led back by colours nor snapped to edges."""
    return wraps(correct_carried)(lambda carried, *args, **kwargs: carried)


@breaks("tests/test_temporal_memory.py::test_a_proposal_recalls_the_colors_of_its_track", "colours")
def colours_not_remembered(count_colors: Function) -> Function:
    """No colour has been seen inside a track or around it."""
    return with_result(count_colors, np.zeros_like)


@breaks(FLOOR.format("demo"), "memory")
def memory_not_asked(apply_memory: Function) -> Function:
    """Proposals become masks without colours, motion and what was carried."""
    return wraps(apply_memory)(lambda context, proposals, *args, **kwargs: proposals)


@breaks(FLOOR.format("motions"), "resizing")
def carried_maps_with_x_and_y_exchanged(resize: Function) -> Function:
    """Maps are transposed before they are resized."""
    return with_argument(resize, "maps", transposed)


@breaks(FLOOR.format("motions"), "looking ahead")
def nothing_looks_ahead(smooth: Function) -> Function:
    """A key frame is decided at once, by what is known so far."""
    return with_argument(smooth, "config", lambda config: replace(config, lag=0))


@breaks(FLOOR.format("cut"), "looking ahead")
def looking_ahead_ignores_scores(smooth: Function) -> Function:
    """The path that is worth least is followed back, not the one that is worth most."""

    def worst(frame: Any) -> Any:
        state = frame.state
        if not state.since_key and len(state.values):
            tracks = [np.flatnonzero(state.owners == k) for k in range(len(state.chosen))]
            least = [int(t[state.values[t].argmin()]) if len(t) else -1 for t in tracks]
            state = replace(state, chosen=np.array(least), sources=np.arange(len(state.sources)))
        return replace(frame, state=state)

    return with_argument(smooth, "frames", lambda frames: map(worst, frames))


@breaks("tests/test_lookahead.py::test_key_frames_on_both_sides_are_mixed_where_they_see_the_same_"
        "thing", "both sides")  # fmt: skip
def the_farther_side_counts_more(mix: Function) -> Function:
    """Between key frames the farther one counts more than the nearer one."""
    return with_argument(mix, "share", lambda share: 1 - share)


# results out ---------------------------------------------------------------------------------


@breaks(OWN_FRAMES.format("offline"), "offline")
def masks_of_the_frame_before(offline: Function) -> Function:
    """Each frame has the masks of the one before."""

    def late(results: Iterator[Any]) -> Iterator[Any]:
        before = None
        for result in results:
            yield result if before is None else replace(result, masks=before)
            before = result.masks

    return with_result(offline, late)


@breaks(FLOOR.format("hd"), "offline")
def hd_masks_too_small(offline: Function) -> Function:
    """Masks of frames larger than 720p are enlarged by 2 where 2.25 are asked for."""

    def smaller(result: Any) -> Any:
        masks = result.masks
        rows, columns = (np.arange(side) * 9 // 8 for side in masks.shape[1:])
        inside = (rows < masks.shape[1])[:, None] & (columns < masks.shape[2])
        shrunk = masks[:, rows % masks.shape[1]][:, :, columns % masks.shape[2]] & inside
        return replace(result, masks=shrunk) if max(masks.shape) > 1280 else result

    return with_result(offline, lambda results: map(smaller, results))


@breaks(FLOOR.format("look-alikes"), "offline")
def texts_in_the_wrong_order(offline: Function) -> Function:
    """The last expression is given the first label."""
    return with_argument(offline, "texts", lambda texts: tuple(texts)[::-1])


@breaks(ON_DISK, "label map")
def labels_shifted_by_one(labels: Function) -> Function:
    """Expression k is label k + 1."""
    return with_result(labels, lambda plane: np.where(plane, plane + 1, 0).astype(np.uint8))


@breaks(ON_DISK, "label PNG")
def pngs_upside_down(write_label_png: Function) -> Function:
    """Label maps are written upside down."""
    return with_argument(write_label_png, "labels", lambda plane: plane[::-1].copy())


@breaks(ON_DISK, "mask files")
def mask_files_off_by_one(write_masks: Function) -> Function:
    """Masks are written under the number of the next frame."""
    return with_argument(
        write_masks, "result", lambda result: replace(result, index=result.index + 1)
    )


@breaks(ON_DISK, "score rows")
def scores_of_the_wrong_text(rows: Function) -> Function:
    """scores.csv gives each text the score and the area of another one."""
    return with_argument(rows, "self", lambda result: replace(result, masks=result.masks[::-1]))


@breaks(ON_DISK, "overlay")
def overlay_shifted(draw_overlay: Function) -> Function:
    """The overlay shows masks 16 pixels to the right."""
    return with_argument(draw_overlay, "labels", lambda plane: np.roll(plane, 16, axis=1))


@breaks(ON_DISK, "overlay's colour")
def overlay_in_bgr(color_of: Function) -> Function:
    """The overlay's colours have red and blue exchanged."""
    return with_result(color_of, lambda color: color[::-1])


@breaks(
    "tests/test_lookahead.py::test_a_run_that_looks_ahead_resumes_to_the_same_bytes[18]",
    "read frames",
)
def resumed_from_the_wrong_frame(frames: Function) -> Function:
    """A run that goes on begins with the picture of the frame before its first."""

    def late(read: Iterator[Any]) -> Iterator[Any]:
        before = next(read, None)
        for frame in read:
            yield replace(frame, image=before.image)
            before = frame

    @wraps(frames)
    def changed(self: Any, start: int = 0) -> Any:
        return late(frames(self, start - 1)) if start else frames(self, start)

    return changed


@breaks("tests/test_protocols.py::test_scores_of_squares", "J and F")
def j_and_f_swapped(frame_scores: Function) -> Function:
    """The evaluation takes J for F and F for J."""
    return with_result(frame_scores, lambda scores: scores[::-1])


EXPRESSION_SCORES = (
    "tests/test_expression_sets.py::test_scores_are_those_of_a_second_implementation"
)


@breaks(f"{EXPRESSION_SCORES}[mevis-1]", "run lengths")
def runs_row_by_row(decode: Function) -> Function:
    """True masks are upside down."""
    return with_result(decode, lambda mask: mask[::-1])


@breaks(f"{EXPRESSION_SCORES}[long-rvos-1]", "when and where")
def shown_where_it_is_found(time_overlap: Function) -> Function:
    """tIoU and vIoU take frames for those of the object in which it is not to be seen."""
    return with_argument(time_overlap, "shown", np.ones_like)


@breaks(
    "tests/test_submit.py::test_zips_are_laid_out_as_the_servers_want_them[mevis]", "place in a zip"
)
def all_below_a_folder(entry: Function) -> Function:
    """Files in a zip are below one folder more."""
    return with_argument(entry, "name", lambda name: f"run/{name}")


# benchmarks of images ------------------------------------------------------------------------


@breaks("tests/test_semantic_mode.py::test_which_passes_there_are", "passes")
def stuff_before_things(passes_of: Function) -> Function:
    """Stuff has its pass before things, whose names are its background words."""
    return with_result(passes_of, lambda passes: passes[::-1])


@breaks(
    "tests/test_semantic_mode.py::test_things_cover_stuff_and_a_higher_score_a_lower_one",
    "classes' map",
)
def stuff_over_things(label_map: Function) -> Function:
    """Stuff covers things in the map of labels."""
    return with_argument(label_map, "is_stuff", lambda is_stuff: ~is_stuff)


@breaks("tests/test_confusion.py::test_by_hand", "confusion")
def rows_for_columns(confusion: Function) -> Function:
    """Rows of the confusion matrix are of the prediction, columns of the truth."""
    return with_result(confusion, lambda matrix: matrix.T)


@breaks(
    "tests/test_referring_scores.py::test_up_to_a_twentieth_of_the_image_gives_way_to_the_union"
    "[6-6]",
    "merged sentences",
)
def masks_of_other_sentences(merge_masks: Function) -> Function:
    """A sentence's mask is weighed by the score of another one of its ref."""
    return with_argument(merge_masks, "masks", lambda masks: masks[::-1])


# indexes -------------------------------------------------------------------------------------


@breaks("tests/test_index.py::test_motion_is_what_moved", "index's motion")
def motion_kept_backwards(coarse_motion: Function) -> Function:
    """An index keeps where things came from as where they went."""
    return with_argument(coarse_motion, "motion", lambda motion: -motion)


@breaks(
    "tests/test_index.py::test_a_thorough_run_is_a_run_of_the_clip_with_the_index_s_settings"
    "[distractor]",
    "index's key frames",
)
def first_key_frame_for_all(encoding: Function) -> Function:
    """A run of an index takes the first key frame for each of them."""
    return with_argument(encoding, "frame", lambda _: 0)


# corrections ---------------------------------------------------------------------------------


@breaks(
    "tests/test_spread.py::test_the_run_s_own_mask_is_taken_up_where_both_agree[True]", "spreading"
)
def never_taken_up(into: Function) -> Function:
    """A corrected thing never takes up the run's own mask."""
    return with_argument(into, "found", np.zeros_like)


@breaks("tests/test_spread.py::test_a_thing_that_has_left_takes_nothing_away", "what is spread")
def yes_taken_for_no(init: Function) -> Function:
    """What a click wants spreads as if it had said what the thing is not."""
    return with_argument(init, "wanted", lambda _: False)


@breaks(
    "tests/test_spread.py::test_a_clip_is_read_outward_as_the_run_has_read_it[memory]",
    "clip outward",
)
def only_forward(outward: Function) -> Function:
    """Corrections spread to later frames twice, and to earlier ones never."""
    return with_argument(outward, "forward", lambda _: True)


@breaks("tests/test_spread.py::test_what_is_excluded_is_in_no_region", "regions")
def regions_with_what_is_excluded(regions_at: Function) -> Function:
    """A region takes what a click has refused."""
    return with_argument(regions_at, "excluded", lambda _: None)


@breaks("tests/test_corrected_runs.py::test_what_is_said_of_a_frame_holds_in_it[1]", "what fits")
def everything_fits(fits: Function) -> Function:
    """Every candidate is what a click says of its frame."""
    return with_result(fits, lambda _: True)


@breaks(
    "tests/test_corrected_runs.py::test_one_after_the_other_is_both_at_once", "earlier corrections"
)
def earlier_corrections_forgotten(corrections_in: Function) -> Function:
    """A run that is corrected once more loses its earlier corrections."""
    return with_result(corrections_in, lambda _: [])


@breaks("tests/test_corrected_runs.py::test_corrections_are_undone", "corrected folder")
def nothing_undone(correct_folder: Function) -> Function:
    """All earlier corrections are kept, however many are to be."""
    return with_argument(correct_folder, "keep", lambda _: None)


@breaks(
    "tests/test_corrected_runs.py::test_a_run_is_corrected_in_its_folder", "writing corrections"
)
def uncorrected_not_kept(write_corrected: Function) -> Function:
    """The run as it was is gone when it is corrected."""

    @wraps(write_corrected)
    def changed(target: Any, *arguments: Any, **more: Any) -> None:
        write_corrected(target, *arguments, **more)
        shutil.rmtree(target.folder / "uncorrected")

    return changed


# the app -------------------------------------------------------------------------------------

APP = "tests/test_app.py::"


@breaks(APP + "test_a_picture_has_the_masks_of_its_frame", "app's frames")
def frame_before(image: Function) -> Function:
    """The page shows the frame before the one that is asked for, with the masks of this one."""
    return with_argument(image, "index", lambda index: max(0, index - 1))


@breaks(APP + "test_only_chosen_things_are_drawn_in_their_own_colours", "app's masks")
def whole_list_drawn(draw: Function) -> Function:
    """Masks are drawn with labels of the run, and not of those that were chosen."""
    return with_argument(
        draw, "masks", lambda masks: masks and replace(masks, labels=masks.labels // 2)
    )


@breaks(APP + "test_theta_is_chosen_afterwards_as_if_it_had_been_asked_for[texts0]", "app's θ")
def theta_forgotten(there: Function) -> Function:
    """The slider changes nothing."""
    return with_argument(there, "theta", lambda theta: 0.0)


@breaks(APP + "test_only_the_page_itself_is_let_in", "who is let in")
def everybody_let_in(refusal: Function) -> Function:
    """Pages of others can use the app of a browser's own machine."""
    return with_result(refusal, lambda reason: None)


# instances -----------------------------------------------------------------------------------

THINGS = "tests/test_instances.py::{}"


@breaks(THINGS.format("test_two_peaks_are_two_parts_where_the_saddle_is_low"), "peaks")
def saddles_ignored(split_peaks: Function) -> Function:
    """What touches is one part, however low the saddle is."""
    return with_argument(split_peaks, "saddle", lambda _: 0.0)


@breaks(THINGS.format("test_things_keep_their_numbers_while_they_move"), "found and followed")
def numbers_exchanged(match_seen: Function) -> Function:
    """What is found goes to another thing that is followed."""
    return with_result(match_seen, lambda chosen: chosen[::-1])


@breaks(THINGS.format("test_what_was_behind_something_is_the_same_thing_again"), "found and hidden")
def hidden_for_good(match_hidden: Function) -> Function:
    """What was out of sight is never found again."""
    return with_result(match_hidden, lambda chosen: np.full_like(chosen, -1))


@breaks(THINGS.format("test_a_place_is_divided_by_distance_and_by_colours"), "division")
def shares_exchanged(divide: Function) -> Function:
    """Of what crosses each has the other one's part."""
    return with_result(divide, lambda shares: shares[::-1])


@breaks(THINGS.format("test_each_thing_has_a_label_everywhere"), "things")
def counted_from_the_right(things: Function) -> Function:
    """Things are numbered from right to left."""
    return with_result(things, lambda found: [each[::-1] for each in found])


# many machines -------------------------------------------------------------------------------

CREW = "tests/test_ray_crew.py::{}"


@breaks(CREW.format("test_tasks_of_a_lost_node_are_done_elsewhere_and_count_as_no_attempt"),
        "lost node")
def lost_for_good(lose: Function) -> Function:
    """What a lost node did is done by nobody."""

    def forget(self: Any, node: Any) -> Iterator[Any]:
        yield from lose(self, node)
        self._held.clear()

    return forget


@breaks(CREW.format("test_a_task_that_brings_down_node_after_node_fails"), "lost node")
def losses_uncounted(lose: Function) -> Function:
    """A task may bring down every node."""

    def uncounted(self: Any, node: Any) -> Iterator[Any]:
        self._losses.clear()
        yield from lose(self, node)

    return uncounted


@breaks(CREW.format("test_a_task_that_kills_its_worker_is_found_among_short_ones"),
        "tasks of a call")
def never_alone(next_tasks: Function) -> Function:
    """A task that may have killed a worker is given together with others again."""

    def together(self: Any, actor: Any) -> list[int]:
        self._alone.clear()
        return next_tasks(self, actor)  # type: ignore[no-any-return]

    return together


@breaks("tests/test_ray_cluster.py::"
        "test_a_node_that_sees_other_files_is_named_before_anything_starts", "what a node says")
def every_node_is_fine(fault_of: Function) -> Function:
    """Whatever a node sees, it is used."""
    return with_result(fault_of, lambda fault: None)


# exports -------------------------------------------------------------------------------------

POLYGONS = "tests/test_export_polygons.py::{}"
SETS = "tests/test_export_sets.py::{}"


@breaks(POLYGONS.format("test_rings_are_the_mask[noise-round]"), "corners")
def corners_beyond_the_middle(corners: Function) -> Function:
    """Corners are where one who rounds takes the next pixel."""
    return with_result(corners, lambda points: points + 0.2)


@breaks(POLYGONS.format("test_bridges_between_parts_cost_what_is_allowed[two far apart-trunc]"),
        "rings")  # fmt: skip
def bridges_everywhere(rings: Function) -> Function:
    """Parts are joined however far apart they are."""
    return with_argument(rings, "bridged", lambda bridged: 1000 * bridged)


@breaks(SETS.format("test_every_fifth_run_is_for_validation"), "what is for validation")
def nothing_for_validation(part_of: Function) -> Function:
    """All runs are for training."""
    return with_result(part_of, lambda part: "train")


@breaks(SETS.format("test_instances_are_of_one_category"), "kinds of things")
def each_thing_a_kind(names: Function) -> Function:
    """Each thing is a category of its own."""
    return with_argument(names, "facts", lambda facts: replace(facts, asked=()))


@breaks("tests/test_export_sequences.py::test_numbers_are_those_of_the_video[selection2-numbers2]",
        "numbers in the video")  # fmt: skip
def numbered_from_the_start(numbers: Function) -> Function:
    """A run's first frame has the number 0, wherever it begins."""
    return with_result(numbers, lambda found: [number - found[0] for number in found])


# segment-anything ----------------------------------------------------------------------------

PACKAGE = "tests/test_sam_package.py::{}"


@breaks(PACKAGE.format("test_the_package_makes_the_masks"), "masks of the package")
def whatever_the_package_rates(_generate: Function) -> Function:
    """Masks stay that SAM rates at the bound."""
    return with_argument(_generate, "config", lambda config: replace(config, min_iou=-1.0))


@breaks(PACKAGE.format("test_a_run_does_not_go_on_with_another_maker"), "maker of masks in json")
def nobody_made_the_masks(made_by_in_json: Function) -> Function:
    """A run.json does not say that the package made the automatic masks."""
    return with_result(made_by_in_json, lambda _: {})


# SAM 2 ---------------------------------------------------------------------------------------

CARRIED = "tests/test_sam_video.py::{}"


@breaks(CARRIED.format("test_pixels_are_rgb_and_upright"), "SAM 2's pixels")
def carried_in_bgr(to_pixels: Function) -> Function:
    """SAM 2 sees red and blue exchanged."""
    return with_argument(to_pixels, "image", bgr)


@breaks(CARRIED.format("test_a_carrier_gives_what_transformers_own_session_gives"), "SAM 2's reach")
def forgotten_too_early(reach: Function) -> Function:
    """Pointers of an object are forgotten a frame before SAM 2 has done with them."""
    return with_result(reach, lambda frames: frames - 2)


@breaks(CARRIED.format("test_memory_is_flat_over_300_frames"), "SAM 2's forgetting")
def nothing_forgotten(trim: Function) -> Function:
    """All that SAM 2 has seen is kept."""
    return lambda self, index: None


@breaks(CARRIED.format("test_edgetam_is_called_alike"), "SAM 2's saved state")
def states_loaded_inexactly(to_tensor: Function) -> Function:
    """What is loaded of a state is not quite what was saved."""
    return with_result(to_tensor, lambda tensor: tensor * 1.01)


@breaks(CARRIED.format("test_points_are_pixels_of_the_frame"), "points for SAM 2")
def inside_and_outside_exchanged(prompt: Function) -> Function:
    """Points in a thing are told as outside it, and the other way round."""

    def exchanged(self: Any, inside: Any, outside: Any, box: Any) -> Any:
        return prompt(self, outside, inside, box)

    return exchanged


FOLLOWED = "tests/test_sam2_carrier.py::{}"


@breaks(FOLLOWED.format("test_a_path_that_changes_to_a_rival_is_another_thing"), "followed tracks")
def things_numbered_anew(new_followed: Function) -> Function:
    """At each key frame tracks are taken for things that were never followed."""
    return with_argument(new_followed, "before", lambda _: None)


@breaks(FOLLOWED.format("test_a_mask_that_scores_higher_than_what_was_told_is_told"), "telling")
def told_for_ever(tell: Function) -> Function:
    """What SAM 2 was told counts as much after many key frames."""

    def changed(before: Any) -> Any:
        return before and replace(before, told=before.told + 0.25)

    return with_argument(tell, "before", changed)


@breaks(FOLLOWED.format("test_a_higher_path_value_elsewhere_is_told"), "better mask")
def never_elsewhere(is_better: Function) -> Function:
    """Where SAM 2 has a thing, it stays, whatever CaR finds elsewhere."""
    return with_result(is_better, lambda _: False)


@breaks("tests/test_memory_files.py::test_older_files_go_when_the_newer_one_is_named", "old memory")
def old_memories_stay(keep: Function) -> Function:
    """The memory of each key frame stays on disk."""
    return lambda self, name: None


BY_NETWORK = "tests/test_sam2_instances.py::{}"


@breaks(BY_NETWORK.format("test_a_better_mask_is_told"), "standing things")
def scores_at_one_place_count_nothing(stays: Function) -> Function:
    """A thing that is found where the network has it always stands."""

    def changed(self: Any, track: Any, asked: float, found: Any, score: float) -> bool:
        known = replace(self, told=dict.fromkeys(self.told, 1e9))
        return bool(stays(known, track, asked, found, score))

    return changed


@breaks(BY_NETWORK.format("test_each_thing_is_told_once_and_has_its_followers_mask"), "things told")
def things_told_at_each_key_frame(at_key: Function) -> Function:
    """Whatever stands is told all the same."""

    def changed(self: Any, context: Any, state: Any, standing: Any, image: Any) -> Any:
        standing.stood.clear()
        return at_key(self, context, state, standing, image)

    return changed


CLICKED = "tests/test_sam2_corrections.py::{}"


@breaks(CLICKED.format("test_clicks_and_boxes_are_points_and_a_box"), "clicks for SAM 2")
def no_taken_for_yes(prompts_of: Function) -> Function:
    """SAM 2 is told of clicks that refuse as if they were on the thing."""
    return with_argument(
        prompts_of, "said", lambda said: [replace(each, wanted=True) for each in said]
    )


@breaks(
    CLICKED.format("test_the_follower_is_told_anew_what_it_had_lost_alone"), "what SAM 2 has"
)
def told_wherever_both_agree(take: Function) -> Function:
    """SAM 2 is told the run's own mask in each frame where both have the same thing."""

    def told(self: Any, number: int, mask: Any) -> None:
        take(self, number, mask)
        self._follower.add_mask(number, mask)

    return told
