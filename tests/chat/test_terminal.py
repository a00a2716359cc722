"""A conversation in the terminal: the notice, commands, summaries of thoughts, responses while they are generated."""

from making import FLEXIBLE

from fires_exp.chat.terminal import ReplyPrinter, chat_in_terminal
from fires_exp.cli.chat import main
from fires_exp.export.disclaimer import NOTICE
from fires_exp.thinking.tags import parse_completion

THOUGHT = "Emotion: sadness\nSituation: lost a job"
COMPLETION = f"<think>\n{THOUGHT}\n</think>\n<response>That is <b>hard</b>. What happened?</response>"


def terminal_of(model, *lines):
    """Everything that the terminal shows when these lines are typed."""
    typed, shown = list(lines), []

    def read_line(prompt):
        shown.append(prompt)
        if not typed:
            raise EOFError
        shown.append(typed[0] + "\n")
        return typed.pop(0)

    chat_in_terminal(model, read_line, shown.append)
    return "".join(shown)


def test_the_terminal_begins_with_the_notice_and_summarizes_the_thought(new_model, scripted):
    scripted(COMPLETION)
    shown = terminal_of(new_model(), "I lost my job.", "/thought", "/quit")
    assert shown.startswith(NOTICE)
    assert "tiny, zero_shot" in shown
    reply = "  (thought about Emotion, Situation; /thought shows it)\nsupporter> That is <b>hard</b>. What happened?\n"
    assert f"you> I lost my job.\n{reply}you> /thought\n{THOUGHT}\nyou> /quit\n" in shown


def test_commands_and_errors_do_not_end_the_conversation(new_model, scripted, clip):
    scripted("No form at all.", COMPLETION)
    shown = terminal_of(new_model(), "/what", "/thought", "/video", f"/video {clip}", "Hello.", "/new", "Hello again.")
    assert shown.count("/video PATH") == 2, "at the start and after an unknown command"
    assert "no thought yet" in shown
    assert "! /video: " in shown
    assert "1 s of video will be sent" in shown
    assert "supporter> No form at all.\n  (the completion does not have the trained form; frames: 1)" in shown
    assert shown.endswith("you> \n")


def pieces(text):
    """What `ReplyPrinter` writes when a completion arrives character by character."""
    written = []
    printer = ReplyPrinter(written.append)
    for end in range(1, len(text) + 1):
        printer.update(parse_completion(text[:end], FLEXIBLE))
    return written


def test_a_response_is_printed_while_it_is_generated_without_any_tag():
    written = pieces(COMPLETION)
    assert written[0] == "  (thought about Emotion, Situation; /thought shows it)\nsupporter> "
    assert "".join(written[1:]) == "That is <b>hard</b>. What happened?"
    assert len(written) > 20
    assert not [piece for piece in written if "response" in piece or "think>" in piece]


def test_the_command_chats_until_the_input_ends_and_leaves_no_file(tmp_path, cache, monkeypatch, capsys):
    lines = iter(["Hello."])

    def read_line(prompt):
        line = next(lines, None)
        if line is None:
            raise EOFError
        return line

    monkeypatch.setattr("builtins.input", read_line)
    monkeypatch.chdir(tmp_path)
    assert main(["backbone=tiny", "decoding.max_new_tokens=4", f"paths.cache={cache}"]) == 0
    assert NOTICE in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_mistake_is_one_line_that_names_the_key(capsys, tmp_path):
    for override in ("port=65536", "max_video_megabytes=0", "trainer=zero2", f"adapter={tmp_path}"):
        assert main([override]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"fires_exp: {override.partition('=')[0]}")
