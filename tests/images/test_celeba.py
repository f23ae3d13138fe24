import hashlib
import json
import os
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from bayesgap.errors import BayesgapError
from bayesgap.images import celeba_cache
from bayesgap.images.celeba import (
    ATTRIBUTES,
    attribute_of,
    class_names,
    load_celeba,
    open_celeba,
    task_name,
)
from bayesgap.images.celeba_cache import decode, default_cache
from celeba_copies import COLUMNS, LISTS, NUMBERS, OFFICIAL, draw, has, make, name_of, write_txt
from strategies import without_shape_checks


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    return make(tmp_path / "celeba")


@pytest.fixture
def images(folder):
    return folder / "img_align_celeba"


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that are decoded from here on."""
    names, lock = [], threading.Lock()

    def counted(path):
        with lock:
            names.append(path.name)
        return decode(path)

    monkeypatch.setattr(celeba_cache, "decode", counted)
    return names


# The faces.


def reduced(levels):
    """Halve the first axis with the weights 1, 3, 3, 1, less those that fall off an edge."""
    size = len(levels)
    out = []
    for k in range(size // 2):
        rows = {2 * k - 1: 1, 2 * k: 3, 2 * k + 1: 3, 2 * k + 2: 1}
        rows = {row: weight for row, weight in rows.items() if 0 <= row < size}
        total = sum(weight * levels[row].astype(np.int64) for row, weight in rows.items())
        whole = sum(rows.values())
        out.append((2 * total + whole) // (2 * whole))  # to the nearest level, halves upwards
    return np.stack(out)


def test_a_face_is_the_square_in_the_middle_at_half_its_size(tmp_path):
    path = tmp_path / "000001.jpg"
    draw(path, 1)
    levels = np.asarray(Image.open(path))[50:178, 25:153]
    expected = reduced(reduced(levels.transpose(1, 0, 2)).transpose(1, 0, 2))
    np.testing.assert_array_equal(decode(path), expected.transpose(2, 0, 1))


def test_a_grey_image_is_a_face_of_three_equal_channels(tmp_path):
    path = tmp_path / "000001.jpg"
    draw(path, 1)
    Image.open(path).convert("L").save(path)
    face = decode(path)
    assert isinstance(face, np.ndarray)
    assert face.shape == (3, 64, 64)
    assert (face == face[0]).all()


def test_images_are_in_the_order_of_their_numbers(folder, images):
    copy = open_celeba(folder)
    assert copy.numbers.tolist() == NUMBERS
    assert copy.images.dtype == torch.uint8
    for number, face in zip(NUMBERS, copy.images, strict=True):
        np.testing.assert_array_equal(face, decode(images / name_of(number)))
    assert copy.skipped == {}
    assert copy.missing == 0


def test_the_number_of_workers_and_the_size_of_waves_mean_nothing(folder, tmp_path, monkeypatch):
    one = open_celeba(folder, workers=1)
    monkeypatch.setattr(celeba_cache, "TOGETHER", 2)
    monkeypatch.setattr(celeba_cache, "WAVE", 5)
    three = open_celeba(folder, workers=3, cache=tmp_path / "other")
    assert torch.equal(one.images, three.images)
    assert torch.equal(one.numbers, three.numbers)


def test_no_worker_is_refused(folder):
    with pytest.raises(BayesgapError, match="at least 1 worker; got 0"):
        open_celeba(folder, workers=0)


# Attributes, splits and tasks.


@pytest.mark.parametrize("attributes", LISTS)
def test_attributes_are_those_of_the_list(tmp_path, attributes):
    copy = open_celeba(make(tmp_path / "celeba", attributes=attributes))
    assert tuple(copy.attributes) == COLUMNS
    for attribute, values in copy.attributes.items():
        assert values.tolist() == [has(n, attribute) for n in NUMBERS]


def test_without_a_partition_the_official_split_by_number_holds(folder):
    assert open_celeba(folder).splits.tolist() == OFFICIAL


@pytest.mark.parametrize("form", ["txt", "csv"])
def test_a_partition_that_is_there_is_followed(folder, form):
    splits = {n: k % 3 for k, n in enumerate(NUMBERS)}
    separator, lines = {"txt": (" ", []), "csv": (",", ["image_id,partition"])}[form]
    lines += [f"{name_of(n)}{separator}{split}" for n, split in splits.items()]
    (folder / f"list_eval_partition.{form}").write_text("\n".join(lines) + "\n")
    assert open_celeba(folder).splits.tolist() == list(splits.values())


def test_images_that_a_partition_does_not_name_are_in_no_split(folder, capsys):
    (folder / "list_eval_partition.txt").write_text("000001.jpg 0\n000003.jpg 2\n")
    copy = open_celeba(folder)
    assert copy.splits.tolist() == [0, -1, 2] + [-1] * 8
    said = capsys.readouterr().err
    assert "list_eval_partition.txt does not name 9 images, first 000002.jpg" in said


def test_a_task_has_the_faces_of_a_split_and_labels_who_has_the_attribute(folder):
    copy = open_celeba(folder)
    for attribute in ("Smiling", "Male"):
        x, y = load_celeba(folder, attribute, dtype=torch.uint8)
        chosen = [n for n, split in zip(NUMBERS, OFFICIAL, strict=True) if split == 0]
        assert y.tolist() == [int(has(n, attribute)) for n in chosen]
        assert torch.equal(x, copy.images[copy.splits == 0])


def test_the_limit_takes_the_first_of_each_class(folder):
    labels = [int(has(n, "Bangs")) for n in NUMBERS[:7]]
    for limit in (1, 2, 100):
        rows, y = open_celeba(folder).select("Bangs", limit=limit)
        expected = [r for r in range(7) if labels[:r].count(labels[r]) < limit]
        assert rows.tolist() == expected
        assert y.tolist() == [labels[r] for r in expected]


def test_floats_are_levels_in_255ths(folder):
    levels, _ = load_celeba(folder, "Male", dtype=torch.uint8)
    for dtype in (torch.float32, torch.float64):
        x, y = load_celeba(folder, "Male", dtype=dtype)
        assert x.dtype == dtype
        assert y.dtype == torch.int64
        assert torch.equal(x, levels.to(dtype) / 255)
    assert torch.equal(load_celeba(folder, "Male")[0], levels.float() / 255)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"attribute": "Smilling"}, "has no 'Smilling'; it has Bald, Bangs, Black_Hair"),
        ({"split": "valid"}, "the splits train, validation, test, not 'valid'"),
        ({"limit": 0}, "number of faces of each class; got 0"),
        ({"dtype": torch.int64}, r"not torch\.int64"),
        (
            {"split": "test", "attribute": "Black_Hair"},
            r"no face of class 1 \(black hair\) in the split 'test'",
        ),
    ],
)
def test_a_task_that_is_not_there_is_refused(folder, arguments, said):
    with without_shape_checks(), pytest.raises(BayesgapError, match=said):
        load_celeba(folder, **{"attribute": "Smiling", **arguments})


def test_the_papers_tasks_are_named_after_their_attributes():
    names = [task_name(attribute) for attribute in ATTRIBUTES]
    assert len(set(names)) == 12
    assert {"celeba-male", "celeba-mouth-slightly-open", "celeba-no-beard"} < set(names)
    assert [attribute_of(name) for name in names] == list(ATTRIBUTES)


@pytest.mark.parametrize("name", ["celeba-bald", "male", "celeba-Male", ""])
def test_a_name_of_no_task_is_refused(name):
    with pytest.raises(
        BayesgapError, match=f"no task '{name}' of CelebA.* Known are celeba-bangs,"
    ):
        attribute_of(name)


def test_an_attribute_without_a_task_is_refused():
    with pytest.raises(BayesgapError, match="no task about 'Bald'"):
        task_name("Bald")


def test_classes_are_those_without_and_those_with_the_attribute():
    assert class_names("Male") == ("female", "male")
    assert class_names("No_Beard") == ("beard", "no beard")
    assert class_names("5_o_Clock_Shadow") == ("not 5 o clock shadow", "5 o clock shadow")


# Copies that are not whole.


def test_images_may_be_missing(folder, images, capsys):
    for number in NUMBERS[1::2]:
        (images / name_of(number)).unlink()
    copy = open_celeba(folder)
    assert copy.numbers.tolist() == NUMBERS[::2]
    assert copy.missing == 5
    assert copy.attributes["Male"].tolist() == [has(n, "Male") for n in NUMBERS[::2]]
    assert "holds 6 of the 11 images listed." in capsys.readouterr().err


def spoil_truncated(path):
    path.write_bytes(path.read_bytes()[:-2000])


def spoil_empty(path):
    path.write_bytes(b"")


def spoil_text(path):
    path.write_text("no image")


def spoil_png(path):
    Image.open(path).save(path, format="png")


def spoil_size(path):
    draw(path, 1, size=(64, 64))


def spoil_turned(path):
    draw(path, 1, size=(218, 178))


def spoil_folder(path):
    path.unlink()
    path.mkdir()


SPOILED = {
    spoil_truncated: "cannot be decoded: image file is truncated",
    spoil_empty: "is no JPEG image",
    spoil_text: "is no JPEG image",
    spoil_png: "is no JPEG image",
    spoil_size: "is of 64×64 pixels, not 178×218",
    spoil_turned: "is of 218×178 pixels, not 178×218",
    spoil_folder: "cannot be decoded: Is a directory",
}


@pytest.mark.parametrize(("spoil", "reason"), SPOILED.items())
def test_a_file_that_is_no_aligned_image_is_named_and_the_rest_goes_on(
    folder, images, capsys, spoil, reason
):
    spoil(images / name_of(5))
    for _ in range(2):  # decoded, and from the cache
        copy = open_celeba(folder)
        assert copy.numbers.tolist() == [n for n in NUMBERS if n != 5]
        assert copy.attributes["Bangs"].tolist() == [has(n, "Bangs") for n in copy.numbers.tolist()]
        assert list(copy.skipped) == ["000005.jpg"]
        assert copy.skipped["000005.jpg"].startswith(reason)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1  # once a process
    assert f"{images}: 1 files are left out (000005.jpg {reason}" in said[0]


def test_files_of_other_names_are_left_out_and_counted(folder, images, capsys):
    for name in ("1.jpg", "0000001.jpg", "000021.JPG", "a.txt", "٠٠٠٠٢١.jpg"):
        (images / name).write_bytes((images / name_of(1)).read_bytes())
    draw(images / name_of(21), 21)  # in no list
    copy = open_celeba(folder)
    assert copy.numbers.tolist() == NUMBERS
    assert len(copy.skipped) == 6
    assert copy.skipped["000021.jpg"] == "is not in the attribute list"
    assert copy.skipped["000021.JPG"] == "is not in the attribute list"
    assert copy.skipped["1.jpg"] == "is not named like 000001.jpg"
    said = capsys.readouterr().err
    assert "6 files are left out (0000001.jpg is not named like 000001.jpg;" in said
    assert "and 3 more)" in said


@pytest.mark.parametrize("ending", ["JPG", "jpeg"])
def test_other_endings_of_jpeg_files_are_the_same_images(folder, images, ending):
    expected = open_celeba(folder)
    for number in NUMBERS:
        (images / name_of(number)).rename(images / f"{number:06}.{ending}")
    copy = open_celeba(folder)
    assert copy.skipped == {}
    assert copy.numbers.tolist() == NUMBERS
    assert torch.equal(copy.images, expected.images)
    assert copy.checksum == expected.checksum


def as_png(images, mode="RGB"):
    for number in NUMBERS:
        Image.open(images / name_of(number)).convert(mode).save(images / f"{number:06}.png")
        (images / name_of(number)).unlink()


@pytest.mark.parametrize("name", ["img_align_celeba", "img_align_celeba_png"])
def test_png_files_are_read(folder, images, name):
    expected = open_celeba(folder)
    as_png(images)
    images.rename(folder / name)
    copy = open_celeba(folder)
    assert copy.numbers.tolist() == NUMBERS
    assert torch.equal(copy.images, expected.images)  # what the JPEG files held, without loss
    assert torch.equal(copy.attributes["Male"], expected.attributes["Male"])


def test_png_files_of_other_modes_are_named(folder, images):
    as_png(images)
    Image.open(images / "000005.png").convert("RGBA").save(images / "000005.png")
    (images / "000008.png").write_text("no image")
    copy = open_celeba(folder)
    assert copy.skipped == {
        "000005.png": "is a PNG image of mode RGBA, not RGB or L",
        "000008.png": "is no PNG image",
    }


@pytest.mark.parametrize("other", ["000005.png", "000005.JPG"])
def test_two_files_for_one_image_are_refused(folder, images, other):
    (images / other).write_bytes((images / name_of(5)).read_bytes())
    with pytest.raises(
        BayesgapError, match=r"holds both 000005\.\w+ and 000005\.\w+, and they may"
    ):
        open_celeba(folder)


def test_images_one_folder_deeper_are_found(folder, images, tmp_path):
    expected = open_celeba(folder).images
    images.rename(tmp_path / "moved")
    images.mkdir()
    (tmp_path / "moved").rename(images / "img_align_celeba")
    assert torch.equal(open_celeba(folder).images, expected)


def test_no_image_that_can_be_used_is_refused(folder, images, tmp_path):
    for number in NUMBERS:
        spoil_text(images / name_of(number))
    with pytest.raises(BayesgapError, match=r"no image that can be used \(000001\.jpg is no JPEG"):
        open_celeba(folder)
    assert not list((tmp_path / "cache" / "bayesgap" / "celeba").iterdir())
    for number in NUMBERS:
        (images / name_of(number)).rename(images / f"face{number}.jpg")
    with pytest.raises(BayesgapError, match=r"no image that the attribute list names \(face1\.jpg"):
        open_celeba(folder)


def test_folders_that_are_no_copy_are_refused(tmp_path, folder, images):
    with pytest.raises(BayesgapError, match=r"There is no folder .*nowhere\."):
        open_celeba(tmp_path / "nowhere")
    with pytest.raises(BayesgapError, match=r"img_align_celeba holds neither list_attr_celeba"):
        open_celeba(images)
    images.rename(tmp_path / "moved")
    with pytest.raises(BayesgapError, match="celeba holds no folder img_align_celeba"):
        open_celeba(folder)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("list_attr_celeba.txt", "", "does not start with the number of images"),
        ("list_attr_celeba.txt", "Male Bangs\n000001.jpg 1 1\n", "does not start with the number"),
        ("list_attr_celeba.txt", "1\nMale\n", "names no image"),
        ("list_attr_celeba.txt", "1\nMale\n000001.jpg 2\n", "Line 3 of .* 1 values of 1, -1, 0"),
        ("list_attr_celeba.txt", "2\nMale\n000001.jpg 1\n000002.jpg\n", "Line 4 of"),
        ("list_attr_celeba.txt", "1\nMale\n1.jpg 1\n", "Line 3 of .* a name like 000001.jpg"),
        ("list_attr_celeba.csv", "", "does not start with a line 'image_id,…'"),
        ("list_attr_celeba.csv", "000001.jpg,1\n", "does not start with a line 'image_id,…'"),
        ("list_attr_celeba.csv", "image_id,Male\n000001.jpg,1,1\n", "Line 2 of"),
        ("list_attr_celeba.csv", "image_id,Male\n000001.jpg,1\n000002.jpg,x\n", "Line 3 of"),
        ("list_attr_celeba.csv", "image_id,Male\n000001.jpg,1\n\n000003.jpg,\n", "Line 4 of"),
        ("list_eval_partition.txt", "000001.jpg 3\n", "Line 1 of .* 1 values of 0, 1, 2"),
        ("list_eval_partition.csv", "000001.jpg,0\n", "does not start with a line 'image_id,…'"),
    ],
)
def test_lists_that_cannot_be_read_are_refused(folder, file, text, said):
    if "attr" in file:
        (folder / "list_attr_celeba.txt").unlink()
    (folder / file).write_text(text)
    with pytest.raises(BayesgapError, match=said) as caught:
        open_celeba(folder)
    assert str(folder / file) in str(caught.value)


def test_a_list_that_is_no_text_is_refused(folder):
    (folder / "list_attr_celeba.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BayesgapError, match=r"list_attr_celeba\.txt cannot be read: .*utf-8"):
        open_celeba(folder)


# The cache.


def test_the_cache_lies_in_the_users_cache_folder(folder, tmp_path, monkeypatch):
    assert default_cache() == tmp_path / "cache" / "bayesgap" / "celeba"
    assert open_celeba(folder).cache.parent == default_cache()
    assert open_celeba(folder, cache=tmp_path / "here").cache.parent == tmp_path / "here"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "bayesgap" / "celeba"


def test_images_are_decoded_once(folder, decoded):
    first = open_celeba(folder)
    assert sorted(decoded) == [name_of(n) for n in NUMBERS]
    again = open_celeba(folder)
    load_celeba(folder, "Male")
    assert len(decoded) == len(NUMBERS)
    assert torch.equal(first.images, again.images)
    assert first.numbers.tolist() == again.numbers.tolist()


def test_other_attributes_of_the_same_images_need_no_decoding(folder, decoded):
    open_celeba(folder)
    (folder / "list_attr_celeba.txt").unlink()
    lines = [f"{name_of(n)},1" for n in NUMBERS]
    (folder / "list_attr_celeba.csv").write_text("\n".join(["image_id,New", *lines]))
    assert open_celeba(folder).attributes["New"].all()
    assert len(decoded) == len(NUMBERS)


def another_face(images):
    draw(images / name_of(5), 99)


def one_more(images):
    (images / name_of(2)).rename(images / name_of(4))


def one_less(images):
    (images / name_of(5)).unlink()


def another_time(images):
    os.utime(images / name_of(5), ns=(1, 1))


@pytest.mark.parametrize("change", [another_face, one_more, one_less, another_time])
def test_images_that_changed_are_decoded_again(folder, images, decoded, change):
    write_txt(folder, [*NUMBERS, 4])
    before = open_celeba(folder)
    change(images)
    decoded.clear()
    after = open_celeba(folder)
    assert sorted(decoded) == sorted(path.name for path in images.iterdir())
    assert after.cache == before.cache  # replaced, not kept beside
    for number, face in zip(after.numbers.tolist(), after.images, strict=True):
        np.testing.assert_array_equal(face, decode(images / name_of(number)))


def test_two_copies_have_two_caches(tmp_path, folder):
    other = make(tmp_path / "other", numbers=[1, 2])
    assert open_celeba(other).cache != open_celeba(folder).cache
    assert len(open_celeba(folder).images) == len(NUMBERS)
    assert len(open_celeba(other).images) == 2


def damage_a_face(cache):
    data = bytearray((cache / "faces.npy").read_bytes())
    data[5000] ^= 1
    (cache / "faces.npy").write_bytes(data)


def damage_the_length(cache):
    with (cache / "faces.npy").open("ab") as file:
        file.truncate(1000)


def damage_a_number(cache):
    text = (cache / "index.json").read_text()
    (cache / "index.json").write_text(text.replace("202599", "202598"))


def damage_the_index(cache):
    (cache / "index.json").write_text('{"index": ')


def damage_the_kind(cache):
    (cache / "index.json").write_text("[1, 2]")


@pytest.mark.parametrize(
    "damage",
    [damage_a_face, damage_the_length, damage_a_number, damage_the_index, damage_the_kind],
)
def test_a_damaged_cache_is_made_anew(folder, decoded, capsys, damage):
    before = open_celeba(folder)
    expected = before.images.clone()
    damage(before.cache)
    decoded.clear()
    after = open_celeba(folder)
    assert torch.equal(after.images, expected)
    assert after.numbers.tolist() == NUMBERS
    assert len(decoded) == len(NUMBERS)
    assert f"{before.cache} is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["faces.npy", "index.json"])
def test_a_cache_that_lacks_a_file_is_made_anew(folder, decoded, missing):
    (open_celeba(folder).cache / missing).unlink()
    assert open_celeba(folder).numbers.tolist() == NUMBERS
    assert len(decoded) == 2 * len(NUMBERS)


def test_a_cache_that_would_run_code_is_not_read(folder, tmp_path):
    cache = open_celeba(folder).cache

    class Harmful:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "harmed"),))

    np.save(cache / "faces.npy", np.array([Harmful()], dtype=object), allow_pickle=True)
    sealed = json.loads((cache / "index.json").read_text())
    sealed["index"]["sha256"] = hashlib.sha256((cache / "faces.npy").read_bytes()).hexdigest()
    sealed["sha256"] = celeba_cache._seal(sealed["index"])
    (cache / "index.json").write_text(json.dumps(sealed))
    assert open_celeba(folder).images.shape == (len(NUMBERS), 3, 64, 64)
    assert not (tmp_path / "harmed").exists()


def test_an_interrupted_decoding_leaves_nothing(folder, monkeypatch, decoded):
    plain = celeba_cache.decode

    def interrupted(path):
        if path.name == name_of(8):
            raise KeyboardInterrupt
        return plain(path)

    monkeypatch.setattr(celeba_cache, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_celeba(folder)
    assert list(default_cache().iterdir()) == []
    monkeypatch.setattr(celeba_cache, "decode", plain)
    assert open_celeba(folder).numbers.tolist() == NUMBERS


def test_an_interruption_keeps_no_images_of_before_for_new_ones(folder, images, monkeypatch):
    before = open_celeba(folder).images.clone()
    another_face(images)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(celeba_cache, "_write_faces", full)
        with pytest.raises(BayesgapError, match=r"cannot be written: .*No space left on device"):
            open_celeba(folder)
    assert not torch.equal(open_celeba(folder).images, before)


def test_what_killed_runs_left_is_removed_after_a_day(folder):
    cache = open_celeba(folder).cache
    old, new = (cache.parent / f".{cache.name}.{name}" for name in ("old", "new"))
    for left in (old, new):
        left.mkdir()
        (left / "faces.npy").write_bytes(b"half")
    os.utime(old, (1, 1))
    (cache / "index.json").unlink()
    open_celeba(folder)
    assert not old.exists()
    assert new.exists()


def test_a_cache_that_cannot_be_written_is_refused(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BayesgapError, match=r"The cache .*file.* cannot be written"):
        open_celeba(folder, cache=tmp_path / "file")


def test_changing_images_does_not_change_the_cache(folder):
    first = open_celeba(folder)
    before = first.images.clone()
    first.images.zero_()
    assert torch.equal(open_celeba(folder).images, before)
