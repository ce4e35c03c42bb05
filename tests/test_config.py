from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from carvid.base.errors import ConfigError
from carvid.config import Config, load_config, load_over, preset_names

PRESETS = [
    "ade150", "ade847", "coco-object", "davis", "default", "fast", "grefcoco", "pascal-context",
    "pascal-context-459", "refcoco", "refcoco+", "refcocog", "reference", "sam2", "tiny", "voc",
]  # fmt: skip


def test_presets_are_these_and_load_back_equal() -> None:
    assert preset_names() == PRESETS
    for name in PRESETS:
        config = load_config(name)
        assert Config.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("preset", "eta", "theta", "lambda_", "kinds"),
    [
        ("voc", 0.4, 0.6, 0.4, ("circle", "blur")),
        ("coco-object", 0.5, 0.3, 0.5, ("blur", "gray")),
        ("pascal-context", 0.6, 0.25, 0.4, ("blur", "circle")),
        ("pascal-context-459", 0.4, 0.25, 0.7, ("gray", "blur")),
        ("ade150", 0.6, 0.25, 0.7, ("gray", "blur")),
        ("ade847", 0.6, 0.25, 0.7, ("gray", "blur")),
        ("refcoco", 0.5, 0.3, 0.5, ("circle",)),
        ("refcoco+", 0.2, 0.1, 0.5, ("circle", "blur")),
        ("refcocog", 0.5, 0.1, 0.6, ("circle", "blur")),
        ("grefcoco", 0.5, 0.0, 0.3, ("circle",)),
    ],
)
def test_released_settings(
    preset: str, eta: float, theta: float, lambda_: float, kinds: tuple[str, ...]
) -> None:
    config = load_config(preset)
    assert (config.prompts.eta, config.car.theta) == (eta, theta)
    assert (config.proposals.lambda_, config.prompts.kinds) == (lambda_, kinds)


def test_a_benchmarks_settings_in_another_way_of_working() -> None:
    assert load_over(load_config("reference"), "ade847") == load_config("ade847")
    ours = load_over(Config(), "ade847")
    assert (ours.car.mode, ours.prompts.eta, ours.car.theta) == ("semantic", 0.6, 0.25)
    assert len(ours.classifier.templates) == 15
    assert (ours.classifier.view, ours.crf.mode) == (Config().classifier.view, Config().crf.mode)


def test_default_preset_is_the_defaults() -> None:
    assert load_config("default") == Config()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("car.max_step=3", "unknown key 'car.max_step'; did you mean 'max_steps'?"),
        ("crr.theta=1", "unknown section 'crr'; did you mean 'crf'?"),
        ("car.theta=2", "car.theta must be in [0.0, 1.0], got 2.0"),
        ("car.theta=nan", "car.theta must be in [0.0, 1.0], got nan"),
        ("car.mode=refr", "car.mode cannot be 'refr'; did you mean 'refer'?"),
        ("prompts.kinds=blur,grey", "prompts.kinds cannot be 'grey'; did you mean 'gray'?"),
        ("phrases.enabled=maybe", "phrases.enabled must be true or false, got 'maybe'"),
        ("car.present=always", "car.present cannot be 'always'; known are: ask, best, each"),
        ("car.max_steps=1.5", "car.max_steps must be a whole number, got '1.5'"),
        ("theta", "cannot read the setting 'theta'; write section.key=value"),
    ],
)
def test_bad_settings(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config("default", [override])
    assert str(error.value) == message


@pytest.mark.parametrize(
    "template",
    ["", "a photo", "{x}", "{1}", "{", "}", "a {} {", "{!r}", "{0!s}", "{:>9999999999}", "{:.3}",
     "{} and {}", "{0} {}", "{0} {1}", "{{}}", "{{}", "{0.upper}", "{0[0]}", "{:{}}", "{ }"],
)  # fmt: skip
def test_templates_that_lose_the_expression(template: str) -> None:
    for values in (
        {"proposals": {"template": template}},
        {"classifier": {"templates": ["a {}", template]}},
    ):
        with pytest.raises(ConfigError, match=r"s?\.templates? must hold the expression as \{\}"):
            Config.from_dict(values)
    with pytest.raises(ConfigError, match=r"^proposals\.template must"):
        load_config("default", [f"proposals.template={template}"])


def test_templates_that_keep_the_expression() -> None:
    for template in ("{}", "a {}.", "{0}, that is {0}", "{{{}}}", "{{{}"):
        config = Config.from_dict({"proposals": {"template": template}})
        for expression in ("the dog", "a {dog}", "{} {0} {x}", "}{"):
            assert expression in config.proposals.template.format(expression)
    with pytest.raises(ConfigError, match=r"classifier\.templates is an empty list"):
        Config.from_dict({"classifier": {"templates": []}})
    with pytest.raises(ConfigError, match=r"classifier\.templates is an empty list"):
        load_config("default", ["classifier.templates="])


def test_overrides_are_parsed_by_type() -> None:
    config = load_config(
        "default", ["car.theta=1e-1", "phrases.enabled=no", "prompts.kinds=blur,gray"]
    )
    assert (config.car.theta, config.phrases.enabled) == (0.1, False)
    assert config.prompts.kinds == ("blur", "gray")


@pytest.mark.parametrize(("old", "now"), [("yes", "best"), ("false", "ask")])
def test_settings_of_earlier_versions(caplog: pytest.LogCaptureFixture, old: str, now: str) -> None:
    assert load_config("default", [f"car.keep_best={old}"]).car.present == now
    assert f"the setting car.keep_best is now car.present={now}" in caplog.text


def test_yaml_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: reference\ncar:\n  theta: 0.25\n")
    expected = load_config("reference")
    expected = dataclasses.replace(expected, car=dataclasses.replace(expected.car, theta=0.25))
    assert load_config(path) == expected
    path.write_text("car:\n  theta: 1e-1\n")
    with pytest.raises(ConfigError, match="YAML reads 1e-1 as text"):
        load_config(path)
    path.write_text(f"extends: {path}\n")
    with pytest.raises(ConfigError, match="circle"):
        load_config(path)
    path.write_text("car: [1\n")
    with pytest.raises(ConfigError, match="as YAML"):
        load_config(path)


def test_unknown_preset_is_suggested() -> None:
    with pytest.raises(ConfigError, match="unknown preset 'defualt'; did you mean 'default'"):
        load_config("defualt")


def test_networks_are_those_that_are_used() -> None:
    both = {"generator", "classifier"}
    assert load_config("default").networks.keys() == both
    assert load_config("default", ["sam.model=sam.pth"]).networks.keys() == {*both, "sam"}
    found = load_config("sam2", ["sam2.model=mine"]).networks
    assert found.keys() == {*both, "sam2"} and found["sam2"] == "mine"
