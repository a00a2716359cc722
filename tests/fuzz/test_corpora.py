"""Corpora with random content: conversations, or an error in one line."""

import csv
import gzip
import io
import json
import tempfile
from pathlib import Path

from hypothesis import assume, given
from hypothesis import strategies as st

from fires_exp.data.readers.csv_rows import read_csv
from fires_exp.data.readers.emotyda import read_emotyda_esc
from fires_exp.data.readers.epitome import read_support_pairs
from fires_exp.data.readers.jsonl import read_jsonl
from fires_exp.data.readers.mesc import read_mesc
from fires_exp.data.readers.row_errors import RowProblems
from fires_exp.data.readers.utterances import clean_text
from fires_exp.errors import DataError

MESC = "Utterance Speaker Emotion Strategy Dialogue_ID Utterance_ID Season Episode StartTime EndTime".split()
EMOTYDA = ["Speaker", "Emotion", "Dialogue_ID", "Utterance_ID", "Season", "Episode", "StartTime", "EndTime", "Dialogue Act"]
PAIRS = "sp_id rp_id seeker_post response_post level rationales".split()
PATTERN = "S{season:02d}E{episode:02d}.mp4"

cells = st.one_of(
    st.sampled_from(
        ["Client", "Therapist", "0", "1", "2", "831", "-1", "1e3", "٣", "", " ", "00:00:01,000", "00:00:02,5", "99:99:99,999"]
    ),
    st.text(max_size=12),
    st.sampled_from(["\0", '"', "a\nb", "<think>", "\ud800", "x" * 140_000]),
)
policies = st.sampled_from(["error", "skip"])


def rows_of(columns):
    valid = {
        "Speaker": ["Client", "Therapist"],
        "Dialogue_ID": ["0", "831"],
        "StartTime": ["00:00:01,000"],
        "EndTime": ["00:00:02,000"],
    }
    numbers = {column: ["0", "1", "2", "3"] for column in ("Utterance_ID", "Season", "Episode", "level")}
    row = st.tuples(*(st.one_of(st.sampled_from({**valid, **numbers}.get(column, ["Hi."])), cells) for column in columns))
    return st.lists(st.one_of(row, row, st.lists(cells, max_size=12)), max_size=6)


def table(header, rows):
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    return text.getvalue().encode("utf-8", "surrogatepass")


def tables(columns):
    return st.one_of(rows_of(columns).map(lambda rows: table(columns, rows)), st.binary(max_size=300), damaged(columns))


@st.composite
def damaged(draw, columns):
    """A table with some bytes removed and others inserted."""
    content = table(columns, draw(rows_of(columns)))
    start = draw(st.integers(0, len(content)))
    return content[:start] + draw(st.binary(max_size=8)) + content[start + draw(st.integers(0, 20)) :]


def read(reader, files, policy="error"):
    """The result of a reader on files, by name; None if it raises `DataError`, which must be one short line."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        problems = RowProblems(policy)
        try:
            return reader(Path(folder), problems)
        except DataError as error:
            assert len(str(error).splitlines()) == 1
            assert len(str(error)) < 1000
            return None


def mesc(root, problems):
    return read_mesc(root, corpus="mesc", video_pattern=PATTERN, problems=problems)


splits = st.one_of(
    st.just(b'{"train": [0], "test": [831]}'), st.just(b'{"train": [0]}'), st.binary(max_size=40), st.just(b"[" * 99_999)
)


@given(tables(MESC), splits, st.one_of(st.none(), tables(["Dialogue_ID", "Utterance_ID", "emotion"])), policies)
def test_mesc(text, listed, notes, policy):
    files = {"MESC.csv": text, "split_ids.json": listed} | ({"notes.csv": notes} if notes is not None else {})
    for conversation in read(mesc, files, policy) or ():
        assert conversation.turns
        assert all(turn.text == clean_text(turn.text) != "" for turn in conversation.turns)
        assert all(turn.clip is None or turn.clip.start_seconds < turn.clip.end_seconds for turn in conversation.turns)


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40), min_size=1, max_size=5))
def test_mesc_texts_are_read_back(texts):
    assume(all(clean_text(text) and "\0" not in text for text in texts))
    speakers = ["Client", "Therapist"] * 3
    rows = [
        [text, speakers[index], "sad", "", 0, index, 1, 1, f"00:00:0{index},000", f"00:00:0{index},500"]
        for index, text in enumerate(texts)
    ]
    (conversation,) = read(mesc, {"MESC.csv": table(MESC, rows), "split_ids.json": b'{"train": [0]}'})
    assert [turn.text for turn in conversation.turns] == [clean_text(text) for text in texts]


@given(tables(EMOTYDA), tables(["Utterance", "Sentiment", "Dialogue_ID", "Utterance_ID"]), st.booleans(), policies)
def test_emotyda(labels, text, packed, policy):
    files = {"EMOTyDA_MELD.csv": labels, "MELD_train_sent_emo.csv.gz": gzip.compress(text, 1) if packed else text}
    read(lambda root, problems: read_emotyda_esc(root, video_pattern=PATTERN, problems=problems), files, policy)


@given(st.tuples(tables(PAIRS), tables(PAIRS), tables(PAIRS)), st.booleans())
def test_support_pairs(contents, same):
    names = ("emotional-reactions.csv", "interpretations.csv", "explorations.csv")
    files = dict(zip(names, contents[:1] * 3 if same else contents, strict=True))
    for pair in read(lambda root, problems: read_support_pairs(root), files) or ():
        assert all(label.level in (0, 1, 2) for label in pair.labels)
        assert all(0 <= start < end <= len(pair.response) for label in pair.labels for start, end in label.spans)


@given(
    st.lists(
        st.lists(
            st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), max_size=20), min_size=2, max_size=2
        ),
        max_size=5,
    )
)
def test_csv_rows_are_read_back(rows):
    read_rows = read(
        lambda root, problems: list(read_csv(root / "t.csv", ("a", "b"), problems)), {"t.csv": table(["a", "b"], rows)}
    )
    assert [[row.cells["a"], row.cells["b"]] for row in read_rows] == rows


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["seeker", "supporter", "train"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["id", "turns", "text", "thought", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)
turns = st.fixed_dictionaries(
    {"speaker": st.one_of(st.sampled_from(["seeker", "supporter"]), values), "text": st.one_of(st.text(max_size=9), values)},
    optional=dict.fromkeys(("emotions", "strategies", "video", "start_seconds", "end_seconds", "thought", "x"), values),
)
talks = st.fixed_dictionaries(
    {
        "id": st.one_of(st.text(min_size=1, max_size=3), values),
        "split": st.one_of(st.sampled_from(["train", "val", "test"]), values),
        "turns": st.one_of(st.lists(turns, max_size=4), values),
    }
)
lines = st.lists(
    st.one_of(
        talks.map(lambda talk: json.dumps(talk).encode()),
        values.map(lambda value: json.dumps(value).encode()),
        st.binary(max_size=60),
    ),
    max_size=4,
)


@given(lines, policies)
def test_jsonl(content, policy):
    for conversation in (
        read(lambda root, problems: read_jsonl(root, problems=problems), {"a.jsonl": b"\n".join(content)}, policy) or ()
    ):
        assert conversation.id.isprintable()
        assert all(turn.text == clean_text(turn.text) != "" for turn in conversation.turns)


@given(st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=5))
def test_jsonl_texts_are_read_back(texts):
    assume(all(clean_text(text) for text in texts))
    turns = [{"speaker": ["seeker", "supporter"][index % 2], "text": text} for index, text in enumerate(texts)]
    line = json.dumps({"id": "a", "split": "val", "turns": turns}).encode()
    (conversation,) = read(lambda root, problems: read_jsonl(root, problems=problems), {"a.jsonl": line})
    assert [turn.text for turn in conversation.turns] == [clean_text(text) for text in texts]
