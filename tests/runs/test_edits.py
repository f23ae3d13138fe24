"""After an edit of the package, just the stages that reach the edited module have other keys."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bayesgap

KEYS = """
import json
from bayesgap.experiment import DIGIT_TASKS, Setting
from bayesgap.paper.engine.run import plan
from bayesgap.paper.registry import EXHIBITS
from bayesgap.runs.stage import in_order
from bayesgap.tasks.catalog import known_tasks

known = known_tasks()
made = plan(Setting("quick", 0, {name: known[name][-1] for name in DIGIT_TASKS[:1]}), EXHIBITS)
stages = [stage for graph in made.graphs for stage in graph.targets()]
stages += [stage for wants in made.wanted.values() for stage in wants.stages.values()]
print(json.dumps([[s.name, s.label, s.key(1)] for s in in_order(stages)]))
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package that can be edited; its data are those of the original."""
    original = Path(bayesgap.__file__).parent
    folder = tmp_path_factory.mktemp("edited")
    data = shutil.ignore_patterns("__pycache__", "*.npz")
    shutil.copytree(original, folder / "bayesgap", ignore=data)
    os.symlink(original / "images/data/mnist.npz", folder / "bayesgap/images/data/mnist.npz")
    return folder / "bayesgap"


def keys(package):
    """The name and key of every stage of all figures and tables, by label and place."""
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    ran = subprocess.run(
        [sys.executable, "-c", KEYS], env=environment, capture_output=True, text=True, check=True
    )
    return [tuple(stage) for stage in json.loads(ran.stdout)]


def edit(path, old, new):
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def test_a_word_or_a_colour_computes_nothing_and_an_attack_just_what_attacks(package):
    before = keys(package)
    edit(package / "paper" / "fig4.py", "only large changes alter", "only very large changes alter")
    edit(package / "drawing" / "style.py", "#009E73", "#009E74")
    edit(package / "experiment" / "kinds.py", 'label="Linear SVM"', 'label="SVM, linear"')
    edit(package / "report" / "html.py", "DPI = 130", "DPI = 90")
    assert keys(package) == before
    edit(package / "attacks" / "boundary.py", "CROSSINGS = 3", "CROSSINGS = 4")
    after = keys(package)
    changed = {new[0] for old, new in zip(before, after, strict=True) if old != new}
    # An RBF SVM's gamma is chosen beside attacks, and a real test is of an RBF SVM nowhere.
    assert changed == {
        *("attack", "attack-online", "certify", "gamma", "rbf-svm"),
        *("plane", "mole", "line", "line-training", "theory"),
    }
