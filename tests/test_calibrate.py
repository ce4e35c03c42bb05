"""`carvid calibrate`: what it measures is what runs reach, and nothing measured is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from carvid.base.errors import ConfigError, DatasetError, OutputError
from carvid.benchmark.calibrate import AXES, KEEP_ALL_MASKS, calibrate, mean_j_and_f
from carvid.benchmark.calibration_report import Calibration
from carvid.benchmark.measurements import QueryScore, best_theta, measure
from carvid.car.proposals import ProposalGenerator
from carvid.config import Config, load_config, load_expectations
from carvid.datasets.expressions import Expression, Video, read_meta, write_meta
from carvid.datasets.frame_samples import read_samples
from carvid.evaluation.regions import mask_scores
from carvid.media.label_png import read_label_png, write_label_png
from carvid.pipeline import Carvid, load
from tests.conftest import HEIGHT, WIDTH, carvid
from tests.trees import drop, unseen_tree

FRAMES = {"bear": 4, "cow": 3}
META = "meta_expressions/valid/meta_expressions.json"
SETTINGS = ["crf.iterations=1", "crf.mode=exact", "weights.device=cpu", "car.max_steps=1"]
FEW = {"classifier.view": ("letterbox", "center-crop"), "proposals.parts": ("1", "3")}

Calibrate = Callable[..., Calibration]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two videos whose expressions have no word in common."""
    root = unseen_tree(tmp_path / "data", FRAMES)
    bear, cow = read_meta(root / META)
    texts = ("the sky", "a tree", "grass", "clean ground")
    foreign = tuple(Expression(str(k), text, 1) for k, text in enumerate(texts))
    own = ("a red ball", "the dog", "a white cat", "a woman") * 2
    mine = tuple(Expression(str(k), text, k // 4 + 1) for k, text in enumerate(own))
    write_meta(
        root / META,
        [Video("bear", bear.frames, mine), Video("cow", cow.frames, foreign)],
    )
    return root


@pytest.fixture
def calibrated(tree: Path, weights: dict[str, str]) -> Calibrate:
    def call(out: Path, preset: str = "default", **options: object) -> Calibration:
        given: dict[str, object] = {"axes": FEW, "limit": 4, **options}
        return calibrate(tree, out, preset, SETTINGS, **weights, **given)  # type: ignore[arg-type]

    return call


def test_samples_are_evenly_spaced_frames_with_what_other_videos_name(tree: Path) -> None:
    samples = read_samples(tree, limit=3)
    assert [s.name for s in samples[::4]] == ["bear/00000/anno_0", "bear/00003/anno_0",
                                              "cow/00002/anno_0"]  # fmt: skip
    assert [s.texts for s in samples[:2]] == [("a red ball",) * 2, ("the dog",) * 2]
    for sample in samples:
        assert len(sample.absent) == len(sample.texts) == len(set(sample.absent)) or (
            not sample.absent
        )
        there = "bear" in sample.name
        foreign = {"the sky", "a tree", "grass", "clean ground"}
        assert (set(sample.absent) <= foreign) == there and sample.absent
        labels = read_label_png(sample.truth_path)
        truth, void = sample.truth()
        assert not void.any() and sample.image().shape == (HEIGHT, WIDTH, 3)
        for mask, label in zip(truth, sample.objects, strict=True):
            assert np.array_equal(mask, labels == label)
    assert len({s.absent for s in samples if "bear" in s.name}) > 1
    assert len(read_samples(tree)) == 4 * sum(FRAMES.values())
    assert not any(s.absent for s in read_samples(tree, limit=2, with_absent=False))
    cow = read_samples(tree, videos=["cow"])
    assert len(cow) == 12 and set(cow[0].absent) <= {"a red ball", "the dog", "a white cat",
                                                     "a woman"}  # fmt: skip


def test_void_belongs_to_nobody(tree: Path) -> None:
    sample = read_samples(tree, limit=1)[0]
    labels = read_label_png(sample.truth_path)
    labels[:10] = 255
    write_label_png(sample.truth_path, labels)
    truth, void = sample.truth()
    assert void[:10].all() and not void[10:].any() and not (truth & void).any()


def test_expressions_that_share_a_word_are_not_taken_for_absent(tree: Path) -> None:
    videos = read_meta(tree / META)
    changed = Video("cow", videos[1].frames, tuple(
        Expression(e.key, text, 1)
        for e, text in zip(videos[1].expressions, ("a Dog", "the white house", "man", "sky"),
                           strict=True)
    ))  # fmt: skip
    write_meta(tree / META, [videos[0], changed])
    bear = [s for s in read_samples(tree) if "bear" in s.name]
    assert {text for s in bear for text in s.absent} == {"man", "sky"}


def test_what_cannot_be_measured_is_said(tree: Path, tmp_path: Path) -> None:
    videos = read_meta(tree / META)
    drop("valid/Annotations/cow/00001.png")(tree)
    with pytest.raises(DatasetError, match=r"no truth for cow/00001\.png; unpack"):
        read_samples(tree)
    nameless = Video("cow", videos[1].frames, (Expression("0", "a dog", None),))
    write_meta(tree / META, [nameless])
    with pytest.raises(DatasetError, match="expressions of cow name no object"):
        read_samples(tree, videos=["cow"], limit=1)


def test_the_best_theta_divides_what_is_there_from_what_is_not() -> None:
    measured = {
        "one": [QueryScore(0.9, 0.8, True, True), QueryScore(0.4, 0.0, False, True)],
        "two": [QueryScore(0.7, 0.6, True, True), QueryScore(0.2, 0.1, True, True)],
    }
    theta = best_theta(measured)
    assert 0.4 <= theta < 0.7 and theta == pytest.approx(0.55, abs=0.011)
    kept = {"one": [QueryScore(0.9, 0.8, True, True), QueryScore(0.1, 0.7, True, True)]}
    assert best_theta(kept) < 0.1
    masks_of_nothing = {
        "one": [QueryScore(0.9, 0.1, True, True), QueryScore(0.95, 0.0, False, True)]
    }
    assert best_theta(masks_of_nothing) >= 0.95


def test_what_is_written_is_what_a_run_reaches(
    tree: Path, tmp_path: Path, calibrated: Calibrate, weights: dict[str, str]
) -> None:
    out = tmp_path / "mine.yaml"
    result = calibrated(out)
    first, *tried, last = result.rows
    assert [row.name for row in tried] == ["classifier.view=center-crop", "proposals.parts=3"]
    best = ([first] + [row for row in tried if row.taken])[-1]
    # With one step and one CRF each, nobody sees whom θ drops: it can be put in afterwards.
    assert last.j_and_f == pytest.approx(best.j_and_f, abs=1e-9)
    assert last.theta == load_config(out).car.theta
    assert load_config(out, ["weights.device=cpu"]) == result.config
    (expected,) = load_expectations(out)
    assert expected.weights == tuple(weights.values()) and expected.limit == 4
    config = load_config(out, ["weights.device=cpu"])
    assert mean_j_and_f(tree, config, expected) == pytest.approx(last.j_and_f, abs=1e-9)
    assert expected.value == pytest.approx(last.j_and_f, abs=0.005)
    # The same by hand, without anything of the calibration's but what it asks.
    model, values = load(config), []
    for sample in read_samples(tree, limit=4):
        first, *rest = sample.absent
        assert len(rest) == len(sample.texts) - 1  # one alone, in both videos
        found = model.segment_image(sample.image(), [*sample.texts, *rest])
        alone = model.segment_image(sample.image(), [first])
        truth, void = sample.truth()
        for k, mask in enumerate((*found.masks, *alone.masks)):
            there = truth[k] if k < len(truth) else np.zeros_like(void)
            values.append(np.mean(mask_scores(mask, there, void)))
    assert 100 * np.mean(values) == pytest.approx(last.j_and_f, abs=1e-9)
    values_of = yaml.safe_load(out.read_text())
    assert values_of["extends"] == "default" and "device" not in values_of["weights"]
    assert out.read_text().startswith("# Written by carvid calibrate")
    assert result.absent_queries > 0


def test_an_image_is_encoded_once_for_all_variants_that_see_the_same(
    tmp_path: Path, calibrated: Calibrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    encode = ProposalGenerator.encode

    def counted(self: ProposalGenerator, image: np.ndarray) -> object:  # type: ignore[type-arg]
        passes.append(1)
        return encode(self, image)

    monkeypatch.setattr(ProposalGenerator, "encode", counted)
    calibrated(
        tmp_path / "a.yaml", axes={"classifier.view": AXES["classifier.view"]}, limit=2
    )  # fmt: skip
    assert len(passes) == 2 * 3  # frames; the preset, the two other views together, what is chosen


def test_an_interrupted_calibration_goes_on(
    tmp_path: Path, calibrated: Calibrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole.yaml", tmp_path / "broken.yaml"
    expected = calibrated(whole)
    segment, done = Carvid.segment_image, 0

    def stopping(self: Carvid, *arguments: object, **options: object) -> object:
        nonlocal done
        done += 1
        if done == 21:
            raise KeyboardInterrupt
        return segment(self, *arguments, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Carvid, "segment_image", stopping)
        with pytest.raises(KeyboardInterrupt):
            calibrated(broken)
        assert not broken.exists() and broken.with_suffix(".json").exists()
        asked, done = 20, 100
        result = calibrated(broken, resume=True)
    assert result.rows == expected.rows and broken.read_text() == whole.read_text()
    with monkeypatch.context() as patch:
        patch.setattr(Carvid, "segment_image", None)  # nothing is segmented again
        assert calibrated(broken, resume=True).rows == expected.rows
    assert done == 100 + 2 * 4 * 16 - asked  # two questions a sample, in four passes
    with pytest.raises(OutputError, match="measured on other data or with other settings"):
        calibrated(broken, resume=True, limit=3)
    with pytest.raises(OutputError, match="is there already; add --resume"):
        calibrated(broken)
    for damaged in ('{"calibration": ', '{"calibration": {}, "answers": {"a": 3}}'):
        broken.with_suffix(".json").write_text(damaged)
        with pytest.raises(OutputError, match="is of no calibration"):
            calibrated(broken, resume=True)
    assert calibrated(broken, overwrite=True).rows == expected.rows


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"overwrite": True}])
def test_nothing_of_anybody_elses_is_replaced(
    tmp_path: Path, calibrated: Calibrate, tree: Path, options: dict[str, bool]
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("car:\n  theta: 0.25\n")
    beside = tree / META
    written = tmp_path / "written.yaml"
    written.write_text("# Written by carvid calibrate\ncar:\n  theta: 0.25\n")
    above = tmp_path / "above.yaml"
    above.write_text(f"extends: {written}\n")
    link = tmp_path / "link.yaml"
    link.symlink_to(written)
    for out, preset in (
        (mine, "default"), (beside.with_suffix(".yaml"), "default"), (written, str(written)),
        (written, str(above)), (link, str(written)), (tmp_path / "run.yaml", "default"),
    ):  # fmt: skip
        (tmp_path / "run.json").write_text('{"config": {}}')
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        with pytest.raises(OutputError, match=r"choose another (name|place) with -o"):
            calibrated(out, preset, **options)
        assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


def test_where_all_is_there_theta_stays(tmp_path: Path, calibrated: Calibrate) -> None:
    result = calibrated(tmp_path / "a.yaml", preset="davis", axes={})
    assert (result.config.car.theta, result.config.car.present) == (0.3, "each")
    assert result.absent_queries == 0 and np.isnan(result.rows[0].absent_dropped)
    assert result.rows[0].j_and_f == pytest.approx(result.rows[0].kept_all)
    assert result.changes()["car"] == {"max_steps": 1}
    assert json.loads(json.dumps(result.to_json()))["rows"][0]["absent_dropped"] is None


def test_axes_are_settings_whose_values_can_be_used() -> None:
    for key, values in AXES.items():
        assert len({load_config("default", [f"{key}={value}"]) for value in values}) == len(values)
        assert not key.startswith("weights.")


def test_the_command(tree: Path, tmp_path: Path, weights: dict[str, str]) -> None:
    out = tmp_path / "mine.yaml"
    given = [f"--weights-{name}={folder}" for name, folder in weights.items()]
    given += [f"--set={each}" for each in SETTINGS]
    result = carvid("calibrate", tree, "-o", out, "--limit", 1, *given)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split()[:2] == ["percent", "J&F"] and lines[-1] == f"the preset is {out}"
    names = [line.split("  ")[0].strip() for line in lines[1:-1]]
    assert (names[0], names[-1]) == ("the preset", "as chosen")
    tried = sum(len(values) for values in AXES.values()) - len(AXES)
    assert len(names) == 2 + tried
    said = [f"carvid: tried {key}: {', '.join(values)}" for key, values in AXES.items()]
    assert result.stderr.splitlines() == said
    again = carvid("calibrate", tree, "-o", out, "--limit", 1, "--resume", "--json", *given)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["frames"] == 1
    shown = carvid("config", out)
    assert yaml.safe_load(shown.stdout)["expect"][0]["protocol"] == "frames"
    for words, message in (
        (("-o", tmp_path / "mine.txt"), "a preset is a .yaml"),
        (("-o", tmp_path / "none" / "a.yaml"), "no folder"),
        (("-o", out), "is there already"),
    ):
        refused = carvid("calibrate", tree, *words, *given)
        assert refused.returncode == 1 and refused.stderr.count("\n") == 1
        assert message in refused.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("expect: {value: 3}", "must be a list of mappings"),
        ("expect: [{valeu: 3}]", "unknown key 'expect.valeu'; did you mean 'value'"),
        ("expect: [{value: 300}]", r"expect.value must be in \[0.0, 100.0\], got 300"),
        ("expect: [{protocol: davis}]", "expect.protocol cannot be 'davis'"),
    ],
)
def test_expectations_are_checked(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    for read in (load_config, load_expectations):
        with pytest.raises(ConfigError, match=message):
            read(path)
    path.write_text("extends: davis\nexpect: [{value: 3.5}]")
    assert load_config(path) == load_config("davis")
    assert [each.value for each in load_expectations(path)] == [3.5]
    assert load_expectations("default") == ()
    assert load_config("default") == Config()


def test_a_text_alone_must_be_told_from_one_that_is_there(
    tree: Path, weights: dict[str, str]
) -> None:
    """Without competitors a single text scores 1, and no θ drops it: that costs."""
    sample = read_samples(tree, limit=1)[0]
    model = load("default", [*SETTINGS, "classifier.background=never", *KEEP_ALL_MASKS], **weights)
    *_, beside, alone = measure(model, sample.image(), sample)
    assert (alone.path_value, alone.present, alone.has_mask) == (1.0, False, True)
    assert alone.j_and_f_at(0.99) == 0 and beside.path_value < 1 and beside.j_and_f_at(0.99) == 1
