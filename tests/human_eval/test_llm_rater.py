"""A model as a rater, against a service on loopback: what it is shown, what its verdicts become, who agrees with it."""

import base64
import io
import json
import re

import pytest
from faulty_server import serving, status
from human_eval.study_files import write_system
from PIL import Image

from fires_exp.cli.human_eval import main
from fires_exp.human_eval.files import read_key, read_ratings, write_ratings

KEY = "sk-very-secret-0123456789"


@pytest.fixture(scope="module")
def study(tmp_path_factory, cache):
    """Three instances; "gemstone" says more than "limestone", whichever side it stands on."""
    folder = tmp_path_factory.mktemp("study")
    systems = [str(write_system(folder / name, name, cache)) for name in ("gemstone", "limestone")]
    assert main(["make", *systems, "--out", str(folder / "made"), "--count", "3", "--seed", "7"]) == 0
    return folder / "made"


@pytest.fixture
def folder(study, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name in ("rate.html", "key.json"):
        (tmp_path / name).write_bytes((study / name).read_bytes())
    return tmp_path


def judge(folder, server, *more):
    quick = ["requests_per_minute=60000", "backoff_seconds=0.01", f"base_url={server.url}", "model=org/judge-1"]
    return main(["judge", str(folder), *(f"reward.judge.{setting}" for setting in quick), *more])


def text(body):
    content = body["messages"][1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def gemstone(body):
    (a,) = (line for line in text(body).splitlines() if line.startswith("A: "))
    return "A" if "help you most tonight" in a else "B"


def test_ratings_are_read_like_anybody_s_and_agreement_with_people_comes_by_itself(folder, capsys):
    with serving(gemstone) as server:
        assert judge(folder, server) == 0
    output = capsys.readouterr().out
    assert "12 comparisons, of which 12 " in output  # 3 instances, 4 questions
    assert len(server.requests) == 24
    (path,) = folder.glob("ratings_*.json")
    key = read_key(folder / "key.json")
    assert path.name == f"ratings_{key.study}_org_judge-1.json"
    ratings = read_ratings(path, key)
    assert ratings.rater == "org/judge-1"
    assert {key.outcome(item, verdict) for (item, _), verdict in ratings.verdicts.items()} == {"win"}

    first, *others = key.items
    person = dict(ratings.verdicts) | {(first, "support"): "tie"}
    write_ratings(folder / "ann.json", key.study, type(ratings)(rater="ann", verdicts=person))
    assert main(["read", str(folder / "key.json"), str(path), str(folder / "ann.json")]) == 0
    results = {row["question"]: row for row in json.loads((folder / "results.json").read_text())["questions"]}
    assert results["support"]["agreement"] == pytest.approx(len(others) / 3)
    assert results["preference"]["agreement"] == 1.0


def test_a_model_that_always_prefers_the_first_position_gives_only_ties(folder, capsys):
    with serving(lambda body: "A") as server:
        assert judge(folder, server) == 0
    assert "12 comparisons, of which 0 " in capsys.readouterr().out
    (path,) = folder.glob("ratings_*.json")
    assert set(read_ratings(path, read_key(folder / "key.json")).verdicts.values()) == {"tie"}


def test_it_gets_what_raters_see_and_nothing_else(folder):
    with serving(gemstone) as server:
        judge(folder, server)
        shown = len(server.requests)
        judge(folder, server, "--text-only")
    with_frames, without = server.requests[:shown], server.requests[shown:]
    about_responses = [body for body in with_frames if "which response" in text(body).lower()]
    about_thoughts = [body for body in with_frames if "which thinking" in text(body).lower()]
    assert len(about_responses) == len(about_thoughts) == 12
    assert not [body for body in about_responses if "Emotion: sadness" in text(body)]
    assert all(text(body).count("Thinking: Emotion: sadness Situation: turn") == 2 for body in about_thoughts)
    for word in ("gemstone", "limestone", *(item.instance for item in read_key(folder / "key.json").items.values())):
        assert word not in json.dumps(server.requests)
    pictures = [part["image_url"]["url"] for part in with_frames[0]["messages"][1]["content"] if part["type"] == "image_url"]
    assert pictures
    for picture in pictures:
        with Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))) as frame:
            assert frame.width * frame.height <= 320 * 240
    assert all(isinstance(body["messages"][1]["content"], str) for body in without)
    assert text(without[0]).startswith("Conversation:\nSeeker: ")


def test_a_run_that_failed_asks_what_is_missing_and_then_nothing(folder, capsys):
    with serving(gemstone, [status(503, "busy")] * 3) as server:
        assert judge(folder, server, "reward.judge.max_concurrent_requests=1", "reward.judge.retries=0") == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("fires_exp: 3 requests have no response, the last for i001/preference/AB: status 503: busy")
        assert not list(folder.glob("ratings_*.json"))
        assert judge(folder, server) == 0
        assert len(server.requests) == 24 + 3
        assert judge(folder, server) == 0
        assert len(server.requests) == 24 + 3


def test_what_the_service_refuses_is_not_rated(folder, capsys):
    with serving(gemstone, [status(400, "content policy")]) as server:
        assert judge(folder, server, "reward.judge.max_concurrent_requests=1") == 0
    assert re.search(r"of which 11 .*; 1 of them were refused", capsys.readouterr().out)
    (path,) = folder.glob("ratings_*.json")
    verdicts = read_ratings(path, read_key(folder / "key.json")).verdicts
    assert len(verdicts) == 11
    assert ("i001", "support") not in verdicts


def test_a_dry_run_counts_and_sends_nothing_and_needs_no_key(folder, monkeypatch, capsys):
    monkeypatch.delenv("OPENAI_API_KEY")
    with serving() as server:
        assert judge(folder, server, "reward.judge.dry_run=true") == 0
        assert server.requests == []
    output = capsys.readouterr().out
    assert "24 requests to org/judge-1 at http://127.0.0.1" in output
    assert "(0 responses are cached)" in output
    assert "192 completion tokens" in output  # 24 * 8
    assert not list(folder.glob("ratings_*.json"))


def test_the_key_is_in_no_file_and_in_no_message(folder, capsys):
    with serving(gemstone, [status(401, f"wrong key {KEY}")]) as server:
        assert judge(folder, server) == 2
        assert judge(folder, server) == 0
    output = capsys.readouterr()
    assert "wrong key ***" in output.err
    assert KEY not in output.err + output.out
    assert not [path for path in folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model=x"], "model: write reward.judge.KEY=VALUE"),
        (["reward.judge.modell=x"], "Could not override 'reward.judge.modell'"),
        (["reward.judge.max_concurrent_requests=0"], "reward.judge.max_concurrent_requests=0"),
        (["reward.judge.model=null"], "reward.judge.base_url="),
        ([f"reward.judge.model={KEY}"], "reward.judge.model holds a key or a password"),
        (["reward.judge.api_key_env=NO_SUCH"], "reward.judge.api_key_env=NO_SUCH"),
    ],
)
def test_a_wrong_setting_is_one_line(folder, capsys, settings, message):
    assert main(["judge", str(folder), *settings]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert KEY not in line


def test_a_folder_without_a_study_is_one_line(folder, capsys):
    with serving() as server:
        assert judge(folder / "nowhere", server) == 2
        (folder / "rate.html").write_text('<script type="application/json" id="study">{"study": 1}</script>')
        assert judge(folder, server) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "rate.html: No such file or directory; name the folder that `fires-exp human-eval make` wrote" in first
    assert "rate.html" in second
