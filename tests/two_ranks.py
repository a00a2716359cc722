"""Training in several processes of this machine, for tests to compare with training in one."""

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
from fires_exp.pipeline.judge import JudgeOfRanks
from fires_exp.policy.backbone import build_policy
from fires_exp.prompts.processor import PromptEncoder
from fires_exp.thinking.aspects import ThinkingPlan
from fires_exp.training.fit import fresh_adapter
from fires_exp.training.sft import SftItem, SftModule
from fires_exp.training.step_loader import FullPassLoader, StepLoader
from fires_exp.training.strategies import strategy_for
from fires_exp.training.zero2 import ShardedAdamW

# a step that two ranks share evenly, one where they can't, one with less than an instance a rank
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
    """The share of vowels, which a random model earns a little of."""

    def score(self, answers):
        shares = [sum(letter in "aeiou" for letter in one.response) / max(1, len(one.response)) for one, _ in answers]
        return [RewardBreakdown(total=share, format=1.0, consistency=share, support_skill=None, judge=None) for share in shares]


class Recorder(pl.loggers.logger.DummyLogger):
    def __init__(self):
        super().__init__()
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows.append({name: float(value) for name, value in metrics.items() if not name.startswith("speed/")})


def in_ranks(count, function, *args):
    """`function(*args)` in `count` processes that know each other; it must be importable by its name."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    torch.multiprocessing.spawn(_enter, args=(count, port, function, args), nprocs=count)


def _enter(rank, count, port, function, args):
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in told.items()})
    torch.set_num_threads(1)
    collectives.connect(rank, count, torch.device("cpu"))
    try:
        function(*args)
    finally:
        collectives.disconnect()


def train_all(runs, cache, folder):
    """Train once for each name and its overrides; what came of it goes to `<name>-<ranks>-<rank>.pt`."""
    if collectives.world_size() > 1:
        check_meetings()
        if any("trainer=zero2" in overrides for overrides in runs.values()):
            check_sharding()
    for name, overrides in runs.items():
        file = folder / f"{name}-{collectives.world_size()}-{collectives.rank()}.pt"
        torch.save(train(name.split()[0], cache, overrides), file)


def train(stage, cache, overrides):
    """Three steps: what each optimizer step was given, what was logged and sampled, the adapter."""
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
        encoder.encode(make_example(f"e{place}", said), seen)
        for place, (said, seen) in enumerate(zip(turns, frames, strict=True))
    ]
    sampled, gradients, recorder = [], [], Recorder()
    if stage == "sft":
        items = [
            SftItem(prompt=prompt, completion_ids=encoder.completion_ids(text))
            for prompt, text in zip(prompts, TEXTS, strict=True)
        ]
        checked = FullPassLoader(3, lambda index: items[index])
        module = SftModule(policy, settings, total_updates=len(PLAN), seed=42, validation=checked)
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

    def look(optimizer, *args):
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients.append([torch.zeros_like(one) if one.grad is None else one.grad.clone() for one in parameters])

    hook = register_optimizer_step_pre_hook(look)
    last = Last()
    trainer = pl.Trainer(
        callbacks=[last],
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
    return {"gradients": gradients, "rows": recorder.rows, "sampled": sampled, "weights": weights, "optimizer": last.optimizer}


class Last(pl.Callback):
    """The optimizer's state as a checkpoint has it, after the last step."""

    def on_train_end(self, trainer, module):
        self.optimizer = trainer.strategy.optimizer_state(trainer.optimizers[0])


def check_meetings():
    """Each meeting of `ranks`, asserted in both of two processes."""
    with pytest.raises(RankError, match="the seed: 40, 41"):
        collectives.check_same("the seed", 40 + collectives.rank())
    with collectives.single_process():
        assert (collectives.world_size(), collectives.all_gather("x")) == (1, ["x"])
    assert collectives.gather_items(range(collectives.rank() + 1)) == [0, 0, 1]
    assert collectives.broadcast("first" if collectives.is_main() else "other") == "first"
    check_judge()


def check_judge():
    """The first rank's judge is asked about all ranks' responses, and each rank gets its own scores."""
    asked = []

    class LengthJudge:
        def scores(self, answers):
            asked.extend((example.id, response) for example, response in answers)
            return [float(len(response) > 3) for _, response in answers]

    shares = [[("a", "longer")], [("b", "x"), ("c", "longest")]]
    own = [(make_example(name), response) for name, response in shares[collectives.rank()]]
    scores = JudgeOfRanks(LengthJudge() if collectives.is_main() else None).scores(own)
    assert scores == [[1.0], [0.0, 1.0]][collectives.rank()]
    assert asked == ([*shares[0], *shares[1]] if collectives.is_main() else [])


def check_sharding():
    """A step after the state went out of one sharded optimizer into another is the step that torch's own would do."""
    shapes, gradients = [(3, 5), (7,), (2, 2, 3)], torch.Generator().manual_seed(1)
    start = [torch.randn(shape, generator=torch.Generator().manual_seed(0)) for shape in shapes]
    trained, expected = ([torch.nn.Parameter(one.clone()) for one in start] for _ in range(2))
    plain = torch.optim.AdamW(expected, lr=1e-2)
    sharded = ShardedAdamW(torch.optim.AdamW(trained, lr=1e-2))
    for step in range(4):
        if step == 2:
            state = sharded.state()
            torch.testing.assert_close(state["state"], plain.state_dict()["state"], rtol=0, atol=0)
            sharded.close()
            sharded = ShardedAdamW(torch.optim.AdamW(trained, lr=1.0))
            sharded.load(state)
        for one, other in zip(trained, expected, strict=True):
            other.grad = torch.randn(other.shape, generator=gradients)
            one.grad = other.grad.clone()
        plain.step()
        sharded.step()
        assert all(torch.equal(one, other) for one, other in zip(trained, expected, strict=True))
        assert all(one.grad is None for one in trained)
    sharded.close()
