"""Instances, pictures and settings that tests make by hand."""

from __future__ import annotations

from PIL import Image, ImageDraw

from fires_exp.config.schema import SamplingConfig
from fires_exp.data.records import SupportExample, Utterance
from fires_exp.thinking.aspects import Aspect, ThinkingPlan

FLEXIBLE = ThinkingPlan(kind="flexible", aspects=tuple(Aspect))
TARGETS = r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
SAMPLING = SamplingConfig(temperature=0.9, top_p=1.0, max_new_tokens=10)


def face(colour, size=112):
    """A picture that differs visibly by colour."""
    image = Image.new("RGB", (size, size), "white")
    ImageDraw.Draw(image).ellipse((20, 20, 90, 90), fill=colour)
    return image


def make_example(name="a", turns=("I lost my job.",), response="What happened?"):
    """Seeker and supporter in turns, the last of them the seeker's."""
    speakers = ["seeker", "supporter"] * len(turns)
    first = (len(turns) + 1) % 2
    history = tuple(Utterance(speaker=speakers[first + place], text=text) for place, text in enumerate(turns))
    return SupportExample(
        id=name, split="train", history=history, target=Utterance(speaker="supporter", text=response), source=f"{name}.csv:1"
    )
