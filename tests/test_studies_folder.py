"""The folder of a study: what it refuses, what it takes over, and which of its runs is the best."""

import pytest

from bnzoo import config, runs
from bnzoo.errors import InputError

TREE = {
    "data": {"name": "digits"},
    "model": {"name": "dense"},
    "compare": {"variants": {"none": {"model.placement": "none"}}, "seeds": [0, 1]},
}


def make_config(*pairs):
    return config.validate(config.apply_overrides(TREE, pairs), source="test")


@pytest.fixture
def study(tmp_path):
    folder = runs.StudyFolder(tmp_path / "study")
    folder.start(make_config())
    folder.claim(make_config())
    return folder


def test_a_study_reads_back_its_config(study):
    assert study.config() == make_config()
    assert study.status() is None
    assert study.run("none", 1).path == study.path / "runs" / "none" / "seed-1"


def test_a_variant_with_another_model_reads_back_too(tmp_path):
    """All defaults of the first optimizer are in the file then, unknown keys to the second."""
    changed = make_config(("compare.variants.none", {"train.optimizer.name": "adam"}))
    assert config.variant_configs(changed)["none"].train.optimizer.name == "adam"
    folder = runs.StudyFolder(tmp_path)
    folder.claim(changed)
    assert folder.config() == changed


def test_another_studys_folder_is_refused_with_the_difference(study):
    other = make_config(("compare.seeds", [0, 1, 2]), ("train.epochs", 3))
    for refused in (study.start, study.resume):
        with pytest.raises(InputError, match="holds a study of another config") as caught:
            refused(other)
        assert "compare.seeds: [0, 1] there, [0, 1, 2] here" in str(caught.value)
        assert "train.epochs: 10 there, 3 here" in str(caught.value)


def test_a_study_that_is_there_asks_for_resume(study):
    with pytest.raises(InputError, match=r"already holds a study .*not finished.*--resume"):
        study.start(make_config())
    study.resume(make_config())


def test_a_run_and_a_study_do_not_share_a_folder(study, tmp_path):
    run = runs.RunFolder(tmp_path / "run")
    run.start(make_config().single_run())
    run.claim(make_config().single_run())
    with pytest.raises(InputError, match="holds a study, and a run was to be written"):
        runs.RunFolder(study.path).start(make_config().single_run())
    for refused in (runs.StudyFolder(run.path).start, runs.StudyFolder(run.path).resume):
        with pytest.raises(InputError, match="holds a run, and a study was to be written"):
            refused(make_config())


def test_resume_of_nothing_is_refused_and_makes_nothing(tmp_path):
    with pytest.raises(InputError, match="nothing to resume: expected a study folder"):
        runs.StudyFolder(tmp_path / "none").resume(make_config())
    assert not (tmp_path / "none").exists()


def test_strangers_files_and_files_are_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="expected an empty or new folder, found thesis"):
        runs.StudyFolder(tmp_path).start(make_config())
    with pytest.raises(InputError, match="expected a folder, got a file"):
        runs.StudyFolder(tmp_path / "thesis.txt").start(make_config())


def test_what_a_kill_leaves_of_a_config_is_no_strangers_file(tmp_path):
    (tmp_path / ".config.yaml.x8s1").write_text("seed:")
    runs.RunFolder(tmp_path).start(make_config().single_run())


def variant(accuracies, selected, diverged=0):
    """Build a variant's entry of a summary: test accuracies, and validation ones, of its runs."""
    measured = [value for value in accuracies if value is not None]
    return {
        "test_accuracy": {
            "n": len(measured),
            "mean": sum(measured) / len(measured) if measured else None,
        },
        "diverged": diverged,
        "runs": [
            {
                "seed": seed,
                "status": "diverged" if accuracy is None else "completed",
                "folder": f"runs/{accuracy}",
                "selection_metric": "val_accuracy",
                "best": {"val_accuracy": selection},
            }
            for seed, (accuracy, selection) in enumerate(zip(accuracies, selected, strict=True))
        ],
    }


def write_summary(study, status, **variants):
    study.write_summary({"status": status, "seeds": [0, 1], "variants": variants})


@pytest.mark.parametrize(
    ("variants", "expected"),
    [
        # The best mean; then the best validation accuracy, not the best test accuracy.
        ([variant([0.8, 0.9], [0.5, 0.5]), variant([0.91, 0.95], [0.9, 0.7])], "0.91"),
        # A variant that diverges now and then is not to be relied on.
        ([variant([0.8, 0.9], [0.5, 0.6]), variant([0.99, None], [0.9, 0.9], diverged=1)], "0.9"),
        # Unless there is no other.
        ([variant([0.9, None], [0.5, 0.6], 1), variant([None, None], [0.5, 0.6], 2)], "0.9"),
    ],
)
def test_the_best_run(study, variants, expected):
    write_summary(study, "completed", **dict(zip("ab", variants, strict=True)))
    assert study.best_run().path == study.path / "runs" / expected
    assert runs.usable_run(study.path) == study.path / "runs" / expected


def test_there_is_no_best_run_of_what_is_not_completed_or_diverged(study):
    with pytest.raises(InputError, match=r"expected the summary of a study.*bnzoo compare"):
        runs.usable_run(study.path)
    write_summary(study, "interrupted")
    with pytest.raises(InputError, match=r"got one that is interrupted.*bnzoo compare"):
        runs.usable_run(study.path)
    gone = variant([None], [0.5], diverged=1)
    write_summary(study, "completed", a=gone)
    with pytest.raises(InputError, match="every run diverged"):
        runs.usable_run(study.path)


def test_any_other_path_is_used_as_it_is(tmp_path):
    for path in (tmp_path, tmp_path / "none", tmp_path / "model.keras"):
        assert runs.usable_run(path) == path
