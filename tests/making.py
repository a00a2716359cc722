"""Instances, pictures and settings that tests make by hand."""

from __future__ import annotations

import csv

from PIL import Image, ImageDraw

from fires_exp.config.data import SalientConfig
from fires_exp.config.model import SamplingConfig
from fires_exp.data.records import SupportExample, Utterance
from fires_exp.thinking.aspects import Aspect, ThinkingPlan

FLEXIBLE = ThinkingPlan(kind="flexible", aspects=tuple(Aspect))
TARGETS = r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
SAMPLING = SamplingConfig(temperature=0.9, top_p=1.0, max_new_tokens=10, engine="native")
SALIENT = SalientConfig(candidates_per_second=4.0, max_candidates=48, least_change=0.02, face_weight=0.04, face_bonus=1.25)


def face(color, size=112):
    """A picture that differs visibly by color."""
    image = Image.new("RGB", (size, size), "white")
    ImageDraw.Draw(image).ellipse((20, 20, 90, 90), fill=color)
    return image


def make_example(name="a", turns=("I lost my job.",), response="What happened?"):
    """Seeker and supporter in turns, the last of them the seeker's."""
    speakers = ["seeker", "supporter"] * len(turns)
    first = (len(turns) + 1) % 2
    history = tuple(Utterance(speaker=speakers[first + place], text=text) for place, text in enumerate(turns))
    return SupportExample(
        id=name, split="train", history=history, target=Utterance(speaker="supporter", text=response), source=f"{name}.csv:1"
    )


SORRY, WHAT, MEANS = "I am sorry to hear it.", "What happened then?", "You must feel lost."


def write_support_pairs(folder, posts=24):
    """Labeled pairs whose levels a scorer can learn: a sentence of a response is a mechanism, said once or twice."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"emotional-reactions": SORRY, "interpretations": MEANS, "explorations": WHAT}
    for place, (name, sentence) in enumerate(tables.items()):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["sp_id", "rp_id", "seeker_post", "response_post", "level", "rationales"])
            for post in range(posts):
                for levels in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
                    said = [one for one, level in zip(tables.values(), levels, strict=True) for _ in range(level)]
                    level = levels[place]
                    row = [f"s{post}", "".join(map(str, levels)), f"It was day {post} of the move.", " ".join(said)]
                    writer.writerow([*row, level, sentence if level else ""])
    return folder
