"""The page for raters: one HTML file with everything in it, that may load nothing and knows no system's name."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fires_exp.human_eval.study import VERDICTS, Study

HERE = Path(__file__).parent


def render_form(study: Study) -> str:
    """The page as text. Its script and style are allowed by their hash and nothing else is."""
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
    script, style = ((HERE / name).read_text(encoding="utf-8") for name in ("form.js", "form.css"))
    return environment.get_template("form.html").render(
        study=study,
        facts=form_facts(study),
        script=Markup(script),  # noqa: S704  our own files
        style=Markup(style),  # noqa: S704
        policy="default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        + f"script-src {_csp_hash(script)}; style-src {_csp_hash(style)}",
    )


def form_facts(study: Study) -> dict[str, Any]:
    """What the script and a judge read; a frame that several instances show is there once."""
    frames: dict[bytes, int] = {}
    items = [
        {
            "name": item.name,
            "history": [
                {
                    "speaker": turn.speaker,
                    "text": turn.text,
                    "frames": [frames.setdefault(frame, len(frames)) for frame in turn.frames],
                }
                for turn in item.history
            ],
            "answers": {side: {"response": one.response, "thought": one.thought} for side, one in item.answers.items()},
        }
        for item in study.items
    ]
    return {
        "study": study.id,
        "verdicts": list(VERDICTS),
        "questions": [{"name": one.name, "about": one.about, "text": one.text} for one in study.questions],
        "frames": [f"data:image/jpeg;base64,{base64.b64encode(frame).decode()}" for frame in frames],
        "items": items,
    }


def _csp_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
