"""`checks/architecture.py` on small trees: what each measure counts and what it leaves alone."""

import architecture
import pytest
from call_chains import chains_of_carriers
from dependencies import dependency_problems

PYPROJECT = '[project]\nname = "fires-exp"\ndependencies = ["torch>=2"]\n'


@pytest.fixture
def tree(tmp_path):
    """Write sources by their path in the package; returns the root of the tree."""

    def write(sources):
        (tmp_path / "pyproject.toml").write_text(PYPROJECT)
        for name, text in sources.items():
            path = tmp_path / "src" / "fires_exp" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def problems(root, name):
    """The problems of the measure whose name begins so."""
    (measure,) = (measure for measure in architecture.measure(root) if measure.name.startswith(name))
    return [problem.removeprefix("src/fires_exp/") for problem in measure.problems]


@pytest.mark.parametrize(
    "line",
    [
        'if stage == "sft": pass',
        'if "grpo" in stages: pass',
        'if stage not in ("sft", "grpo"): pass',
        'x = {"synthesize", "sft"} & stages',
        'x = {"sft": 1, "grpo": 2}[stage]',
        'for stage in ("sft", "grpo"): pass',
        'x = [stage for stage in ["thoughts", "hints"]]',
        'match stage:\n    case "epitome": pass',
        "if stage is StageName.SFT: pass",
    ],
)
def test_a_branch_on_the_name_of_a_stage_is_counted(tree, line):
    (problem,) = problems(tree({"report/a.py": line}), "branches")
    assert problem.startswith("report/a.py:")


@pytest.mark.parametrize("line", ['settings = config["sft"]', 'name = "grpo"', 'x = {"sft": 1}', 'if stage == "training": pass'])
def test_naming_a_stage_without_branching_is_allowed(tree, line):
    assert problems(tree({"report/a.py": line}), "branches") == []


@pytest.mark.parametrize("file", ["config/stages.py", "pipeline/stages/sft.py", "training/loggers/panels.py"])
def test_the_files_that_declare_stages_may_name_them(tree, file):
    assert problems(tree({file: 'STAGES = {"sft": 1, "grpo": 2}'}), "branches") == []


def test_an_import_from_a_folder_further_down_is_counted(tree):
    root = tree({"grpo/a.py": "def f():\n    from fires_exp.report import b\n", "report/b.py": "import fires_exp.grpo.a\n"})
    assert problems(root, "imports of a folder further down") == ["grpo/a.py imports fires_exp.report.b"]
    assert problems(root, "import circles") == ["fires_exp.grpo.a ↔ fires_exp.report.b"]


def test_modules_that_import_each_other_in_a_row_of_three_are_one_circle(tree):
    modules = {f"data/{name}.py": f"from fires_exp.data.{other} import x\n" for name, other in ("ab", "bc", "ca")}
    root = tree(modules | {"data/d.py": "from fires_exp.data.a import x\n"})
    assert problems(root, "import circles") == ["fires_exp.data.a ↔ fires_exp.data.b ↔ fires_exp.data.c"]


def test_the_pipeline_is_unknown_to_the_folders_above_it(tree):
    user = "from fires_exp.pipeline.run import run\n"
    root = tree({"export/a.py": user, "cli/b.py": user, "pipeline/run.py": "def run(): pass\n"})
    assert problems(root, "modules above the pipeline") == ["export/a.py imports fires_exp.pipeline.run"]


def test_two_classes_of_one_name_are_counted(tree):
    root = tree({"data/a.py": "class Answer: pass\n", "report/b.py": "class Answer: pass\nclass Other: pass\n"})
    assert problems(root, "names that several classes have") == ["Answer: src/fires_exp/data/a.py, src/fires_exp/report/b.py"]


def test_a_file_over_300_lines_is_counted(tree):
    root = tree({"data/a.py": "x = 1\n" * 301, "data/b.py": "x = 1\n" * 300})
    assert problems(root, "lines of the longest file") == ["data/a.py: 301 lines"]


def test_a_folder_with_a_tenth_of_the_code_is_counted(tree):
    comments = "# a comment\n\n" * 20
    sources = {f"{folder}/a.py": "x = 1\n" * 9 for folder in architecture.ORDER[1:11]}
    root = tree(sources | {"cli/a.py": f'"""A docstring."""\n{comments}' + "x = 1\n" * 10})
    assert problems(root, "shares of folders") == ["cli/: 10.0% of the code"]


def test_vague_names_are_listed_where_there_are_many(tree):
    assert problems(tree({"data/a.py": "place = 1\n" * 10}), "uses of vague names") == []
    assert problems(tree({"data/a.py": "def f(place): return place\n" * 5 + "told = 1\n"}), "uses of vague names") == [
        "data/a.py: place 10 times",
        "data/a.py: told 1 times",
    ]


def test_what_is_imported_is_declared_once_and_nothing_is_declared_in_vain(tmp_path):
    path = tmp_path / "pyproject.toml"
    path.write_text(
        '[project]\nname = "x"\ndependencies = ["Torch>=2", "huggingface-hub", "huggingface_hub>=1", "pyyaml"]\n'
        '[project.optional-dependencies]\nweb = ["starlette[full]>=1; python_version>\'3\'"]\ndev = ["pillow"]\n'
    )
    source = 'import torch.nn, os, ours, importlib\nfrom PIL import Image\nimportlib.import_module("huggingface_hub.x")\n'
    trees = {"a.py": architecture.ast.parse(source)}
    assert dependency_problems(path, trees, own="ours") == [
        "pillow: imported by a.py, not declared",
        "pyyaml: declared, but nothing imports it",
        "starlette: declared, but nothing imports it",
        "huggingface-hub: declared 2 times",
    ]


def test_a_chain_has_a_link_for_each_border_of_modules_that_an_object_crosses():
    sources = {
        "p.run": "class Run:\n    def make(self): lay(self)\n",
        "p.grpo": "from p.run import Run\nfrom a import first\ndef grpo(run: Run): g(run)\ndef g(run: Run): first(run, 1)\n",
        "a": "from p.run import Run\nfrom b import second\ndef first(run: Run | None, n): second(value=run.config)\n    ",
        "b": "def second(value): pass\n",
    }
    trees = {name: architecture.ast.parse(text) for name, text in sources.items()}
    assert chains_of_carriers(trees, start="p.grpo", carriers="p") == (["p.grpo", "a"], {"a"})
    sources["a"] = sources["a"].replace("value=run.config", "value=run")  # now the object itself goes on
    trees["a"] = architecture.ast.parse(sources["a"])
    assert chains_of_carriers(trees, start="p.grpo", carriers="p") == (["p.grpo", "a", "b"], {"a", "b"})
    trees["a"] = architecture.ast.parse("from p.run import Run\ndef first(run: Run, n): run.make()\n")
    assert chains_of_carriers(trees, start="p.grpo", carriers="p") == (["p.grpo", "a", "p.run"], {"a", "p.run"})


def test_a_long_chain_is_missed(tree):
    modules = {"pipeline/run.py": "class Run: pass\n"}
    for number in range(6):
        name = "pipeline/stages/grpo.py" if number == 0 else f"pipeline/m{number}.py"
        follow = f"from fires_exp.pipeline.m{number + 1} import f{number + 1}\n"
        call = f"def f{number}(run: Run): f{number + 1}(run)\n" if number < 5 else f"def f{number}(run: Run): pass\n"
        modules[name] = "from fires_exp.pipeline.run import Run\n" + (follow if number < 5 else "") + call
    (chain,) = problems(tree(modules), "calls in a row")
    assert chain.count("→") == 5


def test_the_status_says_whether_a_measure_is_missed(tree, capsys):
    assert architecture.main([str(tree({"data/a.py": "import torch\n"}))]) == 1  # one folder has all of the code
    lines = capsys.readouterr().out.splitlines()
    assert "MISSED: shares of folders: allowed 10% of 1: data 100.0%" in lines
    assert "ok: import circles between modules: 0, allowed 0" in lines
