"""trl's side of the step benchmark: its stock `GRPOTrainer`, one step per round (see grpo_step.py).

Runs in trl's environment. These settings differ from trl's defaults, to match the other side: LoRA and its modules, the loss
averaged within completions, beta and the plain KL, the constant learning rate, gradient checkpointing, groups as micro-batches,
no logging. The end token is suppressed, so that every completion has its full length. bfloat16 uses trl's default, autocast.
Sampling is transformers' `generate`.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import warnings
from dataclasses import asdict
from typing import Any

import torch
import transformers
import trl
from datasets import Dataset
from peft import LoraConfig
from step_clock import Line, StepClock
from step_task import RawPrompt, StepTask, build_backbone, prompts_of_round, reward_of, weights_fingerprint
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from fires_exp.prompts.processor import ImageChatProcessor


class TimedProcessor(ImageChatProcessor):
    """The project's processor, which trl takes, with its time charged to `preparing`."""

    clock: StepClock

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self.clock.part("preparing"):
            return super().__call__(*args, **kwargs)

    def apply_chat_template(self, *args: Any, **kwargs: Any) -> Any:
        with self.clock.part("preparing"):
            return super().apply_chat_template(*args, **kwargs)


class TimedTrainer(GRPOTrainer):  # type: ignore[misc]
    """Stores the sampled ids for the report."""

    clock: StepClock

    def _generate(self, prompts: Any) -> Any:
        with self.clock.part("sampling"):
            sampled = super()._generate(prompts)
        self.prompt_ids, self.completion_ids = sampled[:2]
        return sampled


class Turns(TrainerCallback):  # type: ignore[misc]
    """Waits for the parent's signal before a step and reports after it."""

    def __init__(self, clock: StepClock, line: Line) -> None:
        self.clock = clock
        self.line = line
        self.trainer: TimedTrainer

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.line.wait_for_go()
        self.clock.start()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        report = self.clock.stop()
        prompts = self.trainer.prompt_ids[:: self.trainer.num_generations]
        self.line.send(
            **asdict(report),
            prompt_tokens=[len(ids) for ids in prompts],
            completion_tokens=[len(ids) for ids in self.trainer.completion_ids],
            prompts_fingerprint=hashlib.sha256(str([list(ids) for ids in prompts]).encode()).hexdigest(),
        )


def reward(completions: list[list[dict[str, str]]], **_: Any) -> list[float]:
    return [reward_of(completion[0]["content"]) for completion in completions]


def build_trainer(task: StepTask, clock: StepClock, line: Line, output: str) -> TimedTrainer:
    policy = build_backbone(task)
    dtype = next(policy.qwen.parameters()).dtype
    grpo, sampling = task.grpo, task.sampling
    rows = [raw for index in range(task.rounds) for raw in prompts_of_round(task, policy.processor, index)]
    processor = TimedProcessor(policy.processor.image_processor, policy.processor.tokenizer, policy.processor.chat_template)
    processor.clock = clock
    processor.tokenizer.padding_side = "left"  # as trl would have loaded it: it pads token types with the processor
    turns = Turns(clock, line)
    arguments = GRPOConfig(
        output_dir=output,
        seed=task.seed,
        use_cpu=task.device == "cpu",
        bf16=dtype == torch.bfloat16,
        per_device_train_batch_size=grpo.num_generations,
        gradient_accumulation_steps=grpo.batch_size,
        num_generations=grpo.num_generations,
        max_completion_length=sampling.max_new_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        generation_kwargs={"suppress_tokens": [policy.qwen.config.image_token_id, policy.eos_id]},
        beta=grpo.beta,
        epsilon=grpo.clip_epsilon_low,
        loss_type="grpo",
        use_bias_correction_kl=False,
        learning_rate=grpo.optimizer.learning_rate,
        weight_decay=grpo.optimizer.weight_decay,
        max_grad_norm=grpo.optimizer.max_grad_norm,
        lr_scheduler_type="constant",
        optim="adamw_torch",
        gradient_checkpointing=task.checkpointing,
        max_steps=task.rounds,
        shuffle_dataset=False,
        dataloader_pin_memory=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = TimedTrainer(
        model=policy.model,
        reward_funcs=reward,
        args=arguments,
        train_dataset=Dataset.from_list([_row(raw) for raw in rows]),
        processing_class=processor,
        callbacks=[turns],
        peft_config=LoraConfig(
            task_type="CAUSAL_LM",
            r=grpo.lora.rank,
            lora_alpha=grpo.lora.alpha,
            lora_dropout=grpo.lora.dropout,
            target_modules=grpo.lora.target_modules,
        ),
    )
    trainer.clock = clock
    turns.trainer = trainer
    return trainer


def _row(raw: RawPrompt) -> dict[str, Any]:
    images = [image for turn in raw.frames for image in turn]
    return {"prompt": raw.messages} | ({"images": images} if images else {})


def main() -> None:
    line = Line()
    task = StepTask.from_json(sys.argv[1])
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(task.threads)
    clock = StepClock(task.device)
    with tempfile.TemporaryDirectory() as output:
        trainer = build_trainer(task, clock, line, output)
        clock.watch_torch()
        line.send(
            weights=weights_fingerprint(trainer.model),
            versions={"trl": trl.__version__, "transformers": transformers.__version__, "torch": torch.__version__},
        )
        trainer.train()


if __name__ == "__main__":
    main()
