"""A run folder with invented, plausible numbers, as a complete run leaves it: 40 SFT steps, 14 GRPO steps, three policies."""

import itertools
import json
import math
import random

ATTACK = '<script>alert(1)</script><img src=x onerror="alert(2)">'
ASPECTS = ("visual_scene", "emotion", "situation", "response_strategy")
SEEKER = (
    "I haven't slept properly since the exam. I keep thinking that everybody else passed.",
    "He just sat there and said nothing.",
    "My mother called again today. She wants me to come home, and I don't know how to tell her that I can't, because every time "
    "I try she starts to cry and then I feel like the worst daughter in the world.",
)
REPLIES = (
    "It sounds as if the waiting weighs on you more than the exam did. What goes through your mind at night?",
    "That silence must have hurt. What would you have liked him to say?",
    "You love her and you also need your own life; both can be true. Shall we think about how to put that to her?",
)


def policy_metrics(lift, count):
    """One policy's rows; `lift` from 0 to 1 is how much it has learned."""

    def row(name, value, direction="higher", tokens="lower-case NLTK words", version="nltk 3.10.4"):
        facts = {"direction": direction, "tokens": tokens, "version": version, "count": count}
        return {"name": name, "value": value, "low": 0.9 * value, "high": 1.1 * value, **facts}

    return [
        row("BLEU-2", 0.37 + 5.1 * lift),
        row("ROUGE-L (beta 1.2)", 3.16 + 11.2 * lift),
        row("ROUGE-L F1", 1.5 + 12.0 * lift, tokens="lower-case a-z0-9", version="rouge-score"),
        row("Distinct-3 (corpus)", 92.5 - 20 * lift),
        row("Well-formed", 100 * lift, tokens="-", version="fires_exp"),
        row("Response words", 61.2 - 40 * lift, "none", tokens="white space", version="fires_exp"),
        row("Emotion in thoughts", 55.0 * lift, "none", tokens="-", version="fires_exp"),
    ]


def comparison(name, first, second, difference, p):
    return {
        "name": name,
        "first": first,
        "second": second,
        "difference": difference,
        "low": difference - 1.5,
        "high": difference + 1.5,
        "p_value": p,
    }


def training_rows(rng):
    """Incomplete on purpose: val loss every ten steps, no KL at the first step, a NaN among the losses."""
    rows = []
    for step in range(40):
        fall = math.exp(-step / 14)
        loss = 1.35 + 2.0 * fall + rng.gauss(0, 0.09) if step != 17 else math.nan
        rate = 5e-4 * min(1.0, (step + 1) / 4) * (1 + math.cos(math.pi * step / 40)) / 2
        rows.append({"stage": "sft", "step": step, "sft/loss": loss, "sft/grad_norm": 0.4 + fall, "sft/learning_rate": rate})
        if step % 10 == 9:
            rows.append({"stage": "sft", "step": step, "sft/val_loss": 1.5 + 1.9 * fall})
    for step in range(14):
        grown = step / 13
        formed = min(1.0, 0.55 + 0.4 * grown + rng.gauss(0, 0.04))
        row = {
            "reward/total": 0.07 + 0.12 * grown + rng.gauss(0, 0.015),
            "reward/format": formed,
            "reward/consistency": 0.05 + 0.07 * grown,
            "rollout/tied_group_share": max(0.0, 0.25 - 0.2 * grown),
            "rollout/well_formed_share": formed,
            "rollout/truncated_share": max(0.0, 0.38 - 0.4 * grown),
            "rollout/completion_tokens_mean": 95 - 25 * grown + rng.gauss(0, 3),
            "health/unknown_situation": 0.1 + 0.1 * grown,
            "health/one_response": 0.07,
            "health/words_to_reference": 1.1 - 0.3 * grown,
            "grpo/clip_share": 0.0,
            "grpo/entropy": 1.62 - 0.5 * grown,
            "grpo/grad_norm": 0.27 + 0.1 * rng.random(),
            "aspect/visual_scene": 0.02,
            "aspect/emotion": 0.44 + 0.1 * grown,
            "aspect/situation": 1.0,
            "aspect/response_strategy": 0.97,
        }
        if step:
            row["grpo/kl"] = 0.0005 * step
        rows.append({"stage": "grpo", "step": step, **row})
    return rows


def prediction(policy, index):
    lift = {"zero_shot": 0, "sft": 1, "grpo": 2}[policy]
    formed = lift > 0 and (index + lift) % 7 > 0
    thought = "Emotion: sadness\nSituation: The seeker is tired.\nResponse Strategy: I should ask." if formed else ""
    response = REPLIES[(index + lift) % 3] if lift else ("" if index % 5 == 0 else "I I I am " * (3 + index % 4))
    return {
        "id": f"sample-{index}-1",
        "completion": f"<think>\n{thought}\n</think>\n<response>{response}</response>",
        "thought": thought,
        "response": response,
        "well_formed": formed,
        "finish_reason": "length" if not lift and index % 2 else "stop",
        "context": SEEKER[index % 3],
        "reference_response": REPLIES[index % 3],
    }


def sample_row(step, group, index, reward):
    return {
        "step": step,
        "example_id": f"sample-{group}-{step}",
        "place": index,
        "reward": reward,
        "reward_format": float(reward > 0),
        "reward_consistency": max(0.0, reward - 0.1),
        "finish_reason": "stop" if reward > 0 else "length",
        "completion": f"<think>\nSituation: {SEEKER[index % 3]}\n</think>\n<response>{REPLIES[group]}</response>",
        "reference_response": REPLIES[group],
    }


def stage_entry(stage, key, state, seconds, policy=None):
    """A stage as `run.json` lists it."""
    label = f"{stage} of {policy}" if policy else stage
    facts = {"label": label, "state": state, "reused": state == "reused", "started": None, "seconds": seconds}
    return {"stage": stage, "key": key, "folder": "f", **facts}


def write_lines(path, rows):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_run(folder, policies=("zero_shot", "sft", "grpo"), instances=40):
    """Write the folder; the first context, GRPO's response and thought to it, and a sampled completion are attempts at markup."""
    rng = random.Random(7)
    run = {
        "name": "fires_synthetic",
        "status": "finished",
        "started": "2026-01-31T12:00:00+00:00",
        "seed": 42,
        "commit": "0123456789abcdef0123456789abcdef01234567+changes",
        "python": "3.11.7",
        "machine": "x86_64, 2 threads",
        "versions": {"fires-exp": "0.1.0", "torch": "2.13.0", "decord": None},
        "seconds": 4000.0,
        "peak_memory_bytes": 11246686208,
        "peak_gpu_memory_bytes": None,
        "stages": [
            stage_entry("thoughts", "0909acf824feb730", "reused", 0.4),
            stage_entry("sft", "1115c57d914f6b4a", "reused", 1470.5),
            stage_entry("grpo", "76dffdd28b2ea555", "finished", 2201.0),
            *(stage_entry("predictions", f"{number:016x}", "finished", 60.0, policy) for number, policy in enumerate(policies)),
        ],
    }
    metrics = {
        "name": "fires_synthetic",
        "dataset": "sample",
        "split": "test",
        "instances": instances,
        "backbone": "smollm2_vl",
        "reward": "wo_support_skill",
        "teacher": "rules",
        "policies": {
            policy: policy_metrics({"zero_shot": 0.0, "sft": 0.8, "grpo": 1.0}[policy], instances) for policy in policies
        },
        "comparisons": [
            comparison(name, first, second, 4.08 if first == "zero_shot" else 1.02, 0.002 if first == "zero_shot" else 0.174)
            for first, second in itertools.combinations(policies, 2)
            for name in ("BLEU-2", "ROUGE-L (beta 1.2)", "ROUGE-L F1", "Distinct-3 (corpus)", "Well-formed")
        ],
        "absent": [{"name": "METEOR", "reason": "WordNet is not there; run: python -m fires_exp.scores.wordnet nltk_data"}],
        "bootstrap_samples": 1000,
        "confidence": 0.95,
        "teacher_aspect_shares": {name: {"included": 0.6, "omitted": 0.2, "neutral": 0.1, "unknown": 0.1} for name in ASPECTS},
    }
    config = (
        "name: fires_synthetic\nseed: 42\ndataset:\n  name: sample\n  limit:\n    train: 320\n    val: null\n    test: 40\n"
        "test_dataset: null\nbackbone:\n  name: smollm2_vl\nteacher:\n  name: rules\nreward:\n  name: wo_support_skill\n"
        f"predict:\n  split: test\nrecipe:\n  stages: [synthesize, sft, grpo, evaluate]\n  policies: [{', '.join(policies)}]\n"
    )
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "resolved.yaml").write_text(config)
    write_lines(folder / "metrics.jsonl", training_rows(rng))
    for policy in policies:
        answers = [prediction(policy, index) for index in range(instances)]
        answers[0]["context"] = ATTACK
        if policy == "grpo":
            answers[0] |= {"response": ATTACK, "thought": f"Emotion: {ATTACK}", "well_formed": True}
        write_lines(folder / "predictions" / f"{policy}.jsonl", answers)
    samples = [
        sample_row(step, group, index, 0.0 if step == 0 and group == 1 else round(0.05 * ((index * 3 + group) % 6), 3))
        for step in (0, 5, 13)
        for group in range(3)
        for index in range(6)
    ]
    samples[0]["completion"] = ATTACK
    write_lines(folder / "completions.jsonl", samples)
    banked = []
    for index in range(60):
        aspects = {"situation": "The seeker is tired.", "response_strategy": "I should ask."}
        aspects |= {"emotion": "neutral" if index % 4 == 0 else "sadness"} if index % 5 else {}
        aspects |= {"visual_scene": "Unknown" if index % 6 == 0 else "a kitchen"} if index % 2 == 0 else {}
        banked.append({"example_id": f"t-{index}", "plan": "flexible", "teacher": "rules", "prompt_hash": "h"})
        banked[-1] |= {"created": "2026-01-31T12:00:00", "aspects": aspects, "prose": ""}
    write_lines(folder / "thoughts.jsonl", banked)
    (folder / "frame_sensitivity.json").write_text(
        json.dumps({"instance": "a", "frames_of": "b", "nats_per_token": 0.0312}) + "\n"
    )
    return folder
