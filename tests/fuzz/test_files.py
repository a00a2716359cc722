"""Files with random content: predictions, ratings, banks, answers of services, configurations."""

import json
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from io import StringIO
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fires_exp.cli.human_eval import main as human_eval
from fires_exp.config.load import load_yaml
from fires_exp.errors import FiresError
from fires_exp.human_eval.files import KEY_FORMAT, RATINGS_FORMAT, Ratings, read_ratings, write_ratings
from fires_exp.human_eval.study import VERDICTS, Key, KeyItem
from fires_exp.human_eval.systems import read_system
from fires_exp.metrics.prediction_files import read_rows_by_id
from fires_exp.scores.rouge import rouge_l_f1
from fires_exp.services.batch_api import read_batch_results
from fires_exp.services.client import parse_retry_after
from fires_exp.services.messages import ChatResponse, Refusal, Usage
from fires_exp.services.response_cache import ResponseCache
from fires_exp.services.responses import MalformedResponseError, error_text, parse_response
from fires_exp.storage.files import complete_lines
from fires_exp.thinking.aspects import Aspect
from fires_exp.thinking.bank import BankedThought, read_bank, write_bank
from fires_exp.thinking.thought import Thought

KEYS = (
    "id response context thought well_formed reference_response choices message content usage error prompt_tokens finish_reason "
    "items systems first support i001 rater aspects emotion prose"
).split()
HOSTILE = [b"[" * 99_999, b"9" * 5000, b'{"id": "\\ud800", "response": "\\udfff"}', b"\xff\xfe", b"\x00", b'{"a": 1e999}', b"NaN"]

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)),
    max_leaves=8,
)


def mutations(facts):
    """An object with some of its values, at any depth, replaced."""
    if isinstance(facts, dict):
        return st.one_of(st.fixed_dictionaries({key: mutations(value) for key, value in facts.items()}), st.just(facts), values)
    if isinstance(facts, list):
        return st.one_of(st.tuples(*map(mutations, facts)).map(list), st.just(facts), values)
    return st.one_of(st.just(facts), st.just(facts), values)


def encoded(facts):
    return st.one_of(
        mutations(facts).map(lambda value: json.dumps(value).encode()), st.binary(max_size=80), st.sampled_from(HOSTILE)
    )


def file_of(facts):
    return st.lists(encoded(facts), max_size=4).map(b"\n".join)


def read(reader, content):
    """The result of a reader on a file; None if it raises `FiresError`, which must be one line that names the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.jsonl"
        path.write_bytes(content)
        try:
            return reader(path)
        except FiresError as error:
            assert "\n" not in str(error)
            assert str(path) in str(error)
            return None


PREDICTION = {
    "id": "a",
    "response": "I see.",
    "context": "I failed.",
    "thought": "",
    "reference_response": "What?",
    "well_formed": True,
}


@given(file_of(PREDICTION))
def test_predictions_to_score(content):
    for line in (read(read_rows_by_id, content) or {}).values():
        assert 0 <= rouge_l_f1(line.reference_response or "", line.response) <= 1
        assert line.response.encode("utf-8")


@given(file_of(PREDICTION))
def test_predictions_to_judge(content):
    system = read(lambda path: read_system(str(path)), content)
    for prediction in system.predictions.values() if system else ():
        assert (prediction.response + prediction.thought + prediction.context + prediction.id).encode("utf-8")


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=20), min_size=1, max_size=4))
def test_predictions_are_read_back(responses):
    rows = [{"id": f"a{index}", "response": response} for index, response in enumerate(responses)]
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    assert [line.response for line in read(read_rows_by_id, content).values()] == responses
    system = read(lambda path: read_system(str(path)), content)
    assert [prediction.response for prediction in system.predictions.values()] == responses
    assert read(complete_lines, content + b'{"id') == [json.dumps(row, ensure_ascii=False) for row in rows]


KEY = Key(
    study="0123456789ab",
    seed=42,
    systems={"first": "A", "second": "B"},
    files={"first": "a.jsonl", "second": "b.jsonl"},
    questions=("support", "preference"),
    items={"i001": KeyItem(instance="x", side_a="first"), "i002": KeyItem(instance="y", side_a="second")},
)
KEY_FILE = json.loads(json.dumps({"format": KEY_FORMAT, **asdict(KEY)}))
RATINGS_FILE = {
    "format": RATINGS_FORMAT, "study": KEY.study, "rater": "Ann",
    "ratings": {"i001": {"support": "A"}, "i002": {"support": "tie"}},
}  # fmt: skip


@given(encoded(KEY_FILE), encoded(RATINGS_FILE))
def test_a_study_is_read_or_an_error_in_one_line(key, ratings):
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("key.json", "ratings.json")]
        for path, content in zip(paths, (key, ratings), strict=True):
            path.write_bytes(content)
        errors = StringIO()
        with redirect_stdout(StringIO()), redirect_stderr(errors):
            status = human_eval(["read", *map(str, paths)])
        assert status in (0, 2)
        assert errors.getvalue().count("\n") == (1 if status else 0)


@given(
    st.text(st.characters(exclude_categories=("Cs", "Z", "C")), min_size=1, max_size=9),
    st.dictionaries(st.tuples(st.sampled_from(["i001", "i002"]), st.sampled_from(KEY.questions)), st.sampled_from(VERDICTS)),
)
def test_ratings_are_read_back(rater, verdicts):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ratings.json"
        write_ratings(path, KEY.study, Ratings(rater=rater, verdicts=verdicts))
        assert read_ratings(path, KEY) == Ratings(rater=rater, verdicts=verdicts)


BANKED = {
    "example_id": "a", "plan": "flexible", "teacher": "openai", "model": "m", "prompt_hash": "h", "created": "now",
    "seconds": 1.5,    "usage": {"prompt_tokens": 1, "completion_tokens": 2}, "aspects": {"emotion": "sad"}, "prose": "",
}  # fmt: skip


@given(file_of(BANKED))
def test_thoughts_of_a_bank(content):
    for banked in (read(read_bank, content) or {}).values():
        assert banked.usage.prompt_tokens + banked.usage.completion_tokens >= 0
        assert banked.thought.text.encode("utf-8")


@given(st.dictionaries(st.sampled_from(list(Aspect)), st.text(st.characters(exclude_categories=("Cs",)))), st.integers(0, 9))
def test_a_bank_is_read_back(aspects, tokens):
    thought = BankedThought(
        example_id="a",
        plan="fixed",
        teacher="t",
        model="",
        prompt_hash="h",
        created="now",
        seconds=0.5,
        usage=Usage(prompt_tokens=tokens, completion_tokens=tokens),
        thought=Thought(aspects=aspects),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "thoughts.jsonl"
        write_bank(path, [thought])
        assert read_bank(path) == {"a": thought}


ANSWER = {
    "model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 4},
    "choices": [{"finish_reason": "stop", "message": {"content": "<think>a</think>I see.", "refusal": None, "reasoning": None}}],
}  # fmt: skip


@given(encoded(ANSWER))
def test_any_body_of_a_service_is_an_answer_that_can_be_kept_or_a_broken_one(body):
    assert "\n" not in error_text(body)
    try:
        answer = parse_response(body, 0.1)
    except MalformedResponseError as error:
        assert "\n" not in str(error)
        return
    if isinstance(answer, Refusal):
        assert answer.reason.encode("utf-8")
        return
    assert min(answer.usage.prompt_tokens, answer.usage.completion_tokens) >= 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answers.jsonl"
        ResponseCache(path).add("k", "q", answer)
        assert ResponseCache(path).find("k") == answer


CACHED_RESPONSE = {
    "key": "k", "question": "q", "text": "t", "reasoning": "", "finish_reason": "stop", "model": "m",
    "usage": {"prompt_tokens": 1, "completion_tokens": 1}, "seconds": 0.5, "created": "now",
}  # fmt: skip


@given(file_of(CACHED_RESPONSE), st.booleans())
def test_a_response_cache(content, ended):
    cache = read(ResponseCache, content + b"\n" * ended)
    answer = cache.find("k") if cache else None
    if answer is not None:
        assert isinstance(answer, ChatResponse)
        assert isinstance(answer.text, str)
        assert answer.usage.prompt_tokens + answer.usage.completion_tokens >= 0


@given(file_of({"custom_id": "k", "response": {"status_code": 200, "body": ANSWER}}))
def test_results_of_a_batch_service(content):
    with tempfile.TemporaryDirectory() as folder:
        read(lambda path: read_batch_results(path, ResponseCache(Path(folder) / "answers.jsonl")), content)


@given(st.one_of(st.text(max_size=30), st.sampled_from(["inf", "nan", "-1", "Mon, 01 Jan 2024 00:00:00 +99999999999", "1e400"])))
def test_any_wait_that_a_service_asks_for_is_a_number_of_seconds(header):
    seconds = parse_retry_after(header)
    assert seconds is None or seconds >= 0


RESOLVED = (Path(__file__).parents[2] / "conf" / "sft" / "default.yaml").read_text().splitlines()


@settings(max_examples=60)
@given(
    st.one_of(
        st.binary(max_size=80),
        st.permutations(RESOLVED).map("\n".join).map(str.encode),
        values.map(lambda value: json.dumps(value).encode()),
    )
)
def test_a_configuration(content):
    assert read(load_yaml, content) is None
