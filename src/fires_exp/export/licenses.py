"""Licenses of the backbones, datasets and teachers behind a model, as far as they are known. This is no legal advice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fires_exp.storage.pretrained import is_hub_id

APACHE = "apache-2.0"


@dataclass(frozen=True, kw_only=True, slots=True)
class LicensedSource:
    """A backbone or dataset. `license` is an identifier of the Hugging Face hub; None where none was found or where use is
    restricted. `hub_id` is a backbone's name on the hub."""

    name: str
    license: str | None
    note: str
    hub_id: str | None


BACKBONES: Mapping[str, LicensedSource] = {
    "smollm2_vl": LicensedSource(
        name="SmolLM2-135M-Instruct, de-quantized from 4 bits, in the Qwen2.5-VL class with a vision tower of this project",
        license=APACHE,
        note="SmolLM2 is under Apache-2.0.",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    "qwen2_5_vl_7b": LicensedSource(
        name="Qwen2.5-VL-7B-Instruct", license=APACHE, note="Under Apache-2.0.", hub_id="Qwen/Qwen2.5-VL-7B-Instruct"
    ),
    "qwen2_5_vl_3b": LicensedSource(
        name="Qwen2.5-VL-3B-Instruct",
        license=None,
        note="Under the Qwen Research License: no commercial use, and derived models keep its terms.",
        hub_id="Qwen/Qwen2.5-VL-3B-Instruct",
    ),
    "tiny": LicensedSource(name="a random model for tests", license=APACHE, note="Made by this project.", hub_id=None),
}

DATASETS: Mapping[str, LicensedSource] = {
    "sample": LicensedSource(
        name="the sample corpus of fires-exp",
        license=APACHE,
        note="Invented and drawn for this project, under Apache-2.0 with it.",
        hub_id=None,
    ),
    "mesc": LicensedSource(
        name="MESC",
        license=None,
        note="Published without a license. Its utterances are subtitles of the series In Treatment, whose copyright belongs to "
        "others: research only, and ask the owners before you share anything.",
        hub_id=None,
    ),
    "emotyda_esc": LicensedSource(
        name="EMOTyDA-ESC",
        license=None,
        note="EMOTyDA is published without a license, the texts of MELD under GPL-3.0; the dialogue of the series Friends is "
        "under the copyright of others: research only.",
        hub_id=None,
    ),
}

EPITOME = (
    "Its reward used support-skill scorers trained on EPITOME's Reddit part, whose repository carries the Althoff academic "
    "license (research, not commercial) and an attribution license."
)
TEACHERS: Mapping[str, str] = {
    "rules": "Its training thoughts were written by rules from the corpus's labels.",
    "openai": "Its training thoughts were written by {model} behind a service, whose terms may limit their use.",
    "local": "Its training thoughts were written by the backbone itself.",
}


def backbone_source(backbone: Mapping[str, Any]) -> LicensedSource:
    """The license of a run's backbone, given its configuration; unknown for any that is not in the table."""
    hub_id = backbone.get("path") if is_hub_id(backbone.get("path")) else None
    name = str(backbone.get("name"))
    unknown = LicensedSource(
        name=hub_id or name, license=None, note="Its license is not known here; see its own page.", hub_id=hub_id
    )
    return BACKBONES.get(name, unknown)


def dataset_source(name: str) -> LicensedSource:
    return DATASETS.get(
        name,
        LicensedSource(
            name=f"own data ({name})", license=None, note="Its license is to be stated by whoever exports the model.", hub_id=None
        ),
    )
