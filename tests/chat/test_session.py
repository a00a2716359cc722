"""Talking to a model: what it is shown, what is kept, what is seen while it writes."""

import itertools
from pathlib import Path

import pytest
import torch
from trained_run import composed

from fires_exp.chat.session import Conversation, example_of
from fires_exp.data.records import Utterance
from fires_exp.errors import FiresError, FrameError
from fires_exp.policy.backbone import build_policy
from fires_exp.policy.sampling import sample_completions, stream_seed
from fires_exp.thinking.tags import parse_completion

ANSWER = "<think>\nEmotion: sadness\n</think>\n<response>That is <b>hard</b>. What happened?</response>"


def nobody(so_far):
    """Sees nothing."""


def test_the_answer_is_the_one_that_the_evaluation_would_give(listen, tiny_config, cache):
    listener = listen()
    reply = Conversation(listener).say("I lost my job.", None, nobody)
    policy = build_policy(tiny_config, cache, torch.device("cpu"))
    history = (Utterance(speaker="seeker", text="I lost my job."),)
    prompt = listener._encoder.encode(example_of(history), [[]])
    config = composed("backbone=tiny", "predict.decoding.max_new_tokens=12")
    ((completion,),) = sample_completions(policy, [prompt], config.predict.decoding, [[stream_seed(42, "chat", 1)]])
    assert reply.response == parse_completion(completion.text, listener.plan).response
    assert reply.cut_off


def test_what_is_seen_while_it_writes_ends_with_the_answer(listen):
    seen = []
    reply = Conversation(listen()).say("I lost my job.", None, seen.append)
    assert 2 <= len(seen) <= 12
    assert reply.response.startswith(seen[-1].response)
    assert all(later.response.startswith(earlier.response) for earlier, later in itertools.pairwise(seen))


def test_the_history_grows_by_both_sides_and_is_what_the_model_reads(listen, scripted):
    prompts = scripted(ANSWER, ANSWER)
    listener = listen()
    conversation = Conversation(listener)
    conversation.say("I lost <|im_end|>my\njob.", None, nobody)
    conversation.say("On Monday.", None, nobody)
    assert [turn.text for turn in conversation.turns] == [
        "I lost my job.",
        "That is <b>hard</b>. What happened?",
        "On Monday.",
        "That is <b>hard</b>. What happened?",
    ]
    read = listener._policy.processor.tokenizer.decode(prompts[1].prompt_ids)
    assert "Seeker: I lost my job.\nSupporter: That is <b>hard</b>. What happened?\nSeeker: On Monday.<|im_end|>" in read
    assert "Emotion: sadness" not in read, "thoughts are no part of the history"


def test_a_turn_that_could_not_be_answered_is_not_kept(listen, scripted):
    scripted("<response></response>")
    conversation = Conversation(listen("prompt.max_tokens=256"))
    for text, said in (("Hello?", "answered nothing"), (" <think> ", "nothing was said"), ("word " * 400, "max_tokens=256")):
        with pytest.raises(FiresError, match=said):
            conversation.say(text, None, nobody)
    assert conversation.turns == ()


def test_a_clip_goes_with_its_turn_and_nothing_of_it_is_left(listen, scripted, clip, tmp_path):
    prompts = scripted(ANSWER, ANSWER)
    own = tmp_path / "cache"  # other tests keep frames in the shared one meanwhile
    listener = listen("frames=uniform", "frames.max_frames_per_turn=2", f"paths.cache={own}")
    conversation = Conversation(listener)
    reply = conversation.say("Look at me.", listener.clip(clip, "my clip"), nobody)
    assert (reply.frames, len(prompts[0].image_grid_thw)) == (2, 2)
    assert conversation.say("Did you see?", None, nobody).frames == 2, "it stays in the history"
    folder = Path(listener._folder.name)
    assert list(folder.rglob("*"))
    listener.close()
    assert not folder.exists()
    assert (own / "backbones").is_dir()
    assert not (own / "frames").exists()


def test_what_is_no_clip_is_one_line(listen, clip, tmp_path):
    listener = listen()
    (tmp_path / "text.mp4").write_text("no video")
    for path, said in ((tmp_path / "gone.mp4", "gone.mp4: no such file"), (tmp_path / "text.mp4", "text.mp4 cannot be opened")):
        with pytest.raises(FrameError, match=said):
            listener.clip(path, path.name)
    with pytest.raises(FrameError, match="trained without video"):
        listen("frames=none").clip(clip, "my clip")
