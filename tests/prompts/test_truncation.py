"""Dropping the oldest turns of a history."""

import pytest
from making import make_example

from fires_exp.errors import DataError
from fires_exp.prompts.truncation import fit_history


def fit(lengths, limit, lower_keys=("frames.max_frames",)):
    """Fit a history whose prompt has `lengths[dropped]` tokens; the result, and which numbers of dropped turns were tried."""
    tried = []

    def render(dropped):
        tried.append(dropped)
        return f"prompt without {dropped}", lengths[dropped]

    example = make_example(turns=["Hm."] * len(lengths))
    return fit_history(render, example, limit=limit, limit_key="teacher.max_prompt_tokens", lower_keys=lower_keys), tried


def test_a_history_that_fits_is_rendered_once():
    assert fit([50, 40, 30], limit=50) == ((0, "prompt without 0"), [0])


@pytest.mark.parametrize(("limit", "dropped"), [(49, 1), (40, 1), (39, 2), (30, 2), (29, 3), (20, 3)])
def test_the_fewest_oldest_turns_are_dropped(limit, dropped):
    assert fit([50, 40, 30, 20], limit=limit)[0] == (dropped, f"prompt without {dropped}")


def test_a_thousand_turns_are_bisected():
    result, tried = fit(list(range(1000, 0, -1)), limit=3)
    assert result == (997, "prompt without 997")
    assert len(tried) <= 11


@pytest.mark.parametrize("turn_count", [1, 2, 7])
def test_a_last_turn_that_is_too_long_alone_is_an_error(turn_count):
    with pytest.raises(DataError, match=r"^a\.csv:1: .* 10 tokens.* teacher\.max_prompt_tokens=9; .*frames\.max_frames"):
        fit([10] * turn_count, limit=9)
