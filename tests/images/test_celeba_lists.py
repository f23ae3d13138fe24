import re

import numpy as np
import pytest

from bayesgap.errors import BayesgapError
from bayesgap.images import celeba_lists
from bayesgap.images.celeba_lists import read_attributes, read_splits
from celeba_copies import COLUMNS, LISTS, NUMBERS, OFFICIAL, has, write_txt

TRUTH = [[has(number, column) for column in COLUMNS] for number in NUMBERS]


@pytest.fixture(autouse=True)
def said_anew():
    """What is said once a process is said again."""
    celeba_lists.say.cache_clear()


def read(folder):
    return read_attributes(folder, "images")


def read_text(folder, text, file="list_attr_celeba.csv"):
    (folder / file).write_text(text, encoding="utf-8")
    return read(folder)


def written(separator, *, count=False, name="image_id", values="1 -1", quote="", ending=".jpg"):
    """The list of the made-up copies, as someone may have written it."""
    present, absent = values.split()
    rows = [
        [f"{number:06}{ending}", *(present if truth else absent for truth in row)]
        for number, row in zip(NUMBERS, TRUTH, strict=True)
    ]
    head = [*([] if name is None else [name]), *COLUMNS]
    lines = [separator.join(f"{quote}{cell}{quote}" for cell in row) for row in [head, *rows]]
    return "\n".join([str(len(rows))] * count + lines) + "\n"


@pytest.mark.parametrize("kind", LISTS)
def test_the_usual_lists_are_read(tmp_path, kind):
    LISTS[kind](tmp_path, NUMBERS)
    table = read(tmp_path)
    assert table.columns == COLUMNS
    assert table.numbers.tolist() == NUMBERS
    np.testing.assert_array_equal(table.values == 1, TRUTH)


READ = {
    "commas": written(","),
    "semicolons": written(";"),
    "tabs": written("\t"),
    "blanks": written("  "),
    "commas and blanks": written(", "),
    "a count first": written(",", count=True),
    "a count with empty cells": f"{len(NUMBERS)},,,\n" + written(","),
    "a count and no name of the names": written(",", count=True, name=None),
    "another name of the names": written(",", name="Filename"),
    "no name of the names": written(",", name=""),
    "quotes": written(",", quote='"'),
    "quotes and blanks": written(" ", quote='"'),
    "zeros": written(",", values="1 0"),
    "floats": written(",", values="1.0 -1.0"),
    "floats and zeros": written("\t", values="1.0 0.0"),
    "truths": written(";", values="True False"),
    "small truths": written(",", values="true false"),
    "large names": written(",", ending=".JPG"),
    "names of PNG files": written(",", ending=".png"),
    "a mark of UTF-8": "\ufeff" + written(","),
    "blank lines": "\n\n" + written(",").replace("\n", "\n\n"),
    "every line twice": written(",") + written(",").partition("\n")[2],
    "one notation a column": written(",").replace(",-1\n", ",0\n"),
}


@pytest.mark.parametrize("file", celeba_lists.ATTRIBUTE_LISTS)
@pytest.mark.parametrize("how", READ)
def test_a_list_that_means_one_thing_is_read(tmp_path, how, file):
    table = read_text(tmp_path, READ[how], file)
    assert table.columns == COLUMNS
    assert table.numbers.tolist() == NUMBERS
    np.testing.assert_array_equal(table.values == 1, TRUTH)


HEAD = "image_id,Male,Bald\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            HEAD + "000001.jpg,-1,1\n000002.jpg,1,1\n000003.jpg,0,1\n",
            r"Line 4 of .* holds 0 or False for 'Male', and line 2 holds -1: one of them may",
        ),
        (
            HEAD + "000007.jpg,1,False\n000002.jpg,1,-1\n",
            r"Line 2 of .* holds 0 or False for 'Bald', and line 3 holds -1",
        ),
        (
            HEAD + "000005.jpg,1,0\n000002.jpg,1,1\n\n000005.jpg,1,1\n",
            r"Line 5 of .* gives 000005\.jpg '1' for 'Bald', and line 2 gave it another value",
        ),
        (
            HEAD + "000005.jpg,1,1\n000005.png,True,False\n",
            r"Line 3 of .* gives 000005\.png 'False' for 'Bald', and line 2 gave",
        ),
        (HEAD + "000001.jpg,1,2\n", r"Line 2 of .* 2 values of 1, -1, 0: it holds '2' for 'Bald'"),
        (HEAD + "000001.jpg,1,\n", r"Line 2 of .* it holds '' for 'Bald'"),
        (HEAD + "000001.jpg,1,yes\n", r"it holds 'yes' for 'Bald'"),
        (HEAD + "000001.jpg,nan,1\n", r"it holds 'nan' for 'Male'"),
        (HEAD + "000001.jpg,0.5,1\n", r"it holds '0\.5' for 'Male'"),
        (HEAD + "000001.jpg,1\n", r"Line 2 of .* it holds 1 values"),
        (HEAD + "000001.jpg,1,1,1\n", r"Line 2 of .* it holds 3 values"),
        (HEAD + "000001.jpg;1;1\n", r"it holds '000001\.jpg;1;1' for a name"),
        (HEAD + "1.jpg,1,1\n", r"a name like 000001\.jpg .* it holds '1\.jpg' for a name"),
        (HEAD + "000001.gif,1,1\n", r"it holds '000001\.gif' for a name"),
        (HEAD + ",,\n", r"Line 2 of .* it holds '' for a name"),
        ("image_id,Male;Bald\n000001.jpg,1;1\n", r"Line 1 of .* holds commas and semicolons"),
        ("1\nimage_id\tMale,Bald\n", r"Line 2 of .* holds commas and tabs"),
        ("image_id,Male,Male\n000001.jpg,1,0\n", r"Line 1 of .* names 'Male' twice"),
        ("image_id,Male,\n000001.jpg,1,\n", r"Line 1 of .* has a column without a name"),
        ("Male,Bald\n000001.jpg,1,1\n", r"does not start with .*: line 1 is 'Male,Bald'"),
        ("Male,Bald\n000001.jpg,1\n", r"does not start with .*: line 1 is 'Male,Bald'"),
        ("000001.jpg,1,1\n", r"does not start with .*: line 1 is '000001\.jpg,1,1'"),
        ("1\n000001.jpg,1,1\n", r"does not start with .*: line 2 is '000001\.jpg,1,1'"),
        ("image_id\n000001.jpg\n", r"does not start with"),
        ("1\n", r"does not start with"),
        (HEAD, r"names no image"),
    ],
)
def test_a_list_that_means_two_things_or_none_is_refused(tmp_path, text, said):
    with pytest.raises(BayesgapError, match=said) as caught:
        read_text(tmp_path, text)
    assert str(tmp_path / "list_attr_celeba.csv") in str(caught.value)


def test_a_cell_without_an_end_is_refused(tmp_path):
    with pytest.raises(BayesgapError, match=r"cannot be read: field larger"):
        read_text(tmp_path, HEAD + "000001.jpg," + 200_000 * "1" + "\n")


def test_a_count_that_is_another_is_told(tmp_path, capsys):
    text = "7\n" + written(",")
    assert len(read_text(tmp_path, text).numbers) == len(NUMBERS)
    assert f"says that it names 7 images, and names {len(NUMBERS)}." in capsys.readouterr().err


# The splits.


def splits(folder, text, file="list_eval_partition.txt"):
    (folder / file).write_text(text)
    return read_splits(folder, np.array(NUMBERS)).tolist()


@pytest.mark.parametrize("file", celeba_lists.PARTITIONS)
@pytest.mark.parametrize("separator", [",", ";", "\t", " "])
@pytest.mark.parametrize("value", ["{}", "{}.0", '"{}"'])
def test_partitions_are_read(tmp_path, separator, file, value):
    lines = ["image_id" + separator + "partition"]
    for number, split in zip(NUMBERS, OFFICIAL, strict=True):
        lines.append(f"{number:06}.jpg{separator}{value.format(2 - split)}")
    assert splits(tmp_path, "\n".join(lines), file) == [2 - split for split in OFFICIAL]
    if file.endswith("txt"):
        assert splits(tmp_path, "\n".join(lines[1:]), file) == [2 - split for split in OFFICIAL]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("000001.jpg 0\n000001.jpg 1\n", r"Line 2 of .* gives 000001\.jpg '1' for 'partition'"),
        ("000001.jpg 3\n", r"Line 1 of .* it holds '3' for 'partition'"),
        ("000001.jpg train\n", r"it holds 'train' for 'partition'"),
        ("", r"names no image"),
    ],
)
def test_partitions_that_cannot_be_read_are_refused(tmp_path, text, said):
    with pytest.raises(BayesgapError, match=said):
        splits(tmp_path, text)


def test_without_a_partition_the_split_by_number_holds(tmp_path):
    write_txt(tmp_path, NUMBERS)
    assert read_splits(tmp_path, np.array(NUMBERS)).tolist() == OFFICIAL


def test_a_folder_without_lists_is_refused(tmp_path):
    with pytest.raises(
        BayesgapError, match=re.escape(f"{tmp_path} holds neither list_attr_celeba")
    ):
        read(tmp_path)
