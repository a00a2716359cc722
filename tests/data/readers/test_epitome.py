"""Labeled pairs in EPITOME's layout: reading, errors, splits."""

import csv

import pytest

from fires_exp.data.readers.epitome import pairs_hash, rationale_spans, read_support_pairs, split_pairs
from fires_exp.errors import DataError

COLUMNS = ("sp_id", "rp_id", "seeker_post", "response_post", "level", "rationales")
FILES = ("emotional-reactions-reddit.csv", "interpretations-reddit.csv", "explorations-reddit.csv")
ROW = ("s1", "r1", "I failed.", "I am sorry. What happened?")


def write(folder, tables, columns=COLUMNS):
    for name, rows in zip(FILES, tables, strict=True):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, *rows])
    return folder


def write_pair(folder, *, er=(2, "I am sorry."), ip=(0, ""), ex=(1, "What happened?")):
    return write(folder, [[(*ROW, *label)] for label in (er, ip, ex)])


def test_three_files_become_one_pair_with_three_labels(tmp_path):
    (pair,) = read_support_pairs(write_pair(tmp_path))
    assert (pair.seeker, pair.response) == ("I failed.", "I am sorry. What happened?")
    assert [label.level for label in pair.labels] == [2, 0, 1]
    assert [pair.response[start:end] for start, end in pair.labels[0].spans] == ["I am sorry."]
    assert pair.labels[1].spans == ()
    assert [pair.response[start:end] for start, end in pair.labels[2].spans] == ["What happened?"]


def test_a_pair_that_occurs_twice_is_read_once_with_its_first_label(tmp_path):
    table = [(*ROW, 1, ""), (*ROW, 2, "")]
    (pair,) = read_support_pairs(write(tmp_path, [table, table, table]))
    assert [label.level for label in pair.labels] == [1, 1, 1]


def test_a_rationale_that_is_no_exact_part_of_the_response_is_dropped():
    assert rationale_spans("I see. I hear you.", " I hear you. |I see.|nowhere||") == ((0, 6), (7, 18))


@pytest.mark.parametrize(
    ("change", "location"),
    [
        ({"er": (3, "")}, r"^emotional-reactions-reddit\.csv:2: level 3"),
        ({"ip": ("x", "")}, r"^interpretations-reddit\.csv:2: level 'x'"),
    ],
)
def test_an_invalid_row_is_an_error(tmp_path, change, location):
    with pytest.raises(DataError, match=location):
        read_support_pairs(write_pair(tmp_path, **change))


def test_a_pair_that_one_file_lacks_is_an_error(tmp_path):
    full, other = [(*ROW, 0, "")], [("s1", "r2", *ROW[2:], 0, "")]
    with pytest.raises(DataError, match=r"^[a-z-]+\.csv:2: the pair s1 r\d "):
        read_support_pairs(write(tmp_path, [full, other, full]))


def test_a_missing_folder_file_or_column_is_an_error(tmp_path):
    with pytest.raises(DataError, match=rf"^epitome\.data={tmp_path / 'missing'} "):
        read_support_pairs(tmp_path / "missing")
    with pytest.raises(DataError, match=r"emotional-reactions\*\.csv"):
        read_support_pairs(tmp_path)
    write_pair(tmp_path)
    (tmp_path / "explorations-2.csv").write_text("")
    with pytest.raises(DataError, match=r"2 files explorations\*\.csv"):
        read_support_pairs(tmp_path)
    (tmp_path / "explorations-2.csv").unlink()
    (tmp_path / FILES[1]).write_text("sp_id,rp_id\n")
    with pytest.raises(DataError, match=r"^interpretations-reddit\.csv: .*seeker_post"):
        read_support_pairs(tmp_path)


def read_pairs(folder, posts, responses_each):
    rows = [
        (f"s{post}-{index}", f"r{index}", f"post {post}", f"response {post} {index}", 0, "")
        for post in range(posts)
        for index in range(responses_each)
    ]
    return read_support_pairs(write(folder, [rows] * 3))


def test_a_post_is_in_one_split_even_under_several_ids(tmp_path):
    pairs = read_pairs(tmp_path, posts=20, responses_each=3)
    split = split_pairs(pairs, val_fraction=0.1, test_fraction=0.2, seed=7)
    assert {name: len(members) for name, members in split.items()} == {"train": 42, "val": 6, "test": 12}
    posts = [{pair.seeker for pair in members} for members in split.values()]
    assert not posts[0] & posts[1] | posts[0] & posts[2] | posts[1] & posts[2]


def test_the_splits_depend_on_the_seed_and_not_on_the_order_of_pairs(tmp_path):
    pairs = read_pairs(tmp_path, posts=20, responses_each=1)
    fractions = {"val_fraction": 0.1, "test_fraction": 0.2}
    split = split_pairs(pairs, **fractions, seed=7)
    reordered = split_pairs(pairs[::-1], **fractions, seed=7)
    assert {pair.seeker for pair in split["test"]} == {pair.seeker for pair in reordered["test"]}
    assert split["test"] != split_pairs(pairs, **fractions, seed=8)["test"]


def test_an_empty_split_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"^2 seeker posts .*val split"):
        split_pairs(read_pairs(tmp_path, posts=2, responses_each=3), val_fraction=0.1, test_fraction=0.4, seed=0)


def test_the_hash_changes_with_levels_and_spans(tmp_path):
    first = pairs_hash(read_support_pairs(write_pair(tmp_path)))
    assert first == pairs_hash(read_support_pairs(write_pair(tmp_path)))
    assert first != pairs_hash(read_support_pairs(write_pair(tmp_path, ip=(1, ""))))
    assert first != pairs_hash(read_support_pairs(write_pair(tmp_path, ex=(1, "What"))))


def test_the_published_corpus_has_3023_pairs(real_data):
    pairs = read_support_pairs(real_data / "epitome")
    assert len(pairs) == 3023
    split = split_pairs(pairs, val_fraction=0.1, test_fraction=0.2, seed=42)
    assert sum(len(members) for members in split.values()) == 3023
    positive = [label for pair in pairs for label in pair.labels if label.level > 0]
    assert sum(bool(label.spans) for label in positive) / len(positive) > 0.9
