"""The panels as a workspace and as a report of Weights & Biases: curves over steps, runs grouped by experiment and stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces.expr import Metric

from fires_exp.training.loggers.panels import (
    COMPARISONS,
    DASHBOARD,
    EVALUATION,
    SECTIONS,
    SWEPT,
    TABLES,
    ChartPlan,
    ComparisonPlan,
    MediaPlan,
)

TITLE = "fires_exp"
SWEEPS = "Sweeps"
OPEN = ("Rewards", "Policy", "Health", "Aspects")
COLUMNS = 3
GRID_WIDTH, PANEL_HEIGHT, TABLE_HEIGHT = 24, 6, 12


def workspace(entity: str, project: str) -> ws.Workspace:
    """A workspace with the sections of the panels and one that compares the runs of a sweep."""
    return ws.Workspace(
        entity=entity,
        project=project,
        name=TITLE,
        sections=[
            ws.Section(
                name=section,
                panels=_panels(section),
                is_open=section in OPEN,
                layout_settings=ws.SectionLayoutSettings(columns=COLUMNS),
            )
            for section in (*SECTIONS, SWEEPS)
        ],
        settings=ws.WorkspaceSettings(x_axis="Step"),
        runset_settings=ws.RunsetSettings(groupby=[Metric("Group"), Metric("JobType")]),
    )


def report(entity: str, project: str) -> wr.Report:
    """The same panels as a report, which can be commented and shared."""
    blocks: list[Any] = [wr.P("Curves by experiment and stage. Figures and tables of single runs are in their report.html.")]
    for section in (*SECTIONS, SWEEPS):
        blocks.append(wr.H2(section))
        blocks += [wr.P(f"{plan.title}: {plan.note}.") for plan in DASHBOARD if plan.section == section and plan.note]
        runs = wr.Runset(name="experiments and stages", groupby=["Group", "JobType"])  # of the report's project
        blocks.append(wr.PanelGrid(runsets=[runs], panels=_placed(_panels(section))))
    return wr.Report(project=project, entity=entity, title=TITLE, description="Made by code.", blocks=blocks, width="fluid")


def _panels(section: str) -> list[Any]:
    """The panels of a section, tables last."""
    if section == SWEEPS:
        return [*(_comparison(plan) for plan in COMPARISONS), wr.RunComparer(diff_only="split")]
    return [
        *(_chart(plan) for plan in DASHBOARD if plan.section == section),
        *(_table(plan) for plan in TABLES if plan.section == section),
    ]


def _chart(plan: ChartPlan) -> Any:
    metrics = list(plan.metrics)
    if plan.stage == EVALUATION:  # one number a run
        return wr.BarPlot(title=plan.title, metrics=metrics, groupby="Group", orientation="v")
    reach = (0, 1) if plan.percent else (None, None)
    return wr.LinePlot(title=plan.title, x="Step", y=metrics, title_y="share" if plan.percent else None, range_y=reach)


def _comparison(plan: ComparisonPlan) -> Any:
    settings = [wr.ParallelCoordinatesPlotColumn(metric=wr.Config(key), display_name=key) for key in SWEPT]
    outcomes = [wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(key), display_name=key) for key in plan.outcomes]
    return wr.ParallelCoordinatesPlot(title=plan.title, columns=[*settings, *outcomes])


def _table(plan: MediaPlan) -> Any:
    return wr.WeavePanelSummaryTable(table_name=plan.key)


def _placed(panels: Sequence[Any]) -> list[Any]:
    """Panels in rows; a panel of texts has a row of its own."""
    return list(_in_rows(panels))


def _in_rows(panels: Sequence[Any]) -> Iterator[Any]:
    x = y = 0
    for panel in panels:
        is_wide = not isinstance(panel, wr.LinePlot | wr.BarPlot)
        width, height = (GRID_WIDTH, TABLE_HEIGHT) if is_wide else (GRID_WIDTH // COLUMNS, PANEL_HEIGHT)
        if x + width > GRID_WIDTH:
            x, y = 0, y + PANEL_HEIGHT
        panel.layout = wr.Layout(x=x, y=y, w=width, h=height)
        x += width
        if is_wide:
            x, y = 0, y + height
        yield panel
