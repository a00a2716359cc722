"""A chat session: the prompt, the history, the progress of a reply, clips."""

import itertools
from pathlib import Path

import pytest
import torch
from trained_run import composed

from fires_exp.chat.session import ChatSession, chat_example
from fires_exp.data.records import Utterance
from fires_exp.errors import FiresError, FrameError
from fires_exp.policy.backbone import build_policy
from fires_exp.policy.sampling import sample_completions, stream_seed
from fires_exp.thinking.tags import parse_completion

COMPLETION = "<think>\nEmotion: sadness\n</think>\n<response>That is <b>hard</b>. What happened?</response>"


def ignore(so_far):
    """Progress that a test does not look at."""


def test_the_reply_is_the_one_of_the_evaluation(new_model, tiny_config, cache):
    model = new_model()
    reply = ChatSession(model).send("I lost my job.", None, ignore)
    policy = build_policy(tiny_config, cache, torch.device("cpu"))
    history = (Utterance(speaker="seeker", text="I lost my job."),)
    prompt = model._encoder.encode(chat_example(history), [[]])
    config = composed("backbone=tiny", "predict.decoding.max_new_tokens=12")
    ((completion,),) = sample_completions(policy, [prompt], config.predict.decoding, [[stream_seed(42, "chat", 1)]])
    assert reply.response == parse_completion(completion.text, model.plan).response
    assert reply.cut_off


def test_the_progress_leads_to_the_reply(new_model):
    updates = []
    reply = ChatSession(new_model()).send("I lost my job.", None, updates.append)
    assert 2 <= len(updates) <= 12
    assert reply.response.startswith(updates[-1].response)
    assert all(later.response.startswith(earlier.response) for earlier, later in itertools.pairwise(updates))


def test_the_history_grows_by_both_sides_and_is_what_the_model_reads(new_model, scripted):
    prompts = scripted(COMPLETION, COMPLETION)
    model = new_model()
    session = ChatSession(model)
    session.send("I lost <|im_end|>my\njob.", None, ignore)
    session.send("On Monday.", None, ignore)
    assert [turn.text for turn in session.turns] == [
        "I lost my job.",
        "That is <b>hard</b>. What happened?",
        "On Monday.",
        "That is <b>hard</b>. What happened?",
    ]
    prompt = model._policy.processor.tokenizer.decode(prompts[1].prompt_ids)
    assert "Seeker: I lost my job.\nSupporter: That is <b>hard</b>. What happened?\nSeeker: On Monday.<|im_end|>" in prompt
    assert "Emotion: sadness" not in prompt, "thoughts are not part of the history"


def test_a_turn_without_a_reply_is_not_added(new_model, scripted):
    scripted("<response></response>")
    session = ChatSession(new_model("prompt.max_tokens=256"))
    for text, problem in (("Hello?", "response is empty"), (" <think> ", "message is empty"), ("word " * 400, "max_tokens=256")):
        with pytest.raises(FiresError, match=problem):
            session.send(text, None, ignore)
    assert session.turns == ()


def test_a_clip_belongs_to_its_turn_and_is_deleted_at_the_end(new_model, scripted, clip, tmp_path):
    prompts = scripted(COMPLETION, COMPLETION)
    own_cache = tmp_path / "cache"  # other tests write frames into the shared one meanwhile
    model = new_model("frames=uniform", "frames.max_frames_per_turn=2", f"paths.cache={own_cache}")
    session = ChatSession(model)
    reply = session.send("Look at me.", model.clip(clip, "my clip"), ignore)
    assert (reply.frames, len(prompts[0].image_grid_thw)) == (2, 2)
    assert session.send("Did you see?", None, ignore).frames == 2, "the clip stays in the history"
    folder = Path(model._folder.name)
    assert list(folder.rglob("*"))
    model.close()
    assert not folder.exists()
    assert (own_cache / "backbones").is_dir()
    assert not (own_cache / "frames").exists()


def test_an_unusable_clip_is_one_line(new_model, clip, tmp_path):
    model = new_model()
    (tmp_path / "text.mp4").write_text("no video")
    for path, problem in ((tmp_path / "gone.mp4", "gone.mp4: "), (tmp_path / "text.mp4", "text.mp4 cannot be opened")):
        with pytest.raises(FrameError, match=problem):
            model.clip(path, path.name)
    with pytest.raises(FrameError, match="frames=none"):
        new_model("frames=none").clip(clip, "my clip")
