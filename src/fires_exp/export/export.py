"""A run's model in the format of Hugging Face: `recipe=export adapter=RUN_FOLDER`.

<folder>/config.json, model*.safetensors, generation_config.json    the backbone with every adapter folded in
         tokenizer*, chat_template.jinja, preprocessor_config.json  what reads text and pictures
         adapter/                                                   the training alone, as one LoRA adapter
         README.md                                                  the model card
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

from transformers import GenerationConfig

from fires_exp.config.model import SamplingConfig
from fires_exp.errors import StageError
from fires_exp.export.concat_lora import stack_adapters
from fires_exp.export.load_run import TrainedModel
from fires_exp.export.model_card import write_card
from fires_exp.pipeline.workspace import Workspace
from fires_exp.policy.policy import Policy
from fires_exp.prompts.templates import system_prompt
from fires_exp.storage.pretrained import is_hub_id

log = logging.getLogger("fires_exp.pipeline")


def export(work: Workspace, trained: TrainedModel) -> Path:
    """Write the model into a new folder, which is there whole or not at all. Raises `StageError` where the folder is there, or
    where nothing was trained."""
    config = work.config
    folder = Path(config.export_folder).expanduser() if config.export_folder else work.run_folder / "model"
    if not trained.adapters:
        raise StageError(f"{trained.run_folder} ({trained.policy}) trained nothing; there is nothing to export")
    if folder.exists():
        raise StageError(f"{folder} is there already; write export_folder=<a new folder>")
    folder.parent.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write_model(work.policy(trained.adapters), config.predict.decoding, half)
        backbone = config.backbone
        public = is_hub_id(backbone.path)
        stack_adapters(
            trained.adapters,
            half / "adapter",
            base=str(backbone.path) if public else backbone.name,
            revision=backbone.revision if public else None,
        )
        write_card(half, trained.run_folder, trained.policy, trained.tree, trained.facts, system_prompt(work.plan))
        half.chmod(0o755)  # a temporary folder is its owner's alone
        half.rename(folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    log.info("exported %s of %s to %s", trained.policy, trained.run_folder, folder)
    return folder


def _write_model(policy: Policy, decoding: SamplingConfig, folder: Path) -> None:
    """Weights, and everything that makes `generate` answer as the evaluation did: its decoding, without the tokens that no
    completion may hold."""
    sampling = {"temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0} if decoding.temperature else {}
    policy.model.generation_config = GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        do_sample=bool(sampling),
        eos_token_id=policy.eos_id,
        pad_token_id=policy.pad_id,
        suppress_tokens=policy.suppressed_V.nonzero().squeeze(-1).tolist(),
        **sampling,
    )
    policy.model.save_pretrained(folder)
    policy.processor.tokenizer.save_pretrained(folder)
    policy.processor.image_processor.save_pretrained(folder)
