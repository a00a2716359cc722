"""Write a run's model in the format of Hugging Face.

<folder>/config.json, model*.safetensors, generation_config.json    the backbone with every adapter merged into its weights
         tokenizer*, chat_template.jinja, preprocessor_config.json  tokenizer and image processor
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
from fires_exp.export.concat_lora import concat_adapters
from fires_exp.export.load_run import TrainedModel
from fires_exp.export.model_card import write_card
from fires_exp.policy.factory import PolicyFactory
from fires_exp.policy.policy import Policy
from fires_exp.prompts.templates import system_prompt
from fires_exp.storage.pretrained import is_hub_id

log = logging.getLogger("fires_exp.pipeline")


def export(trained: TrainedModel, factory: PolicyFactory, decoding: SamplingConfig, folder: Path) -> Path:
    """Write the model into a new folder, complete or not at all; `decoding` becomes its `generation_config.json`. Raises
    `StageError` where the folder exists, or where nothing was trained."""
    if not trained.adapters:
        raise StageError(f"adapter={trained.run_folder}:{trained.policy}: nothing was trained, so there is nothing to export")
    if folder.exists():
        raise StageError(f"output={folder}: exists already; write output=<a new folder>")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write_model(factory.build(trained.adapters), decoding, unfinished)
        backbone = factory.backbone
        on_hub = is_hub_id(backbone.path)
        concat_adapters(
            trained.adapters,
            unfinished / "adapter",
            base=str(backbone.path) if on_hub else backbone.name,
            revision=backbone.revision if on_hub else None,
        )
        write_card(unfinished, trained, system_prompt(factory.plan))
        unfinished.chmod(0o755)  # mkdtemp gives access to the owner alone
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    log.info("exported %s of %s to %s", trained.policy, trained.run_folder, folder)
    return folder


def _write_model(policy: Policy, decoding: SamplingConfig, folder: Path) -> None:
    """Weights, tokenizer and image processor, and a generation config with which `generate` answers as the evaluation did: its
    decoding, and the tokens suppressed that no completion may contain."""
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
