import dataclasses
import functools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import stages
from bayesgap.errors import BayesgapError
from bayesgap.runs import stage as stage_module
from bayesgap.runs.run import Resources, execute, run
from bayesgap.runs.stage import Stage, in_order, seed_of
from bayesgap.runs.store import TENSORS, Store
from bayesgap.versions import versions

ALONE = Resources(workers=1)


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log"
    path.touch()
    return path


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "store"))


def graph(log, right=4):
    """add <- (draw 3, draw `right`)."""
    draws = [Stage("draw", stages.draw, {"n": n, "log": str(log)}) for n in (3, right)]
    return Stage("add", stages.add, {"log": str(log)}, {"left": draws[0], "right": draws[1]})


def test_inputs_come_before_what_needs_them_and_each_once(log):
    shared = Stage("draw", stages.draw, {"n": 3, "log": str(log)})
    twice = Stage("add", stages.add, {"log": str(log)}, {"left": shared, "right": shared})
    assert in_order([twice, shared]) == [shared, twice]


def test_a_second_run_computes_nothing(log, store):
    first = run([graph(log)], store, ALONE)[graph(log)].values
    lines = log.read_text()
    assert sorted(lines.split("\n")) == ["", "add", "draw 3", "draw 4"]
    assert run([graph(log)], store, ALONE)[graph(log)].values == first
    assert log.read_text() == lines


def test_changed_settings_compute_what_depends_on_them_alone(log, store):
    run([graph(log)], store, ALONE)
    log.write_text("")
    run([graph(log, right=5)], store, ALONE)
    assert sorted(log.read_text().split()) == ["5", "add", "draw"]


def test_a_damaged_result_is_reported_and_computed_again(log, store, capsys):
    before = run([graph(log)], store, ALONE)[graph(log)].values
    damaged = graph(log).inputs["left"]
    path = Path(store.folder("draw", damaged.key(1))) / TENSORS
    path.write_bytes(path.read_bytes()[:-1])
    log.write_text("")
    assert run([graph(log)], store, ALONE)[graph(log)].values == before
    assert log.read_text() == "draw 3\n"
    assert str(path) in capsys.readouterr().err


def test_a_run_goes_on_where_it_was_cut_off(log, store):
    whole = run([graph(log)], Store(store.url + "-other"), ALONE)[graph(log)].values
    log.write_text("")
    run([graph(log).inputs["left"]], store, ALONE)
    assert run([graph(log)], store, ALONE)[graph(log)].values == whole
    assert sorted(log.read_text().split("\n")) == ["", "add", "draw 3", "draw 4"]


def test_two_workers_give_the_numbers_of_one(log, store, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(stages.__file__).parent))
    alone = run([graph(log)], store, ALONE)[graph(log)].values
    log.write_text("")
    other = Store(store.url + "-other")
    assert run([graph(log)], other, Resources(workers=2))[graph(log)].values == alone
    assert sorted(log.read_text().split("\n")) == ["", "add", "draw 3", "draw 4"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_dask_cluster_gives_the_same_numbers(log, store):
    distributed = pytest.importorskip("distributed")
    alone = run([graph(log)], store, ALONE)[graph(log)].values
    other = Store(store.url + "-other")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        resources = Resources(cluster=cluster.scheduler_address)
        assert run([graph(log)], other, resources)[graph(log)].values == alone


def test_a_refusal_inside_a_stage_reaches_the_caller(store):
    with pytest.raises(BayesgapError, match="7th image is upside down"):
        run([Stage("refuse", stages.refuse)], store, ALONE)


def test_a_refusal_inside_a_worker_reaches_the_caller(store, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(stages.__file__).parent))
    with pytest.raises(BayesgapError, match="7th image is upside down"):
        run([Stage("refuse", stages.refuse)], store, Resources(workers=2))


def test_the_key_follows_settings_inputs_threads_and_versions(log, monkeypatch):
    plain = graph(log)
    keys = {plain.key(1), plain.key(2), graph(log, right=5).key(1)}
    keys.add(dataclasses.replace(plain, name="other").key(1))
    known = versions()
    for name in known:
        changed = {**known, name: "another"}
        with monkeypatch.context() as patch:
            patch.setattr(stage_module, "versions", lambda changed=changed: changed)
            keys.add(graph(log).key(1))
    assert len(keys) == 4 + len(known)
    assert plain.key(1) == graph(log).key(1)


def test_the_key_follows_the_source_and_the_names_of_the_code(log, monkeypatch):
    plain = graph(log)
    given = dataclasses.replace(plain, code={"load": stages.draw})
    other = dataclasses.replace(plain, code={"load": stages.add})
    library = dataclasses.replace(plain, function=dataclasses.replace)
    keys = {stage.key(1) for stage in (plain, given, other, library)}
    assert len(keys) == 4
    assert len({stage.identity for stage in (plain, given, other, library)}) == 1
    monkeypatch.setattr(stage_module, "digest_of", lambda modules: "another")
    assert graph(log).key(1) not in keys


def test_stages_of_one_identity_and_other_code_are_each_computed(store):
    pair = [
        Stage("call", stages.call, {"n": 3}, code={"function": function})
        for function in (stages.double, stages.negate)
    ]
    assert len({stage.identity for stage in pair}) == 1
    found = run(pair, store, ALONE)
    assert [found[stage].values["value"] for stage in pair] == [6, -3]


@pytest.mark.parametrize(
    "code", [lambda n: n, functools.partial(stages.double, 3)], ids=["lambda", "partial"]
)
def test_code_that_cannot_be_imported_by_name_is_refused(code, store):
    with pytest.raises(BayesgapError, match="importable by its name"):
        run([Stage("call", stages.call, {"n": 3}, code={"function": code})], store, ALONE)


def test_the_seed_follows_settings_but_not_the_code_or_the_threads(log, monkeypatch):
    seed = graph(log).seed
    monkeypatch.setattr(stage_module, "digest_of", lambda modules: "another")
    assert graph(log).seed == seed
    assert graph(log, right=5).seed != seed
    assert 0 <= seed < 2**63


def test_seeds_of_different_parts_differ():
    assert len({seed_of("points", k) for k in range(1000)}) == 1000


def test_a_stage_runs_with_its_threads_and_leaves_the_process_as_it_was(log, store):
    before = torch.get_num_threads()
    run([graph(log)], store, Resources(workers=1, threads=before + 1))
    assert torch.get_num_threads() == before
    manifest = Store(store.url).verify("add", graph(log).key(before + 1))
    assert manifest is not None
    assert manifest["threads"] == before + 1


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="asks /proc whether a process lives")
def test_workers_end_with_the_process_that_started_them(log, tmp_path):
    script = (
        "import stages\n"
        "from bayesgap.runs.run import Resources, run\n"
        "from bayesgap.runs.stage import Stage\n"
        "from bayesgap.runs.store import Store\n"
        "if __name__ == '__main__':\n"
        f"    naps = [Stage('nap', stages.nap, {{'log': {str(log)!r}}})]\n"
        f"    run(naps, Store({str(tmp_path / 'store')!r}), Resources(workers=2))\n"
    )
    (tmp_path / "script.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(Path(stages.__file__).parent)}
    with subprocess.Popen([sys.executable, tmp_path / "script.py"], env=environment) as parent:
        worker = int(_soon(lambda: log.read_text().strip()))
        parent.kill()
    assert _soon(lambda: not Path(f"/proc/{worker}").exists())


def _soon(condition, seconds=60):
    """The condition's value once it is true."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return value


def test_places_reach_the_function_but_are_no_part_of_what_a_stage_is(tmp_path, store):
    here, there = (str(tmp_path / name) for name in ("here", "there"))
    first, second = (
        Stage("draw", stages.draw, {"n": 3}, places={"log": path}) for path in (here, there)
    )
    run([first], store, Resources())
    run([second], store, Resources())
    assert first.identity == second.identity
    assert Path(here).exists()
    assert not Path(there).exists()


def test_code_reaches_the_function_but_is_no_part_of_what_a_stage_is(store):
    plain, loud = (
        Stage("call", stages.call, {"n": 3}, code={"function": function})
        for function in (stages.double, stages.negate)
    )
    assert run([plain], store, ALONE)[plain].values == {"value": 6}
    assert plain.identity == loud.identity
    assert plain.seed == loud.seed


def test_a_result_of_other_source_than_the_runs_is_refused(log, store):
    stage = graph(log).inputs["left"]
    with pytest.raises(BayesgapError, match="not the one that this run began with"):
        execute(stage, "another key", store.url, 1, True, [])
    assert store.verify("draw", stage.key(1)) is None


def test_a_stage_that_returns_no_result_is_named(store):
    with pytest.raises(BayesgapError, match="The stage double must return a Result; got a int"):
        run([Stage("double", stages.doubled, {"n": 3})], store, ALONE)


def test_the_state_of_an_instance_is_part_of_the_key_but_for_paths(store):
    def stage(**state):
        return Stage("call", stages.call, {"n": 3}, code={"function": stages.Times(**state)})

    near, far, moved = stage(factor=2), stage(factor=-1), stage(factor=2, folder="/elsewhere")
    found = run([near, far], store, ALONE)
    assert [found[each].values["value"] for each in (near, far)] == [6, -3]
    assert near.key(1) == moved.key(1) != far.key(1)


def test_an_instance_whose_state_cannot_be_told_is_refused(store):
    for code in (stages.Secret(), stages.Secret().times):
        with pytest.raises(BayesgapError, match="an instance of a dataclass"):
            run([Stage("call", stages.call, {"n": 3}, code={"function": code})], store, ALONE)
