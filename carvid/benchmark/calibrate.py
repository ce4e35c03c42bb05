"""Settings chosen by measuring, on single frames whose masks are known: `carvid calibrate`.

One axis after the other, each value of a setting is tried with the best of the axes before; a
change is taken if it gains more than `SURE` standard errors. θ costs nothing: every frame is
segmented with θ = 0, and what each query was worth says what any θ would have kept. That is exact
where dropping a query changes nothing for the others (it does with `classifier.competitors=living`,
and a little by the pixels that they share in `crf.mode=fast`); so in the end the chosen settings
are measured once more as they stand. Frames are looked at one by one: settings of the temporal
module are not calibrated.
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
from carvid.benchmark.answers import Answers, Once, Sample, SharingGenerator, Store, ask, best_theta
from carvid.benchmark.calibrated import BEGINNING, CHOSEN, Calibration, Row, check_places
from carvid.benchmark.samples import NAME, read_samples
from carvid.car.queries import Queries
from carvid.config import Config, ExpectConfig, load_config
from carvid.pipeline import Carvid, load, resolve
from carvid.version import __version__

log = logging.getLogger("carvid")

AXES: dict[str, tuple[str, ...]] = {
    "classifier.background": ("always", "never"),
    "classifier.view": ("letterbox", "center-crop", "mask-crop"),
    "proposals.parts": ("1", "3"),
    "prompts.kinds": ("circle,blur", "blur", "circle", "blur,gray", "contour"),
}
"""Settings that are tried, in this order, each with its values; any but weights may be added."""
SURE = 1.0
"""How many standard errors of its gain a change must gain to be taken."""
WHOLLY_ASKED = ("car.theta=0", "car.present=ask")
"""So that every query gets its mask, and θ can be put in afterwards."""


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
        data: Ref-DAVIS, in any layout of `carvid.datasets.refdavis`.
        out: the preset, a .yaml; what was measured is kept in a .json beside it.
        preset: where to begin, as in `carvid.load`, as are `overrides`, `generator`, `classifier`.
        limit: frames in all, evenly spaced; 0 takes every one.
        absent: also ask, in every frame, for as many things of other videos, half of them alone,
            and choose θ by what is found of them; otherwise, and where `car.present` is not
            `ask`, all is there and θ stays.
        axes: settings and their values to try.
        videos: as in `open_dataset`, as are `split` and `resolution`.
        resume: go on with what an interrupted calibration has measured.
        overwrite: replace what is in `out`.
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
        "data": NAME, "limit": limit, "absent": absent, "split": split, "resolution": resolution,
    }  # fmt: skip
    where = {"root": str(Path(data).resolve()), "videos": list(chosen) if chosen else None}
    inputs = {"carvid": __version__, "config": config.to_dict(), **facts, **where}
    store = Store(out.with_suffix(".json"), inputs, fresh=not resume)
    model = load(config)
    texts = dict.fromkeys(text for each in samples for text in (*each.texts, *each.absent))
    model.segmenter.check_texts(Queries(tuple(texts)))
    rows, changes = _Search(model, samples, store, absent, progress).run(axes)
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


def reach(data: Path, preset: str | Path | Config, expected: ExpectConfig) -> float:
    """Return what a preset reaches on the frames that an expectation names, in percent.

    Raises:
        CarvidError: as `calibrate`.
    """
    model = load(preset)
    samples = read_samples(
        data, limit=expected.limit, with_absent=expected.absent, split=expected.split
    )
    once = Once()
    model.segmenter.generator = SharingGenerator(model.segmenter.generator, once)
    answers = [ask(model, once.image(sample), sample) for sample in samples]
    return 100 * float(np.mean([each.found for found in answers for each in found]))


class _Search:
    """Axis after axis; what was measured is in the store."""

    def __init__(
        self, model: Carvid, samples: Sequence[Sample], store: Store, absent: bool, progress: bool
    ) -> None:
        self._model, self._samples, self._store = model, samples, store
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
            answers = self._measure([best], bar.update)[0]
            rows = [self._row(BEGINNING, answers, answers)]
            for key, values in axes.items():
                variants = [(*best, f"{key}={value}") for value in self._others(best, key, values)]
                found = self._measure(variants, bar.update)
                new = [self._row(v[-1], a, answers) for v, a in zip(variants, found, strict=True)]
                rows += new
                if not self._progress:  # a bar says as much
                    log.info("tried %s: %s", key, ", ".join(values))
                gains = [row.gain if row.gain > SURE * row.error else 0.0 for row in new]
                if gains and max(gains) > 0:
                    winner = int(np.argmax(gains))
                    best, answers = variants[winner], found[winner]
                    rows[winner - len(new)] = dataclasses.replace(new[winner], taken=True)
            theta = self._theta(answers)
            changes = (*best, *((f"car.theta={theta}",) if self._absent else ()))
            final = self._measure([changes], bar.update, as_it_stands=True)[0]
        rows.append(self._last(final, theta))
        return tuple(rows), changes

    def _others(self, changes: Sequence[str], key: str, values: Sequence[str]) -> list[str]:
        """Values of a setting that differ from what it is already."""
        now = load_config(self._model.config, changes)
        return [value for value in values if load_config(now, [f"{key}={value}"]) != now]

    def _theta(self, answers: Answers) -> float:
        return best_theta(answers) if self._absent else self._model.config.car.theta

    def _row(self, name: str, answers: Answers, before: Answers) -> Row:
        """Figures of a variant at its best θ, and its gain over `before` at that one's."""
        cut, cut_before = (self._theta(a) if self._absent else -1.0 for a in (answers, before))
        gains = self._by_image(answers, cut) - self._by_image(before, cut_before)
        error = float(gains.std(ddof=1) / len(gains) ** 0.5) if len(gains) > 1 else float("nan")
        return _figures(
            name, answers, cut, theta=self._theta(answers), gain=100 * float(gains.mean()),
            error=100 * error,
        )  # fmt: skip

    def _by_image(self, answers: Answers, theta: float) -> NDArray[np.float64]:
        """Mean J&F of each image with this θ, float64 (images,): queries of one are akin."""
        values: dict[str, list[float]] = {}
        for sample in self._samples:
            mine = [each.value(theta) for each in answers[sample.name]]
            values.setdefault(sample.image_name, []).extend(mine)
        return np.array([np.mean(each) for each in values.values()])

    def _last(self, answers: Answers, theta: float) -> Row:
        return _figures(CHOSEN, answers, -1.0, theta=theta, taken=True)

    def _measure(
        self,
        variants: Sequence[tuple[str, ...]],
        update: Callable[[], object],
        *,
        as_it_stands: bool = False,
    ) -> list[Answers]:
        """Segment every sample with each variant; each image is encoded once for all of them."""
        names = [" ".join(variant) or BEGINNING for variant in variants]
        names = [f"{name}, as it stands" if as_it_stands else name for name in names]
        wholly = () if as_it_stands else WHOLLY_ASKED
        models = [self._with((*variant, *wholly)) for variant in variants]
        once = Once()
        for model in models:
            kept = model.segmenter
            kept.generator = SharingGenerator(kept.generator, once)
        try:
            for sample in self._samples:
                new = [name for name in names if sample.name not in self._store.known(name)]
                for name, model in zip(names, models, strict=True):
                    if name in new:
                        found = ask(model, once.image(sample), sample)
                        self._store.add(name, sample.name, found)
                for _ in names:
                    update()
        finally:
            self._store.save()
        return [{s.name: self._store.known(name)[s.name] for s in self._samples} for name in names]

    def _with(self, changes: Sequence[str]) -> Carvid:
        model = self._model
        config = load_config(model.config, changes)
        return Carvid(config, *model.backbones, model.segmenter.sam)


def _figures(name: str, answers: Answers, cut: float, **more: Any) -> Row:
    flat = [a for each in answers.values() for a in each]
    there, absent = [a for a in flat if a.there], [a for a in flat if not a.there]
    return Row(
        name,
        100 * _mean([a.value(cut) for a in flat]),
        100 * _mean([a.found for a in there]),
        100 * _mean([a.shown and a.path_value > cut for a in there]),
        100 * _mean([not a.shown or a.path_value <= cut for a in absent]),
        **more,
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
