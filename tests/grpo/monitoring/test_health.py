"""Signs of reward hacking: numbers by hand, the collapse of Appendix E and reference responses, state in checkpoints."""

import json

import pytest
from hydra import compose, initialize_config_module
from making import FLEXIBLE, make_example

from fires_exp.config.load import load_config, register_schema
from fires_exp.config.training import HealthConfig, StopConfig
from fires_exp.data.dataset import read_dataset
from fires_exp.grpo.monitoring.collapse import first_collapse, signs_beyond
from fires_exp.grpo.monitoring.health import HealthMonitor, Sign, copies_history, is_short_question, normalize
from fires_exp.thinking.rule_teacher import thought_by_rules
from fires_exp.thinking.tags import ParsedCompletion

NEVER = StopConfig(patience_steps=1, **{sign.value: None for sign in Sign})
CONFIG = HealthConfig(name="log", window_steps=2, copied_words=6, short_question_words=6, stop=NEVER)
PROMPTS_A_STEP = 32  # the paper's batch


def parsed(response, thought="", *, well_formed=True):
    return ParsedCompletion(thought=thought, response=response, well_formed=well_formed)


def signs(*answered, config=CONFIG):
    logged = HealthMonitor(config).observe(answered)
    return {sign: logged.get(sign.logged) for sign in Sign}


def observed(*steps, config=CONFIG):
    monitor = HealthMonitor(config)
    return [monitor.observe(step) for step in steps], monitor


@pytest.fixture
def watched():
    """A function from a dataset's overrides to its train instances and the settings of `health=watch`."""
    register_schema()

    def load(*overrides):
        with initialize_config_module("fires_exp.conf", version_base="1.3"):
            config = load_config(compose("config", overrides=["health=watch", *overrides]))
        return read_dataset(config.dataset, config.seed, cache=None).examples["train"], config.health

    return load


def steps_of(examples):
    return [examples[start : start + PROMPTS_A_STEP] for start in range(0, len(examples) - PROMPTS_A_STEP + 1, PROMPTS_A_STEP)]


def healthy(examples):
    """Each example with its reference response and the rule-based teacher's thought, and a malformed completion."""
    return [
        (example, [parsed(example.reference_response, thought_by_rules(example, FLEXIBLE).text), parsed("…", well_formed=False)])
        for example in examples
    ]


def collapsed(examples):
    """Appendix E: "Situation: Unknown" and a generic, low-effort question for every example."""
    replies = [parsed(reply, "Emotion: sadness\nSituation: Unknown") for reply in ("What do you mean?", "what do you mean ?")]
    return [(example, replies) for example in examples]


def test_two_groups_of_four_counted_by_hand():
    first = make_example("a", ["I lost my job last week and cannot sleep."], "Who was there for you?")  # 5 words
    second = make_example("b", ["Hi."], "Tell me.")  # 2 words
    unknown = "Situation: Unknown."
    counted = signs(
        (first, [parsed("Why?"), parsed("why"), parsed("You lost my job last week and cry."), parsed("", well_formed=False)]),
        (second, [parsed("Why?", unknown), parsed("I see you there.", unknown), parsed("Go on."), parsed("Go on, please.")]),
    )
    assert counted == {
        Sign.UNKNOWN_SITUATION: 2 / 8,
        Sign.REPEATED_IN_GROUP: 2 / 8,  # "why" twice in the first group
        Sign.REPEATED_IN_STEP: 3 / 8,  # and once more in the second
        Sign.ONE_RESPONSE: 1.0,  # "why" answers both prompts
        Sign.SHORT_QUESTION: 2 / 8,  # "why" lacks the mark
        Sign.COPIED_HISTORY: 1 / 8,  # "lost my job last week and"
        Sign.WORDS_TO_REFERENCE: round((1 + 1 + 8 + 1 + 4 + 2 + 3) / (3 * 5 + 4 * 2), 4),
        Sign.WORDS_TO_START: None,  # this is a first step
    }


def test_malformed_completions_show_no_sign_and_have_no_length():
    broken = parsed("What do you mean?", "Situation: Unknown", well_formed=False)
    counted = signs((make_example("a"), [broken] * 4), (make_example("b"), [broken] * 4))
    assert {counted[sign] for sign in Sign if not sign.falls} == {0.0}
    assert counted[Sign.WORDS_TO_REFERENCE] is None


def test_one_response_is_counted_over_the_prompts_of_the_window():
    def step(**responses):
        return [(make_example(name), [parsed(response), parsed(f"It is {name}.")]) for name, response in responses.items()]

    rows, _ = observed(
        step(a="Go on.", b="I see."),  # each answers one of a, b
        step(c="I see.", d="go on"),  # each answers two of a, b, c, d
        step(e="Go on!", d="Hm."),  # of c, d, e: "go on" answers d (a step ago) and e; a is out of the window
        step(f="Yes.", g="No."),  # of e, d, f, g: each answers one
    )
    assert [row["health/one_response"] for row in rows] == [0.5, 0.5, round(2 / 3, 4), 0.25]


def test_length_is_compared_with_the_first_steps():
    def step(words):
        return [(make_example("a", response="one two three four"), [parsed(" ".join(["word"] * words))])]

    rows, _ = observed(step(6), step(10), step(8), step(2))
    assert [row.get("health/words_to_start") for row in rows] == [None, None, 8 / 8, 2 / 8]
    assert [row["health/words_to_reference"] for row in rows] == [6 / 4, 10 / 4, 8 / 4, 2 / 4]


@pytest.mark.parametrize(
    ("response", "copied"),
    [
        ("My boss shouted at me in front!", True),  # six words in a row
        ("Your boss shouted at me in public.", False),  # five
        ("Oh? I cannot do this. Why?", True),  # the whole of a turn of four words
        ("You cannot do this.", False),
        ("Why not? Tell me more.", False),  # a whole turn, but of two words
        ("Amy boss shouted at me in fronts", False),  # words, not letters
        ("…", False),
    ],
)
def test_a_response_copies_a_run_of_a_turn_or_a_whole_turn(response, copied):
    example = make_example("a", ["My boss shouted at me in front of all.", "Why not?", "I cannot do this."])
    assert copies_history(response, example, run_words=6) is copied


def test_responses_are_compared_without_case_and_punctuation():
    assert normalize("Don’t – worry… IT’S 9!") == normalize("don't worry it's 9") != normalize("do not worry it's 9")
    assert is_short_question("Why? Who? ", max_words=2)
    assert not is_short_question("Why? Go on.", max_words=6)
    assert not is_short_question("What would you say to her then?", max_words=6)


def test_the_collapse_of_appendix_e_exceeds_three_thresholds_and_stops_a_run(watched):
    examples, config = watched()
    rows, monitor = observed(*map(collapsed, steps_of(examples)), config=config)
    assert signs_beyond(rows[0], config.stop) == [Sign.UNKNOWN_SITUATION, Sign.ONE_RESPONSE, Sign.SHORT_QUESTION]
    assert [rows[0][sign.logged] for sign in Sign if not sign.falls] == [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]
    assert first_collapse(monitor.history, config.stop).step == config.stop.patience_steps == 5


def test_references_of_the_sample_corpus_show_no_sign(watched):
    examples, config = watched()
    rows, _ = observed(*map(healthy, steps_of(examples)), config=config)
    assert not [sign for row in rows for sign in signs_beyond(row, config.stop)]
    assert {row["health/words_to_reference"] for row in rows} == {1.0}


def test_references_of_mesc_show_no_sign_and_its_collapse_does(watched, real_data):
    examples, config = watched("dataset=mesc", f"dataset.root={real_data / 'mesc'}")
    steps = steps_of(examples)
    rows, _ = observed(*map(healthy, steps), config=config)
    assert len(rows) == 116
    assert not [sign for row in rows for sign in signs_beyond(row, config.stop)]
    assert max(row["health/one_response"] for row in rows) < 0.05
    assert max(row["health/copied_history"] for row in rows) < 0.1
    turned, monitor = observed(*map(healthy, steps[:20]), *map(collapsed, steps[20:40]), config=config)
    collapse = first_collapse(monitor.history, config.stop)
    assert (collapse.sign, collapse.step) == (Sign.UNKNOWN_SITUATION, 25)
    assert turned[19]["health/short_question"] < 0.3 < turned[20]["health/short_question"] == 1.0


def test_a_restored_monitor_computes_the_same_signs(watched):
    examples, config = watched()
    steps = [healthy(examples[start : start + 5]) for start in range(0, 60, 5)]
    rows, monitor = observed(*steps, config=config)
    _, stopped = observed(*steps[:7], config=config)
    restored = HealthMonitor(config)
    restored.restore(json.loads(json.dumps(stopped.state())))
    assert [restored.observe(step) for step in steps[7:]] == rows[7:]
    assert restored.state() == monitor.state()
