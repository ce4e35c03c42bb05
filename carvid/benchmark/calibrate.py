"""Settings chosen by measuring, on single frames whose masks are known: `carvid calibrate`.

Each value of one setting after the other is tried with the best values of the settings before; a
change is taken if it gains more than `MIN_GAIN` standard errors. θ costs nothing: every frame is
segmented with θ = 0, and the path value of each query says which θ would have kept it. That is
exact where dropping a query changes nothing for the others (it does with
`classifier.competitors=living`, and a little by the pixels that they share in `crf.mode=fast`); so
in the end the chosen settings are measured once more as they stand. Frames are segmented one by
one: settings of the temporal module are not calibrated.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from carvid.base.files import write_text
from carvid.benchmark.calibration_report import (
    FIRST_ROW,
    LAST_ROW,
    Calibration,
    Row,
    check_places,
)
from carvid.benchmark.measurements import (
    CurrentImage,
    MeasurementFile,
    Measurements,
    Sample,
    SharedGenerator,
    best_theta,
    measure,
)
from carvid.car.queries import Queries
from carvid.clip.content import contents_meanwhile
from carvid.clip.weights import resolve
from carvid.config import Config, ExpectConfig, load_config
from carvid.datasets.frame_samples import read_samples
from carvid.datasets.refdavis import RefDavis
from carvid.pipeline import Carvid, load
from carvid.version import __version__

log = logging.getLogger("carvid")

AXES: dict[str, tuple[str, ...]] = {
    "classifier.background": ("always", "never"),
    "classifier.view": ("letterbox", "center-crop", "mask-crop"),
    "proposals.method": ("gradcam", "dense"),
    "proposals.parts": ("1", "3"),
    "prompts.kinds": ("circle,blur", "blur", "circle", "blur,gray", "contour"),
}
"""Settings that are tried, in this order, each with its values; any but weights may be added."""
MIN_GAIN = 1.0
"""A change is taken if its gain is larger than so many of the gain's standard errors."""
KEEP_ALL_MASKS = ("car.theta=0", "car.present=ask")
"""Settings with which every query gets its mask, so that any θ can be applied afterwards."""


def calibrate(
    data: Path,
    out: Path,
    preset: str | Path | Config = "default",
    overrides: Iterable[str] = (),
    *,
    generator: str | None = None,
    classifier: str | None = None,
    limit: int = 60,
    absent: bool = True,
    axes: Mapping[str, Sequence[str]] = AXES,
    videos: Iterable[str] | None = None,
    split: str = "valid",
    resolution: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Calibration:
    """Choose settings by mean J&F over queries, and write them as a preset.

    Args:
        data: Ref-DAVIS, as in `open_dataset`.
        out: the preset, a .yaml; what was measured is kept in a .json beside it.
        preset: where to begin, as in `carvid.load`, as are `overrides`, `generator`, `classifier`.
        limit: frames in all, evenly spaced; 0 takes every one.
        absent: also ask, in every frame, for as many things of other videos, half of them alone,
            and choose θ by what is found of them; otherwise, and where `car.present` is not
            `ask`, all is there and θ stays.
        axes: settings and their values to try.
        videos: as in `open_dataset`, as are `split` and `resolution`.
        resume: go on with what an interrupted calibration has measured.
        overwrite: replace what is in `out`; with `resume`, if it was made from other inputs.
        progress: show a bar on stderr.

    Raises:
        ConfigError: an unknown preset or setting.
        DatasetError: the data set is not whole.
        OutputError: `out` is there already, or was made from other inputs.
        WeightsError: weights that are missing or no CLIP.
    """
    check_places(out, preset, resume=resume, overwrite=overwrite)
    config = resolve(preset, overrides, generator=generator, classifier=classifier)
    absent = absent and config.car.present == "ask"
    chosen = None if videos is None else tuple(videos)
    samples = read_samples(
        Path(data), limit=limit, with_absent=absent, split=split, resolution=resolution,
        videos=chosen,
    )  # fmt: skip
    facts = {
        "data": RefDavis.name, "limit": limit, "absent": absent, "split": split,
        "resolution": resolution,
    }  # fmt: skip
    where = {"root": str(Path(data).resolve()), "videos": list(chosen) if chosen else None}
    with contents_meanwhile(config) as contents:
        pass
    inputs = {"carvid": __version__, "config": config.to_dict(), **facts, **where,
              "contents": contents()}  # fmt: skip
    file = MeasurementFile(out.with_suffix(".json"), inputs, resume=resume, overwrite=overwrite)
    model = load(config)
    texts = dict.fromkeys(text for each in samples for text in (*each.texts, *each.absent))
    model.segmenter.check_texts(Queries(tuple(texts)))
    rows, changes = _Search(model, samples, file, absent, progress).run(axes)
    result = Calibration(
        out, preset if isinstance(preset, Config) else str(preset), load_config(config, changes),
        tuple(backbone.name for backbone in model.backbones), rows,
        frames=len({sample.image_name for sample in samples}),
        queries=sum(len(sample.texts) for sample in samples),
        absent_queries=sum(len(sample.absent) for sample in samples),
        facts=facts,
    )  # fmt: skip
    write_text(out, result.to_yaml())
    return result


def mean_j_and_f(data: Path, preset: str | Path | Config, expected: ExpectConfig) -> float:
    """Return the mean J&F of a preset on the frames that an expectation names, in percent.

    Raises:
        CarvidError: as `calibrate`.
    """
    model = load(preset)
    samples = read_samples(
        data, limit=expected.limit, with_absent=expected.absent, split=expected.split
    )
    current = CurrentImage()
    model.segmenter.generator = SharedGenerator(model.segmenter.generator, current)
    measured = [measure(model, current.read(sample), sample) for sample in samples]
    return 100 * float(np.mean([each.j_and_f for scores in measured for each in scores]))


class _Search:
    """Tries the values of one setting after the other; what is measured is kept in a file."""

    def __init__(
        self,
        model: Carvid,
        samples: Sequence[Sample],
        file: MeasurementFile,
        absent: bool,
        progress: bool,
    ) -> None:
        self._model, self._samples, self._file = model, samples, file
        self._absent, self._progress = absent, progress

    def run(self, axes: Mapping[str, Sequence[str]]) -> tuple[tuple[Row, ...], tuple[str, ...]]:
        """Return a row for each variant, and the changes of the best with its θ."""
        tried = {key: self._others((), key, values) for key, values in axes.items()}
        passes = 2 + sum(len(each) for each in tried.values())
        with tqdm(
            total=passes * len(self._samples), desc="calibrate", unit="frame set",
            disable=not self._progress,
        ) as bar:  # fmt: skip
            best: tuple[str, ...] = ()
            measured = self._measure([best], bar.update)[0]
            rows = [self._row(FIRST_ROW, measured, measured)]
            for key, values in axes.items():
                variants = [(*best, f"{key}={value}") for value in self._others(best, key, values)]
                found = self._measure(variants, bar.update)
                new = [self._row(v[-1], m, measured) for v, m in zip(variants, found, strict=True)]
                rows += new
                if not self._progress:  # a bar says as much
                    log.info("tried %s: %s", key, ", ".join(values))
                winner = _winner(new)
                if winner is not None:
                    best, measured = variants[winner], found[winner]
                    rows[winner - len(new)] = dataclasses.replace(new[winner], taken=True)
            theta = self._theta(measured)
            changes = (*best, *((f"car.theta={theta}",) if self._absent else ()))
            final = self._measure([changes], bar.update, as_it_stands=True)[0]
        # Here the model itself has applied θ.
        rows.append(_row_at(LAST_ROW, final, -1.0, theta=theta, taken=True))
        return tuple(rows), changes

    def _others(self, changes: Sequence[str], key: str, values: Sequence[str]) -> list[str]:
        """Values of a setting that differ from what it is already."""
        now = load_config(self._model.config, changes)
        return [value for value in values if load_config(now, [f"{key}={value}"]) != now]

    def _theta(self, measured: Measurements) -> float:
        return best_theta(measured) if self._absent else self._model.config.car.theta

    def _row(self, name: str, measured: Measurements, before: Measurements) -> Row:
        """Scores of a variant at its best θ, and its gain over `before` at that one's."""
        cut, cut_before = (self._theta(m) if self._absent else -1.0 for m in (measured, before))
        gains = self._by_image(measured, cut) - self._by_image(before, cut_before)
        error = float(gains.std(ddof=1) / len(gains) ** 0.5) if len(gains) > 1 else float("nan")
        return _row_at(
            name, measured, cut, theta=self._theta(measured), gain=100 * float(gains.mean()),
            error=100 * error,
        )  # fmt: skip

    def _by_image(self, measured: Measurements, theta: float) -> NDArray[np.float64]:
        """Mean J&F of each image with this θ, float64 (images,); the queries of one image are not
        independent of each other."""
        values: dict[str, list[float]] = {}
        for sample in self._samples:
            mine = [each.j_and_f_at(theta) for each in measured[sample.name]]
            values.setdefault(sample.image_name, []).extend(mine)
        return np.array([np.mean(each) for each in values.values()])

    def _measure(
        self,
        variants: Sequence[tuple[str, ...]],
        update: Callable[[], object],
        *,
        as_it_stands: bool = False,
    ) -> list[Measurements]:
        """Segment every sample with each variant; each image is encoded once for all of them.

        With `as_it_stands` θ is applied by the model, otherwise every query gets its mask.
        """
        names = [" ".join(variant) or FIRST_ROW for variant in variants]
        names = [f"{name}, as it stands" if as_it_stands else name for name in names]
        more = () if as_it_stands else KEEP_ALL_MASKS
        models = [self._with((*variant, *more)) for variant in variants]
        current = CurrentImage()
        for model in models:
            segmenter = model.segmenter
            segmenter.generator = SharedGenerator(segmenter.generator, current)
        try:
            for sample in self._samples:
                for name, model in zip(names, models, strict=True):
                    if sample.name not in self._file.measured(name):
                        scores = measure(model, current.read(sample), sample)
                        self._file.add(name, sample.name, scores)
                    update()
        finally:
            self._file.save()
        measured = [self._file.measured(name) for name in names]
        return [{each.name: of[each.name] for each in self._samples} for of in measured]

    def _with(self, changes: Sequence[str]) -> Carvid:
        model = self._model
        config = load_config(model.config, changes)
        return Carvid(config, *model.backbones, model.segmenter.sharpen.sam)


def _winner(rows: Sequence[Row]) -> int | None:
    """Index of the row with the largest gain among those that are sure, None if there is none."""
    gains = [row.gain if row.gain > MIN_GAIN * row.error else 0.0 for row in rows]
    return int(np.argmax(gains)) if gains and max(gains) > 0 else None


def _row_at(name: str, measured: Measurements, cut: float, **more: Any) -> Row:
    """Mean scores over queries of which those are dropped whose path value is no more than `cut`;
    -1 drops none."""
    every = [each for scores in measured.values() for each in scores]
    present = [each for each in every if each.present]
    absent = [each for each in every if not each.present]
    return Row(
        name,
        100 * _mean([each.j_and_f_at(cut) for each in every]),
        100 * _mean([each.j_and_f for each in present]),
        100 * _mean([each.has_mask and each.path_value > cut for each in present]),
        100 * _mean([not each.has_mask or each.path_value <= cut for each in absent]),
        **more,
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
