"""The estimate as a table for the terminal."""

from __future__ import annotations

from fires_exp.pipeline.preflight.estimate import RunEstimate
from fires_exp.pipeline.preflight.stage_estimate import StageEstimate
from fires_exp.report.text_tables import text_table

_HEADER = ("stage", "steps", "prompts", "prompt tokens", "completion tokens", "memory", "disk")


def bytes_text(count: int) -> str:
    """
    >>> bytes_text(1_620_000_000)
    '1.6 GB'
    """
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1000:.0f} kB"


def estimate_text(estimate: RunEstimate) -> str:
    """One line a stage, then prompt lengths, then what is free."""
    lines = [text_table(_HEADER, [_row(label, stage) for label, stage in estimate.stages.items()])]
    for split, lengths in estimate.lengths.items():
        frames = f", up to {lengths.pictures} of them image tokens" if lengths.pictures else ""
        lines.append(f"{split} prompts: {lengths.mean_prompt:.0f} tokens on average, at most {lengths.longest_prompt}{frames}")
    gpu = f"{bytes_text(estimate.free_gpu)} of GPU memory, " if estimate.free_gpu is not None else ""
    times = f" by each of {estimate.processes} processes" if estimate.processes > 1 else ""
    lines.append(
        f"memory: in addition to the {bytes_text(estimate.held)} held now{times}; free: {gpu}{bytes_text(estimate.free)} of "
        f"memory; disk: at most {bytes_text(estimate.disk)}, {bytes_text(estimate.free_disk)} are free"
    )
    return "\n".join(lines)


def _row(label: str, stage: StageEstimate) -> tuple[str, ...]:
    if stage.finished:
        return (label, "finished", "", "", "", "", "")
    steps = f"{stage.steps:,}" + (f" after {stage.steps_done:,}" if stage.steps_done else "")
    tokens = (f"{stage.prompt_tokens:,}", f"{stage.completion_tokens:,}") if stage.prompt_tokens else ("–", "–")
    peak = bytes_text(stage.memory.peak + stage.memory.gaps) if stage.memory else "–"
    return (
        label,
        steps if stage.steps else "–",
        f"{stage.prompts:,}" if stage.prompts else "–",
        *tokens,
        peak,
        bytes_text(stage.disk),
    )
