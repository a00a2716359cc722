"""A conversation in the terminal: the notice, commands, folded thoughts, responses as they come."""

from making import FLEXIBLE
from trained_run import composed

from fires_exp.chat.terminal import Unfolding, talk_in_terminal
from fires_exp.export.disclaimer import NOTICE
from fires_exp.pipeline.run import run_recipe
from fires_exp.thinking.tags import parse_completion

THOUGHT = "Emotion: sadness\nSituation: lost a job"
ANSWER = f"<think>\n{THOUGHT}\n</think>\n<response>That is <b>hard</b>. What happened?</response>"


def talk(listener, *lines):
    """Everything that a terminal shows when these lines are typed."""
    typed, shown = list(lines), []

    def ask(prompt):
        shown.append(prompt)
        if not typed:
            raise EOFError
        shown.append(typed[0] + "\n")
        return typed.pop(0)

    talk_in_terminal(listener, ask, shown.append)
    return "".join(shown)


def test_the_terminal_begins_with_the_notice_and_folds_the_thought(listen, scripted):
    scripted(ANSWER)
    shown = talk(listen(), "I lost my job.", "/thought", "/quit")
    assert shown.startswith(NOTICE)
    assert "tiny, zero_shot" in shown
    answer = "  (thought about Emotion, Situation; /thought shows it)\nsupporter> That is <b>hard</b>. What happened?\n"
    assert f"you> I lost my job.\n{answer}you> /thought\n{THOUGHT}\nyou> /quit\n" in shown


def test_commands_and_mistakes_do_not_end_the_conversation(listen, scripted, clip):
    scripted("No form at all.", ANSWER)
    shown = talk(listen(), "/what", "/thought", "/video", f"/video {clip}", "Hello.", "/new", "Hello again.")
    assert shown.count("/video PATH") == 2, "at the start and after a command that is none"
    assert "no thought so far" in shown
    assert "! /video: no such file" in shown
    assert "1 s of video go with what you say next" in shown
    assert "supporter> No form at all.\n  (the answer has not the form that was trained; frames seen: 1)" in shown
    assert shown.endswith("you> \n")


def pieces(text):
    """What `Unfolding` writes, piece by piece, when a text comes letter by letter."""
    written = []
    unfolding = Unfolding(written.append)
    for end in range(1, len(text) + 1):
        unfolding.see(parse_completion(text[:end], FLEXIBLE))
    return written


def test_a_response_is_written_as_it_comes_and_no_tag_is_ever_shown():
    written = pieces(ANSWER)
    assert written[0] == "  (thought about Emotion, Situation; /thought shows it)\nsupporter> "
    assert "".join(written[1:]) == "That is <b>hard</b>. What happened?"
    assert len(written) > 20
    assert not [piece for piece in written if "response" in piece or "think>" in piece]


def test_chat_is_a_recipe_that_talks_until_the_input_ends(tmp_path, cache, monkeypatch, capsys):
    lines = iter(["Hello."])

    def ask(prompt):
        line = next(lines, None)
        if line is None:
            raise EOFError
        return line

    monkeypatch.setattr("builtins.input", ask)
    run_recipe(composed("recipe=chat", "backbone=tiny", "chat.decoding.max_new_tokens=4", f"paths.cache={cache}"), tmp_path)
    assert NOTICE in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.json"]
