"""The recipes of docs/architecture.md, followed from outside the package."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch

import bayesgap
from bayesgap.errors import BayesgapError
from bayesgap.experiment.kinds import OPTIMUM
from bayesgap.experiment.setting import REAL, SYMMETRIC
from bayesgap.norms import L2
from bayesgap.tasks.task import Task
from laplace import LaplaceImages
from linf import LINF
from nearest_mean import NEAREST_MEAN, NearestMean
from together import TINY, fitted, reproduced


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """The source's task, fitted as any other is."""
    return fitted(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def ran(tasks, tmp_path_factory):
    return reproduced(tasks, tmp_path_factory.mktemp("run"))


def test_a_figure_is_on_the_page_with_its_claim(ran):
    made, document = ran
    (claim,) = document["claims"]
    assert (claim["exhibit"], claim["verdict"]) == ("means", "reproduced")
    assert [case.variant for case in made.cases] == [SYMMETRIC, REAL]


def test_a_kind_of_classifier_is_trained_attacked_and_compared(ran):
    made, document = ran
    measured = made.cases[next(iter(made.cases))].measured[NEAREST_MEAN]
    assert measured.summary.seeds == 2
    assert measured.summary.success_rate == 1
    assert measured.gap is not None
    assert measured.gap.reason is None
    assert [r["classifier"] for r in document["results"]] == [
        "bayes-optimal",
        "nearest-mean",
        "nearest-mean",
    ]


def test_the_boundary_between_two_means_is_where_the_attack_says(ran, tasks):
    made, _ = ran
    case = next(iter(made.cases.values()))
    x, y = case.points["x"], case.points["y"]
    means = made.finished[case.graph.classifiers[NEAREST_MEAN][0]].tensors["means"]
    margin = NearestMean(means)(x) @ torch.tensor([1.0, -1.0], dtype=torch.float64)
    distance = margin.abs() / (2 * (means[0] - means[1]).norm())
    found = case.measured[NEAREST_MEAN].best[0].sizes
    torch.testing.assert_close(found, distance, rtol=1e-6, atol=0)
    assert ((margin > 0) == (y == 0)).all()


def test_a_source_gives_real_images_and_a_task(ran):
    made, document = ran
    assert {facts["variant"] for facts in document["tasks"]} == {SYMMETRIC, REAL}
    real = next(case for case in made.cases.values() if case.case.variant == REAL)
    assert real.points["x"].shape == (2 * TINY.per_class, 1, 8, 8)
    assert list(document["sizes"]) == ["squares"]


def test_two_workers_find_the_parts_and_give_the_same_numbers(ran, tasks, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    _, document = ran
    _, again = reproduced(tasks, tmp_path, workers=2)
    assert again["results"] == document["results"]


def test_a_norm_measures_a_run_whose_results_carry_it(ran, tasks, tmp_path):
    made, document = reproduced(tasks, tmp_path, LINF)
    plain, _ = ran
    assert {record["norm"] for record in document["results"]} == {"Linf"}
    for case, before in zip(made.cases.values(), plain.cases.values(), strict=True):
        for kind, measured in case.measured.items():
            assert measured.summary.mean.value < before.measured[kind].summary.mean.value
            assert "certified" not in measured.attacks
            assert measured.certified is None
    nearest = next(iter(made.cases.values())).measured[NEAREST_MEAN]
    assert nearest.gap is not None
    assert nearest.gap.reason == "certificates are of L2, the sizes of Linf"
    header = (tmp_path / "out" / "results.csv").read_text().partition("\n")[0]
    assert "mean_linf" in header
    assert "mean_l2" not in header
    # What certificates of L2 would be compared with is not decided.
    (claim,) = document["claims"]
    assert claim["verdict"] == "not decided"
    assert {number["value"] for number in claim["numbers"]} == {None}
    page = (tmp_path / "out" / "report.html").read_text()
    assert ">mean Linf<" in page
    assert ">mean L2<" not in page


def test_a_norm_measures_the_largest_change():
    task = bayesgap.load_task("mnist-0-6/symmetric")
    optimum = task.bayes_classifier()
    attack = partial(bayesgap.evaluate, optimum, task, attacks="ld-grad-tight", per_class=12)
    with pytest.warns(bayesgap.DoubtWarning, match="attacks look for small L2"):
        found = attack(norm=LINF)
    plain = attack(norm=L2)
    assert found.best.norm is LINF
    outcome = found.outcomes["ld-grad-tight"]
    x, _ = task.sample_given(torch.arange(2).repeat(12), seed=0)
    assert torch.equal(outcome.sizes, (outcome.images - x).flatten(1).abs().amax(dim=1))
    assert (found.gap, found.no_gap) == (None, "certificates are of L2, the sizes of Linf")
    assert plain.gap is not None


@pytest.fixture(scope="module")
def laplace_task():
    means = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    return Task([LaplaceImages(mean, 0.1) for mean in means], image_shape=(1, 1, 2), name="laplace")


def test_a_density_without_certificates_is_evaluated_without_a_gap(laplace_task):
    found = bayesgap.evaluate(laplace_task.bayes_classifier(), laplace_task, per_class=20)
    assert found.best.success_rate == 1
    assert found.bracket is None
    assert found.gap is None
    assert found.no_gap == "certificates exist for mixtures of factor analyzers alone"


def test_a_density_without_certificates_is_refused_by_certify(laplace_task):
    x, y = laplace_task.sample(4, seed=0)
    with pytest.raises(BayesgapError, match=r"mixtures of factor analyzers alone.*LaplaceImages"):
        bayesgap.certify(laplace_task, x, y)


DOCUMENT = Path(__file__).parents[2] / "docs" / "architecture.md"


def test_the_page_shows_the_parts_as_they_are():
    blocks = re.findall(
        r"<!-- tests/recipes/(\w+\.py) -->\n+```python\n(.*?)```", DOCUMENT.read_text(), re.S
    )
    assert {name for name, _ in blocks} == {
        "figure.py",
        "laplace.py",
        "linf.py",
        "nearest_mean.py",
        "squares.py",
        "together.py",
    }
    for name, block in blocks:
        assert block in (Path(__file__).parent / name).read_text(), name


def test_the_optimum_of_the_fitted_task_is_certified(ran):
    made, _ = ran
    optimum = next(iter(made.cases.values())).measured[OPTIMUM]
    assert optimum.certified is not None
    assert optimum.certified.value is not None
    assert optimum.certified.value <= (optimum.summary.mean.value or 0.0)
