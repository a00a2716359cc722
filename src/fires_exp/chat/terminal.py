"""A conversation in the terminal: the response is written as it comes, the thought is folded into a line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fires_exp.chat.session import Conversation, Listener, Reply
from fires_exp.data.records import Clip
from fires_exp.errors import FiresError
from fires_exp.export.disclaimer import NOTICE
from fires_exp.thinking.tags import TAGS, ParsedCompletion
from fires_exp.thinking.thought import parse_thought

HELP = """/video PATH   show a clip with what you say next
/thought      the last thought
/new          start over
/help         this list
/quit         end"""


def talk_in_terminal(listener: Listener, ask: Callable[[str], str], write: Callable[[str], None]) -> None:
    """Until the end of the input. `ask` gives the line that answers a prompt and raises `EOFError` at the end; `write` adds no
    line break."""
    write(f"{NOTICE}\n\n{listener.name}. What you say is kept in no file.\n{HELP}\n\n")
    conversation, clip, thought = Conversation(listener), None, ""
    while True:
        try:
            line = ask("you> ").strip()
        except (EOFError, KeyboardInterrupt):
            write("\n")
            return
        command, _, argument = line.partition(" ")
        try:
            if command == "/quit":
                return
            if command == "/video":
                clip = _clip(listener, argument.strip(), write)
            elif command == "/thought":
                write(f"{thought or 'no thought so far'}\n")
            elif command == "/new":
                conversation, clip, thought = Conversation(listener), None, ""
                write("a new conversation\n")
            elif command.startswith("/"):
                write(f"{HELP}\n")
            elif line:
                thought = _say(conversation, line, clip, write)
                clip = None
        except FiresError as error:
            write(f"! {error}\n")


def _clip(listener: Listener, argument: str, write: Callable[[str], None]) -> Clip:
    clip = listener.clip(Path(argument).expanduser(), argument or "/video")
    write(f"{clip.duration_seconds:g} s of video go with what you say next\n")
    return clip


def _say(conversation: Conversation, line: str, clip: Clip | None, write: Callable[[str], None]) -> str:
    """Answer a line; the thought."""
    shown = Unfolding(write)
    reply = conversation.say(line, clip, shown.see)
    shown.finish(reply)
    return reply.thought


class Unfolding:
    """Writes an answer that is still being written: the folded thought once it is whole, then the response piece by piece."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._written: str | None = None

    def see(self, so_far: ParsedCompletion) -> None:
        """The answer so far; what of it may still become a tag is held back."""
        sure = _before_a_tag(so_far.response)
        if sure:
            self._show(so_far.thought, sure)

    def finish(self, reply: Reply) -> None:
        """The whole answer, again where what was shown is not its beginning."""
        if self._written is not None and not reply.response.startswith(self._written):
            self._write("\n")
            self._written = None
        self._show(reply.thought, reply.response)
        notes = _notes(reply)
        self._write("\n" + (f"  ({'; '.join(notes)})\n" if notes else ""))

    def _show(self, thought: str, response: str) -> None:
        if self._written is None:
            self._write(f"{folded(thought)}supporter> ")
            self._written = ""
        if response.startswith(self._written):
            self._write(response[len(self._written) :])
            self._written = response


def folded(thought: str) -> str:
    """A thought as a line that says what it is about.

    >>> folded("Emotion: sadness")
    '  (thought about Emotion; /thought shows it)\\n'
    """
    if not thought:
        return ""
    named = ", ".join(aspect.label for aspect in parse_thought(thought).aspects) or f"{len(thought.split())} words"
    return f"  (thought about {named}; /thought shows it)\n"


def _before_a_tag(text: str) -> str:
    """The text without an end that may be the beginning of a tag."""
    place = text.rfind("<")
    return text[:place].rstrip() if place >= 0 and any(tag.startswith(text[place:]) for tag in TAGS) else text


def _notes(reply: Reply) -> Sequence[str]:
    notes = {
        "the answer has not the form that was trained": not reply.well_formed,
        "it was cut off at chat.decoding.max_new_tokens": reply.cut_off,
        f"the {reply.dropped_turns} oldest turns no longer fit": reply.dropped_turns > 0,
        f"frames seen: {reply.frames}": reply.frames > 0,
    }
    return [note for note, holds in notes.items() if holds]
