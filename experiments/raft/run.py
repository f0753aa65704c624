"""RAFT's tweets with SmolLM2-135M: levers by cross-validation inside the 50 labels, then submissions.

`python -m experiments.raft.run --folder RAFT [--workers 2] [--seconds N] [softcue-train's settings]` trains
every candidate on the folds of repeated stratified cross-validation, and again on all 50 labelled rows to
predict the rows without labels (3,399 and 2,966). RAFT is a folder with `twitter_complaints` and
`tweet_eval_hate`; without `--folder` the rows come from the hub. Nothing is chosen here:
`experiments.raft.table` reads the records.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.workers import Done, Overrides, Workers, expect_settings

HERE = Path(__file__).parent
FOLDS, REPEATS = range(5), (0, 1, 2)
CV_SEEDS, SEEDS = "joint.seed=[0,1,2]", "joint.seed=[0,1,2,3,4]"
SOURCES = (0, 1, 2)
BASE = ("prompt=prompt_tuning", "prompt.learning_rate=0.1")

TASKS = ("twitter_complaints", "tweet_eval_hate")
INSTRUCTION = (
    "A complaint presents a state of affairs which breaches the writer\\'s favorable expectation. Label the "
    "tweet text based on whether it contains a complaint."
)
"""RAFT's own, for its first task (arXiv 2109.14076)."""
INSTRUCTED = f"data.task.template='{INSTRUCTION} Tweet text : {{Tweet text}} Label :'"
NEIGHBOURS = (
    "data.source._target_=experiments.raft.neighbours.Neighbours",
    "+data.source.split=${split}",
    "+data.source.num_neighbours=3",
    "data.task.template='{neighbours}Tweet text : {Tweet text} Label :'",
)
"""The three most similar labelled tweets in front of each."""
YES_OR_NO = (
    "data.task.template='Tweet text : {Tweet text} Is it a complaint ? Answer :'",
    "data.task.verbalizer={complaint: 'yes', no complaint: 'no'}",
)
"""Another question, with other words for the classes."""
T_FEW = ("objective=t_few", "scoring=mean")
LENGTH_NORMALISED = ("objective=choice", "scoring=mean")
SELF_TRAINING = ("objective=self_training", "data.train_unlabelled=1000", "trainer.max_epochs=2")
TAUGHT = tuple(f"transfer {source}" for source in SOURCES)
"""The candidates whose prompts teach a student."""
METHODS = (
    *("prefix_tuning", "p_tuning", "prompt_tuning_suffix", "residual", "low_rank", "prefix_tuning_gated"),
    *("superposition", "cartridge", "baseline/probe", "baseline/tfidf_svm"),
)
"""At the rates of `experiments/methods`, where a method's tuned settings stand in conf/tuned."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Settings of a run; `source` names the settings of the airline prompt that it starts from."""

    name: str
    settings: Overrides
    source: str | None = None
    alone: bool = False
    repeats: Sequence[int] = REPEATS


def source_settings(name: str) -> Overrides:
    """A prompt that learns airline complaints, or the sentiment of four other topics, from 1,000 labels."""
    if name == "topics":
        return (
            *("data=tweet_topics", "split=few_shot", "split.num_train=250", "split.num_test=100"),
            *("data.batch_size=16", "trainer.max_epochs=4", *BASE),
        )
    extra = {
        "plain": (),
        "choice": ("objective=choice",),
        "instructed": (INSTRUCTED,),
        "instructed choice": (INSTRUCTED, "objective=choice"),
    }[name]
    return (
        *("data=airline_complaints", "split=few_shot", "split.num_train=1000", "split.num_test=400"),
        *("data.batch_size=16", "trainer.max_epochs=4", *BASE, *extra),
    )


def candidates(task: str) -> list[Candidate]:
    """Each lever alone, then together."""
    told, start = (INSTRUCTED,), (f"data.instruction='{INSTRUCTION}'",)
    choice, low = ("objective=choice",), ("prompt.learning_rate=0.03",)
    found = [
        Candidate(name="base", settings=BASE),
        Candidate(name="transfer", settings=(*BASE, *low), source="plain"),
        Candidate(name="transfer, instructed", settings=(*BASE, *low, *told), source="instructed"),
        Candidate(name="transfer, choice", settings=(*BASE, *low, *choice), source="choice"),
        Candidate(
            name="transfer, instructed, choice",
            settings=(*BASE, *low, *told, *choice),
            source="instructed choice",
        ),
        Candidate(name="instructed", settings=(*BASE, *told)),
        Candidate(name="choice", settings=(*BASE, *choice)),
        Candidate(name="instructed, choice", settings=(*BASE, *told, *choice)),
        Candidate(name="length-normalised choice", settings=(*BASE, *LENGTH_NORMALISED)),
        Candidate(name="T-Few", settings=(*BASE, *T_FEW)),
        Candidate(name="transfer, T-Few", settings=(*BASE, *low, *T_FEW), source="plain"),
        Candidate(name="yes or no", settings=(*BASE, *YES_OR_NO)),
        Candidate(name="transfer from other topics", settings=(*BASE, *low), source="topics"),
        Candidate(name="started from the instruction", settings=(*BASE, *start)),
        # The settings that folds of airline tweets chose (experiments/methods/chosen.json).
        Candidate(
            name="cpt",
            settings=("prompt=cpt", "prompt.learning_rate=0.06453", "prompt.method.text_radius=1"),
            repeats=(0,),
        ),
        Candidate(name="neighbours", settings=(*BASE, *NEIGHBOURS)),
        Candidate(name="transfer, neighbours", settings=(*BASE, *low, *NEIGHBOURS), source="plain"),
        Candidate(name="chat", settings=(*BASE, "backbone.chat=true")),
        Candidate(name="5 tokens", settings=(*BASE, "prompt.layout='[soft:5]{input}'")),
        Candidate(name="rate 0.03", settings=("prompt=prompt_tuning", "prompt.learning_rate=0.03")),
        Candidate(name="rate 0.3", settings=("prompt=prompt_tuning", "prompt.learning_rate=0.3")),
    ]
    if task != "twitter_complaints":
        return found[:2]
    methods = [
        Candidate(name=name, settings=(f"prompt={name}",), alone=name.startswith("baseline"), repeats=(0,))
        for name in METHODS
    ]
    return [*found, *methods]


class Raft:
    """All jobs; those that start from a source follow when it is complete."""

    def __init__(self, workers: Workers, settings: Overrides, folder: str | None) -> None:
        self.workers, self.settings = workers, settings
        self.place = () if folder is None else (f"data.source.folder={folder}",)
        self.waiting: dict[str, list[tuple[str, Candidate]]] = {}
        self.students: dict[str, tuple[str, str, Candidate, Overrides]] = {}
        """What follows a job of the transfer, whose prompts are then the teachers."""

    def submit(self, only: Sequence[str] | None) -> None:
        """Sources first, then what needs none."""
        self.only = only
        for task in TASKS:
            for candidate in candidates(task):
                if candidate.source is not None and (only is None or candidate.name in only):
                    self.waiting.setdefault(candidate.source, []).append((task, candidate))
        for name in self.waiting:
            for seed in SOURCES:
                key = f"source {name} {seed}"
                self.workers.submit(key, (*self.settings, *source_settings(name), f"seed={seed}"))
        for task in TASKS:
            for candidate in candidates(task):
                if candidate.source is None and (only is None or candidate.name in only):
                    self._folds(task, candidate, candidate.repeats)
                    self._final(task, candidate)

    def when_done(self, done: Done) -> None:
        """Train what starts from a source that is complete, and students of complete prompts."""
        if done.key in self.students and done.folders:
            key, task, candidate, more = self.students[done.key]
            teachers = f"objective.teachers=[{','.join(done.folders)}]"
            own = Candidate(name=key, settings=(*candidate.settings, *SELF_TRAINING, teachers))
            self._submit(f"{key}, self-training", task, own, more, rank=3)
        if not done.key.startswith("source ") or not done.folders:
            return
        name, _, seed = done.key.removeprefix("source ").rpartition(" ")
        start = ("prompt/initialiser=saved", f"prompt.initialiser.path={done.folders[0]}")
        for task, candidate in self.waiting[name]:
            own = Candidate(name=f"{candidate.name} {seed}", settings=(*candidate.settings, *start))
            self._final(task, own, rank=1)
            if task == "twitter_complaints" or seed == "0":
                # Each source has a repeat of its own, of which there are as many as sources.
                self._folds(task, own, repeats=(int(seed),), rank=1)

    def _folds(self, task: str, candidate: Candidate, repeats: Sequence[int], rank: int = 2) -> None:
        for repeat in repeats:
            for fold in FOLDS:
                split = ("split=k_fold", f"split.fold={fold}", f"split.seed={repeat}")
                seeds = "seed=0" if candidate.alone else CV_SEEDS
                key = f"{task} {candidate.name} repeat {repeat} fold {fold}"
                self._submit(key, task, candidate, (*split, seeds), rank=rank)

    def _final(self, task: str, candidate: Candidate, rank: int = 2) -> None:
        split = ("split=all_labelled", "split.seed=0", "predict_unlabelled=true", "data.eval_batch_size=128")
        seeds = "seed=0" if candidate.alone else SEEDS
        self._submit(f"{task} {candidate.name} final", task, candidate, (*split, seeds), rank=rank)

    def _submit(self, key: str, task: str, candidate: Candidate, more: Overrides, *, rank: int) -> None:
        if candidate.name in TAUGHT and (self.only is None or "self-training" in self.only):
            # On the same fold as its teachers, so that what they held out stays held out.
            self.students[key] = key, task, candidate, tuple(more)
        data = (f"data=raft_{task}", *self.place)
        self.workers.submit(key, (*self.settings, *data, *candidate.settings, *more), rank=rank)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--folder")
    names = [*(candidate.name for candidate in candidates(TASKS[0])), "self-training"]
    parser.add_argument(
        "--only", nargs="+", choices=names, metavar="CANDIDATE", help=f"of {', '.join(names)}"
    )
    arguments, settings = parser.parse_known_args()
    expect_settings(parser, settings)
    until = time.time() + arguments.seconds
    workers = Workers(arguments.workers)
    common = (
        *("backbone=smollm2_135m", "trainer.enable_progress_bar=false", "callbacks.progress_bar=null"),
        f"paths.runs={HERE / 'runs'}",
    )
    raft = Raft(workers, (*common, *settings), arguments.folder)
    raft.submit(arguments.only)
    workers.run(raft.when_done, until=until)


if __name__ == "__main__":
    main()
