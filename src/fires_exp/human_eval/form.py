"""The page for raters: one self-contained HTML file that loads nothing and has no system's name in it."""

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
    """The page as HTML. Its content security policy allows its own script and style, by their hashes, and nothing else."""
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
    """The data for the script and for an LLM rater; a frame that several instances show is stored once."""
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
            "answers": {side: {"response": answer.response, "thought": answer.thought} for side, answer in item.answers.items()},
        }
        for item in study.items
    ]
    return {
        "study": study.id,
        "verdicts": list(VERDICTS),
        "questions": [{"name": question.name, "about": question.about, "text": question.text} for question in study.questions],
        "frames": [f"data:image/jpeg;base64,{base64.b64encode(frame).decode()}" for frame in frames],
        "items": items,
    }


def _csp_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
