"""Checkpoint files: only complete ones, the newest undamaged one, as many as configured."""

import logging
import signal
from types import SimpleNamespace

import pytest

from fires_exp.config.training import OptimizerConfig
from fires_exp.errors import StoppedError
from fires_exp.training import preemption
from fires_exp.training.checkpoints import CheckpointAndStop, checkpointed_steps, clear_checkpoints, newest_checkpoint
from fires_exp.training.stepped_module import SteppedModule

OPTIMIZER = OptimizerConfig(learning_rate=1e-3, warmup_ratio=0.0, schedule="constant", weight_decay=0.0, max_grad_norm=1.0)


class ModuleWithSigns(SteppedModule):
    """Shows a collapse sign at the given steps."""

    def __init__(self, signs=()):
        super().__init__(OPTIMIZER, total_updates=10, seed=0)
        self.signs = signs

    @property
    def has_collapse_sign(self):
        return self.steps_done in self.signs


def write(module):
    return SimpleNamespace(save_checkpoint=lambda path: path.write_text(f"after {module.steps_done}"))


def take(folder, module, steps, *, every, trainer=None):
    """Take steps of a stage of ten."""
    callback = CheckpointAndStop(folder, stage="sft", every_steps=every, keep=2, total_steps=10)
    for _ in range(steps):
        module.steps_done += 1
        callback.on_train_batch_end(trainer or write(module), module)


def names(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_the_last_two_checkpoints_are_kept_each_with_its_hash(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    assert checkpointed_steps(tmp_path) == 0
    module = ModuleWithSigns()
    take(tmp_path, module, 7, every=2)
    assert names(tmp_path) == [f"step-00000{step}.ckpt{end}" for step in (4, 6) for end in ("", ".sha256")]
    assert newest_checkpoint(tmp_path).read_text() == "after 6"
    (tmp_path / "checkpoints" / ".step-000007.ckpt").write_text("hal")  # left by a kill during writing
    assert checkpointed_steps(tmp_path) == 6
    take(tmp_path, module, 3, every=2)
    assert names(tmp_path) == [
        name for step in ("08", "10") for name in (f"step-0000{step}.ckpt", f"step-0000{step}.ckpt.sha256")
    ]
    clear_checkpoints(tmp_path)
    assert newest_checkpoint(tmp_path) is None


def change(path):
    path.write_text("after 5")


def lose_its_hash(path):
    path.with_name(f"{path.name}.sha256").unlink()


@pytest.mark.parametrize("damage", [change, lose_its_hash])
def test_a_damaged_checkpoint_is_skipped_with_a_warning(tmp_path, caplog, damage):
    take(tmp_path, ModuleWithSigns(), 6, every=2)
    damage(tmp_path / "checkpoints" / "step-000006.ckpt")
    logging.getLogger("fires_exp").propagate = True
    assert newest_checkpoint(tmp_path).read_text() == "after 4"
    assert "step-000006.ckpt is damaged" in caplog.text


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):
    module = ModuleWithSigns()
    take(tmp_path, module, 2, every=2)

    def half(path):
        path.write_text("hal")
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        take(tmp_path, module, 2, every=2, trainer=SimpleNamespace(save_checkpoint=half))
    assert names(tmp_path) == ["step-000002.ckpt", "step-000002.ckpt.sha256"]


def test_a_step_with_a_collapse_sign_is_not_saved_but_the_next_without_is(tmp_path):
    take(tmp_path, ModuleWithSigns(signs=(4, 5)), 6, every=2)
    assert [name for name in names(tmp_path) if name.endswith("ckpt")] == ["step-000002.ckpt", "step-000006.ckpt"]


def test_a_stop_request_saves_the_current_step(tmp_path, monkeypatch):
    monkeypatch.setattr(preemption, "_requested_by", "SIGTERM")
    with pytest.raises(StoppedError, match=r"^sft stopped after step 1 of 10 by SIGTERM$"):
        take(tmp_path, ModuleWithSigns(), 5, every=3)
    assert checkpointed_steps(tmp_path) == 1


def test_a_stop_request_after_the_last_step_is_ignored(tmp_path, monkeypatch):
    module = ModuleWithSigns()
    module.steps_done = 9
    monkeypatch.setattr(preemption, "_requested_by", "SIGTERM")
    take(tmp_path, module, 1, every=3)
    assert module.steps_done == 10
    assert checkpointed_steps(tmp_path) == 0


def test_a_time_limit_leaves_time_for_a_step_as_long_as_the_longest(monkeypatch):
    monkeypatch.setattr(preemption, "_ends_at", 100.0)
    monkeypatch.setattr(preemption.time, "monotonic", lambda: 70.0)
    assert preemption.stop_reason(29.0) is None
    assert preemption.stop_reason(31.0) == "trainer.time_limit"


@pytest.fixture
def handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    preemption.install_handlers(None)
    yield
    preemption.ignore_signals()
    for number, handler in before.items():
        signal.signal(number, handler)
    preemption._interrupted = False


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_lost_during_garbage_collection_stops_the_run_after_the_step(handlers):
    class Collected:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    assert preemption.stop_reason(1.0) is None
    Collected()
    with pytest.raises(KeyboardInterrupt):
        preemption.stop_reason(1.0)
