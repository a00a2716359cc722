from dataclasses import replace

import pytest
from making import make_example

from fires_exp.data import instances as module
from fires_exp.data.dataset import content_hash
from fires_exp.data.instances import Instances
from fires_exp.data.records import Clip


@pytest.fixture
def instances(tmp_path):
    example = make_example()
    turn = replace(example.history[0], clip=Clip(video="a.mp4", start_seconds=0.0, end_seconds=1.0))
    (tmp_path / "a.mp4").write_bytes(b"video")
    return Instances(dataset="mesc", split="train", examples=(replace(example, history=(turn,)),), video_root=tmp_path)


def test_the_length_is_the_number_of_examples(instances):
    assert len(instances) == 1


def test_the_identity_is_the_content_hash_with_videos_or_without(instances):
    assert instances.identity(with_frames=True) == content_hash(instances.examples, instances.video_root)
    assert instances.identity(with_frames=False) == content_hash(instances.examples, None)
    assert instances.identity(with_frames=True) != instances.identity(with_frames=False)


def test_without_a_video_root_frames_make_no_difference(instances):
    text_only = replace(instances, video_root=None)
    assert text_only.identity(with_frames=True) == text_only.identity(with_frames=False)


def test_the_identity_is_computed_once(instances, monkeypatch):
    first = [instances.identity(with_frames=with_frames) for with_frames in (True, False)]
    monkeypatch.setattr(module, "content_hash", None)
    assert [instances.identity(with_frames=with_frames) for with_frames in (True, False)] == first


def test_a_changed_copy_has_an_identity_of_its_own(instances):
    instances.identity(with_frames=False)
    assert replace(instances, examples=()).identity(with_frames=False) == content_hash((), None)
