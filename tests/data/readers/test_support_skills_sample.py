from __future__ import annotations

import csv
from collections import Counter

import pytest

from fires_exp.data.readers.sample import SAMPLE_ROOT

MECHANISMS = ("emotional-reactions", "interpretations", "explorations")
HEADER = ["sp_id", "rp_id", "seeker_post", "response_post", "level", "rationales"]
POSTS, PAIRS = 69, 235


def rows_of(mechanism: str) -> list[dict[str, str]]:
    with (SAMPLE_ROOT / "support_skills" / f"{mechanism}.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames == HEADER
        return list(reader)


def test_the_three_files_hold_the_same_pairs_in_the_same_order() -> None:
    pairs = [[tuple(row[name] for name in HEADER[:4]) for row in rows_of(mechanism)] for mechanism in MECHANISMS]
    assert pairs[0] == pairs[1] == pairs[2]


def test_all_pairs_and_texts_are_distinct() -> None:
    rows = rows_of(MECHANISMS[0])
    assert len(rows) == PAIRS
    assert len({(row["sp_id"], row["rp_id"]) for row in rows}) == PAIRS
    assert len({row["response_post"] for row in rows}) == PAIRS
    posts = {(row["sp_id"], row["seeker_post"]) for row in rows}
    assert len(posts) == len({post for _, post in posts}) == len({sp_id for sp_id, _ in posts}) == POSTS


def test_the_id_of_a_response_begins_with_that_of_its_post() -> None:
    assert all(row["rp_id"].rpartition("-")[0] == row["sp_id"] for row in rows_of(MECHANISMS[0]))


def test_posts_have_8_to_60_words_and_responses_3_to_45() -> None:
    for row in rows_of(MECHANISMS[0]):
        assert 8 <= len(row["seeker_post"].split()) <= 60, row["sp_id"]
        assert 3 <= len(row["response_post"].split()) <= 45, row["rp_id"]


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_no_level_is_rare(mechanism: str) -> None:
    counts = Counter(row["level"] for row in rows_of(mechanism))
    assert set(counts) == {"0", "1", "2"}
    assert 0.45 <= counts["0"] / PAIRS <= 0.60
    assert counts["1"] / PAIRS >= 0.15
    assert counts["2"] / PAIRS >= 0.20


def test_every_combination_of_mechanisms_occurs() -> None:
    levels = zip(*([row["level"] != "0" for row in rows_of(mechanism)] for mechanism in MECHANISMS), strict=True)
    counts = Counter(levels)
    assert len(counts) == 8
    assert min(counts.values()) / PAIRS > 0.03


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_rationales_are_parts_of_their_response_and_only_at_levels_above_0(mechanism: str) -> None:
    for row in rows_of(mechanism):
        assert (row["rationales"] != "") == (row["level"] != "0"), row["rp_id"]
        for rationale in row["rationales"].split("|") if row["rationales"] else ():
            assert rationale.strip(), row["rp_id"]
            assert rationale in row["response_post"], row["rp_id"]
