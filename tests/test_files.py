import hashlib
import json
import os
import pickle
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from bayesgap import files
from bayesgap.densities.mfa import MixtureOfFactorAnalyzers
from bayesgap.errors import BayesgapError
from bayesgap.tasks.task import Task
from strategies import PROPERTY, random_mixture, random_task, without_shape_checks

HEADER = {"kind": "thing", "format": 1, "metadata": {}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


def refusal(load, path):
    """The one sentence with which a file is refused."""
    with pytest.raises(BayesgapError) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message
    assert message.endswith(".")
    return message


def load_thing(path):
    return files.load_tensors(path, kind="thing")


# Writing.


def test_what_is_saved_is_loaded_bit_by_bit(tmp_path):
    tensors = {
        "a": torch.randn(3, 4, dtype=torch.float64),
        "b": torch.randn(5).half(),
        "i": torch.tensor([-1, 2**62]),
        "empty": torch.empty(0, 7),
        "scalar": torch.tensor(1.5),
        "transposed": torch.arange(6.0).reshape(2, 3).mT,
        "graph": torch.ones(2, requires_grad=True),
    }
    metadata = {"name": "é ∞", "list": [1, 2.5, None, True], "nested": {"x": 1e-300}}
    files.save_tensors(tmp_path / "a", tensors, kind="thing", metadata=metadata)
    loaded, read = files.load_tensors(tmp_path / "a", kind="thing")
    assert read == metadata
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


def test_the_header_says_what_a_file_is(tmp_path):
    files.save_tensors(tmp_path / "a", {"a": torch.ones(1)}, kind="thing", metadata={"b": 1})
    with safe_open(tmp_path / "a", framework="pt") as file:
        assert json.loads(file.metadata()["bayesgap"]) == {**HEADER, "metadata": {"b": 1}}


def test_equal_contents_give_equal_bytes(tmp_path):
    tensors = {"a": torch.ones(2), "b": torch.zeros(3)}
    files.save_tensors(tmp_path / "1", tensors, kind="thing", metadata={"x": 1, "y": 2})
    files.save_tensors(tmp_path / "2", tensors, kind="thing", metadata={"y": 2, "x": 1})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a"
    for value in (1.0, 2.0):
        files.save_tensors(path, {"a": torch.tensor([value])}, kind="thing", metadata={})
    assert load_thing(path)[0]["a"].item() == 2.0
    assert os.listdir(tmp_path) == ["a"]


def test_an_interrupted_writer_leaves_what_was_there(tmp_path):
    path = tmp_path / "a"
    path.write_text("before")

    def write(temporary):
        assert temporary.parent == path.parent
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_whole(path, write)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a"]


def test_nobody_sees_a_file_before_it_is_whole(tmp_path):
    path = tmp_path / "a"

    def write(temporary):
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")

    files.write_whole(path, write)
    assert path.read_text() == "whole"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_have_the_permissions_that_the_umask_leaves(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        files.write_whole(tmp_path / "a", lambda temporary: temporary.write_text(""))
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode


def test_a_missing_folder_is_named(tmp_path):
    path = tmp_path / "no" / "a"
    message = refusal(lambda p: files.save_tensors(p, {}, kind="thing", metadata={}), path)
    assert "No such file or directory" in message


def test_a_file_in_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "a"
    refusal(lambda p: files.save_tensors(p, {}, kind="thing", metadata={}), path)


def test_saving_to_a_folder_is_refused(tmp_path):
    refusal(random_mixture(0).save, tmp_path)


@pytest.mark.parametrize("make", ["pipe", "link", "link to nothing"])
def test_what_is_no_plain_file_is_not_replaced(tmp_path, make):
    """A device such as /dev/full would be, by whoever may write there."""
    path, plain = tmp_path / "a", tmp_path / "plain"
    if make == "pipe":
        os.mkfifo(path)
    else:
        plain.write_text("here") if make == "link" else None
        path.symlink_to(plain)
    before = path.lstat()
    assert "no plain file to replace" in refusal(random_mixture(0).save, path)
    assert path.lstat() == before
    assert plain.exists() == (make == "link")
    assert {*tmp_path.iterdir()} == ({path, plain} if make == "link" else {path})


@pytest.mark.parametrize("path", [None, 3, "", "a\0b", b"a", ["a"]])
def test_what_is_no_path_is_refused(path):
    def save_thing(path):
        files.save_tensors(path, {}, kind="thing", metadata={})

    for use in (save_thing, load_thing, random_task(0).save):
        with (
            without_shape_checks(),
            pytest.raises(BayesgapError, match=r"^A path is a text .*; got .*"),
        ):
            use(path)


def test_a_path_may_be_a_text_or_like_one(tmp_path):
    assert files.as_path(str(tmp_path)) == files.as_path(tmp_path) == tmp_path


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_has_no_word_for_what_is_not_finite(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.dump({"a": value})


def test_json_is_the_same_for_equal_values():
    assert files.dump({"b": 1, "a": ["ü"]}) == files.dump({"a": ["ü"], "b": 1})
    assert json.loads(files.dump({"a": [1, {"b": None}]}, indent=1)) == {"a": [1, {"b": None}]}
    assert files.dump("ü") == '"ü"'


@PROPERTY
@given(st.binary(max_size=200))
def test_sha256_is_that_of_the_bytes(folder, content):
    (folder / "bytes").write_bytes(content)
    assert files.sha256(folder / "bytes") == hashlib.sha256(content).hexdigest()


def test_sha256_is_the_published_one(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    published = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.sha256(str(tmp_path / "abc")) == published


# Refusing to read, for every kind of file that there is.

loaders = pytest.mark.parametrize(
    "load",
    [load_thing, MixtureOfFactorAnalyzers.load, Task.load],
    ids=["tensors", "density", "task"],
)


@loaders
def test_a_missing_file_is_named(load, tmp_path):
    assert refusal(load, tmp_path / "none.safetensors").startswith("There is no file")
    refusal(load, tmp_path)


@loaders
def test_a_foreign_safetensors_file_is_refused(load, tmp_path):
    save_file({"weights": torch.ones(1)}, tmp_path / "a")
    assert "its header says None" in refusal(load, tmp_path / "a")


@loaders
def test_a_file_of_another_kind_is_refused(load, tmp_path):
    path = tmp_path / "a"
    files.save_tensors(path, {"weights": torch.ones(1)}, kind="other", metadata={})
    assert "says 'other'" in refusal(load, path)


def test_a_density_is_no_task_and_a_task_no_density(tmp_path):
    random_mixture(0).save(tmp_path / "density")
    random_task(0).save(tmp_path / "task.safetensors")
    assert "not a bayesgap task" in refusal(Task.load, tmp_path / "density")
    assert "not a bayesgap density" in refusal(
        MixtureOfFactorAnalyzers.load, tmp_path / "task.safetensors"
    )


@loaders
def test_an_empty_file_is_refused(load, tmp_path):
    (tmp_path / "a").write_bytes(b"")
    assert "damaged or not a safetensors file" in refusal(load, tmp_path / "a")


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path(os.environ["BAYESGAP_TEST_BOMB"]),))


@loaders
@pytest.mark.parametrize("write", [pickle.dump, torch.save], ids=["pickle", "torch"])
def test_a_pickle_is_refused_and_runs_nothing(load, write, tmp_path, monkeypatch):
    fuse = tmp_path / "exploded"
    monkeypatch.setenv("BAYESGAP_TEST_BOMB", str(fuse))
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        write(Bomb(), file)
    refusal(load, path)
    assert not fuse.exists()
    pickle.loads(pickle.dumps(Bomb()))  # the bomb is a real one
    assert fuse.exists()


@PROPERTY
@given(st.binary(max_size=300))
def test_any_bytes_are_refused(folder, content):
    (folder / "bytes").write_bytes(content)
    refusal(load_thing, folder / "bytes")


@PROPERTY
@given(st.data())
def test_a_file_cut_short_anywhere_is_refused(folder, data):
    random_mixture(1).save(folder / "whole")
    content = (folder / "whole").read_bytes()
    cut = data.draw(st.integers(0, len(content) - 1))
    (folder / "cut").write_bytes(content[:cut])
    refusal(MixtureOfFactorAnalyzers.load, folder / "cut")


@PROPERTY
@given(st.data())
def test_a_damaged_byte_of_the_header_is_never_a_crash(folder, data):
    random_task(1).save(folder / "whole.safetensors")
    content = bytearray((folder / "whole.safetensors").read_bytes())
    length = int.from_bytes(content[:8], "little")
    content[data.draw(st.integers(0, 7 + length))] = data.draw(st.integers(0, 255))
    (folder / "flipped").write_bytes(content)
    with suppress(BayesgapError):  # a changed name of a class is a legal file
        Task.load(folder / "flipped")


def with_header(path, header):
    text = header if isinstance(header, str) else json.dumps(header)
    save_file({"a": torch.ones(1)}, path, metadata={"bayesgap": text})
    return path


@pytest.mark.parametrize("version", [2, None, "1"])
def test_another_format_is_refused(tmp_path, version):
    path = with_header(tmp_path / "a", {**HEADER, "format": version})
    assert f"format {version!r}; this release reads 1" in refusal(load_thing, path)


@pytest.mark.parametrize("metadata", [3, [], None, "text"])
def test_metadata_that_is_no_object_is_refused(tmp_path, metadata):
    path = with_header(tmp_path / "a", {**HEADER, "metadata": metadata})
    assert "no JSON object" in refusal(load_thing, path)


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", "9" * 5_000, "[" * 100_000])
def test_a_header_that_is_no_json_is_refused(tmp_path, text):
    assert "damaged" in refusal(load_thing, with_header(tmp_path / "a", text))


@pytest.mark.parametrize("header", [3, [], None, {}, {"kind": "other"}])
def test_a_header_of_something_else_is_refused(tmp_path, header):
    assert "is not a bayesgap thing" in refusal(load_thing, with_header(tmp_path / "a", header))


def test_required_tensors_come_in_the_order_asked_for():
    tensors = {"a": torch.ones(1), "b": torch.zeros(2)}
    first, second = files.require(tensors, ["b", "a"], "F")
    assert first is tensors["b"]
    assert second is tensors["a"]


def test_a_missing_tensor_is_named():
    with pytest.raises(BayesgapError, match="F is damaged: it holds no tensor 'b'"):
        files.require({"a": torch.ones(1)}, ["a", "b"], "F")


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.complex64, torch.float8_e5m2])
def test_a_tensor_that_is_not_of_ordinary_floats_is_named(dtype):
    with pytest.raises(BayesgapError, match=f"F is damaged: its tensor 'a' has type {dtype}"):
        files.require({"a": torch.ones(1).to(dtype)}, ["a"], "F")
