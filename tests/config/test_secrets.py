"""Keys and passwords: refused in a configuration, taken out of what is written."""

import math

import pytest
from omegaconf import OmegaConf

from fires_exp.config.load import load_config, load_yaml, write_yaml
from fires_exp.config.secrets import refuse_secrets, without_secrets
from fires_exp.errors import ConfigError

KEY = "sk-proj-0123456789abcdefghij"
PASSWORD = "correct-horse-battery"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"status 401: wrong key {KEY}.", "status 401: wrong key ***."),
        (f"http://ann:{PASSWORD}@host:80/v1 and https://token@host", "http://***@host:80/v1 and https://***@host"),
        ("hf_abcdefghijklmnopqrst ghp_abcdefghijklmnopqrst", "*** ***"),
        ("mail ann@host.org, https://host/v1, sk-8 and a task-oriented-dialogue-system", None),
    ],
)
def test_what_looks_like_a_secret_is_taken_out_and_nothing_else(text, left):
    assert without_secrets(text) == (text if left is None else left)


def test_values_of_the_environment_s_keys_are_taken_out_whatever_they_look_like(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "plainwords")
    monkeypatch.setenv("MY_PASSWORD", "plainwords-and-more")
    monkeypatch.setenv("LOCAL_API_KEY", "none")
    monkeypatch.setenv("KEYBOARD", "german-layout")
    assert without_secrets("plainwords-and-more plainwords none german-layout") == "*** *** none german-layout"


@pytest.mark.parametrize(
    ("override", "key"),
    [
        (f"teacher.base_url=https://ann:{PASSWORD}@host/v1", "teacher.base_url"),
        (f"teacher.api_key_env={KEY}", "teacher.api_key_env"),
        (f"logger.entity={KEY}", "logger.entity"),
        (f"recipe.stages=[sft,{KEY}]", "recipe.stages"),
    ],
)
def test_a_configuration_with_a_secret_is_refused_and_the_message_does_not_hold_it(composed, override, key):
    with pytest.raises(ConfigError, match=rf"^{key} holds a key or a password") as caught:
        load_config(composed(override))
    assert PASSWORD not in str(caught.value)
    assert KEY not in str(caught.value)


def test_the_value_of_a_variable_that_is_interpolated_into_the_configuration_is_refused(composed, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "no-known-form-at-all")
    with pytest.raises(ConfigError, match=r"^logger\.entity holds a key") as caught:
        load_config(composed("logger.entity=${oc.env:OPENAI_API_KEY}"))
    assert "no-known-form" not in str(caught.value)


def test_a_key_that_was_written_as_an_argument_is_not_said_again():
    with pytest.raises(ConfigError) as caught:
        refuse_secrets([(KEY, KEY)])
    assert str(caught.value).startswith("*** holds a key")


def test_numbers_must_be_finite(composed):
    for value in (math.nan, math.inf):
        tree = OmegaConf.to_container(composed(), resolve=True)
        tree["sft"]["optimizer"]["learning_rate"] = value
        with pytest.raises(ConfigError, match=r"^sft\.optimizer\.learning_rate=(nan|inf): write a "):
            load_config(tree)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"name: [", "cannot be read (while parsing a flow node"),
        (b"\xff\xfe\x00", "cannot be read ("),
        (b"- 1\n- 2\n", "holds no configuration"),
        (b"", " has no value; write "),
        (b"name: x\nmeadow: 1\n", ": meadow: "),
    ],
)
def test_a_resolved_tree_that_cannot_be_used_is_named_with_the_remedy(tmp_path, content, problem):
    path = tmp_path / "resolved.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_yaml(path)
    line = str(caught.value)
    assert line.startswith(str(path))
    assert problem in line
    assert line.endswith(f"compose it anew with python -m fires_exp … hydra.run.dir={tmp_path}")
    assert "\n" not in line


def test_a_run_folder_from_before_the_schema_grew_is_named_with_the_remedy(composed, tmp_path):
    path = tmp_path / "resolved.yaml"
    write_yaml(load_config(composed()), path)
    path.write_text("\n".join(line for line in path.read_text().splitlines() if "confidence" not in line))
    with pytest.raises(ConfigError) as caught:
        load_yaml(path)
    assert str(caught.value) == (
        f"{path}: metrics.confidence has no value; write metrics.confidence=…. If it is of an earlier version, compose it anew "
        f"with python -m fires_exp … hydra.run.dir={tmp_path}"
    )
