"""The stop rule: thresholds, direction, patience."""

from dataclasses import replace

import pytest

from fires_exp.config.training import StopConfig
from fires_exp.grpo.monitoring.collapse import Collapse, first_collapse, signs_beyond
from fires_exp.grpo.monitoring.health import Sign

NEVER = StopConfig(patience_steps=3, **{sign.value: None for sign in Sign})
ONE = replace(NEVER, one_response=0.5)


def history(*values, sign=Sign.ONE_RESPONSE):
    return [{} if value is None else {sign.logged: value} for value in values]


def test_it_stops_at_the_third_consecutive_step_and_not_before():
    assert first_collapse(history(0.1, 0.5, 0.9, 0.4, 0.5, 0.6), ONE) is None
    collapse = first_collapse(history(0.1, 0.5, 0.9, 0.4, 0.5, 0.6, 0.75, 0.1), ONE)
    assert collapse == Collapse(sign=Sign.ONE_RESPONSE, value=0.75, threshold=0.5, step=7, patience_steps=3)
    assert str(collapse) == "health/one_response was 0.5 or more for 3 steps in a row, 0.75 at step 7"


def test_a_step_without_the_sign_resets_the_count():
    assert first_collapse(history(0.9, 0.9, None, 0.9, 0.9), ONE) is None


def test_each_sign_is_counted_separately():
    stop = replace(ONE, patience_steps=2, copied_history=0.5)
    mixed = [{"health/one_response": 0.9}, {"health/copied_history": 0.9}, {"health/one_response": 0.9}]
    assert first_collapse(mixed, stop) is None


def test_without_thresholds_nothing_stops():
    worst = {sign.logged: 0.0 if sign.falls else 1.0 for sign in Sign}
    assert first_collapse([worst] * 100, NEVER) is None


@pytest.mark.parametrize("sign", Sign)
def test_every_sign_can_stop_a_run_in_its_direction(sign):
    stop = replace(NEVER, patience_steps=1, **{sign.value: 0.4})
    low, high = [{sign.logged: 0.3}], [{sign.logged: 0.5}]
    stopped, spared = (low, high) if sign in (Sign.WORDS_TO_REFERENCE, Sign.WORDS_TO_START) else (high, low)
    assert first_collapse(spared, stop) is None
    assert first_collapse(stopped, stop).sign is sign
    assert f"0.4 or {'less' if stopped is low else 'more'} for one step" in str(first_collapse(stopped, stop))


def test_a_number_in_single_precision_is_compared_like_the_exact_one():
    import torch

    assert float(torch.tensor(0.7)) < 0.7
    assert signs_beyond({"health/short_question": float(torch.tensor(0.7))}, replace(NEVER, short_question=0.7))
