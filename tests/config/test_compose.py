"""Every option composes, nothing restates a default, nothing unknown gets through."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fires_exp.config.describe import describe
from fires_exp.config.load import load_config, load_yaml, write_yaml
from fires_exp.config.root import Config

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
OPTIONS = sorted((path.parent.relative_to(CONF).as_posix(), path.stem) for path in CONF.glob("*/**/*.yaml"))
EXTENDING = [
    (group, name)
    for group, name in OPTIONS
    if group not in ("experiment", "scale")
    and re.search(r"^defaults: \[\w+, _self_\]", (CONF / group / f"{name}.yaml").read_text(), re.M)
]


def overrides_for(group, name):
    """The option, and what else it needs."""
    ways = {"experiment": f"+experiment={name}", "sweep": f"+sweep={name}", "service": f"+service@teacher={name}"}
    chosen = [ways.get(group, f"{group}={name}")]
    if group == "dataset" and name != "sample":
        chosen.append("dataset.root=somewhere")
    if (group, name) == ("recipe", "baseline"):
        chosen.append("baseline=gpt_4o")
    if (group, name) == ("recipe", "train_baseline"):
        chosen += ["trained_baseline=smes", "aspects=no_thought"]
    if group == "trained_baseline" and name != "none":
        chosen += ["recipe=train_baseline", "aspects=no_thought"]
    if name.startswith("emotyda_esc") and group == "experiment":
        chosen.append("test_dataset.root=somewhere")
    return chosen


def test_all_options_are_seen():
    assert len(OPTIONS) == 112
    assert len([name for group, name in OPTIONS if group == "experiment"]) == 35


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_option_composes_and_loads(composed, group, name):
    config = load_config(composed(*overrides_for(group, name)))
    assert isinstance(config, Config)


@pytest.mark.parametrize(("group", "name"), EXTENDING)
def test_an_option_that_extends_another_changes_each_leaf_that_it_writes(leaves, group, name):
    import yaml

    text = yaml.safe_load((CONF / group / f"{name}.yaml").read_text())
    (parent, _) = text.pop("defaults")
    scale = "scale=paper"  # the scale's own values are no restatement of the parent
    ours, theirs = leaves(*overrides_for(group, name), scale), leaves(*overrides_for(group, parent), scale)

    def written(node, prefix):
        for key, value in node.items():
            if isinstance(value, dict):
                yield from written(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}"

    for key in written(text, "teacher." if group == "service" else f"{group}."):
        assert ours[key] != theirs[key], f"{key} restates what {parent} says"


def test_a_sweep_s_folders_are_not_named_by_addresses_and_files(leaves):
    import yaml

    left_out = yaml.safe_load((CONF / "config.yaml").read_text())["hydra"]["job"]["config"]["override_dirname"]["exclude_keys"]
    with_slashes = {key for key in leaves() if key.rpartition(".")[2] in ("root", "base_url", "batch_requests", "batch_results")}
    assert {"teacher.base_url", "baseline.base_url", "reward.judge.base_url"} <= with_slashes <= set(left_out)


def test_a_resolved_tree_reads_back_as_it_was(composed, tmp_path):
    config = load_config(composed("+experiment=fires", "scale=paper"))
    write_yaml(config, tmp_path / "resolved.yaml")
    assert load_yaml(tmp_path / "resolved.yaml") == config


def test_the_reference_page_is_what_the_schema_says():
    assert (ROOT / "docs" / "config.md").read_text() == describe(), "run make docs"


def test_composing_needs_no_torch_and_works_from_anywhere(tmp_path):
    code = "import sys, fires_exp.__main__; assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    shown = subprocess.run(
        [sys.executable, "-m", "fires_exp", "+experiment=wo_situation", "--cfg", "job"],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "name: wo_situation" in shown.stdout
    assert not list(tmp_path.iterdir())
