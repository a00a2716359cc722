"""A conversation with a model. Prompts are those of the evaluation; the history grows by both sides' turns."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from fires_exp.config.data import FrameSelection, UnreadableClipPolicy
from fires_exp.config.model import SamplingConfig
from fires_exp.data.readers.utterances import clean_text
from fires_exp.data.records import Clip, SupportExample, Utterance
from fires_exp.data.video.decoder import Video
from fires_exp.errors import FiresError, FrameError
from fires_exp.policy.factory import PolicyFactory
from fires_exp.policy.policy import Policy
from fires_exp.policy.sampling import stream_completions, stream_seed
from fires_exp.thinking.tags import ParsedCompletion, parse_completion

INCOMPLETE_CHARACTER = "\ufffd"  # a character can be several tokens

# called with the thought and the response so far, after each token
OnProgress = Callable[[ParsedCompletion], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """The supporter's turn. `frames` is how many frames of the history the prompt held; its `dropped_turns` oldest turns did not
    fit into it. `cut_off` is True where max_new_tokens ended the completion."""

    thought: str
    response: str
    well_formed: bool
    cut_off: bool
    frames: int
    dropped_turns: int


class ChatModel:
    """A policy that answers any number of conversations, one completion at a time. `close` deletes the uploaded clips."""

    def __init__(
        self,
        factory: PolicyFactory,
        policy: Policy,
        decoding: SamplingConfig,
        *,
        seed: int,
        max_video_bytes: int,
        name: str,
    ) -> None:
        """`factory` built `policy`; `name` is shown to the user."""
        self.name = name
        self.plan = factory.plan
        self.max_video_bytes = max_video_bytes
        self._policy = policy
        self._decoding = decoding
        self._seed = seed
        self._reads_frames = factory.frames.name != FrameSelection.none
        self._encoder = factory.prompt_encoder(policy.processor)
        self._folder = tempfile.TemporaryDirectory(prefix="fires_exp_chat_")
        self.uploads = Path(self._folder.name) / "uploads"
        self.uploads.mkdir()
        # frames of private clips go into the temporary folder, not into the shared cache
        self._frames = replace(
            factory, frames=replace(factory.frames, on_unreadable=UnreadableClipPolicy.error), cache=Path(self._folder.name)
        ).frame_reader(Path("/"))
        self._lock = threading.Lock()

    def close(self) -> None:
        """Delete the uploaded clips and their frames."""
        self._folder.cleanup()

    def clip(self, path: Path, name: str) -> Clip:
        """A whole video as a clip; error messages call it `name`. Raises `FrameError` where it cannot be shown to the model."""
        if not self._reads_frames:
            raise FrameError("this model was trained without video (frames=none); send text only")
        if not path.is_file():
            raise FrameError(f"{name}: file not found; write the path of a video")
        try:
            end_seconds = Video(path).duration_seconds
        except FrameError as error:
            raise FrameError(f"{name} {error}; choose another video") from None
        return Clip(video=str(path.resolve().relative_to("/")), start_seconds=0.0, end_seconds=end_seconds)

    def reply(self, history: tuple[Utterance, ...], on_progress: OnProgress) -> Reply:
        """The supporter's turn after `history`."""
        example = chat_example(history)
        with self._lock:
            frames = self._frames.frames_of(example)
            prompt = self._encoder.encode(example, frames)
            token_ids: list[int] = []

            def on_token(ids_B: Tensor) -> None:
                token_ids.append(int(ids_B[0]))
                text = self._policy.processor.tokenizer.decode(token_ids, skip_special_tokens=True)
                on_progress(parse_completion(text.rstrip(INCOMPLETE_CHARACTER), self.plan))

            seeds = [[stream_seed(self._seed, "chat", len(history))]]
            ((completion,),) = stream_completions(self._policy, [prompt], self._decoding, seeds, on_token)
        parsed = parse_completion(completion.text, self.plan)
        return Reply(
            thought=parsed.thought,
            response=parsed.response,
            well_formed=parsed.well_formed,
            cut_off=completion.finish_reason == "length",
            frames=sum(len(of_turn) for of_turn in frames[prompt.dropped_turns :]),
            dropped_turns=prompt.dropped_turns,
        )


class ChatSession:
    """One conversation. A turn without a reply is not added to `turns`; nothing is written to a file."""

    def __init__(self, model: ChatModel) -> None:
        self.model = model
        self.turns: tuple[Utterance, ...] = ()

    def send(self, text: str, clip: Clip | None, on_progress: OnProgress) -> Reply:
        """The reply to the seeker's next turn. Raises `FiresError` in one line where the turn or the reply is empty, or where the
        turn does not fit into the prompt."""
        text = clean_text(text)
        if not text:
            raise FiresError("the message is empty; write something")
        history = (*self.turns, Utterance(speaker="seeker", text=text, clip=clip))
        reply = self.model.reply(history, on_progress)
        if not reply.response:
            raise FiresError("the model's response is empty; write the message in other words")
        self.turns = (*history, Utterance(speaker="supporter", text=clean_text(reply.response)))
        return reply


def chat_example(history: tuple[Utterance, ...]) -> SupportExample:
    """A history as an instance without a reference."""
    return SupportExample(
        id="chat", split="test", history=history, target=Utterance(speaker="supporter", text=""), source="the conversation"
    )
