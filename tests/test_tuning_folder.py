"""Whose folder it is: begun, continued, begun afresh, and refused with the difference named."""

import json

import pytest
from sweeps import PLACEMENT, RATE, make_config, rows, sweep

from bnzoo import config, runs
from bnzoo.config import dump_config
from bnzoo.errors import InputError
from bnzoo.files import write_atomically
from bnzoo.tuning import sweep as sweep_module
from bnzoo.tuning.oracles import saved_oracle
from bnzoo.tuning.search import search
from bnzoo.tuning.sweep import Hooks, TrialRunner, opened, tune
from bnzoo.tuning.trials import COMPLETED, Trial, read_trials


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A completed sweep of four runs, with its report."""
    folder = runs.SweepFolder(tmp_path_factory.mktemp("sweeps") / "whole")
    tune(make_config(), folder.path)
    return folder


@pytest.fixture
def begun(tmp_path):
    """The folder of a sweep that was begun, without any run yet."""
    folder = runs.SweepFolder(tmp_path / "sweep")
    with opened(make_config(), folder, resume=False, fresh=False):
        pass
    return folder


def open_again(folder, checked=None, resume=False, fresh=False):
    with opened(checked or make_config(), folder, resume, fresh):
        pass


def test_an_interrupted_sweep_goes_on_without_repeating_a_run(tmp_path, whole):
    folder, begun = runs.SweepFolder(tmp_path / "sweep"), []

    def begin_run(trial, seed):
        begun.append(trial.name)
        if len(begun) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(make_config(), folder.path, hooks=Hooks(begin_run=begin_run))
    assert folder.status() == "interrupted"
    assert folder.summary()["verdict"].startswith("Not finished. So far:\nBest is")
    assert "Incomplete." in folder.report_file.read_text()

    first, begun = begun[:2], []
    again = []
    summary = sweep(
        make_config(), folder.path, resume=True, begin_run=lambda trial, _: again.append(trial.name)
    )
    assert summary["status"] == "completed"
    assert len(first) == len(again) == 2
    assert not set(first) & set(again)
    assert rows(folder) == rows(whole)


def test_a_completed_sweep_is_only_summed_up_again(whole):
    begun = []
    before = whole.report_file.read_text()
    hooks = Hooks(begin_run=lambda *run: begun.append(run))
    tune(make_config(), whole.path, resume=True, hooks=hooks)
    assert begun == []
    assert whole.report_file.read_text() == before


def test_without_a_flag_the_same_sweep_is_refused_and_both_flags_are_named(begun):
    with pytest.raises(InputError, match="already holds a sweep of this config") as caught:
        open_again(begun)
    assert "--resume" in str(caught.value)
    assert "--fresh" in str(caught.value)


@pytest.mark.parametrize("resume", [False, True])
def test_another_space_is_refused_with_the_difference_named(begun, resume):
    other = make_config(space={RATE: [0.01, 2.0], PLACEMENT: ["none", "before"]})
    with pytest.raises(InputError) as caught:
        open_again(begun, other, resume)
    difference = f"tune.space.{RATE}: [0.01, 1.0] there, [0.01, 2.0] here"
    assert difference in str(caught.value)
    assert "--fresh" in str(caught.value)


@pytest.mark.parametrize("resume", [False, True])
def test_other_data_is_refused_with_the_difference_named(begun, resume, monkeypatch):
    origin = json.loads(begun.origin_file.read_text())
    origin["data"]["fingerprint"] = "0badf00d"
    write_atomically(begun.origin_file, json.dumps(origin))
    with pytest.raises(InputError, match=r"data\.fingerprint: 0badf00d there, \w{8} here"):
        open_again(begun, resume=resume)


def test_a_sweep_of_an_older_version_with_another_scale_is_refused(begun):
    """Its origin does not tell the scale, its runs do: or unlike runs would be ranked together."""
    origin = json.loads(begun.origin_file.read_text())
    scaled = origin["data"].pop("preprocessing")
    write_atomically(begun.origin_file, json.dumps(origin))
    run = begun.run("anything", 0)
    run.path.mkdir(parents=True)
    write_atomically(run.data_file, json.dumps({"preprocessing": scaled}))
    begun.check_shared(make_config(), sweep_module.origin_of(make_config()))
    write_atomically(run.data_file, json.dumps({"preprocessing": scaled | {"scale": 1.0}}))
    with pytest.raises(InputError, match=r"data\.preprocessing: .*'scale': 1\.0"):
        begun.check_shared(make_config(), sweep_module.origin_of(make_config()))


@pytest.mark.parametrize("resume", [False, True])
def test_another_version_is_refused_with_the_difference_named(begun, resume):
    origin = json.loads(begun.origin_file.read_text())
    origin["versions"]["keras-tuner"] = "1.0.0"
    write_atomically(begun.origin_file, json.dumps(origin))
    with pytest.raises(InputError, match=r"versions\.keras-tuner: 1\.0\.0 there, 1\.4\.8 here"):
        open_again(begun, resume=resume)


def test_fresh_removes_the_sweep_and_nothing_else(begun):
    stray = begun.run("old", 0)
    stray.path.mkdir(parents=True)
    begun.oracle_file.write_text("{}")
    corrupt = begun.path / "oracle.json.corrupt-1"
    corrupt.write_text("{")
    other = make_config(space={RATE: [0.5]})
    open_again(begun, other, fresh=True)
    assert not stray.path.exists()
    assert not begun.oracle_file.exists()
    assert not corrupt.exists()
    assert begun.config() == other


@pytest.mark.parametrize("reason", ["a file of the user's", "data that cannot be loaded"])
def test_fresh_removes_nothing_where_no_new_sweep_can_begin(begun, reason):
    run, data = begun.run("old", 0), {}
    run.path.mkdir(parents=True)
    if reason == "a file of the user's":
        (begun.path / "notes.txt").write_text("mine")
    else:
        data["batch_size"] = 100_000
    with pytest.raises(InputError, match=r"found notes\.txt|batch_size: 100000"):
        open_again(begun, make_config(data=data), fresh=True)
    assert run.path.exists()
    assert begun.config() == make_config()


def test_a_sweep_may_go_on_for_more_trials_and_is_then_the_longer_one(tmp_path):
    space = {RATE: {"min": 1e-3, "max": 1.0, "scale": "log"}}
    short, long = (
        make_config(algorithm="random", space=space, max_trials=trials) for trials in (3, 12)
    )
    folder, whole = runs.SweepFolder(tmp_path / "a"), runs.SweepFolder(tmp_path / "b")
    for checked in (short, long):
        open_again(folder, checked, resume=checked is long)
        search(saved_oracle(checked, folder), checked, lambda trial: 0.5)
    whole.path.mkdir()
    search(saved_oracle(long, whole), long, lambda trial: 0.5)
    values = [[one.trial.values for one in read_trials(each, long)] for each in (folder, whole)]
    assert len(values[0]) == 12
    assert values[0] == values[1]


def test_more_trials_are_refused_without_a_flag_and_resume_is_named_before_fresh(tmp_path):
    """`--fresh` would remove the trials that there are."""
    space = {RATE: {"min": 1e-3, "max": 1.0, "scale": "log"}}
    folder = runs.SweepFolder(tmp_path)
    open_again(folder, make_config(algorithm="random", space=space, max_trials=3))
    longer = make_config(algorithm="random", space=space, max_trials=12)
    with pytest.raises(InputError, match="already holds a sweep of this config") as caught:
        open_again(folder, longer)
    message = str(caught.value)
    assert "tune.max_trials: 3 there, 12 here" in message
    assert "Add --resume to continue it with the runs that it has" in message
    assert message.index("--resume") < message.index("--fresh, which removes it")
    open_again(folder, longer, resume=True)


def test_a_kill_between_the_first_two_files_can_be_resumed(begun):
    begun.origin_file.unlink()
    open_again(begun, resume=True)
    assert begun.origin_file.exists()


def test_a_corrupt_origin_is_one_clear_error_and_fresh_goes_past_it(begun):
    begun.origin_file.write_text("{")
    with pytest.raises(InputError, match=r"origin\.json: expected the data and versions"):
        open_again(begun, resume=True)
    open_again(begun, fresh=True)


def test_fresh_does_not_remove_what_is_no_sweep(tmp_path):
    checked = make_config()
    run = runs.RunFolder(tmp_path)
    run.claim(checked.single_run())
    with pytest.raises(InputError, match="holds a run, and a sweep was to be written"):
        open_again(runs.SweepFolder(tmp_path), fresh=True)
    assert run.config_file.exists()


def test_there_is_nothing_to_resume_in_an_empty_folder(tmp_path):
    with pytest.raises(InputError, match="nothing to resume: expected a sweep folder"):
        open_again(runs.SweepFolder(tmp_path), resume=True)


def test_two_sweeps_cannot_be_at_work_in_one_folder(begun):
    with (
        begun.held(),
        pytest.raises(InputError, match="another process is at work in this folder"),
    ):
        open_again(begun, resume=True)


def test_a_config_without_a_space_is_refused():
    single = make_config().single_run()
    with pytest.raises(InputError, match="tune: expected this section with what to tune"):
        single.sweep()


def test_a_corrupt_oracle_file_is_named_kept_and_built_again_from_the_runs(tmp_path, whole):
    import shutil

    folder = runs.SweepFolder(tmp_path / "sweep")
    shutil.copytree(whole.path, folder.path)
    folder.oracle_file.write_text(folder.oracle_file.read_text()[:100])
    with pytest.raises(InputError, match="expected the state of a search, got a corrupt") as caught:
        tune(make_config(), folder.path, resume=True)
    assert str(folder.oracle_file) in str(caught.value)
    assert "kept as oracle.json.corrupt-1" in str(caught.value)
    assert len((folder.path / "oracle.json.corrupt-1").read_text()) == 100

    begun = []
    sweep(make_config(), folder.path, resume=True, begin_run=lambda *run: begun.append(run))
    assert begun == []
    assert rows(folder) == rows(whole)


@pytest.mark.parametrize("content", ["[]", "{}", '{"trials": {"0": {}}}', "\x00\x01"])
def test_whatever_is_wrong_with_the_oracle_file_is_one_error(begun, content):
    begun.oracle_file.write_text(content)
    with pytest.raises(InputError, match="got a corrupt file"):
        saved_oracle(make_config(), begun)
    assert not begun.oracle_file.exists()
    saved_oracle(make_config(), begun)


def test_trials_that_were_under_way_or_failed_are_run_when_the_search_goes_on(begun):
    checked = make_config()
    search(saved_oracle(checked, begun), checked, lambda trial: 0.5)
    state = json.loads(begun.oracle_file.read_text())
    state["trials"]["0001"] |= {"status": "RUNNING", "score": None}
    state["trials"]["0002"] |= {"status": "FAILED", "score": None}
    begun.oracle_file.write_text(json.dumps(state))
    again = []

    def run_trial(trial):
        again.append(trial.number)
        return 0.5

    search(saved_oracle(checked, begun), checked, run_trial)
    assert again == [1, 2]
    assert {state.status for state in read_trials(begun, checked)} == {COMPLETED}


def test_a_run_that_was_killed_at_its_very_beginning_is_begun_again(tmp_path):
    checked = make_config()
    folder = runs.SweepFolder(tmp_path)
    trial = Trial(0, {RATE: 0.01, PLACEMENT: "none"})
    run = folder.run(trial.folder, 0)
    run.path.mkdir(parents=True)
    run.data_file.write_text("{}")  # written before config.yaml
    TrialRunner(checked, folder)(trial)
    assert run.status() == "completed"


def test_a_run_of_another_config_in_the_sweep_is_refused(tmp_path):
    checked = make_config()
    folder = runs.SweepFolder(tmp_path)
    trial = Trial(0, {RATE: 0.01, PLACEMENT: "none"})
    run = folder.run(trial.folder, 0)
    run.path.mkdir(parents=True)
    other = config.trial_config(make_config(train={"epochs": 7}), trial.values, 0)
    run.config_file.write_text(dump_config(other))
    with pytest.raises(InputError, match=r"train\.epochs: 7 there, 1 here"):
        TrialRunner(checked, folder)(trial)


def test_missing_data_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    def load(*arguments, **options):
        raise InputError("no such data")

    monkeypatch.setattr(sweep_module.data, "load", load)
    with pytest.raises(InputError, match="no such data"):
        open_again(runs.SweepFolder(tmp_path / "sweep"))
    assert list(tmp_path.iterdir()) == []


def test_the_best_run_of_an_unfinished_or_wholly_diverged_sweep_is_refused(begun):
    rest = {"objective": {"name": "val_loss", "direction": "min"}, "trials": [], "best": None}
    begun.write_summary({"status": "interrupted", **rest})
    with pytest.raises(InputError, match="expected a completed sweep, got one that is interrupted"):
        runs.usable_run(begun.path)
    begun.write_summary({"status": "completed", **rest})
    with pytest.raises(InputError, match="every run diverged"):
        runs.usable_run(begun.path)
