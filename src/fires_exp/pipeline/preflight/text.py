"""The outlook in words."""

from __future__ import annotations

from collections.abc import Sequence

from fires_exp.pipeline.preflight.estimate import Outlook, StageAhead


def told(count: int) -> str:
    """
    >>> told(1_620_000_000)
    '1.6 GB'
    """
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1000:.0f} kB"


def table(outlook: Outlook) -> str:
    """The outlook in a few lines."""
    head = ("stage", "steps", "prompts", "prompt tokens", "completion tokens", "memory", "disk")
    rows = [_row(one) for one in outlook.stages]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [_line(row, widths) for row in (head, *rows)]
    for split, lengths in outlook.prompts.items():
        pictures = f", {lengths.pictures} of them of frames" if lengths.pictures else ""
        lines.append(f"{split} prompts: {lengths.mean_prompt:.0f} tokens on average, {lengths.longest_prompt} at most{pictures}")
    disk = outlook.disk
    gpu = f"{told(outlook.free_gpu)} of GPU memory, " if outlook.free_gpu is not None else ""
    times = f" for each of {outlook.processes} processes" if outlook.processes > 1 else ""
    lines.append(
        f"memory comes on top of the {told(outlook.held)} held now{times}; free are {gpu}{told(outlook.free)} of memory and "
        f"{told(outlook.free_disk)} of disk, of which {told(disk)} are wanted at most"
    )
    return "\n".join(lines)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
    return "  ".join(cells).rstrip()


def _row(one: StageAhead) -> tuple[str, ...]:
    if one.finished:
        return (one.label, "finished", "", "", "", "", "")
    steps = f"{one.steps:,}" + (f" after {one.steps_done:,}" if one.steps_done else "")
    tokens = (f"{one.prompt_tokens:,}", f"{one.completion_tokens:,}") if one.prompt_tokens else ("–", "–")
    peak = told(one.memory.peak + one.memory.gaps) if one.memory else "–"
    return (one.label, steps if one.steps else "–", f"{one.prompts:,}" if one.prompts else "–", *tokens, peak, told(one.disk))
