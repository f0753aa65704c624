"""The learners of runs: what trains and scores, a soft prompt or a baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from softcue.build.backbone import build_backbone
from softcue.build.evaluation import build_decoding, build_scoring, own_metrics
from softcue.build.instantiate import make
from softcue.build.prompted import build_adapted_backbone, build_prompted_backbone, encode
from softcue.build.trainer import build_loggers, build_trainer, device_of

if TYPE_CHECKING:
    from softcue.training.learner import Learner
    from softcue.training.run import Run


def build_learners(runs: Sequence[Run]) -> list[Learner]:
    """The learner of each run; those of soft prompts share a frozen model and a trainer."""
    from softcue.baselines.base import Baseline

    method = make(runs[0].config.prompt.method)
    learners = _baselines(runs) if isinstance(method, Baseline) else _prompt_learners(runs)
    for learner, run in zip(learners, runs, strict=True):
        learner.own_metrics = own_metrics(run.config)
        learner.decoding = build_decoding(run.config)
    return learners


def _baselines(runs: Sequence[Run]) -> list[Learner]:
    from softcue.baselines.adapters import Adapter
    from softcue.baselines.base import StateClassifier, TextClassifier
    from softcue.baselines.in_context import InContext
    from softcue.training.in_context import InContextLearner
    from softcue.training.probe import ProbeLearner
    from softcue.training.text_baseline import TextBaseline

    learners: list[Learner] = []
    for run in runs:
        method = make(run.config.prompt.method)
        if isinstance(method, TextClassifier):
            learners.append(TextBaseline(classifier=method, data=run.data))
            continue
        if isinstance(method, Adapter):
            return _prompt_learners(runs)
        lm, device = build_backbone(run.config), device_of(run.config)
        encode(run.config, run.data, lm)
        if isinstance(method, StateClassifier):
            learners.append(ProbeLearner(lm=lm, classifier=method, data=run.data, device=device))
        else:
            assert isinstance(method, InContext)
            learners.append(InContextLearner(lm=lm, chooser=method, data=run.data, device=device))
    return learners


def _prompt_learners(runs: Sequence[Run]) -> list[Learner]:
    from softcue.baselines.adapters import Adapter
    from softcue.training.adapter import AdapterLearner
    from softcue.training.evolution import Evolution
    from softcue.training.evolution_learner import EvolutionLearner
    from softcue.training.member import Member
    from softcue.training.prompt_learner import PromptLearner

    first = runs[0].config
    learners: list[Learner] = []
    objective, scoring = make(first.objective), build_scoring(first)
    scheduler = make(first.scheduler) if first.get("scheduler") else None
    trainer, optimizer = build_trainer(first, joint=len(runs) > 1), make(first.optimizer)
    kind: Callable[..., Learner] = PromptLearner
    if isinstance(make(first.prompt.method), Adapter):
        kind = AdapterLearner
    elif isinstance(optimizer, Evolution):
        optimizer.expect_one_process(trainer.world_size)
        kind = partial(EvolutionLearner, evolution=optimizer)
    for run in runs:
        build = build_adapted_backbone if kind is AdapterLearner else build_prompted_backbone
        lm, prompt = build(run.config, run.data)
        validated = [task.task.classes for task in run.data.tasks.values() if task.ids("validation")]
        member = Member(
            run_id=run.folder.path.name,
            prompt=prompt,
            seed=run.seed,
            optimizer=make(run.config.optimizer),
            validated=validated,
            own_metrics=own_metrics(run.config),
        )
        learner = kind(
            lm=lm,
            member=member,
            data=run.data,
            objective=objective,
            scoring=scoring,
            scheduler=scheduler,
            trainer=trainer,
            loggers=build_loggers(run),
        )
        learners.append(learner)
    return learners
