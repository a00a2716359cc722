"""Our loss and its gradient against trl's own `GRPOTrainer`, for the same rollouts. Skipped where trl is absent: `make test-trl`.

What equals what, ours first:

- `aggregation=sequence_mean`: `loss_type="grpo"`
- `aggregation=token_mean`: `"dapo"`; also `"bnpo"`, where a micro-batch is the whole batch
- `aggregation=constant`: `"dr_grpo"`, with `max_new_tokens` as `max_completion_length`
- `advantage_std=sample`: `scale_rewards="group"`, but for the 1e-4 that trl adds to the std; `none`: `"none"`
- `clip_epsilon_low`, `_high`: `epsilon`, `epsilon_high`; `beta`: `beta`; `temperature`: `temperature`

`ratio_level=sequence` is Eq. 3 as printed: the product of a completion's token ratios. trl's sequence level
(`importance_sampling_level="sequence"`) is the |o|-th root of that product (GSPO). So with `loss_type="grpo"` trl's is ours over
log-probabilities divided by |o|, and ours as it is for completions of one token.

No counterpart in trl: `advantage_std=population`, no clipping at all (but an epsilon out of reach is none), tokens that have
probability zero in scoring too. No counterpart here: `scale_rewards="batch"`, sequence ratios weighted by length (the sequence
level with `bnpo`, `dapo` or `dr_grpo`), KL terms times the ratio (`use_bias_correction_kl`, trl's default; Eq. 2 has the plain
one), the losses `cispo`, `sapo`, `luspo` and `vespo`, two-sided clipping, entropy terms.
"""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("trl", reason="trl is for comparisons only: make bench-trl, then make test-trl")

from datasets import Dataset
from making import FLEXIBLE, TARGETS, face, make_example
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer

from fires_exp.grpo.advantages import group_advantages
from fires_exp.grpo.loss import LossSettings, grpo_loss, token_weights
from fires_exp.policy.logprobs import group_logprobs
from fires_exp.prompts.templates import chat_messages

# trl's configuration sets an option under the name that transformers has retired
pytestmark = pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")

LOSS_TYPES = {"grpo": "sequence_mean", "bnpo": "token_mean", "dapo": "token_mean", "dr_grpo": "constant"}
SETTINGS = LossSettings(
    beta=0.04, ratio_level="token", aggregation="sequence_mean", clip_epsilon_low=0.2, clip_epsilon_high=0.3, max_new_tokens=12
)
EXAMPLES = [
    (make_example("short", ["I lost my job."]), [[face("red"), face("blue", 168)]]),
    (make_example("long", ["Hi.", "Hello, how are you?", "I do not know what to do."]), [[face("green")], [], []]),
]
REPLIES = [["Hi.", "Tell me more.", "", "What happened then?"], ["Oh no.", "", "I hear you.", "When was that?"]]
# trl adds 1e-4 to a group's std: for stds of hundreds that is below the tolerance, and advantages do not depend on the scale
REWARDS_PG = torch.tensor([[0.0, 900.0, 400.0, 250.0], [100.0, 700.0, 0.0, 300.0]], dtype=torch.float64)


@pytest.fixture
def make_trainer(tiny, tmp_path):
    """trl's trainer over the tiny backbone, on both examples, with G = 4; the policy shares its model and adapter."""

    def make(settings=SETTINGS, loss_type="grpo", **options):
        # trl pads prompts on the left itself but token types as the processor does; otherwise positions come out wrong
        tiny.processor.tokenizer.padding_side = "left"
        rows = [
            {
                "prompt": chat_messages(example.history, [len(turn) for turn in frames], FLEXIBLE),
                "images": [frame for turn in frames for frame in turn],
            }
            for example, frames in EXAMPLES
        ]
        arguments = {
            "output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": "none",
            "per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": settings.max_new_tokens,
            "beta": settings.beta, "epsilon": settings.clip_epsilon_low, "epsilon_high": settings.clip_epsilon_high,
            "loss_type": loss_type, "temperature": 0.7, "use_bias_correction_kl": False,
        }  # fmt: skip
        trainer = GRPOTrainer(
            model=tiny.model,
            reward_funcs=lambda completions, **_: REWARDS_PG.flatten().tolist(),
            args=GRPOConfig(**arguments | options),
            train_dataset=Dataset.from_list(rows),
            processing_class=tiny.processor,
            peft_config=LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=TARGETS),
        )
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1  # its training loop would set it
        tiny.model = trainer.model
        tiny.suppressed_V.zero_()  # trl scores every token
        generator = torch.Generator().manual_seed(0)
        for name, parameter in tiny.named_parameters():
            if "lora_B" in name:
                parameter.data += torch.randn(parameter.shape, generator=generator) * 0.1
        return trainer

    return make


def random_batch(seed=0, rows=6, width=5):
    """Log-probabilities of three policies that differ enough to be clipped, of unequal lengths."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, width + 1, (rows,), generator=generator)
    lengths[0] = width
    mask = torch.arange(width)[None] < lengths[:, None]
    logprobs, old, ref = (-torch.rand(rows, width, generator=generator, dtype=torch.float64) for _ in range(3))
    advantages = torch.randn(rows, generator=generator, dtype=torch.float64)
    return logprobs.requires_grad_(), old, ref, advantages, mask


def our_loss(settings, logprobs, old, ref, advantages, mask):
    return grpo_loss(
        logprobs,
        old_logprobs_BC=old,
        ref_logprobs_BC=ref if settings.beta else None,
        advantages_B=advantages,
        mask_BC=mask,
        weights_BC=token_weights(mask, settings),
        batch_size=len(mask),
        settings=settings,
    ).loss


def trl_loss(trainer, logprobs, old, ref, advantages, mask):
    """trl's own loss with given log-probabilities instead of those of a model."""
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (logprobs, torch.zeros_like(logprobs), None)
    ids = torch.zeros(mask.shape, dtype=torch.long)
    inputs = {
        "prompt_ids": ids[:, :1], "prompt_mask": mask[:, :1].long(), "completion_ids": ids, "completion_mask": mask.long(),
        "advantages": advantages, "old_per_token_logps": old, "ref_per_token_logps": ref, "num_items_in_batch": mask.sum(),
    }  # fmt: skip
    return trainer._compute_loss(trainer.model, inputs)


def assert_same_loss_and_gradient(ours, theirs, logprobs):
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    (our_gradient,), (their_gradient,) = (torch.autograd.grad(loss, logprobs, retain_graph=True) for loss in (ours, theirs))
    assert our_gradient.abs().max() > 0
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
@pytest.mark.parametrize("beta", [0.0, 0.04])
def test_off_policy_token_ratios_with_clipping(make_trainer, loss_type, beta):
    settings = replace(SETTINGS, aggregation=LOSS_TYPES[loss_type], beta=beta)
    batch = random_batch()
    ratio = (batch[0] - batch[1]).exp()[batch[4]]
    assert (ratio < 0.8).any()
    assert (ratio > 1.3).any()
    theirs = trl_loss(make_trainer(settings, loss_type), *batch)
    assert_same_loss_and_gradient(our_loss(settings, *batch), theirs, batch[0])


def test_sequence_ratio_of_trl_is_ours_over_log_probabilities_divided_by_the_length(make_trainer):
    settings = replace(SETTINGS, ratio_level="sequence", beta=0.0)
    logprobs, old, ref, advantages, mask = random_batch()
    length = mask.sum(dim=1, keepdim=True)
    theirs = trl_loss(make_trainer(settings, importance_sampling_level="sequence"), logprobs, old, ref, advantages, mask)
    ours = our_loss(settings, logprobs / length, old / length, ref, advantages, mask)
    assert_same_loss_and_gradient(ours, theirs, logprobs)


def test_sequence_ratio_of_one_token_is_trls_with_kl_too(make_trainer):
    settings = replace(SETTINGS, ratio_level="sequence")
    batch = random_batch(width=1)
    theirs = trl_loss(make_trainer(settings, importance_sampling_level="sequence"), *batch)
    assert_same_loss_and_gradient(our_loss(settings, *batch), theirs, batch[0])


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_from_rollouts_with_pictures_to_the_gradient_of_every_adapter_weight(make_trainer, tiny, encoder, loss_type):
    """Unequal prompts (padded on the left by trl), unequal completions, an immediate end token, an old policy that differs."""
    settings = replace(SETTINGS, aggregation=LOSS_TYPES[loss_type])
    prompts = [encoder.encode(example, frames) for example, frames in EXAMPLES]
    completions = [[encoder.completion_ids(text) for text in group] for group in REPLIES]
    trainer = make_trainer(settings, loss_type)

    trainer._generate_single_turn = lambda *_: ([ids.tolist() for group in completions for ids in group], None)
    rows = [row for row in trainer.train_dataset for _ in range(4)]
    inputs = trainer._generate_and_score_completions(rows)
    padded = [prompt.prompt_ids for prompt in prompts for _ in range(4)]
    assert [ids[mask.bool()].tolist() for ids, mask in zip(inputs["prompt_ids"], inputs["prompt_mask"], strict=True)] == [
        ids.tolist() for ids in padded
    ]
    advantages = group_advantages(REWARDS_PG, "sample").flatten()
    torch.testing.assert_close(inputs["advantages"].double(), advantages, rtol=1e-5, atol=1e-6)

    scored, references = [], []
    for prompt, group in zip(prompts, completions, strict=True):
        with tiny.as_reference():
            references.append(group_logprobs(tiny, prompt, group, 0.7, recompute=False).logprobs_BC)
        scored.append(group_logprobs(tiny, prompt, group, 0.7, recompute=False).logprobs_BC)
    mask = inputs["completion_mask"].bool()
    width = mask.shape[1]
    logprobs, ref = (
        torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts]) for parts in (scored, references)
    )
    torch.testing.assert_close(inputs["ref_per_token_logps"][mask], ref[mask], rtol=0, atol=1e-5)
    noise = torch.randn(logprobs.shape, generator=torch.Generator().manual_seed(1)) * 0.3
    old = logprobs.detach() + noise
    ours = our_loss(settings, logprobs, old, ref, advantages, mask)
    ours.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in tiny.named_parameters() if parameter.grad is not None}
    tiny.zero_grad()

    theirs = trainer._compute_loss(trainer.model, inputs | {"old_per_token_logps": old})
    theirs.backward()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert len(gradients) == 28  # two matrices of seven products in two layers
    for name, parameter in tiny.named_parameters():
        if parameter.requires_grad:
            assert (gradients[name] - parameter.grad).norm() <= 1e-5 * parameter.grad.norm(), name


@pytest.mark.parametrize(("scale", "std"), [("group", "sample"), ("none", "none")])
def test_advantages_are_trls(make_trainer, encoder, scale, std):
    trainer = make_trainer(scale_rewards=scale)
    completions = [encoder.completion_ids(text).tolist() for group in REPLIES for text in group]
    trainer._generate_single_turn = lambda *_: (completions, None)
    inputs = trainer._generate_and_score_completions([row for row in trainer.train_dataset for _ in range(4)])
    expected = group_advantages(REWARDS_PG, std).flatten()
    torch.testing.assert_close(inputs["advantages"].double(), expected, rtol=1e-5, atol=1e-6)
