"""A conversation in the terminal: the response is printed while it is generated, the thought is summarized in one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fires_exp.chat.session import ChatModel, ChatSession, Reply
from fires_exp.data.records import Clip
from fires_exp.errors import FiresError
from fires_exp.export.disclaimer import NOTICE
from fires_exp.thinking.tags import TAGS, ParsedCompletion
from fires_exp.thinking.thought import parse_thought

HELP = """/video PATH   attach a clip to the next message
/thought      show the last thought
/new          start over
/help         show this list
/quit         end"""


def chat_in_terminal(model: ChatModel, read_line: Callable[[str], str], write: Callable[[str], None]) -> None:
    """Chat until the input ends. `read_line` gets the input prompt and raises `EOFError` at the end, as `input` does; `write`
    adds no line break."""
    write(f"{NOTICE}\n\n{model.name}. This conversation is not saved.\n{HELP}\n\n")
    session, clip, thought = ChatSession(model), None, ""
    while True:
        try:
            line = read_line("you> ").strip()
        except (EOFError, KeyboardInterrupt):
            write("\n")
            return
        command, _, argument = line.partition(" ")
        try:
            if command == "/quit":
                return
            if command == "/video":
                clip = _attach(model, argument.strip(), write)
            elif command == "/thought":
                write(f"{thought or 'no thought yet'}\n")
            elif command == "/new":
                session, clip, thought = ChatSession(model), None, ""
                write("a new conversation\n")
            elif command.startswith("/"):
                write(f"{HELP}\n")
            elif line:
                thought = _send(session, line, clip, write)
                clip = None
        except FiresError as error:
            write(f"! {error}\n")


def _attach(model: ChatModel, argument: str, write: Callable[[str], None]) -> Clip:
    clip = model.clip(Path(argument).expanduser(), argument or "/video")
    write(f"{clip.duration_seconds:g} s of video will be sent with your next message\n")
    return clip


def _send(session: ChatSession, line: str, clip: Clip | None, write: Callable[[str], None]) -> str:
    """Print the reply to a line; returns its thought."""
    printer = ReplyPrinter(write)
    reply = session.send(line, clip, printer.update)
    printer.finish(reply)
    return reply.thought


class ReplyPrinter:
    """Prints a reply while it is generated: a summary of the thought once the response begins, then the response piece by
    piece."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._printed: str | None = None

    def update(self, so_far: ParsedCompletion) -> None:
        """Print what is new; an end that may become a tag waits."""
        response = _without_partial_tag(so_far.response)
        if response:
            self._print(so_far.thought, response)

    def finish(self, reply: Reply) -> None:
        """Print the rest; the response once more where the printed part is not its beginning."""
        if self._printed is not None and not reply.response.startswith(self._printed):
            self._write("\n")
            self._printed = None
        self._print(reply.thought, reply.response)
        notes = _notes(reply)
        self._write("\n" + (f"  ({'; '.join(notes)})\n" if notes else ""))

    def _print(self, thought: str, response: str) -> None:
        if self._printed is None:
            self._write(f"{thought_summary(thought)}supporter> ")
            self._printed = ""
        if response.startswith(self._printed):
            self._write(response[len(self._printed) :])
            self._printed = response


def thought_summary(thought: str) -> str:
    """A line with the aspects of a thought.

    >>> thought_summary("Emotion: sadness")
    '  (thought about Emotion; /thought shows it)\\n'
    """
    if not thought:
        return ""
    aspects = ", ".join(aspect.label for aspect in parse_thought(thought).aspects) or f"{len(thought.split())} words"
    return f"  (thought about {aspects}; /thought shows it)\n"


def _without_partial_tag(text: str) -> str:
    """The text without an end that may be the beginning of a tag."""
    index = text.rfind("<")
    return text[:index].rstrip() if index >= 0 and any(tag.startswith(text[index:]) for tag in TAGS) else text


def _notes(reply: Reply) -> Sequence[str]:
    notes = {
        "the completion does not have the trained form": not reply.well_formed,
        "cut off at decoding.max_new_tokens": reply.cut_off,
        f"the {reply.dropped_turns} oldest turns no longer fit into the prompt": reply.dropped_turns > 0,
        f"frames: {reply.frames}": reply.frames > 0,
    }
    return [note for note, holds in notes.items() if holds]
