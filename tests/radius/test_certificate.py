import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from truths import gaussians, plain, random_task, task_of

import bayesgap as bg
from bayesgap import files
from bayesgap.errors import BayesgapError
from bayesgap.radius import certificate, dual, search
from bayesgap.radius.certificate import UNUSED, Statements, verify
from bayesgap.radius.certify import certify
from strategies import without_shape_checks

KIND = "certificate"
STATEMENTS = [f"claims.{name}" for name in Statements._fields]
REALS = ["x", "lower", "upper", "images", "claims.shares", "claims.steepness", "claims.log_weight"]
WHOLES = ["y", "claims.point", "claims.target", "claims.own"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A certificate of three classes, most statements of which hold two components against one."""
    task = random_task(1, 3, classes=3, components=2, name="mine")
    x, y = task.sample(8, seed=0)
    y[7] = (y[7] + 1) % 3
    bracket = certify(task, x, y)
    path = tmp_path_factory.mktemp("made") / "certificate.safetensors"
    bracket.save(path)
    assert bracket.correct.sum() >= 5
    assert not bracket.correct.all()
    return bracket, path


def tampered(made, folder, change=None, about=None):
    """The path of a copy whose tensors and metadata were changed in place."""
    tensors, metadata = files.load_tensors(made[1], kind=KIND)
    if change is not None:
        change(tensors)
    if about is not None:
        about(metadata)
    path = folder / "tampered.safetensors"
    files.save_tensors(path, tensors, kind=KIND, metadata=metadata)
    return path


def outcome(path):
    """What a user sees: who proved what, or None where the file is refused in a sentence."""
    with without_shape_checks():
        try:
            return verify(path)
        except BayesgapError as error:
            refusal = str(error)
    assert str(path) in refusal
    assert refusal.endswith(".")
    return None


def strongest(made):
    """A point that is decided correctly, and the row of the statement that matters most to it."""
    bracket = made[0]
    point = int(bracket.correct.nonzero()[0])
    rows = (bracket.statements.point == point).nonzero().flatten()
    return point, int(rows[bracket.statements.log_weight[rows].argmax()])


# The round trip.


@pytest.mark.parametrize("rule", ["log-sum-exp", "max-component"])
@pytest.mark.parametrize("noises", ["isotropic unequal", "diagonal"])
def test_what_was_certified_is_verified(rule, noises, tmp_path):
    task = random_task(2, 4, classes=3, latent=1, noises=noises, name="mine")
    bracket = certify(task, *task.sample(12, seed=1), rule=rule)
    path = tmp_path / "certificate.safetensors"
    bracket.save(path)
    verified = verify(path)
    assert verified.proven.all()
    # That a point is misclassified is shown too.
    assert verified.shown.all()
    assert verified.rule == rule
    assert not verified.released
    assert torch.equal(verified.lower, bracket.lower)
    assert torch.equal(verified.upper, bracket.upper)
    assert verified.task.name == "mine"
    given, about = task.to_tensors()
    again, about_again = verified.task.to_tensors()
    assert about == about_again
    assert all(torch.equal(given[name], again[name]) for name in given)


def test_equal_certificates_are_equal_files(made, tmp_path):
    made[0].save(tmp_path / "again.safetensors")
    assert files.sha256(tmp_path / "again.safetensors") == files.sha256(made[1])


def test_verification_knows_nothing_of_the_search(made, monkeypatch):
    def never(*_, **__):
        raise AssertionError("verification searched")

    for module in (dual, search):
        mine = {k: v for k, v in vars(module).items() if callable(v)}
        for name in [k for k, v in mine.items() if v.__module__ == module.__name__]:
            monkeypatch.setattr(module, name, never)
    with pytest.raises(AssertionError):
        vars(search)["search"]()
    assert verify(made[1]).proven.all()
    assert not {"search", "ascend", "frame", "BayesClassifier"} & vars(certificate).keys()


def test_certificates_of_points_that_no_other_class_can_reach(tmp_path):
    task = task_of(plain([0.0, 0.0], 1.0), plain([0.0, 0.0], 0.5), priors=[0.99, 0.01])
    bracket = certify(task, torch.ones(2, 1, 1, 2).double(), torch.zeros(2).long())
    path = tmp_path / "certificate.safetensors"
    bracket.save(path)
    verified = verify(path)
    assert verified.upper.isinf().all()
    assert verified.proven.all()
    assert verified.shown.all()


def test_small_batches_make_no_difference(made, monkeypatch):
    monkeypatch.setattr(certificate, "CHUNK", 3)
    assert verify(made[1]).proven.all()
    assert len(verify(made[1]).shown) == 8


def test_released_tasks_are_recognised_by_their_numbers(tmp_path):
    task = bg.load_task("mnist-0-6/symmetric")
    bracket = certify(task, *task.sample(1, seed=0))
    path = tmp_path / "certificate.safetensors"
    bracket.save(path)
    assert verify(path).released
    tensors, about = files.load_tensors(path, kind=KIND)
    tensors["task.0.means"][0, 0] += 1e-12
    files.save_tensors(path, tensors, kind=KIND, metadata=about)
    assert not verify(path).released


def test_a_file_of_ones_own_is_no_release(tmp_path, monkeypatch):
    """Though it lies where the name says, as a path."""
    monkeypatch.chdir(tmp_path)
    task = task_of(plain([0.0, 0.0]), plain([2.0, 0.0]), name="mine.safetensors")
    task.save("mine.safetensors")
    certify(task, *task.sample(2, seed=0)).save("certificate.safetensors")
    assert not verify("certificate.safetensors").released


def test_a_folder_that_is_missing(made, tmp_path):
    with pytest.raises(BayesgapError, match="Cannot write"):
        made[0].save(tmp_path / "missing" / "certificate.safetensors")


# False bounds are not proven.


@pytest.mark.parametrize("raised", [1e-6, 1e-3, 1.0, 1e6, 1e150])
def test_a_lower_bound_that_was_raised(made, raised, tmp_path):
    bracket = made[0]

    def change(tensors):
        tensors["lower"] += raised * tensors["lower"] + raised * (tensors["lower"] == 0)

    verified = outcome(tampered(made, tmp_path, change))
    if verified is not None:
        assert not verified.proven.any()
        assert (verified.lower > bracket.lower).all()


def test_a_lower_bound_that_was_lowered_is_still_true(made, tmp_path):
    path = tampered(made, tmp_path, lambda t: t["lower"].mul_(0.7))
    assert verify(path).proven.all()


@pytest.mark.parametrize("by", [1e-3, 1.0, math.inf])
def test_a_log_weight_that_was_lowered(made, by, tmp_path):
    point, row = strongest(made)
    verified = outcome(tampered(made, tmp_path, lambda t: t["claims.log_weight"][row].sub_(by)))
    assert not verified.proven[point]
    assert verified.proven.sum() == 7


@pytest.mark.parametrize("by", [1.0, 50.0, math.inf])
def test_log_weights_that_were_raised_leave_no_room(made, by, tmp_path):
    point, row = strongest(made)
    verified = outcome(tampered(made, tmp_path, lambda t: t["claims.log_weight"][row].add_(by)))
    assert verified is None or not verified.proven[point]


def without_row(tensors, row):
    keep = torch.arange(len(tensors["claims.point"])) != row
    for name in STATEMENTS:
        tensors[name] = tensors[name][keep]


def test_a_target_that_was_dropped(made, tmp_path):
    point, row = strongest(made)
    verified = outcome(tampered(made, tmp_path, lambda t: without_row(t, row)))
    assert not verified.proven[point]
    assert verified.proven.sum() == 7


def test_statements_that_were_given_to_another_point(made, tmp_path):
    bracket = made[0]
    first, second = bracket.correct.nonzero().flatten()[:2].tolist()

    def change(tensors):
        mine = tensors["claims.point"] == first
        tensors["claims.point"][mine] = second

    verified = outcome(tampered(made, tmp_path, change))
    assert verified is None or not verified.proven[first]


@pytest.mark.parametrize("what", ["target", "own", "label"])
def test_components_of_wrong_classes(made, what, tmp_path):
    bracket = made[0]
    point, row = strongest(made)

    def change(tensors):
        mine = int(tensors["claims.own"][row].max())
        if what == "target":
            tensors["claims.target"][row] = mine
        elif what == "own":
            tensors["claims.own"][row] = UNUSED
            tensors["claims.own"][row, 0] = tensors["claims.target"][row]
            tensors["claims.shares"][row] = 0
            tensors["claims.shares"][row, 0] = 1.0
        else:
            tensors["y"][point] = (tensors["y"][point] + 1) % 3

    verified = outcome(tampered(made, tmp_path, change))
    assert verified is None or not verified.proven[point]
    assert bracket.lower[point] > 0


def test_an_own_component_that_is_repeated(tmp_path):
    """Each repetition would add to the entropy, and so to the radius proven."""
    task = task_of(plain([0.0, 0.0]), plain([2.0, 0.0]))
    bracket = certify(task, torch.zeros(1, 1, 1, 2).double(), torch.zeros(1).long())
    bracket.save(tmp_path / "certificate.safetensors")
    for places in (2, 50):
        for steepness in (0.1, 0.2, 0.4, 0.8, 1.6):

            def change(tensors, places=places, steepness=steepness):
                tensors["claims.own"] = torch.zeros(1, places, dtype=torch.int64)
                tensors["claims.shares"] = torch.full((1, places), 1 / places).double()
                tensors["claims.steepness"] = torch.tensor([steepness]).double()
                tensors["claims.log_weight"] = torch.tensor([-1e-6]).double()
                tensors["lower"] = torch.tensor([1.1]).double()

            made = bracket, tmp_path / "certificate.safetensors"
            verified = outcome(tampered(made, tmp_path, change))
            assert verified is None or not verified.proven.any()


@pytest.mark.parametrize("shares", [(1.7e308, 1.7e308), (1.0, 1e-320), (1e-320, 1.0)])
@pytest.mark.parametrize("rule", ["log-sum-exp", "max-component"])
def test_shares_whose_sum_or_quotient_is_lost(rule, shares, tmp_path):
    """An infinite sum would leave no own component in the statement, which then proves anything."""
    own = gaussians([0.75, 0.25], [[0.0, 0.0], [0.0, 0.1]], np.zeros((2, 2, 0)), np.ones((2, 2)))
    task = task_of(own, plain([1.0, 0.0]))
    bracket = certify(task, torch.zeros(1, 1, 1, 2).double(), torch.zeros(1).long(), rule=rule)
    for steepness in (1e-6, 1e-3, 1.0):
        statements = bracket.statements._replace(
            point=torch.tensor([0]),
            target=torch.tensor([2]),
            own=torch.tensor([[0, 1]]),
            shares=torch.tensor([shares], dtype=torch.float64),
            steepness=torch.tensor([steepness]).double(),
            log_weight=torch.tensor([-1e-3]).double(),
        )
        changed = replace(bracket, lower=bracket.upper + 2.0, statements=statements)
        changed.save(tmp_path / "certificate.safetensors")
        assert not verify(tmp_path / "certificate.safetensors").proven.any()


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 2.0, 1e300, 1e-300])
def test_steepness_that_was_changed(made, factor, tmp_path):
    point, row = strongest(made)
    verified = outcome(tampered(made, tmp_path, lambda t: t["claims.steepness"][row].mul_(factor)))
    assert verified is None or not verified.proven[point]


def test_a_stronger_density_of_the_other_class(made, tmp_path):
    """The bounds are those of the densities in the file."""
    verified = outcome(tampered(made, tmp_path, lambda t: t["task.0.noise"].mul_(9.0)))
    assert not verified.proven[made[0].correct].all()


def test_another_rule(made, tmp_path):
    """What holds of the sum of components need not hold of the largest."""
    path = tampered(made, tmp_path, about=lambda a: a.__setitem__("rule", "max-component"))
    assert not outcome(path).proven[made[0].correct].all()


def test_images_that_show_nothing(made, tmp_path):
    bracket = made[0]
    right = bracket.correct
    same = verify(tampered(made, tmp_path, lambda t: t["images"].copy_(t["x"])))
    assert not same.shown[right].any()
    nearer = verify(tampered(made, tmp_path, lambda t: t["upper"].mul_(1 - 1e-9)))
    assert not nearer.shown[right].any()
    assert nearer.shown[~right].all()
    farther = verify(tampered(made, tmp_path, lambda t: t["upper"].mul_(1.5)))
    assert farther.shown.all()  # true, if weaker


# Damaged files.


def put(name, value):
    return lambda tensors: tensors.__setitem__(name, value(tensors[name]))


@pytest.mark.parametrize("name", [*REALS, *WHOLES])
@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.to(torch.float32) if t.is_floating_point() else t.to(torch.int32),
        lambda t: t.to(torch.int64) if t.is_floating_point() else t.double(),
        lambda t: t[None],
        lambda t: t.flatten()[0].clone(),
        lambda t: t[:0],
        lambda t: t[:-1],
        lambda t: torch.cat([t, t]),
    ],
    ids=[
        "half the precision",
        "another type",
        "an axis more",
        "a scalar",
        "empty",
        "short",
        "long",
    ],
)
def test_tensors_of_other_types_or_shapes_are_refused(made, name, change, tmp_path):
    assert outcome(tampered(made, tmp_path, put(name, change))) is None


@pytest.mark.parametrize("name", [*REALS, *WHOLES, "task.priors", "task.0.means", "task.2.noise"])
def test_missing_tensors_are_named(made, name, tmp_path):
    path = tampered(made, tmp_path, lambda tensors: tensors.pop(name))
    with pytest.raises(BayesgapError, match=r"holds no tensor") as error:
        verify(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", REALS)
def test_nan_is_refused(made, name, tmp_path):
    def change(tensors):
        tensors[name].view(-1)[0] = math.nan

    assert outcome(tampered(made, tmp_path, change)) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("claims.point", 8),
        ("claims.point", -1),
        ("claims.target", 6),
        ("claims.target", -1),
        ("claims.own", 6),
        ("claims.own", -2),
        ("y", 3),
        ("y", -1),
        ("lower", -1e-3),
        ("lower", math.inf),
        ("upper", -1.0),
        ("x", math.inf),
        ("images", -math.inf),
        ("claims.shares", -0.5),
        ("claims.shares", math.inf),
        ("claims.steepness", 0.0),
        ("claims.steepness", -1.0),
        ("claims.steepness", math.inf),
    ],
)
def test_values_out_of_range_are_refused(made, name, value, tmp_path):
    def change(tensors):
        tensors[name].view(-1)[0] = value

    if name == "claims.shares":
        row = made[0].statements.own[0] != UNUSED
        assert row[0]
    assert outcome(tampered(made, tmp_path, change)) is None


def test_a_statement_without_own_components_is_refused(made, tmp_path):
    assert outcome(tampered(made, tmp_path, lambda t: t["claims.own"].fill_(UNUSED))) is None


@pytest.mark.parametrize("value", [1e308, 1e200, 1e-200, 5e-324])
@pytest.mark.parametrize(
    "name",
    ["x", "images", "lower", "upper", "claims.shares", "claims.steepness", "task.0.means",
     "task.0.noise", "task.0.factors"],
)  # fmt: skip
def test_extreme_numbers_prove_nothing_false_and_end_in_no_traceback(made, name, value, tmp_path):
    bracket = made[0]
    verified = outcome(tampered(made, tmp_path, lambda t: t[name].fill_(value)))
    if verified is None:
        return
    if name in ("x", "claims.shares", "claims.steepness") or (name == "lower" and value > 1):
        # Equal shares may prove as much; nothing else can.
        doubtful = bracket.correct & (name != "claims.shares")
        assert not verified.proven[doubtful].any()
    if name == "images" or (name == "upper" and value < 1):
        assert not verified.shown[bracket.correct].all()


METADATA = [
    lambda a: a.pop("rule"),
    lambda a: a.pop("task"),
    lambda a: a.__setitem__("rule", "median"),
    lambda a: a.__setitem__("rule", ["log-sum-exp"]),
    lambda a: a.__setitem__("rule", {}),
    lambda a: a.__setitem__("rule", None),
    lambda a: a.__setitem__("task", "mine"),
    lambda a: a.__setitem__("task", []),
    lambda a: a["task"].pop("name"),
    lambda a: a["task"].__setitem__("name", 3),
    lambda a: a["task"].__setitem__("image_shape", [1, 1]),
    lambda a: a["task"].__setitem__("image_shape", [1, 1, 4]),
    lambda a: a["task"].__setitem__("image_shape", [1, 1, "3"]),
    lambda a: a["task"].__setitem__("image_shape", 3),
    lambda a: a["task"].__setitem__("class_names", ["one"]),
    lambda a: a["task"].__setitem__("class_names", ["a", "b", "c", "d"]),
    lambda a: a["task"].__setitem__("class_names", {"a": 1}),
    lambda a: a["task"].__setitem__("outliers", [9, 9, 9]),
    lambda a: a["task"].__setitem__("outliers", "none"),
    lambda a: a["task"].__setitem__("deviation", "wide"),
    lambda a: a["task"].__setitem__("facts", 3),
]


@pytest.mark.parametrize("change", METADATA, ids=range(len(METADATA)))
def test_metadata_of_wrong_types_is_refused(made, change, tmp_path):
    assert outcome(tampered(made, tmp_path, about=change)) is None


def test_other_files_are_refused(made, tmp_path):
    missing = tmp_path / "missing.safetensors"
    task = tmp_path / "task.safetensors"
    made[0].task.save(task)
    text = tmp_path / "text.safetensors"
    text.write_text("not tensors")
    empty = tmp_path / "empty.safetensors"
    empty.touch()
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    for path in (missing, task, text, empty, folder):
        assert outcome(path) is None
    whole = made[1].read_bytes()
    for size in (7, 100, len(whole) // 2, len(whole) - 1):
        text.write_bytes(whole[:size])
        assert outcome(text) is None


def test_a_newer_format_is_refused(made, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "FORMAT", 99)
    path = tmp_path / "newer.safetensors"
    made[0].save(path)
    monkeypatch.undo()
    with pytest.raises(BayesgapError, match="format 99"):
        verify(path)


def test_factors_too_large_for_the_noise_name_the_file(tmp_path):
    task = random_task(1, 3, latent=2)
    bracket, path = certify(task, *task.sample(2, seed=0)), tmp_path / "certificate.safetensors"
    bracket.save(path)
    for size in (1e5, 1e6, 1e7, 1e8, 1e9):

        def change(tensors, size=size):
            tensors["task.0.factors"][:, :, 0] = size
            tensors["task.0.factors"][:, :, 1] = size

        verified = outcome(tampered((bracket, path), tmp_path, change))
    assert verified is None


def test_metadata_is_json(made):
    _, about = files.load_tensors(made[1], kind=KIND)
    assert json.loads(json.dumps(about)) == about
    assert about["rule"] == "log-sum-exp"
