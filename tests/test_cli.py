import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

import bayesgap
from bayesgap import cli
from bayesgap.errors import BayesgapError
from bayesgap.evaluation.loading import load_evaluation
from bayesgap.paper.registry import EXHIBITS
from bayesgap.report.evaluation import FILES as EVALUATION_FILES
from bayesgap.report.page import FILES
from bayesgap.report.terminal import results_table
from strategies import without_shape_checks
from toys import spherical_task

RUNNER = CliRunner()


def command(*arguments, **environment):
    """The command line as a user calls it, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from bayesgap.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )


@pytest.fixture
def call(monkeypatch, capsys):
    """The same in this process, which has imported all that the commands need."""

    def called(*arguments):
        monkeypatch.setattr(sys, "argv", ["bayesgap", *arguments])
        with without_shape_checks(), pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capsys.readouterr()

    return called


def test_help_names_every_command():
    shown = RUNNER.invoke(cli.app, ["--help"]).output
    commands = ("reproduce", "evaluate", "certify", "verify", "exam", "tasks", "fit")
    assert all(name in shown for name in commands)


def test_version():
    assert RUNNER.invoke(cli.app, ["--version"]).output == f"bayesgap {bayesgap.__version__}\n"


def test_the_list_is_of_what_is_asked_for():
    every = RUNNER.invoke(cli.app, ["reproduce", "--list"]).output.splitlines()
    some = RUNNER.invoke(cli.app, ["reproduce", "fig2", "table1", "--list"]).output.splitlines()
    assert [line.split()[0] for line in every] == [exhibit.name for exhibit in EXHIBITS]
    assert [line.split()[0] for line in some] == ["fig2", "table1"]
    assert [" ".join(line.split()) for line in some] == [
        f"{exhibit.name} {exhibit.title}. Needs {exhibit.needs}."
        for exhibit in EXHIBITS
        if exhibit.name in ("fig2", "table1")
    ]


def test_tasks_lists_every_released_task():
    shown = RUNNER.invoke(cli.app, ["tasks"]).output
    assert all(name in shown for name in bayesgap.task_names() if not name.endswith("/fitted"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["reproduce", "--scale", "huge"], "huge"),
        (["reproduce", "--out", "FILE/out"], "FILE"),
        (["reproduce", "--out", "OUT", "--store", "FILE/store"], "FILE/store"),
        (["reproduce", "--out", "OUT", "--store", "nosuch://place"], "nosuch"),
        (["evaluate", "math:pi", "--task", "nosuch/task", "--out", "OUT"], "nosuch/task"),
        (["evaluate", "nosuch:net", "--task", "mnist-0-6/symmetric", "--out", "OUT"], "'nosuch'"),
        (["evaluate", "math:pi", "--task", "mnist-0-6/symmetric", "--out", "FILE/out"], "FILE"),
        (
            [
                *("evaluate", "math:pi", "--task", "mnist-0-6/symmetric", "--out", "OUT"),
                *("--points", "FILE"),
            ],
            "FILE is no .npz file of numbers",
        ),
        (
            ["evaluate", "math:pi", "--task", "mnist-0-6/symetric", "--out", "OUT"],
            "no task 'mnist-0-6/symetric'. Did you mean mnist-0-6/symmetric?",
        ),
        (
            ["certify", "mnist-0-6/symmetric", "--seed", str(2**64), "--out", "OUT"],
            f"0 to {2**63 - 1}; got {2**64}",
        ),
        (
            [
                *("exam", "ddn", "--task", "mnist-0-6/symmetric", "--seed", str(2**64)),
                *("--store", "OUT", "--workers", "1"),
            ],
            f"0 to {2**63 - 1}; got {2**64}",
        ),
        (["certify", "nosuch/task"], "nosuch/task"),
        (["certify", "mnist-0-6/symmetric", "--rule", "mean", "--out", "OUT"], "'mean'"),
        (["certify", "mnist-0-6/symmetric", "--per-class", "1", "--out", "FILE/out"], "FILE"),
        (["verify", "FILE"], "FILE"),
        (["exam", "nosuch", "--task", "mnist-0-6/symmetric", "--store", "OUT"], "'nosuch'"),
        (["exam", "ddn", "--out", "FILE/out"], "FILE"),
        (["reproduce", "fig19", "--out", "OUT"], "'fig19'"),
        (["reproduce", "fig19", "--list"], "'fig19'. Did you mean fig"),
        (["reproduce", "fig13", "--tasks", "HERE"], "fig13 needs celeba-smiling"),
        (["reproduce", "fig13", "--tasks", "OUT"], "no folder OUT of tasks"),
        (["reproduce", "all", "--celeba", "FILE", "--out", "OUT"], "FILE"),
        (["reproduce", "fig13", "--attribute", "Smiling", "--tasks", "HERE"], "celeba-smiling"),
        (["reproduce", "fig13", "--attribute", "Young", "--tasks", "HERE"], "'Young'"),
        (["reproduce", "fig13", "--attribute", "Male", "--tasks", "HERE"], "--attribute Male out"),
        (["exam", "ddn", "--task", "mine/symmetric", "--tasks", "OUT"], "no folder OUT of tasks"),
        (["fit", "mnist-0-0", "--tasks", "OUT"], "[0, 0]"),
        (["fit", "mnist-0-17", "--tasks", "OUT"], "[0, 17]"),
        (["fit", "celeba-male", "--tasks", "OUT"], "--celeba"),
        (["fit", "mnist-0-6", "--tasks", "OUT"], "mnist-0-6 is released"),
        (["fit", "mnist-3-8", "celeba-nose", "--celeba", "FILE", "--tasks", "OUT"], "celeba-nose"),
        (["fit", "cifar-cat", "--tasks", "OUT"], "'cifar-cat'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, call, arguments, said):
    file = tmp_path / "file"
    file.write_text("no folder")
    places = {"FILE": str(file), "OUT": str(tmp_path / "out"), "HERE": str(tmp_path)}
    for name, path in places.items():
        arguments = [argument.replace(name, path) for argument in arguments]
        said = said.replace(name, path)
    code, out, error = call(*arguments)
    assert code == 2
    assert said in error
    assert error.startswith("Error: ")
    assert len(error.strip().splitlines()) == 1
    assert out == ""


def test_bad_input_shows_no_traceback():
    done = command("certify", "mnist-0-6/symmetric", "--rule", "mean", "--out", "/dev/null")
    assert done.returncode == 2
    assert re.fullmatch(r"Error: .*'mean'.*\.\n", done.stderr)
    assert done.stdout == ""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that refuses even root")
def test_a_store_that_refuses_to_be_written_is_one_sentence(tmp_path):
    done = command("reproduce", "--out", str(tmp_path), "--store", "/proc/no/store")
    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert "/proc/no/store" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_interruption_says_what_is_kept(monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    for command, module, name, kept in (
        (["tasks"], "bayesgap.tasks.catalog", "known_tasks", False),
        (["exam", "ddn"], "bayesgap.experiment.exam_table", "hold_exams", True),
    ):
        monkeypatch.setattr(f"{module}.{name}", interrupted)
        monkeypatch.setattr(sys, "argv", ["bayesgap", *command])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert stopped.value.code == 130
        said = capsys.readouterr().err
        assert "Interrupted." in said
        assert ("goes on" in said) == kept


def test_a_refusal_is_printed_and_a_bug_is_not_hidden(monkeypatch, capsys):
    def refuse():
        raise BayesgapError("The 7th image is upside down.")

    monkeypatch.setattr(cli, "app", refuse)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "Error: The 7th image is upside down.\n"

    def bug():
        raise KeyError("ours")

    monkeypatch.setattr(cli, "app", bug)
    with pytest.raises(KeyError):
        cli.main()


def test_the_default_store_lies_in_the_users_cache(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cli.default_store() == str(Path("/somewhere/bayesgap/store"))


NETS = """
import torch
from torch import nn

class Plane(nn.Module):
    def forward(self, x):
        gap = 1.0 - x.flatten(1).sum(dim=1)
        return torch.stack([gap, -gap], dim=1)

class Rounded(Plane):
    def forward(self, x):
        return super().forward((255 * x).round() / 255)

def failing():
    return nn.Linear(-1, 2)

class Both(Plane):
    def forward(self, x):
        return super().forward(x), x

class Named(Plane):
    def forward(self, x):
        return {"features": x, "logits": super().forward(x)}
"""


@pytest.fixture
def evaluated(call, tmp_path, monkeypatch):
    """`bayesgap evaluate` on a tiny task, with a module of one's own: code, outputs and folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cli_nets.py").write_text(NETS)
    task = spherical_task([[0.2, 0.2], [0.8, 0.8]], 0.003)
    task.save(tmp_path / "task.safetensors")
    x, y = task.sample(24, seed=3)
    np.savez(tmp_path / "points.npz", x=x, y=y)

    def run(name, *options):
        asked = ("--task", "task.safetensors", "--per-class", "12", "--out", "out", *options)
        return *call("evaluate", f"cli_nets:{name}", *asked), tmp_path / "out"

    yield run
    sys.modules.pop("cli_nets", None)


def test_an_evaluation_shows_its_table_and_leaves_its_page(evaluated):
    code, shown, said, out = evaluated("Plane")
    assert (code, said) == (0, "")
    assert sorted(path.name for path in out.iterdir()) == sorted(EVALUATION_FILES)
    document = json.loads((out / "evaluation.json").read_text())
    assert document["classifier"] == "cli_nets:Plane"
    lines = {line[:28].strip(): line[28:].split() for line in shown.splitlines()}
    for label, key in (("mean L2, nearest found", "mean_l2"), ("gap", "gap")):
        numbers = document["best"] if key == "mean_l2" else document
        low, high = numbers[f"{key}_low"], numbers[f"{key}_high"]
        want = [f"{numbers[key]:.4g}", f"{low:.4g}", "to", f"{high:.4g}"]
        assert lines[label] == want
    assert lines["accuracy"] == ["100.0%"]
    assert shown.rstrip().endswith(str(out / "evaluation.html"))
    assert "Doubt" not in shown
    assert load_evaluation(out / "evaluation.safetensors").to_dict() == document


def test_doubts_are_listed_once_and_the_exit_code_is_0(evaluated):
    code, shown, said, out = evaluated("Rounded", "--attack", "ddn", "--doubts", "quick")
    document = json.loads((out / "evaluation.json").read_text())
    doubts = document["doubts"]
    assert (code, said) == (0, "")
    assert "gradients vanish" in {doubt["name"] for doubt in doubts}
    plain = " ".join(shown.split())
    assert shown.count("Doubt: ") == len(doubts)
    for doubt in doubts:
        assert f"Doubt: {doubt['name']}: {doubt['finding']}. {doubt['remedy']}" in plain
    assert f"No gap: {document['no_gap']}." in plain
    assert document["settings"]["attacks"] == ["ddn"]
    assert document["settings"]["doubts"] == "quick"


def test_an_evaluation_of_given_points_within_a_box(evaluated):
    options = ("--points", "points.npz", "--box", "-1", "2", "--certificates", "--seed", "4")
    code, shown, _, out = evaluated("Plane", *options)
    document = json.loads((out / "evaluation.json").read_text())
    assert code == 0
    assert document["settings"]["per_class"] is None
    assert document["settings"]["box"] == [-1, 2]
    assert document["settings"]["seed"] == 4
    assert document["gap"] is not None
    code, shown, _, out = evaluated("Plane", *options[:-3])
    assert json.loads((out / "evaluation.json").read_text())["gap"] is None
    assert "No gap: the optimum was not certified" in shown


@pytest.mark.parametrize(("name", "take"), [("Both", "0"), ("Named", "logits")])
def test_one_of_several_outputs_is_taken(evaluated, name, take):
    *_, out = evaluated("Plane")
    plain = json.loads((out / "evaluation.json").read_text())
    code, _, said, out = evaluated(name, "--take", take)
    assert (code, said) == (0, "")
    assert json.loads((out / "evaluation.json").read_text())["best"] == plain["best"]
    code, _, said, _ = evaluated(name, "--take", "nosuch")
    assert code == 2
    assert "and not 'nosuch': say which" in said


def test_a_box_is_asked_for_by_its_two_ends():
    for name in ("evaluate", "certify"):
        shown = " ".join(RUNNER.invoke(cli.app, [name, "--help"]).output.split())
        assert "--box LOW HIGH Smallest and largest pixel value." in shown


def test_a_classifier_that_cannot_be_made_is_one_sentence(evaluated):
    code, shown, said, _ = evaluated("failing")
    assert code == 2
    assert shown == ""
    assert re.fullmatch(
        r"Error: The classifier 'cli_nets:failing' stopped with RuntimeError: .* "
        r"\(.*cli_nets\.py, line 15\)\.\n",
        said,
    )


def test_a_certificate_is_written_and_verified_again(tmp_path):
    file = tmp_path / "proofs.safetensors"
    made = command("certify", "mnist-0-6/symmetric", "--per-class", "2", "--out", str(file))
    assert made.returncode == 0, made.stderr
    assert "digit 0" in made.stdout
    assert str(file) in made.stdout
    checked = command("verify", str(file))
    assert checked.returncode == 0, checked.stderr
    assert "as released" in checked.stdout
    assert re.search(r"Lower bounds proven: 4; their mean \d\.\d+\.", checked.stdout)
    assert re.search(r"Adversarial points confirmed: 4; their mean \d\.\d+\.", checked.stdout)


def test_a_certificate_within_a_box_says_so(tmp_path):
    file = str(tmp_path / "proofs.safetensors")
    made = command(
        *("certify", "mnist-0-6/symmetric", "--per-class", "1", "--box", "-0.5", "2", "--out", file)
    )
    assert made.returncode == 0, made.stderr
    assert "within the box -0.5 to 2" in " ".join(made.stdout.split())


def test_a_false_statement_is_named_and_the_exit_code_is_1(tmp_path):
    known = bayesgap.load_task("mnist-0-6/symmetric")
    x, y = known.sample(2, seed=0)
    bracket = bayesgap.certify(known, x, y)
    bracket.lower[1] *= 1.0001
    bracket.save(tmp_path / "raised.safetensors")
    checked = command("verify", str(tmp_path / "raised.safetensors"))
    assert checked.returncode == 1
    assert "Lower bounds proven: 1; their mean " in checked.stdout
    assert "No valid lower bound for point(s) 1." in checked.stderr


def test_what_a_certificate_does_not_state_is_not_confirmed(tmp_path):
    known = bayesgap.load_task("mnist-0-6/symmetric")
    bracket = bayesgap.certify(known, *known.sample(30, seed=0))
    bracket.lower.zero_()
    bracket.upper.fill_(torch.inf)
    bracket.save(tmp_path / "nothing.safetensors")
    shown = command("verify", str(tmp_path / "nothing.safetensors")).stdout
    assert "Lower bounds proven: 30; their mean 0." in shown
    assert "Adversarial points confirmed: 0." in shown
    assert "Without an adversarial point: 30." in shown
    bracket.lower.fill_(1e3)
    bracket.save(tmp_path / "lies.safetensors")
    said = command("verify", str(tmp_path / "lies.safetensors")).stderr
    assert "No valid lower bound for point(s) 0, 1, 2, " in said
    assert "19 and 10 more." in said


def test_a_folder_that_cannot_be_made_is_found_out_before_anything_is_proven(tmp_path):
    (tmp_path / "file").touch()
    out = str(tmp_path / "file" / "proofs.safetensors")
    refused = command("certify", "mnist-0-6/symmetric", "--per-class", "500", "--out", out)
    assert refused.returncode == 2
    assert "certifying" not in refused.stderr


def test_markup_in_a_strangers_names_is_text(tmp_path):
    known = bayesgap.load_task("mnist-0-6/symmetric")
    named = bayesgap.Task(
        known.densities,
        image_shape=known.image_shape,
        class_names=["[/red]", "[bold]six"],
        name="[/]mine",
    )
    named.save(tmp_path / "task.safetensors")
    out = str(tmp_path / "proofs.safetensors")
    made = command("certify", str(tmp_path / "task.safetensors"), "--per-class", "1", "--out", out)
    assert made.returncode == 0, made.stderr
    assert "[/red]" in made.stdout
    assert "[/]mine" in made.stdout


def test_an_exam_shows_its_table_and_leaves_its_files(tmp_path):
    held = command(
        "exam",
        "deepfool",
        *("--task", "mnist-0-6/symmetric", "--per-class", "2", "--workers", "1"),
        *("--out", str(tmp_path / "exam"), "--store", str(tmp_path / "store")),
    )
    assert held.returncode == 0, held.stderr
    assert "deepfool" in held.stdout
    left = sorted(path.name for path in (tmp_path / "exam").iterdir())
    assert left == ["exams.csv", "exams.md", "exams.svg"]


def test_a_reproduction_shows_its_verdicts_and_where_the_report_is(tmp_path):
    out = tmp_path / "out"
    places = ("--out", str(out), "--store", str(tmp_path / "store"))
    shown = RUNNER.invoke(cli.app, ["reproduce", "fig3", "--scale", "quick", *places])
    assert shown.exit_code == 0, shown.output
    document = json.loads((out / "results.json").read_text())
    (claim,) = document["claims"]
    assert f"{claim['verdict']}  fig3  " in shown.output
    assert " ".join(claim["statement"].split()[:8]) in shown.output
    assert re.search(rf"\d+ seconds. The report: {re.escape(str(out))}/report.html\n", shown.output)
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)


def record(classifier, **numbers):
    usual = {"clean_accuracy": 1.0, "success_rate": 1.0, "mean_l2": 2.0}
    ends = {"mean_l2_low": 1.5, "mean_l2_high": 2.5}
    about = {"task": "mnist-0-6", "variant": "symmetric", "classifier": classifier}
    return {**about, **usual, **ends, **numbers}


def test_the_results_are_a_line_for_each_classifier_within_80_columns():
    records = [
        record("bayes-optimal", certified_lower=1.9),
        record("cnn", gap=0.256, success_rate=0.991),
        record("rbf-svm", success_rate=None, mean_l2=None, mean_l2_low=None, mean_l2_high=None),
        record("cnn", variant="asymmetric", gap=-0.004),
    ]
    shown = io.StringIO()
    Console(width=80, file=shown).print(results_table(records))
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line.split() for line in lines[2:]]
    assert rows == [
        ["mnist-0-6/symmetric"],
        ["bayes-optimal", "100.0%", "100.0%", "2.000", "1.500", "–", "2.500", "1.900"],
        ["cnn", "100.0%", "99.1%", "2.000", "1.500", "–", "2.500", "0.26"],
        ["rbf-svm", "100.0%", "–", "–", "–", "–", "–"],
        ["mnist-0-6/asymmetric"],
        ["cnn", "100.0%", "100.0%", "2.000", "1.500", "–", "2.500", "-0.00"],
    ]
