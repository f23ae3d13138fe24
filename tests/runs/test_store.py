import json
import os
from pathlib import Path

import fsspec
import pytest
import torch

from bayesgap.errors import BayesgapError
from bayesgap.runs.store import MANIFEST, TENSORS, VALUES, Damaged, Result, Store

RESULT = Result({"l2": torch.arange(3.0), "y": torch.tensor([1, 0])}, {"mean": 0.1, "none": None})


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "store"))


def test_a_result_comes_back_to_the_last_bit(store):
    store.write("attack", "k", RESULT, {"seconds": 1.5})
    back = store.read("attack", "k")
    assert back.values == RESULT.values
    assert all(torch.equal(back.tensors[name], RESULT.tensors[name]) for name in RESULT.tensors)
    assert store.verify("attack", "k")["seconds"] == 1.5


def test_what_was_never_written_is_neither_there_nor_damaged(store):
    assert store.verify("attack", "k") is None
    with pytest.raises(Damaged, match="missing"):
        store.read("attack", "k")


@pytest.mark.parametrize("name", [TENSORS, VALUES, MANIFEST])
@pytest.mark.parametrize("harm", ["flip", "truncate", "remove"])
def test_every_harm_to_every_file_is_noticed(store, name, harm):
    store.write("attack", "k", RESULT, {"seconds": 1.5})
    path = Path(store.folder("attack", "k")) / name
    data = bytearray(path.read_bytes())
    if harm == "flip":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif harm == "truncate":
        path.write_bytes(data[:-1])
    else:
        path.unlink()
    with pytest.raises(Damaged):
        store.verify("attack", "k")
    store.discard("attack", "k")
    assert store.verify("attack", "k") is None


def test_a_write_that_breaks_off_leaves_no_result(store, monkeypatch):
    real = store.fs.pipe_file

    def full_disk(path, data, **settings):
        if path.endswith(MANIFEST):
            raise OSError(28, "No space left on device")
        real(path, data, **settings)

    monkeypatch.setattr(store.fs, "pipe_file", full_disk)
    with pytest.raises(BayesgapError, match="No space left"):
        store.write("attack", "k", RESULT, {})
    monkeypatch.undo()
    assert store.verify("attack", "k") is None


def test_the_first_of_two_writers_wins_and_nothing_is_left_over(store):
    store.write("attack", "k", RESULT, {"by": "first"})
    store.write("attack", "k", RESULT, {"by": "second"})
    assert store.verify("attack", "k")["by"] == "first"
    assert os.listdir(Path(store.root) / "unfinished") == []


def test_values_are_plain_json(store):
    store.write("attack", "k", RESULT, {})
    values = Path(store.folder("attack", "k")) / VALUES
    assert json.loads(values.read_text()) == RESULT.values


def test_an_object_store_works_as_a_folder_does():
    store = Store("memory://results")
    try:
        store.write("attack", "k", RESULT, {"seconds": 2.0})
        assert store.read("attack", "k").values == RESULT.values
        manifest = store.verify("attack", "k")
        assert manifest is not None
        assert manifest["seconds"] == 2.0
        store.fs.pipe_file(f"{store.folder('attack', 'k')}/{VALUES}", b"{}")
        with pytest.raises(Damaged, match="checksum"):
            store.verify("attack", "k")
    finally:
        fsspec.filesystem("memory").rm("/results", recursive=True)


@pytest.mark.parametrize("place", ["file/store", "no-such-protocol://x"])
def test_a_place_that_cannot_hold_a_store_is_refused_by_name(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("not a folder")
    with pytest.raises(BayesgapError, match=place):
        Store(place)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(BayesgapError, match="cannot be written to"):
        Store(str(tmp_path))
