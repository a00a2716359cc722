"""Training in several processes, for tests that compare it with training in one."""

from __future__ import annotations

import os
import socket
from dataclasses import replace

import pytest
import pytorch_lightning as pl
import torch
import torch.multiprocessing
from hydra import compose, initialize_config_module
from making import FLEXIBLE, SAMPLING, face, make_example
from torch.optim.optimizer import register_optimizer_step_pre_hook

from fires_exp.config.load import load_config, register_schema
from fires_exp.distributed import collectives
from fires_exp.errors import RankError
from fires_exp.grpo.module import GrpoModule
from fires_exp.grpo.rewards import RewardBreakdown
from fires_exp.pipeline.judge import SharedJudge
from fires_exp.policy.backbone import build_policy
from fires_exp.prompts.processor import PromptEncoder
from fires_exp.thinking.aspects import ThinkingPlan
from fires_exp.training.fit import fresh_adapter
from fires_exp.training.sft import SftItem, SftModule
from fires_exp.training.step_loader import FullPassLoader, StepLoader
from fires_exp.training.strategies import strategy_for
from fires_exp.training.zero2 import ShardedAdamW

# a step with equal shards, one with unequal shards, one with an empty shard
PLAN = [[0, 1, 2, 3], [4, 0, 2], [1]]
HISTORIES = [
    (["It is too much."], [[face("red")]]),
    (["Hi.", "Hello.", "I lost my job and my flat."], [[], [], []]),
    (["Why me?"], [[face("blue")]]),
    (["Nobody calls."], [[]]),
    (["I can't sleep."], [[]]),
]
TEXTS = ["Tell me.", "I am sorry to hear it. What happened then, and who was there?", "I see.", "Go on, please.", "And now?"]


class VowelReward:
    """The share of vowels, a little of which a random model earns."""

    def score(self, completions):
        responses = [completion.response for completion, _ in completions]
        shares = [sum(letter in "aeiou" for letter in response) / max(1, len(response)) for response in responses]
        return [RewardBreakdown(total=share, format=1.0, consistency=share, support_skill=None, judge=None) for share in shares]


class Recorder(pl.loggers.logger.DummyLogger):
    def __init__(self):
        super().__init__()
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows.append({name: float(value) for name, value in metrics.items() if not name.startswith("speed/")})


def in_ranks(count, function, *args):
    """Run `function(*args)` in a process group of `count` processes; it must be importable by its name."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    torch.multiprocessing.spawn(_enter, args=(count, port, function, args), nprocs=count)


def _enter(rank, count, port, function, args):
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in variables.items()})
    torch.set_num_threads(1)
    collectives.connect(rank, count, torch.device("cpu"))
    try:
        function(*args)
    finally:
        collectives.disconnect()


def train_all(runs, cache, folder):
    """Train once for each name and its overrides; the results go to `<name>-<world size>-<rank>.pt`."""
    if collectives.world_size() > 1:
        check_collectives()
        if any("trainer=zero2" in overrides for overrides in runs.values()):
            check_sharding()
    for name, overrides in runs.items():
        file = folder / f"{name}-{collectives.world_size()}-{collectives.rank()}.pt"
        torch.save(train(name.split()[0], cache, overrides), file)


def train(stage, cache, overrides):
    """Three steps: the gradients of each optimizer step, logged metrics, completions, and the trained adapter."""
    register_schema()
    with initialize_config_module("fires_exp.conf", version_base="1.3"):
        config = load_config(compose("config", overrides=["scale=smoke", *overrides]))
    settings = getattr(config, stage)
    policy = build_policy(config.backbone, cache, torch.device("cpu"))
    fresh_adapter(policy, settings, seed=0)
    encoder = PromptEncoder(policy.processor, FLEXIBLE, max_tokens=1000)
    turns = [
        ["It is too much."],
        ["Hi.", "Hello.", "I lost my job and my flat."],
        ["Why me?"],
        ["Nobody calls."],
        ["I can't sleep."],
    ]
    frames = [[[face("red")]], [[], [], []], [[face("blue")]], [[]], [[]]]
    prompts = [
        encoder.encode(make_example(f"e{index}", texts), images)
        for index, (texts, images) in enumerate(zip(turns, frames, strict=True))
    ]
    sampled, gradients, recorder = [], [], Recorder()
    if stage == "sft":
        items = [
            SftItem(prompt=prompt, completion_ids=encoder.completion_ids(text))
            for prompt, text in zip(prompts, TEXTS, strict=True)
        ]
        validation = FullPassLoader(3, lambda index: items[index])
        module = SftModule(policy, settings, total_updates=len(PLAN), seed=42, validation=validation)
    else:
        items = prompts
        module = GrpoModule(
            policy,
            settings,
            replace(SAMPLING, max_new_tokens=8),
            config.health,
            VowelReward(),
            ThinkingPlan(kind="none", aspects=()),
            total_updates=len(PLAN) * settings.updates_per_rollout,
            seed=42,
            log_completions=lambda step, batch: sampled.append(
                [
                    (group.example.id, rollout.completion.text, breakdown.total)
                    for group, breakdowns in zip(batch.groups, batch.rewards, strict=True)
                    for rollout, breakdown in zip(group.rollouts, breakdowns, strict=True)
                ]
            ),
        )

    def record_gradients(optimizer, *args):
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients.append([torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters])

    hook = register_optimizer_step_pre_hook(record_gradients)
    optimizer_state = OptimizerState()
    trainer = pl.Trainer(
        callbacks=[optimizer_state],
        accelerator="cpu",
        devices=collectives.world_size(),
        strategy=strategy_for(config.trainer.strategy, distributed=collectives.world_size() > 1),
        max_epochs=1,
        logger=recorder,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, StepLoader(PLAN, lambda index: items[index], prefetch=1))
    hook.remove()
    weights = {name: value.detach().clone() for name, value in policy.named_parameters() if value.requires_grad}
    return {
        "gradients": gradients,
        "rows": recorder.rows,
        "sampled": sampled,
        "weights": weights,
        "optimizer": optimizer_state.state,
    }


class OptimizerState(pl.Callback):
    """The optimizer state after the last step, in the format of a checkpoint."""

    def on_train_end(self, trainer, module):
        self.state = trainer.strategy.optimizer_state(trainer.optimizers[0])


def check_collectives():
    """Each collective, asserted in both of two processes."""
    with pytest.raises(RankError, match="the seed: 40, 41"):
        collectives.check_same("the seed", 40 + collectives.rank())
    with collectives.single_process():
        assert (collectives.world_size(), collectives.all_gather("x")) == (1, ["x"])
    assert collectives.gather_items(range(collectives.rank() + 1)) == [0, 0, 1]
    assert collectives.broadcast("first" if collectives.is_main() else "other") == "first"
    check_judge()


def check_judge():
    """The judge of rank 0 scores the responses of all ranks, and each rank gets the scores of its own."""
    judged = []

    class LengthJudge:
        def scores(self, answers):
            judged.extend((example.id, response) for example, response in answers)
            return [float(len(response) > 3) for _, response in answers]

    shares = [[("a", "longer")], [("b", "x"), ("c", "longest")]]
    own = [(make_example(name), response) for name, response in shares[collectives.rank()]]
    scores = SharedJudge(LengthJudge() if collectives.is_main() else None).scores(own)
    assert scores == [[1.0], [0.0, 1.0]][collectives.rank()]
    assert judged == ([*shares[0], *shares[1]] if collectives.is_main() else [])


def check_sharding():
    """After the state of one sharded optimizer is loaded into another, its steps are those of torch's AdamW."""
    shapes, gradients = [(3, 5), (7,), (2, 2, 3)], torch.Generator().manual_seed(1)
    start = [torch.randn(shape, generator=torch.Generator().manual_seed(0)) for shape in shapes]
    trained, expected = ([torch.nn.Parameter(tensor.clone()) for tensor in start] for _ in range(2))
    plain = torch.optim.AdamW(expected, lr=1e-2)
    sharded = ShardedAdamW(torch.optim.AdamW(trained, lr=1e-2))
    for step in range(4):
        if step == 2:
            state = sharded.state()
            torch.testing.assert_close(state["state"], plain.state_dict()["state"], rtol=0, atol=0)
            sharded.close()
            sharded = ShardedAdamW(torch.optim.AdamW(trained, lr=1.0))
            sharded.load(state)
        for parameter, reference in zip(trained, expected, strict=True):
            reference.grad = torch.randn(reference.shape, generator=gradients)
            parameter.grad = reference.grad.clone()
        plain.step()
        sharded.step()
        assert all(torch.equal(parameter, reference) for parameter, reference in zip(trained, expected, strict=True))
        assert all(parameter.grad is None for parameter in trained)
    sharded.close()
