"""The panels as TensorBoard's custom scalars."""

from __future__ import annotations

import re

from fires_exp.training.loggers.panels import DASHBOARD, SECTIONS, stage_type

# the argument of `SummaryWriter.add_custom_scalars`: section, chart title, chart type and patterns of tags
Layout = dict[str, dict[str, tuple[str, list[str]]]]


def layout(stage: str) -> Layout:
    """The sections of a stage in the order of `SECTIONS`, as in all dashboards."""
    plans = [plan for plan in DASHBOARD if plan.stage == stage_type(stage)]
    return {
        section: {
            plan.title: ("Multiline", [f"^{re.escape(metric)}$" for metric in plan.metrics])
            for plan in plans
            if plan.section == section
        }
        for section in SECTIONS
        if any(plan.section == section for plan in plans)
    }
