"""A client's settings, quick enough for tests."""

import pytest
from faulty_server import QUICK

from fires_exp.config.services import TeacherConfig

TEACHER = {
    "name": "openai", "splits": ["train"], "attempts": 3, "max_leaked_words": 5, "max_leaked_share": 0.6,
    "max_prompt_tokens": 3000,
}  # fmt: skip


@pytest.fixture
def quick():
    def build(url="http://127.0.0.1:9/v1", **changes):
        return TeacherConfig(**{**QUICK, **TEACHER, "base_url": url, **changes})

    return build
