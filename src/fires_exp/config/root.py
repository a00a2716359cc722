"""The root of the configuration tree, its recipe, and the checks across groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fires_exp.config.baselines import (
    BaselineConfig,
    BaselineModel,
    HintsConfig,
    Seq2SeqConfig,
    TrainedBaselineConfig,
    TrainedBaselineName,
)
from fires_exp.config.data import DatasetConfig, FramesConfig
from fires_exp.config.field import Group, setting
from fires_exp.config.model import AspectsConfig, BackboneConfig, PlanKind, PromptConfig, SamplingConfig
from fires_exp.config.scoring import EpitomeConfig, MetricsConfig, PredictConfig, PredictSplit, RewardConfig
from fires_exp.config.services import TeacherConfig
from fires_exp.config.stages import STAGES, TRAINED_BY, USES_POLICIES, USES_THOUGHTS, PolicyName
from fires_exp.config.training import GrpoConfig, HealthConfig, LoggerConfig, SftConfig, TrainerConfig


@dataclass(kw_only=True)
class RecipeConfig(Group):
    name: str = setting("name in reports")
    stages: list[str] = setting("stages to run, in order: train_epitome, synthesize, sft, train_baseline, grpo, evaluate")
    policies: list[PolicyName] = setting(
        "policies that evaluate answers with and scores: zero_shot, sft, grpo, baseline, trained_baseline"
    )

    def problems(self, key: str) -> Iterator[str]:
        stages, policies = f"{key}.stages=[{', '.join(self.stages)}]", f"{key}.policies=[{', '.join(self.policies)}]"
        for stage in self.stages:
            if stage not in STAGES:
                yield f"{stages}: {stage} is not among {', '.join(STAGES)}"
        if self.stages != [stage for stage in STAGES if stage in self.stages]:
            yield f"{stages}: write each stage once, in the order {', '.join(STAGES)}"
        for policy in self.policies:
            if (trained_by := TRAINED_BY.get(policy)) and trained_by not in self.stages:
                yield f"{policies}: {stages} does not train {policy}"
        if bool(self.policies) == USES_POLICIES.isdisjoint(self.stages):
            yield f"{policies} with {stages}: evaluate needs policies, and policies need evaluate"


@dataclass(kw_only=True)
class PathsConfig(Group):
    artifacts: str = setting(
        "finished stages, shared by all runs; safe to delete, they are computed again, but answers/ would be paid for again"
    )
    cache: str = setting("built backbones, decoded frames and parsed large datasets; safe to delete")


@dataclass(kw_only=True)
class Config(Group):
    """The root. `name` is the experiment's name in reports and dashboards."""

    name: str = setting("name of the run in reports and dashboards; an experiment sets it")
    scale: str = setting("name of the scale in reports")
    seed: int = setting("the seed of everything (paper: 42)", ge=0, lt=2**32)
    dataset: DatasetConfig = setting("the training data and, unless test_dataset is set, the test data")
    test_dataset: DatasetConfig | None = setting("another dataset to test on, for cross-dataset generalization (Table 5)")
    frames: FramesConfig = setting("the frames of the clips")
    backbone: BackboneConfig = setting("the model")
    aspects: AspectsConfig = setting("the aspects of a thought")
    teacher: TeacherConfig = setting("the source of the thoughts that the cold start learns from")
    baseline: BaselineConfig = setting("a model behind a service that answers the test split (recipe=baseline)")
    trained_baseline: TrainedBaselineConfig = setting("another system to train and compare with (recipe=train_baseline)")
    seq2seq: Seq2SeqConfig = setting("the model of a trained baseline that is not a vision-language model")
    hints: HintsConfig = setting("text about frames or conversation that a model writes for a trained baseline")
    prompt: PromptConfig = setting("how a conversation becomes a prompt")
    sft: SftConfig = setting("the cold start")
    grpo: GrpoConfig = setting("reinforcement learning")
    health: HealthConfig = setting("signs of reward hacking, and which of them stop GRPO")
    sampling: SamplingConfig = setting("how GRPO samples completions")
    reward: RewardConfig = setting("the reward of GRPO (Eq. 5)")
    epitome: EpitomeConfig = setting("how scorers of support skills are trained, where reward.support_skill.scorer is null")
    predict: PredictConfig = setting("the split that is answered for the table, and how")
    metrics: MetricsConfig = setting("the metrics of the table")
    recipe: RecipeConfig = setting("which stages run")
    plan_only: bool = setting("print the run's plan in steps, tokens, memory and disk, and stop")
    optimized_metric: str | None = setting(
        "the metric that a sweeper maximizes: a metric of the last policy by its name in the table, on another split than test; "
        "its sign is turned where lower is better. null returns nothing to the sweeper"
    )
    trainer: TrainerConfig = setting("processes and devices")
    logger: LoggerConfig = setting("where metrics are logged")
    paths: PathsConfig = setting("folders")

    @property
    def trained_model(self) -> str:
        """The name of the model that is trained and answers."""
        baseline = self.trained_baseline
        on_seq2seq = baseline.name != TrainedBaselineName.none and baseline.model == BaselineModel.seq2seq
        return self.seq2seq.name if on_seq2seq else self.backbone.name

    def problems(self, key: str) -> Iterator[str]:
        yield from self._problems_of_training()
        yield from self._problems_of_services()

    def _problems_of_training(self) -> Iterator[str]:
        recipe, baseline = self.recipe, self.trained_baseline.name
        thinks = self.aspects.plan != PlanKind.none
        if TRAINED_BY[PolicyName.grpo] in recipe.stages and self.sampling.temperature == 0:
            yield "sampling.temperature=0: GRPO needs completions that differ; write a number above 0"
        trains_baseline = TRAINED_BY[PolicyName.trained_baseline] in recipe.stages
        if trains_baseline and baseline == TrainedBaselineName.none:
            yield f"recipe={recipe.name} needs trained_baseline=<smes, smes_qwen, blenderbot_joint or bbmhr>"
        if baseline != TrainedBaselineName.none and (thinks or not trains_baseline):
            yield (
                f"trained_baseline={baseline} with recipe={recipe.name} and aspects={self.aspects.name}: write "
                "recipe=train_baseline and aspects=no_thought, since a baseline has its own output form"
            )
        if self.optimized_metric is not None and (not recipe.policies or self.predict.split == PredictSplit.test):
            yield (
                f"optimized_metric={self.optimized_metric} with predict.split={self.predict.split} and recipe={recipe.name}: "
                "write predict.split=val and a recipe that evaluates; a setting chosen on the test split can't be tested on it"
            )

    def _problems_of_services(self) -> Iterator[str]:
        recipe = self.recipe
        needs_thoughts = self.aspects.plan != PlanKind.none and not USES_THOUGHTS.isdisjoint(recipe.stages)
        if PolicyName.baseline in recipe.policies and None in (self.baseline.base_url, self.baseline.model):
            yield "recipe=baseline needs baseline.base_url=<service> and baseline.model=<model>, or baseline=gpt_4o"
        if PolicyName.baseline not in recipe.policies and not self.baseline.sends:
            yield f"baseline.dry_run and baseline.batch_requests need recipe=baseline, not recipe={recipe.name}"
        if not self.teacher.sends and not needs_thoughts:
            yield (
                "teacher.dry_run and teacher.batch_requests need a recipe that learns from thoughts, such as recipe=synthesize, "
                f"not recipe={recipe.name} with aspects={self.aspects.name}"
            )
        if not self.reward.judge.sends and (TRAINED_BY[PolicyName.grpo] not in recipe.stages or self.reward.judge_weight == 0):
            yield f"reward.judge.dry_run needs reward=judge and a recipe with grpo, not recipe={recipe.name}"
