"""A client's settings, quick enough for tests."""

import pytest

from fires_exp.config.schema import TeacherConfig

QUICK = {
    "model": "stub", "api_key_env": None, "temperature": 0.0, "max_tokens": 50, "max_tokens_key": "max_tokens",
    "image_detail": "auto", "frame_tokens": 255, "requests_per_minute": 6e5, "in_flight": 4, "timeout_seconds": 5.0,
    "retries": 3, "backoff_seconds": 0.01, "max_wait_seconds": 2.0, "give_up_after": 5, "max_requests": None, "max_cost": None,
    "price_prompt": None, "price_completion": None, "dry_run": False, "batch_requests": None, "batch_results": None,
    "name": "openai", "splits": ["train"], "attempts": 3, "max_leaked_words": 5, "max_leaked_share": 0.6,
    "max_prompt_tokens": 3000,
}  # fmt: skip


@pytest.fixture
def quick():
    def build(url="http://127.0.0.1:9/v1", **changes):
        return TeacherConfig(**{**QUICK, "base_url": url, **changes})

    return build
