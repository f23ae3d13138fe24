import csv
import io
import json

import pytest

from bayesgap.errors import BayesgapError
from bayesgap.files import sha256
from bayesgap.paper import exams
from bayesgap.report.exams import table, write_exams
from bayesgap.runs.run import Resources
from bayesgap.runs.store import Store
from toys import mixture_task


@pytest.fixture
def task_file(tmp_path):
    path = tmp_path / "mine.safetensors"
    mixture_task(0, 4).save(path)
    return str(path)


def hold(
    tmp_path, task, attacks=("ld-grad", "foolbox:DDNAttack?steps=20"), temperatures=(1.0, 9.0)
):
    return exams.hold_exams(
        attacks,
        [task],
        temperatures,
        per_class=5,
        seed=0,
        store=Store(str(tmp_path / "store")),
        resources=Resources(),
    )


def test_there_is_one_record_for_each_attack_task_and_temperature(tmp_path, task_file):
    records = hold(tmp_path, task_file)
    assert [(r["attack"], r["temperature"]) for r in records] == [
        ("ld-grad", 1.0),
        ("ld-grad", 9.0),
        ("foolbox:DDNAttack?steps=20", 1.0),
        ("foolbox:DDNAttack?steps=20", 9.0),
    ]
    assert all(record["below"] == 0 for record in records)


def test_what_the_store_holds_is_not_computed_again(tmp_path, task_file, monkeypatch):
    first = hold(tmp_path, task_file)
    monkeypatch.setattr(exams, "exam", None)
    assert hold(tmp_path, task_file) == first


def test_another_task_in_the_same_file_is_another_exam(tmp_path, task_file):
    first = hold(tmp_path, task_file)
    mixture_task(1, 4).save(task_file)
    assert hold(tmp_path, task_file)[0]["mean_ratio"] != first[0]["mean_ratio"]


def test_tasks_of_the_same_name_are_told_apart_by_their_files(tmp_path, task_file):
    other = str(tmp_path / "other.safetensors")
    mixture_task(1, 4).save(other)
    records = exams.hold_exams(
        ["ld-grad", "ld-grad"],
        [task_file, other, task_file],
        [1.0, 1.0],
        per_class=5,
        seed=0,
        store=Store(str(tmp_path / "store")),
        resources=Resources(),
    )
    assert [record["task"] for record in records] == [task_file, other]
    assert records[0]["mean_ratio"] != records[1]["mean_ratio"]
    assert len(write_exams(records, tmp_path)) == 3


def test_tasks_of_ones_own_folder_are_found_by_name(tmp_path):
    ratios = []
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        folder.mkdir()
        mixture_task(seed, 4).save(folder / "mine.safetensors")
        entry = {
            "version": 1,
            "file": "mine.safetensors",
            "sha256": sha256(folder / "mine.safetensors"),
        }
        (folder / "catalogue.json").write_text(json.dumps({"mine": [entry]}))
        (record,) = exams.hold_exams(
            ["ld-grad"],
            ["mine/fitted"],
            [1.0],
            per_class=5,
            seed=0,
            store=Store(str(tmp_path / "store")),
            resources=Resources(),
            folder=folder,
        )
        assert record["task"] == "mine/fitted"
        ratios.append(record["mean_ratio"])
    assert ratios[0] != ratios[1]  # of one name and in one store, and yet other tasks


def test_columns_of_the_csv_do_not_depend_on_where_records_come_from(tmp_path, task_file):
    (record,) = hold(tmp_path, task_file, ["ld-grad"], [1.0])
    turned = dict(reversed(record.items()))
    assert exams.as_csv([turned]) == exams.as_csv([record])
    assert exams.as_csv([record]).startswith("attack,task,temperature,points,successes,")


def test_code_of_ones_own_is_examined_anew_each_time(tmp_path, task_file, monkeypatch):
    module = tmp_path / "changing.py"
    module.write_text("calls = []\ndef attack(net, x, y):\n    calls.append(1)\n    return x\n")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        (record,) = hold(tmp_path, task_file, ["changing:attack"], [1.0])
        assert record["success_rate"] == 0
    import sys

    assert len(sys.modules.pop("changing").calls) == 2


def test_the_files_hold_all_numbers(tmp_path, task_file):
    records = hold(tmp_path, task_file)
    numbers, page, plot = write_exams(records, tmp_path)
    rows = list(csv.DictReader(io.StringIO(numbers.read_text())))
    assert [float(row["success_rate"]) for row in rows] == [r["success_rate"] for r in records]
    assert len(page.read_text().splitlines()) == 2 + 2
    assert "<svg" in plot.read_text()


def test_the_table_has_a_column_for_each_further_temperature(tmp_path, task_file):
    shown = table(hold(tmp_path, task_file))
    assert shown.columns[-1].header == "at 9 ×"
    assert shown.row_count == 2


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(tmp_path, task_file, temperature):
    with pytest.raises(BayesgapError, match="positive and finite"):
        hold(tmp_path, task_file, temperatures=[temperature])
