"""A chat model with scripted completions, and a clip to show to it."""

import av
import numpy as np
import pytest
import torch
from trained_run import composed_command

import fires_exp.chat.session as session_module
from fires_exp.cli.chat import chat_model
from fires_exp.policy.sampling import Completion


@pytest.fixture
def new_model(cache):
    """Builds a chat model of the untrained tiny backbone; it is closed after the test."""
    models = []

    def build(*overrides):
        small = ["backbone=tiny", "decoding.max_new_tokens=12", f"paths.cache={cache}"]
        models.append(chat_model(composed_command("chat", *small, *overrides)))
        return models[-1]

    yield build
    for model in models:
        model.close()


@pytest.fixture
def scripted(monkeypatch):
    """Replaces generation by these completions, token by token; gives the prompts."""
    prompts = []

    def completions(*texts):
        remaining = list(texts)

        def generate(policy, batch, config, seeds, on_token):
            prompts.extend(batch)
            text = remaining.pop(0)
            tokens = policy.processor.tokenizer(text, add_special_tokens=False).input_ids
            for token in tokens:
                on_token(torch.tensor([token]))
            done = Completion(ids=torch.tensor(tokens), logprobs=torch.zeros(len(tokens)), text=text, finish_reason="stop")
            return [[done]]

        monkeypatch.setattr(session_module, "stream_completions", generate)
        return prompts

    return completions


@pytest.fixture
def clip(tmp_path):
    """One second of video."""
    path = tmp_path / "my clip.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 112, 112, "yuv420p"
        for shade in range(8):
            frame = av.VideoFrame.from_ndarray(np.full((112, 112, 3), 30 * shade, dtype=np.uint8), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path
