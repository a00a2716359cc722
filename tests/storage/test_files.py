import hashlib

import pytest

from fires_exp.storage.files import atomic_path, complete_lines, sha256_of_file, write_atomically


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_then_fail(path, *, folder=False):
    with atomic_path(path) as temporary:
        if folder:
            temporary.mkdir()
        (temporary / "b" if folder else temporary).write_text("new")
        raise OSError(28, "No space left on device")


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert sha256_of_file(path) == hashlib.sha256(b"abc").hexdigest()


def test_a_file_is_replaced_at_the_end_of_the_block(tmp_path):
    path = tmp_path / "metrics.json"
    write_atomically(path, "old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path
    assert path.read_text() == "new"
    assert names(tmp_path) == ["metrics.json"]


def test_a_failed_block_changes_nothing(tmp_path):
    path = tmp_path / "metrics.json"
    write_atomically(path, "old")
    with pytest.raises(OSError, match="No space left"):
        write_then_fail(path)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["metrics.json"]


def test_a_folder_is_replaced_at_the_end_of_the_block(tmp_path):
    path = tmp_path / "model"
    for content, name in (("old", "a"), ("new", "b")):
        with atomic_path(path) as temporary:
            temporary.mkdir()
            (temporary / name).write_text(content)
    assert names(path) == ["b"]
    assert names(tmp_path) == ["model"]


def test_a_failed_block_leaves_the_old_folder(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "a").write_text("old")
    with pytest.raises(OSError, match="No space left"):
        write_then_fail(path, folder=True)
    assert names(path) == ["a"]
    assert names(tmp_path) == ["model"]


def test_the_folder_of_another_process_stays_where_it_comes_between(tmp_path, monkeypatch):
    """Both wrote the same entry: the other process puts its folder back between the deletion and the rename."""
    path = tmp_path / "entry"

    def delete_and_let_the_other_write(folder, **_):
        folder.mkdir(exist_ok=True)
        (folder / "theirs").write_text("same")

    with atomic_path(path) as temporary:
        temporary.mkdir()
        (temporary / "ours").write_text("same")
        monkeypatch.setattr("fires_exp.storage.files.shutil.rmtree", delete_and_let_the_other_write)
    monkeypatch.undo()
    assert names(path) == ["theirs"]


def test_write_atomically_writes_utf_8(tmp_path):
    write_atomically(tmp_path / "a", "é\n")
    assert (tmp_path / "a").read_bytes() == b"\xc3\xa9\n"


@pytest.mark.parametrize(
    ("content", "lines"), [("", []), ("{", []), ("a\n", ["a"]), ("a\nb\n", ["a", "b"]), ("a\n\nb", ["a", ""])]
)
def test_an_incomplete_last_line_is_dropped(tmp_path, content, lines):
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    assert complete_lines(path) == lines


def test_a_missing_file_has_no_lines(tmp_path):
    assert complete_lines(tmp_path / "none") == []
