"""Run folders of a sweep, `<scale folder>/<experiment>/seed_<n>/`: invented answers, whose scores are real."""

import json
import random
import shutil
from pathlib import Path

import torch
from report.synthetic_run import REPLIES, write_lines, write_run

from fires_exp.config.scoring import EncoderConfig, MetricsConfig, SimilarityConfig
from fires_exp.human_eval.tables import RESULTS_FORMAT
from fires_exp.metrics.instance_scores import instance_scores_text
from fires_exp.metrics.measures import ScoredResponse
from fires_exp.metrics.responses import response_metrics

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
METRICS = MetricsConfig(
    include=["bleu_2", "rouge_l", "distinct_3"],
    similarity=SimilarityConfig(
        encoder=EncoderConfig(name="tiny", source="tiny", path=None, revision=None), layer=2, batch_size=64
    ),
    bootstrap_samples=200,
    confidence=0.95,
)
# how often an answer is the reference itself: what an experiment is worth
WORTH = {"fires": 0.8, "wo_flet": 0.75, "wo_sft": 0.3, "wo_rl": 0.0, "wo_ssr": 0.7, "wo_video": 0.6}


def answers_of(experiment, seed, rows):
    """The rows with responses that are the reference as often as the experiment is worth, and another's otherwise."""
    rng = random.Random(f"{experiment} {seed}")
    worth = WORTH.get(experiment, 0.5)
    for row in rows:
        words = row["reference_response"].split() if rng.random() < worth else rng.choice(REPLIES).split()
        yield row | {"response": " ".join(word for word in words if rng.random() > 0.1)}


def score(rows, seed):
    """What the run's table says of the answers."""
    answers = [
        ScoredResponse(
            response=row["response"],
            reference=row["reference_response"],
            context=row["context"],
            thought=row["thought"],
            well_formed=row["well_formed"],
        )
        for row in rows
    ]
    cache = Path("unused: nothing is loaded for these metrics")
    device = torch.device("cpu")
    return response_metrics({"grpo": answers}, METRICS, seed=seed, cache=cache, device=device, scorer=None, progress=False)


def write_sweep_run(scale_folder, experiment, seed, instances=24, changes=()):
    """One finished run; `changes` are pairs of a text in its configuration and what to write instead."""
    folder = scale_folder / experiment / f"seed_{seed}"
    write_run(folder, policies=("grpo",), instances=instances)
    path = folder / "predictions" / "grpo.jsonl"
    rows = list(answers_of(experiment, seed, [json.loads(line) for line in path.read_text().splitlines()]))
    write_lines(path, rows)
    evaluation = score(rows, seed)
    text = instance_scores_text([row["id"] for row in rows], evaluation.measures["grpo"])
    (folder / "instance_scores").mkdir()
    (folder / "instance_scores" / "grpo.jsonl").write_text(text)
    table = json.loads((folder / "metrics.json").read_text()) | {"name": experiment, **evaluation.as_json()}
    (folder / "metrics.json").write_text(json.dumps(table))
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"name": experiment, "seed": seed, "config_sha256": f"{seed:064x}"}))
    config = (folder / "resolved.yaml").read_text().replace("seed: 42", f"seed: {seed}")
    for old, new in changes:
        assert old in config
        config = config.replace(old, new)
    (folder / "resolved.yaml").write_text(config)
    (folder / "report.html").write_text("<!doctype html><title>a run</title>")
    return folder


def write_sweep(scale_folder, experiments, seeds=(42,), instances=24):
    """Several; returns the scale folder."""
    for experiment in experiments:
        for seed in seeds:
            write_sweep_run(scale_folder, experiment, seed, instances)
    return scale_folder


def copy_seeds(scale_folder, experiment, seeds):
    """Copies of a run as more seeds, without scoring it again."""
    (source,) = (scale_folder / experiment).iterdir()
    for seed in seeds:
        target = scale_folder / experiment / f"seed_{seed}"
        shutil.copytree(source, target)
        record = json.loads((target / "run.json").read_text())
        (target / "run.json").write_text(json.dumps(record | {"seed": seed}))


def write_study_result(folder, second, win, question="support"):
    """A study that was read: FIRES won, tied and lost these shares of ten instances."""
    folder.mkdir(parents=True)
    rates = {name: {"value": of, "low": of, "high": of} for name, of in (("win", win), ("tie", 0.9 - win), ("lose", 0.1))}
    measures = {"p_value": 0.01, "agreement": None, "kappa": None, "alpha": None}
    question = {"question": question, "rates": rates, "instances": 10, "verdicts": 10, **measures}
    facts = {"format": RESULTS_FORMAT, "study": "s", "first": "FIRES", "second": second, "instances": 10, "complete": [10]}
    (folder / "results.json").write_text(json.dumps(facts | {"questions": [question]}))
