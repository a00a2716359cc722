"""A listener that writes what a test tells it to, and a clip to show it."""

import av
import numpy as np
import pytest
import torch
from trained_run import composed

import fires_exp.chat.session as conversation_module
from fires_exp.chat.session import Listener
from fires_exp.pipeline.workspace import Workspace
from fires_exp.policy.sampling import Completion


@pytest.fixture
def listen(cache, tmp_path):
    """A listener of the untrained tiny backbone; it is closed in the end."""
    made = []

    def build(*overrides):
        small = ["backbone=tiny", "recipe=chat", "chat.decoding.max_new_tokens=12", f"paths.cache={cache}"]
        work = Workspace(composed(*small, *overrides), tmp_path)
        made.append(Listener(work, work.policy([]), "tiny, zero_shot"))
        return made[-1]

    yield build
    for listener in made:
        listener.close()


@pytest.fixture
def scripted(monkeypatch):
    """The model writes these answers, four letters a token, whatever it is asked; gives the prompts that it was shown."""
    prompts = []

    def answers(*texts):
        left = list(texts)

        def write(policy, prompt, config, seeds, see):
            prompts.extend(prompt)
            text = left.pop(0)
            tokens = policy.processor.tokenizer(text, add_special_tokens=False).input_ids
            for token in tokens:
                see(torch.tensor([token]))
            done = Completion(ids=torch.tensor(tokens), logprobs=torch.zeros(len(tokens)), text=text, finish_reason="stop")
            return [[done]]

        monkeypatch.setattr(conversation_module, "stream_completions", write)
        return prompts

    return answers


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
