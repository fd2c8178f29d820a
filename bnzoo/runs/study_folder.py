"""The folder of a study: the only file that knows what lies where in it."""

from typing import Any, NamedTuple

from bnzoo.config import Config, variant_configs
from bnzoo.runs.folder_of_runs import FolderOfRuns
from bnzoo.runs.metrics import goodness, judged_by
from bnzoo.runs.run_folder import RunFolder
from bnzoo.runs.summaries import StudySummary


class PlannedRun(NamedTuple):
    """A run of a study, whether or not it has begun."""

    variant: str
    seed: int
    config: Config
    folder: RunFolder


class StudyFolder(FolderOfRuns):
    """Reads and writes one study.

    `config.yaml` (resolved, with its `compare` section), `runs/<variant>/seed-<n>/` (ordinary run
    folders), `summary.json`, `report.html`, `figures/` with the report's figures as PNG, `logs/`.
    """

    kind, command, summary_schema = "study", "compare", StudySummary

    def planned(self, config: Config) -> list[PlannedRun]:
        """Return the runs of a study in their order: all variants with one seed before the next.

        Args:
            config: of the study.
        """
        return [
            PlannedRun(variant, seed, resolved, self.run(variant, seed))
            for seed in config.compare.seeds
            for variant, resolved in variant_configs(config, seed).items()
        ]

    def _best(self, summary: dict[str, Any]) -> dict[str, Any] | None:
        best = best_run(summary)
        return best and best[1]


def best_run(summary: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Choose the run to use of a study.

    The variant is the one with the best mean test accuracy (test loss, where no accuracy is
    measured) among those that never diverged (among all that have one, if all diverged once). Of
    its runs it is the one whose best epoch was best by the metric that selects epochs: that of the
    validation where there is any. The test set has no say in which run it is, unless it is the
    validation set.

    Args:
        summary: the content of the study's `summary.json`.

    Returns:
        The variant's name and the run's entry in the summary; None where every run diverged.
    """
    key = judged_by(summary)
    found = {name: one for name, one in summary["variants"].items() if one[key]["n"]}
    steady = {name: one for name, one in found.items() if not one["diverged"]} or found
    if not found:
        return None
    name = max(steady, key=lambda name: goodness(key, steady[name][key]["mean"]))
    completed = [run for run in found[name]["runs"] if run["status"] == "completed"]
    return name, max(completed, key=_best_epoch)


def _best_epoch(run: dict[str, Any]) -> float:
    metric = run["selection_metric"]
    return goodness(metric, run["best"][metric])
