"""What is known of the licenses of what a model was made from. Nobody's legal advice: it says where to look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fires_exp.storage.pretrained import is_hub_id

APACHE = "apache-2.0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """`license` is an identifier of the Hugging Face hub; None where none was found or where use is restricted. `hub_id` is a
    backbone's name there."""

    name: str
    license: str | None
    note: str
    hub_id: str | None


BACKBONES: Mapping[str, Source] = {
    "smollm2_vl": Source(
        name="SmolLM2-135M-Instruct, de-quantized from 4 bits, in the Qwen2.5-VL class with an own vision tower",
        license=APACHE,
        note="SmolLM2 is under Apache-2.0.",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    "qwen2_5_vl_7b": Source(
        name="Qwen2.5-VL-7B-Instruct", license=APACHE, note="Under Apache-2.0.", hub_id="Qwen/Qwen2.5-VL-7B-Instruct"
    ),
    "qwen2_5_vl_3b": Source(
        name="Qwen2.5-VL-3B-Instruct",
        license=None,
        note="Under the Qwen Research License: no commercial use, and what is made from it keeps its terms.",
        hub_id="Qwen/Qwen2.5-VL-3B-Instruct",
    ),
    "tiny": Source(name="a random model for tests", license=APACHE, note="Made by this project.", hub_id=None),
}

DATASETS: Mapping[str, Source] = {
    "sample": Source(
        name="the sample corpus of fires-exp",
        license=APACHE,
        note="Invented and drawn for this project, under Apache-2.0 with it.",
        hub_id=None,
    ),
    "mesc": Source(
        name="MESC",
        license=None,
        note="Published without a license. Its utterances are subtitles of the series In Treatment, whose copyright is others': "
        "research only, and ask before you pass anything on.",
        hub_id=None,
    ),
    "emotyda_esc": Source(
        name="EMOTyDA-ESC",
        license=None,
        note="EMOTyDA is published without a license, the texts of MELD under GPL-3.0; the dialogue of the series Friends is "
        "under others' copyright: research only.",
        hub_id=None,
    ),
}

EPITOME = (
    "Its reward read support skills with scorers trained on EPITOME's Reddit part, whose repository carries the Althoff academic "
    "license (research, not commercial) and an attribution license."
)
TEACHERS: Mapping[str, str] = {
    "rules": "The thoughts that it learned from were written by rules from the corpus's labels.",
    "openai": "The thoughts that it learned from were written by {model} behind a service, whose terms may limit their use.",
    "local": "The thoughts that it learned from were written by the backbone itself.",
}


def backbone_source(backbone: Mapping[str, Any]) -> Source:
    """Of a run's backbone: one that is not known here has an unknown license."""
    hub_id = backbone.get("path") if is_hub_id(backbone.get("path")) else None
    name = str(backbone.get("name"))
    unknown = Source(
        name=hub_id or name, license=None, note="Its license is not known here; look at its own page.", hub_id=hub_id
    )
    return BACKBONES.get(name, unknown)


def dataset_source(name: str) -> Source:
    return DATASETS.get(
        name, Source(name=f"own data ({name})", license=None, note="Whoever exports says what its license is.", hub_id=None)
    )
