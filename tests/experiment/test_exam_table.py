import csv
import io
import json
import sys
from typing import Any

import numpy as np
import pytest
import torch

from bayesgap import task_names
from bayesgap.attacks.named import named_attack
from bayesgap.drawing.exams import optimality_against_cost
from bayesgap.errors import BayesgapError
from bayesgap.evaluation.counting import BUDGETS
from bayesgap.experiment import exam_table
from bayesgap.files import sha256
from bayesgap.report.exam_table import rows, table, write_exams
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
    return exam_table.hold_exams(
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
    monkeypatch.setattr(exam_table, "exam", None)
    assert hold(tmp_path, task_file) == first


def test_another_task_in_the_same_file_is_another_exam(tmp_path, task_file):
    first = hold(tmp_path, task_file)
    mixture_task(1, 4).save(task_file)
    assert hold(tmp_path, task_file)[0]["mean_ratio"] != first[0]["mean_ratio"]


def test_tasks_of_the_same_name_are_told_apart_by_their_files(tmp_path, task_file):
    other = str(tmp_path / "other.safetensors")
    mixture_task(1, 4).save(other)
    records = exam_table.hold_exams(
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
        (record,) = exam_table.hold_exams(
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
    assert exam_table.as_csv([turned]) == exam_table.as_csv([record])
    assert exam_table.as_csv([record]).startswith("attack,task,temperature,points,successes,")
    assert set(record) == set(exam_table.COLUMNS)


def test_code_of_ones_own_is_examined_anew_each_time(tmp_path, task_file, monkeypatch):
    module = tmp_path / "changing.py"
    module.write_text("calls = []\ndef attack(net, x, y):\n    calls.append(1)\n    return x\n")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        (record,) = hold(tmp_path, task_file, ["changing:attack"], [1.0])
        assert record["success_rate"] == 0
    assert len(sys.modules.pop("changing").calls) == 2


def test_the_files_hold_all_numbers(tmp_path, task_file):
    records = hold(tmp_path, task_file)
    numbers, page, plot = write_exams(records, tmp_path)
    lines = list(csv.DictReader(io.StringIO(numbers.read_text())))
    assert [float(line["success_rate"]) for line in lines] == [r["success_rate"] for r in records]
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


@pytest.mark.parametrize("attack", ["nosuch", "foolbox:NoSuch", "nosuchmodule:attack", "math:pi"])
def test_an_attack_that_is_none_is_refused_before_anything_is_computed(tmp_path, attack):
    with pytest.raises(BayesgapError):
        hold(tmp_path, str(tmp_path / "nosuch.safetensors"), attacks=["ld-grad", attack])
    assert not (tmp_path / "store" / "exam-points").exists()


def test_a_task_that_is_none_is_refused(tmp_path):
    with pytest.raises(BayesgapError, match="There is no file"):
        hold(tmp_path, str(tmp_path / "nosuch.safetensors"))


def test_the_attacks_of_the_table_are_known_and_face_all_nine_tasks():
    for attack in exam_table.ATTACKS:
        assert named_attack(attack, pool=torch.zeros(1, 1, 1, 1)).name == attack
    assert len(exam_table.ALL_TASKS) == 9
    assert set(exam_table.ALL_TASKS) <= set(task_names())


def test_the_points_of_a_task_are_shared_by_its_exams(tmp_path, task_file):
    hold(tmp_path, task_file)
    assert len(list((tmp_path / "store" / "exam-points").iterdir())) == 1
    assert len(list((tmp_path / "store" / "exam").iterdir())) == 4


def exams_of(attack, **changes):
    """Made-up records of one attack on one task."""
    record: dict[str, Any] = dict.fromkeys(exam_table.COLUMNS, 0.5)
    record |= {"attack": attack, "task": "t", "temperature": 1.0, "success_rate": 1.0}
    return record | changes


def test_the_table_says_what_an_attack_left_unbroken_at_another_temperature():
    records = [
        exams_of("one", mean_ratio=1.25),
        exams_of("one", temperature=100.0, mean_ratio=12.345, success_rate=0.5),
        exams_of("none", success_rate=0.0, mean_ratio=None, median_ratio=None),
        exams_of("none", temperature=100.0, success_rate=0.0, mean_ratio=None),
    ]
    for record in records[2:]:
        record |= {"mean_ratio_low": None, "mean_ratio_high": None, "found": 0.0}
    headings, lines = rows(records)
    assert headings[-1] == "at 100 ×"
    assert [line[:4] for line in lines] == [
        ["t", "one", "100%", "1.2500"],
        ["t", "none", "0%", "–"],
    ]
    assert [line[-1] for line in lines] == ["12.3 (50%)", "– (0%)"]


def test_a_table_at_another_first_temperature_says_so():
    assert "at 9 times the default" in str(table([exams_of("one", temperature=9.0)]).title)
    assert str(table([exams_of("one")]).title) == "L2 over the certified lower bound"


def test_an_attack_that_broke_nothing_is_left_out_of_the_plot():
    nothing = exams_of("none", success_rate=0.0, mean_ratio=None)
    records = [exams_of("one", mean_ratio=1.5, mean_ratio_low=1.2, mean_ratio_high=1.7), nothing]
    (axis,) = optimality_against_cost(records).axes
    (mark,) = (line for line in axis.get_lines() if line.get_marker() == "o")
    x, y = (np.asarray(values).tolist() for values in mark.get_data())
    passes = records[0]["forwards"] + records[0]["backwards"]
    assert (x, y) == ([passes], [0.5])  # the mean ratio's excess over 1


def test_lines_lead_to_a_mark_through_what_was_found_within_fewer_passes():
    early = {f"ratio_{budget}": 1 + 1 / budget for budget in BUDGETS}
    early |= {f"success_{budget}": float(budget > 50) for budget in BUDGETS}
    record = exams_of("one", mean_ratio=1.0005, mean_ratio_low=1.0, mean_ratio_high=1.001)
    (axis,) = optimality_against_cost([record | early | {"forwards": 900, "backwards": 600}]).axes
    line = axis.get_lines()[0]
    x, y = (np.asarray(values, dtype=float) for values in line.get_data())
    np.testing.assert_array_equal(x, [200, 1_000, 1_500])
    np.testing.assert_allclose(y, [1 / 200, 1 / 1_000, 0.0005])
