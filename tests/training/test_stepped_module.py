"""SFT and GRPO modules on the tiny backbone: gradients, pairing, what is logged."""

import threading
from dataclasses import replace

import pytest
import pytorch_lightning as pl
import torch
from making import FLEXIBLE, SAMPLING, TARGETS, face, make_example

from fires_exp.config.model import LoraConfig
from fires_exp.config.training import GrpoConfig, HealthConfig, OptimizerConfig, SftConfig, StopConfig
from fires_exp.errors import TrainingError
from fires_exp.grpo.module import GrpoModule
from fires_exp.grpo.monitoring.health import Sign
from fires_exp.grpo.rewards import RewardBreakdown
from fires_exp.policy.adapters import add_adapter, enable_gradient_checkpointing, parameters_hash
from fires_exp.policy.backbone import build_policy
from fires_exp.policy.logprobs import completion_logprobs
from fires_exp.prompts.collate import collate
from fires_exp.thinking.aspects import ThinkingPlan
from fires_exp.training.sft import SftItem, SftModule
from fires_exp.training.step_loader import StepLoader
from fires_exp.training.stepped_module import learning_rate_factor

LORA = LoraConfig(rank=4, alpha=8, dropout=0.0, target_modules=TARGETS, train_vision=False)
OPTIMIZER = OptimizerConfig(learning_rate=1e-3, warmup_ratio=0.0, schedule="constant", weight_decay=0.0, max_grad_norm=1e9)
SFT = SftConfig(
    fraction=1.0,
    epochs=1,
    max_steps=None,
    batch_size=4,
    micro_batch_size=4,
    gradient_checkpointing=False,
    checkpoint_every_steps=1,
    validate_every_steps=None,
    lora=LORA,
    optimizer=OPTIMIZER,
)
GRPO = GrpoConfig(
    num_generations=4,
    beta=0.0,
    advantage_std="population",
    ratio_level="token",
    aggregation="sequence_mean",
    clip_epsilon_low=0.2,
    clip_epsilon_high=0.2,
    updates_per_rollout=1,
    epochs=1,
    max_steps=None,
    batch_size=2,
    micro_batch_size=3,
    gradient_checkpointing=False,
    scoring="native",
    skip_tied_groups=True,
    overlap_rewards=True,
    checkpoint_every_steps=1,
    log_completions_every_steps=1,
    lora=LORA,
    optimizer=OPTIMIZER,
)
NEVER = StopConfig(patience_steps=2, **{sign.value: None for sign in Sign})
HEALTH = HealthConfig(name="log", window_steps=3, copied_words=6, short_question_words=6, stop=NEVER)
PLAIN = ThinkingPlan(kind="none", aspects=())


class VowelReward:
    """The share of vowels, which a random model can learn to raise. Remembers what it scored."""

    def __init__(self):
        self.scored = []

    def score(self, completions):
        return [self.score_one(completion, example) for completion, example in completions]

    def score_one(self, completion, example):
        self.scored.append((example.id, completion.response))
        letters = [letter for letter in completion.response.lower() if letter.isalpha()]
        total = sum(letter in "aeiou" for letter in letters) / max(1, len(letters))
        return RewardBreakdown(total=total, format=1.0, consistency=total, support_skill=None, judge=None)


class EqualReward:
    def score(self, completions):
        return [
            RewardBreakdown(total=0.1 + 0.3, format=1.0, consistency=0.3, support_skill=None, judge=None) for _ in completions
        ]


class Recorder(pl.loggers.logger.DummyLogger):
    """Keeps what was logged."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows.append({name: float(value) for name, value in metrics.items()})


def fit(module, batches):
    recorder = Recorder()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=recorder,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, _Steps(batches))
    return recorder.rows


class _Steps(StepLoader):
    """The given batches, one per step."""

    def __init__(self, batches):
        super().__init__([[index] for index in range(len(batches))], lambda index: batches[index], prefetch=0)

    def __iter__(self):
        for (batch,) in super().__iter__():
            yield batch


def grpo_module(policy, reward, config=GRPO, updates=1, logged=None, sampling=SAMPLING, health=HEALTH):
    add_adapter(policy, config.lora, seed=0)
    return GrpoModule(
        policy,
        config,
        sampling,
        health,
        reward,
        PLAIN,
        total_updates=updates,
        seed=42,
        log_completions=(lambda *args: logged.append(args)) if logged is not None else (lambda *args: None),
    )


@pytest.fixture
def prompts(encoder):
    return [
        encoder.encode(make_example("one"), [[face("red")]]),
        encoder.encode(make_example("two", ["Hi.", "Hello.", "It is too much for me."]), [[], [], []]),
    ]


@pytest.fixture
def items(encoder, prompts):
    texts = ["Tell me more about it.", "<think>\nEmotion: fear\n</think>\n<response>I see.</response>"]
    return [
        SftItem(prompt=prompt, completion_ids=encoder.completion_ids(text)) for prompt, text in zip(prompts, texts, strict=True)
    ]


def gradients(policy):
    return {name: parameter.grad.clone() for name, parameter in policy.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("micro_batch_size", [1, 2, 3])
def test_sft_loss_is_the_mean_over_tokens_for_any_micro_batch_size(tiny, items, micro_batch_size):
    batch = [*items, items[0]]
    add_adapter(tiny, LORA, seed=0)
    with torch.no_grad():
        inputs = collate([item.prompt for item in batch], [item.completion_ids for item in batch], pad_id=tiny.pad_id)
        logprobs = completion_logprobs(tiny, inputs, 1.0).logprobs_BC
    expected = float(-logprobs.sum() / inputs.completion_mask.sum())
    module = SftModule(tiny, replace(SFT, micro_batch_size=micro_batch_size), total_updates=1, seed=0, validation=None)
    (row,) = fit(module, [batch])
    assert row["sft/loss"] == pytest.approx(expected, abs=1e-5)


def test_sft_changes_the_adapter_and_not_the_frozen_weights(tiny, items):
    add_adapter(tiny, LORA, seed=0)
    frozen, adapter = parameters_hash(tiny, trainable=False), parameters_hash(tiny, trainable=True)
    rows = fit(SftModule(tiny, SFT, total_updates=8, seed=0, validation=None), [items] * 8)
    assert parameters_hash(tiny, trainable=False) == frozen
    assert parameters_hash(tiny, trainable=True) != adapter
    assert rows[-1]["sft/loss"] < rows[0]["sft/loss"]


def test_gradient_checkpointing_does_not_change_gradients(tiny, tiny_config, cache, items):
    add_adapter(tiny, replace(LORA, train_vision=True), seed=0)
    inputs = collate([item.prompt for item in items], [item.completion_ids for item in items], pad_id=tiny.pad_id)
    tiny.train()
    completion_logprobs(tiny, inputs, 1.0).logprobs_BC.sum().backward()
    plain = gradients(tiny)
    tiny.zero_grad()
    enable_gradient_checkpointing(tiny)
    completion_logprobs(tiny, inputs, 1.0).logprobs_BC.sum().backward()
    for name, gradient in gradients(tiny).items():
        torch.testing.assert_close(gradient, plain[name], atol=1e-6, rtol=1e-5)


def test_each_completion_is_rewarded_against_its_own_prompt(tiny, prompts):
    logged, reward = [], VowelReward()
    fit(grpo_module(tiny, reward, logged=logged), [prompts])
    ((step, batch),) = logged
    assert step == 0
    assert [name for name, _ in reward.scored] == ["one"] * 4 + ["two"] * 4
    for group, breakdowns in zip(batch.groups, batch.rewards, strict=True):
        for rollout, breakdown in zip(group.rollouts, breakdowns, strict=True):
            assert VowelReward().score_one(rollout.parsed, group.example).total == breakdown.total


def test_the_grpo_gradient_is_that_of_a_naive_loop_over_samples(tiny, prompts):
    """Each prompt pairs with its own advantages, for any micro-batch size."""
    logged = []
    module = grpo_module(tiny, VowelReward(), logged=logged)
    module.manual_optimizer_step = lambda example_ids: 0.0  # keep the gradients
    fit(module, [prompts])
    computed = gradients(tiny)
    tiny.zero_grad()
    ((_, batch),) = logged
    loss = torch.zeros(())
    for prompt, group, breakdowns in zip(prompts, batch.groups, batch.rewards, strict=True):
        totals = torch.tensor([breakdown.total for breakdown in breakdowns], dtype=torch.float64)
        advantages = (totals - totals.mean()) / totals.std(correction=0)
        for rollout, advantage in zip(group.rollouts, advantages, strict=True):
            inputs = collate([prompt], [rollout.completion.ids], pad_id=tiny.pad_id)
            logprobs = completion_logprobs(tiny, inputs, SAMPLING.temperature).logprobs_BC[0]
            loss = loss - advantage.float() * ((logprobs - logprobs.detach()).exp()).mean() / 8
    loss.backward()
    expected = gradients(tiny)
    assert computed.keys() == expected.keys()
    for name, gradient in computed.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-4)


def test_equal_rewards_without_kl_do_not_change_the_adapter(tiny, prompts):
    module = grpo_module(tiny, EqualReward())
    before = parameters_hash(tiny, trainable=True)
    (row,) = fit(module, [prompts])
    assert parameters_hash(tiny, trainable=True) == before
    assert row["rollout/tied_group_share"] == 1.0
    assert row["grpo/grad_norm"] == 0.0
    assert not module.had_gradient


def test_the_first_update_has_ratio_one_zero_kl_and_the_sampled_logprobs(tiny, prompts):
    (row,) = fit(grpo_module(tiny, VowelReward(), replace(GRPO, beta=0.04)), [prompts])
    assert row["grpo/kl"] == 0.0
    assert row["grpo/largest_ratio_gap"] == 0.0
    assert row["grpo/clip_share"] == 0.0
    assert row["grpo/sampling_logprob_gap"] < 1e-4


def test_later_updates_on_a_rollout_are_off_policy_and_have_kl(tiny, prompts):
    config = replace(GRPO, beta=0.04, updates_per_rollout=3)
    (row,) = fit(grpo_module(tiny, VowelReward(), config, updates=3), [prompts])
    assert row["grpo/kl"] > 0
    assert row["grpo/largest_ratio_gap"] > 0


def test_micro_batches_and_checkpointing_change_nothing(tiny_config, cache, prompts):
    norms = []
    for size, checkpointing in ((1, False), (3, False), (8, False), (3, True)):
        policy = build_policy(tiny_config, cache, torch.device("cpu"))
        config = replace(GRPO, micro_batch_size=size, beta=0.01, gradient_checkpointing=checkpointing)
        module = grpo_module(policy, VowelReward(), config)
        if checkpointing:
            enable_gradient_checkpointing(policy)
        (row,) = fit(module, [prompts])
        norms.append(row["grpo/grad_norm"])
    assert norms == pytest.approx([norms[0]] * 4, rel=1e-4)


def test_every_step_logs_rewards_by_part_and_signs_of_health(tiny, prompts):
    (row,) = fit(grpo_module(tiny, VowelReward(), replace(GRPO, beta=0.001)), [prompts])
    for name in (
        "reward/total reward/format reward/consistency rollout/tied_group_share grpo/kl grpo/clip_share grpo/entropy "
        "rollout/completion_tokens_mean rollout/truncated_share rollout/well_formed_share aspect/emotion "
        "speed/completion_tokens_per_second grpo/learning_rate "
        "health/unknown_situation health/repeated_in_group health/repeated_in_step health/one_response health/short_question "
        "health/copied_history health/words_to_reference"
    ).split():
        assert name in row
    assert 0 < row["grpo/entropy"] <= torch.tensor(1024.0).log()


def test_grpo_raises_a_reward_that_can_be_raised(tiny, prompts):
    config = replace(
        GRPO, num_generations=8, micro_batch_size=16, optimizer=replace(OPTIMIZER, learning_rate=5e-2, max_grad_norm=1.0)
    )
    rows = fit(grpo_module(tiny, VowelReward(), config, updates=40), [prompts] * 40)
    rewards = [row["reward/total"] for row in rows]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.1


class SameLetterReward:
    """The share of e among all characters: repeating one token, for any prompt, has the highest reward."""

    def score(self, completions):
        shares = [completion.response.count("e") / max(1, len(completion.response)) for completion, _ in completions]
        return [RewardBreakdown(total=share, format=1.0, consistency=share, support_skill=None, judge=None) for share in shares]


def test_a_policy_that_collapses_to_one_response_is_stopped_and_without_a_rule_is_not(tiny_config, cache, prompts):
    config = replace(GRPO, optimizer=replace(OPTIMIZER, learning_rate=3e-2))
    short = replace(SAMPLING, max_new_tokens=6)
    watch = replace(HEALTH, stop=replace(NEVER, repeated_in_step=0.5, one_response=0.9))
    runs = []
    for health in (watch, HEALTH):
        policy = build_policy(tiny_config, cache, torch.device("cpu"))
        module = grpo_module(policy, SameLetterReward(), config, updates=30, sampling=short, health=health)
        runs.append((fit(module, [prompts] * 30), module))
    (stopped, watched), (full, unwatched) = runs
    assert watched.stopped_early
    assert not unwatched.stopped_early
    assert (len(full), unwatched.steps_done) == (30, 30)
    assert 5 < len(stopped) == watched.steps_done < 30
    beyond = [row["health/one_response"] >= 0.9 or row["health/repeated_in_step"] >= 0.5 for row in stopped]
    assert beyond[-2:] == [True, True]
    assert not any(beyond[:5])
    assert [row["health/one_response"] for row in stopped] == [row["health/one_response"] for row in full[: len(stopped)]]
    assert stopped[-1]["reward/total"] > stopped[0]["reward/total"] + 0.1  # judged by the reward alone, this is a success


def test_a_loss_that_is_not_finite_stops_and_names_the_instances(tiny, items):
    add_adapter(tiny, LORA, seed=0)
    with torch.no_grad():
        next(parameter for name, parameter in tiny.named_parameters() if "lora_B" in name).fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"not finite at step 1 \(instances one, two\)"):
        fit(SftModule(tiny, SFT, total_updates=1, seed=0, validation=None), [items])


def test_learning_rate_rises_in_the_warm_up_and_decays():
    factors = [learning_rate_factor(step, total_steps=20, warmup_ratio=0.1, schedule="linear") for step in range(20)]
    assert factors[:4] == [0.5, 1.0, 1.0, pytest.approx(17 / 18)]
    assert factors[-1] == pytest.approx(1 / 18)
    cosine = learning_rate_factor(11, total_steps=20, warmup_ratio=0.1, schedule="cosine")
    assert cosine == pytest.approx(0.5)
    assert learning_rate_factor(19, total_steps=20, warmup_ratio=0.0, schedule="constant") == 1.0


def test_a_plan_knows_whether_it_thinks():
    assert FLEXIBLE.thinks
    assert not PLAIN.thinks


@pytest.mark.parametrize("beta", [0.0, 0.01])
def test_native_and_transformers_passes_train_alike(tiny_config, cache, prompts, beta):
    results = []
    for engine in ("native", "transformers"):
        policy = build_policy(tiny_config, cache, torch.device("cpu"))
        config = replace(GRPO, beta=beta, scoring=engine)
        module = grpo_module(policy, VowelReward(), config, sampling=replace(SAMPLING, engine=engine), updates=2)
        rows = fit(module, [prompts] * 2)
        results.append(
            (rows, {name: parameter.clone() for name, parameter in policy.named_parameters() if parameter.requires_grad})
        )
    (ours, our_weights), (stock, stock_weights) = results
    for row, stock_row in zip(ours, stock, strict=True):
        for name in ("reward/total", "grpo/loss", "grpo/entropy", "grpo/grad_norm"):
            assert row[name] == pytest.approx(stock_row[name], rel=1e-3, abs=1e-6)
    for name, weight in our_weights.items():
        torch.testing.assert_close(weight, stock_weights[name], atol=1e-4, rtol=1e-3)


def test_skipping_tied_groups_changes_nothing_but_the_time(tiny_config, cache, prompts, monkeypatch):
    """First one of two groups is tied, then both are: momentum moves the adapter in either case."""

    class SometimesEqual(VowelReward):
        def score(self, completions):
            breakdowns = super().score(completions)
            self.calls = getattr(self, "calls", 0) + 1
            equal = RewardBreakdown(total=0.5, format=1.0, consistency=0.5, support_skill=None, judge=None)
            pairs = zip(breakdowns, completions, strict=True)
            return [equal if self.calls > 1 or example.id == "one" else breakdown for breakdown, (_, example) in pairs]

    hashes, passes = [], []
    for skip in (True, False):
        policy = build_policy(tiny_config, cache, torch.device("cpu"))
        module = grpo_module(policy, SometimesEqual(), replace(GRPO, beta=0.0, skip_tied_groups=skip), updates=2)
        backward = []
        monkeypatch.setattr(module, "manual_backward", lambda loss, losses=backward: (losses.append(loss), loss.backward()))
        fit(module, [prompts] * 2)
        passes.append(len(backward))
        hashes.append(parameters_hash(policy, trainable=True))
    assert hashes[0] == hashes[1]
    assert passes[0] < passes[1]


def test_rewards_that_overlap_the_reference_pass_change_nothing(tiny_config, cache, prompts, monkeypatch):
    """The reward waits until the reference policy scores: without the thread it would time out."""
    reference_started = threading.Event()

    class WaitingReward(VowelReward):
        def score(self, completions):
            assert reference_started.wait(timeout=60)
            return super().score(completions)

    results = []
    for overlap in (True, False):
        policy = build_policy(tiny_config, cache, torch.device("cpu"))
        reward = WaitingReward() if overlap else VowelReward()
        module = grpo_module(policy, reward, replace(GRPO, beta=0.01, overlap_rewards=overlap))

        def start(micro_batches, score=module._set_reference_logprobs):
            reference_started.set()
            score(micro_batches)

        monkeypatch.setattr(module, "_set_reference_logprobs", start)
        rows = fit(module, [prompts])
        speeds = {name for name in rows[0] if name.startswith("speed/")}
        results.append(
            ([{k: v for k, v in row.items() if k not in speeds} for row in rows], parameters_hash(policy, trainable=True))
        )
    assert results[0] == results[1]


def test_an_exception_of_the_reward_is_raised_from_its_thread(tiny_config, cache, prompts):
    class Broken(VowelReward):
        def score(self, completions):
            raise TrainingError("no reward today")

    with pytest.raises(TrainingError, match="no reward today"):
        fit(grpo_module(build_policy(tiny_config, cache, torch.device("cpu")), Broken()), [prompts])
