import io
import sys
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from bayesgap.classifiers import adapt
from bayesgap.errors import BayesgapError
from bayesgap.given import given_classifier, named_classifier, points_in
from toys import spherical_task

CODE = """
import functools
import sys
from torch import nn

class Net(nn.Linear):
    def __init__(self, width=3):
        super().__init__(width, 2)

class Wide(nn.Linear):
    def __init__(self, width):
        super().__init__(width, 2)

class Estimator:
    def predict(self, x):
        return x

class Failing:
    def __init__(self):
        raise RuntimeError("weights\\nof layer 3")

class Called:
    def __call__(self, images):
        return images

ready, estimator, called = Net(), Estimator(), Called()

def make(width=3):
    return Net(width)

def keywords(**settings):
    return Net()

def scores(images):
    return images

def with_settings(images, scale=2.0):
    return images

def two(images, labels):
    return images

def at_scale(*, scale):
    return Net()

bound = functools.partial(two, labels=3)

def deep():
    return nn.Linear(-1, 2)

def leaves():
    sys.exit(3)

def silent():
    assert False

answer = 42
"""


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """A working directory with a module of one's own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given_nets.py").write_text(CODE)
    (tmp_path / "given_failing.py").write_text("weights = open('nosuch.pt')\n")
    yield tmp_path
    for name in ("given_nets", "given_failing"):
        sys.modules.pop(name, None)


def named(attribute):
    return named_classifier(f"given_nets:{attribute}")


@pytest.mark.parametrize("attribute", ["Net", "make", "keywords"])
def test_what_needs_no_arguments_is_called(attribute):
    found = named(attribute)
    assert type(found).__name__ == "Net"
    assert isinstance(found, nn.Module)


@pytest.mark.parametrize(
    "attribute", ["ready", "estimator", "called", "scores", "with_settings", "bound", "answer"]
)
def test_what_is_a_classifier_is_taken_as_it_is(attribute):
    assert named(attribute) is getattr(sys.modules["given_nets"], attribute)


@pytest.mark.parametrize(
    ("attribute", "said"),
    [
        ("Wide", "The class 'given_nets:Wide' needs width: name"),
        ("two", "The function 'given_nets:two' needs images, labels: name"),
        ("nosuch", "cannot be imported: module 'given_nets' has no attribute 'nosuch'"),
    ],
)
def test_what_cannot_be_made_is_refused(attribute, said):
    with pytest.raises(BayesgapError, match=said):
        named(attribute)


@pytest.mark.parametrize(
    ("attribute", "error", "message", "line"),
    [
        (
            "Failing",
            "RuntimeError",
            "weights of layer 3",
            'raise RuntimeError("weights\\nof layer 3")',
        ),
        ("deep", "RuntimeError", "negative dimension -1", "return nn.Linear(-1, 2)"),
        ("leaves", "SystemExit", "3", "sys.exit(3)"),
        ("silent", "AssertionError", "no message", "assert False"),
    ],
)
def test_what_stops_is_one_sentence_with_its_place(workplace, attribute, error, message, line):
    with pytest.raises(BayesgapError) as refusal:
        named(attribute)
    said = str(refusal.value)
    place = [each.strip() for each in CODE.splitlines()].index(line) + 1
    assert said.startswith(f"The classifier 'given_nets:{attribute}' stopped with {error}: ")
    assert message in said
    assert said.endswith(f" ({workplace / 'given_nets.py'}, line {place}).")
    assert "\n" not in said


def test_a_module_that_stops_is_one_sentence_too(workplace):
    with pytest.raises(
        BayesgapError, match=r"cannot be imported: FileNotFoundError: .*nosuch\.pt"
    ) as said:
        named_classifier("given_failing:net")
    assert f"{workplace / 'given_failing.py'}, line 1" in str(said.value)


def test_an_interruption_is_none_of_these(monkeypatch):
    named("ready")

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["given_nets"], "make", interrupted)
    with pytest.raises(KeyboardInterrupt):
        named("make")


def test_outputs_are_told_to_as_classifier(monkeypatch):
    told = []

    def as_classifier(thing, **settings):
        told.append((type(thing).__name__, settings))
        return "adapted"

    monkeypatch.setattr(adapt, "as_classifier", as_classifier)
    known = spherical_task([[0.0, 0, 0], [1, 1, 0]], 0.25)
    assert type(given_classifier("given_nets:make", known)).__name__ == "Net"
    assert told == []
    assert given_classifier("given_nets:make", known, outputs="probabilities") == "adapted"
    settings = {"image_shape": (1, 1, 3), "classes": 2, "outputs": "probabilities"}
    assert told == [("Net", {**settings, "take": None})]


@pytest.mark.parametrize(("said", "meant"), [("1", 1), ("-1", -1), ("logits", "logits"), ("", "")])
def test_which_of_several_things_to_take_is_told_to_as_classifier(monkeypatch, said, meant):
    told = {}
    monkeypatch.setattr(adapt, "as_classifier", lambda thing, **settings: told.update(settings))
    given_classifier("given_nets:make", spherical_task([[0.0, 0, 0], [1, 1, 0]], 0.25), take=said)
    assert told["take"] == meant
    assert told["outputs"] == "logits"


# Points.


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f8", "longdouble"])
@pytest.mark.parametrize("labels", ["u1", "i4", ">i8", "u8"])
def test_points_are_read_as_they_were_written(tmp_path, dtype, labels):
    x, y = np.arange(12).reshape(2, 1, 2, 3) / 8, np.array([1, 0])
    np.savez(tmp_path / "points.npz", x=x.astype(dtype), y=y.astype(labels), more=[1])
    images, found = points_in(tmp_path / "points.npz")
    assert (images.dtype, found.dtype) == (torch.float64, torch.int64)
    np.testing.assert_array_equal(images, x)
    np.testing.assert_array_equal(found, y)


def test_packed_points_are_read_too(tmp_path):
    np.savez_compressed(tmp_path / "points.npz", x=np.ones((3, 1, 1, 1)), y=np.zeros(3, int))
    assert points_in(tmp_path / "points.npz")[0].shape == (3, 1, 1, 1)


class Trap:
    """Leaves a trace where it is unpickled."""

    def __reduce__(self):
        return (open, ("trapped", "w"))


def written(path, **arrays):
    np.savez(path, **arrays)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def cut(path):
    written(path, x=np.random.default_rng(0).normal(size=(50, 1, 4, 4)), y=np.zeros(50, int))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def flipped(path):
    np.savez_compressed(path, x=np.random.default_rng(0).normal(size=(50, 1)), y=np.zeros(50, int))
    data = bytearray(path.read_bytes())
    data[300:320] = bytes(20)
    path.write_bytes(data)


def no_arrays(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x.npy", b"no array")
        file.writestr("y.npy", b"no array")


X, Y = np.ones((2, 1, 1, 3)), np.array([0, 1])


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: None, "There is no file"),
        (lambda path: path.mkdir(), "There is no file"),
        (lambda path: path.write_text("no zip"), "is no .npz file of numbers"),
        (lambda path: path.write_text(""), "is no .npz file of numbers"),
        (lambda path: path.write_bytes(npy(X)), "holds none"),
        (cut, "is no .npz file of numbers"),
        (flipped, "is no .npz file of numbers"),
        (no_arrays, "must hold the arrays x and y"),
        (lambda path: written(path, x=X), r"must hold the arrays x and y, .*; it holds x\."),
        (lambda path: written(path, images=X, labels=Y), "it holds images, labels"),
        (lambda path: written(path, x=np.array([Trap()]), y=Y), "is no .npz file of numbers"),
        (lambda path: written(path, x=X, y=np.array([Trap()])), "is no .npz file of numbers"),
        (lambda path: written(path, x=X.astype("u1"), y=Y), r"x in .* are uint8: .*x / 255"),
        (lambda path: written(path, x=X.astype(complex), y=Y), "are complex128"),
        (lambda path: written(path, x=X, y=Y / 2), r"y in .* are float64: give integers"),
        (lambda path: written(path, x=X, y=Y > 0), "are bool"),
        (lambda path: written(path, x=X, y=np.array(["a", "b"])), "are <U1"),
    ],
)
def test_what_are_no_points_is_refused_and_never_run(tmp_path, write, said):
    path = tmp_path / "points.npz"
    write(path)
    with pytest.raises(BayesgapError, match=said) as refusal:
        points_in(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "trapped").exists()
