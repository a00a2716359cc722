"""A conversation with the model: prompts and decoding are those of the evaluation, the history grows."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from fires_exp.config.data import UnreadableClipPolicy
from fires_exp.data.readers.utterances import clean_text
from fires_exp.data.records import Clip, SupportExample, Utterance
from fires_exp.data.video.decoder import Video
from fires_exp.data.video.frames import FrameReader
from fires_exp.errors import FiresError, FrameError
from fires_exp.pipeline.workspace import Workspace
from fires_exp.policy.policy import Policy
from fires_exp.policy.sampling import stream_completions, stream_seed
from fires_exp.prompts.processor import PromptEncoder
from fires_exp.thinking.tags import ParsedCompletion, parse_completion

HALF_A_LETTER = "\ufffd"  # a letter may be several tokens

# what is told while an answer is written: the thought and the response so far
See = Callable[[ParsedCompletion], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What the model answered. `frames` of the history were shown to it, its `dropped_turns` oldest turns did not fit."""

    thought: str
    response: str
    well_formed: bool
    cut_off: bool
    frames: int
    dropped_turns: int


class Listener:
    """The model, for any number of conversations, one answer at a time; `close` deletes the clips that it was shown."""

    def __init__(self, work: Workspace, policy: Policy, name: str) -> None:
        self.name = name
        self.plan = work.plan
        self.max_video_bytes = work.config.chat.max_video_megabytes * 2**20
        self._policy = policy
        self._decoding = work.config.chat.decoding
        self._seed = work.config.seed
        self._sees = work.config.frames.name != "none"
        self._encoder = PromptEncoder(policy.processor, work.plan, work.config.prompt.max_tokens)
        self._folder = tempfile.TemporaryDirectory(prefix="fires_exp_chat_")
        self.uploads = Path(self._folder.name) / "uploads"
        self.uploads.mkdir()
        frames = replace(work.config.frames, on_unreadable=UnreadableClipPolicy.error)
        self._frames = FrameReader(frames, Path("/"), Path(self._folder.name) / "frames")
        self._one_at_a_time = threading.Lock()

    def close(self) -> None:
        """Delete what was shown."""
        self._folder.cleanup()

    def clip(self, path: Path, name: str) -> Clip:
        """A whole video; `name` is what messages call it. Raises `FrameError` where it can't be shown."""
        if not self._sees:
            raise FrameError("this model was trained without video (frames=none), so it is shown none")
        if not path.is_file():
            raise FrameError(f"{name}: no such file; name a video")
        try:
            end_seconds = Video(path).duration_seconds
        except FrameError as error:
            raise FrameError(f"{name} {error}; choose another video") from None
        return Clip(video=str(path.resolve().relative_to("/")), start_seconds=0.0, end_seconds=end_seconds)

    def answer(self, history: tuple[Utterance, ...], see: See) -> Reply:
        """The supporter's next turn."""
        example = example_of(history)
        with self._one_at_a_time:
            frames = self._frames.frames_of(example)
            prompt = self._encoder.encode(example, frames)
            tokens: list[int] = []

            def watch(ids_B: Tensor) -> None:
                tokens.append(int(ids_B[0]))
                text = self._policy.processor.tokenizer.decode(tokens, skip_special_tokens=True)
                see(parse_completion(text.rstrip(HALF_A_LETTER), self.plan))

            seeds = [[stream_seed(self._seed, "chat", len(history))]]
            ((completion,),) = stream_completions(self._policy, [prompt], self._decoding, seeds, watch)
        parsed = parse_completion(completion.text, self.plan)
        return Reply(
            thought=parsed.thought,
            response=parsed.response,
            well_formed=parsed.well_formed,
            cut_off=completion.finish_reason == "length",
            frames=sum(len(turn) for turn in frames[prompt.dropped_turns :]),
            dropped_turns=prompt.dropped_turns,
        )


class Conversation:
    """The turns so far. A turn that could not be answered is not kept; nothing is written to a file."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.turns: tuple[Utterance, ...] = ()

    def say(self, text: str, clip: Clip | None, see: See) -> Reply:
        """The seeker's next turn, answered. Raises `FiresError` in one line where it can't be."""
        words = clean_text(text)
        if not words:
            raise FiresError("nothing was said; write something")
        asked = (*self.turns, Utterance(speaker="seeker", text=words, clip=clip))
        reply = self.listener.answer(asked, see)
        if not reply.response:
            raise FiresError("the model answered nothing; say it in other words")
        self.turns = (*asked, Utterance(speaker="supporter", text=clean_text(reply.response)))
        return reply


def example_of(history: tuple[Utterance, ...]) -> SupportExample:
    """A history as an instance; it has no reference."""
    return SupportExample(
        id="chat", split="test", history=history, target=Utterance(speaker="supporter", text=""), source="the conversation"
    )
