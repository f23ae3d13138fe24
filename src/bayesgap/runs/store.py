"""Where results lie: one folder a result, written whole or not at all, checked when read.

A store is any fsspec path: a local folder, or an object store whose driver is installed. A
result is `tensors.safetensors`, `values.json` and a manifest with the checksums of both; without
a valid manifest it does not exist. Nothing in it is ever executed.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from bayesgap.errors import BayesgapError
from bayesgap.files import dump

TENSORS, VALUES, MANIFEST = "tensors.safetensors", "values.json", "manifest.json"
UNFINISHED = "unfinished"  # the folder where results are written before they are moved


@dataclass(frozen=True)
class Result:
    """What a stage computed: named tensors, and values that JSON can hold."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


class Damaged(Exception):  # noqa: N818
    """A result is there, but not as it was written."""


class Store:
    """Results by key, in a local folder or an object store."""

    def __init__(self, url: str):
        """Open or create a store.

        Raises:
            BayesgapError: the path cannot be used or written to.
        """
        self.url = url
        try:
            self.fs, self.root = fsspec.core.url_to_fs(url)
            self.fs.makedirs(self.root, exist_ok=True)
            probe = f"{self.root}/.probe-{uuid.uuid4().hex}"
            self.fs.pipe_file(probe, b"")
            self.fs.rm_file(probe)
        except (OSError, ValueError, ImportError) as error:
            raise BayesgapError(f"The store {url} cannot be written to: {error}.") from error

    def folder(self, stage: str, key: str) -> str:
        """Where the result of a stage lies."""
        return f"{self.root}/{stage}/{key}"

    def manifest(self, stage: str, key: str) -> dict[str, Any] | None:
        """The manifest of a result, or None where there is no result.

        Raises:
            Damaged: the manifest cannot be read or does not match its own checksum.
        """
        path = f"{self.folder(stage, key)}/{MANIFEST}"
        try:
            text = self.fs.cat_file(path)
        except FileNotFoundError:
            if self.fs.exists(self.folder(stage, key)):
                raise Damaged(f"{path} is missing") from None
            return None
        try:
            sealed = json.loads(text)
            manifest: dict[str, Any] = sealed["manifest"]
            seal = sealed["sha256"]
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(f"{path} is no manifest") from error
        if seal != _sha256(dump(manifest).encode()):
            raise Damaged(f"{path} does not match its checksum")
        return manifest

    def verify(self, stage: str, key: str) -> dict[str, Any] | None:
        """The manifest, after the checksums of all files of the result were compared with it.

        Raises:
            Damaged: a file is missing or has other bytes.
        """
        manifest = self.manifest(stage, key)
        if manifest is not None:
            for name in manifest["files"]:
                self._bytes(stage, key, name, manifest)
        return manifest

    def read(self, stage: str, key: str) -> Result:
        """A result, its checksums verified.

        Raises:
            Damaged: it is not there, or not as it was written.
        """
        manifest = self.manifest(stage, key)
        if manifest is None:
            raise Damaged(f"{self.folder(stage, key)} is missing")
        try:
            return Result(
                {n: t.clone() for n, t in load(self._bytes(stage, key, TENSORS, manifest)).items()},
                json.loads(self._bytes(stage, key, VALUES, manifest)),
            )
        except (SafetensorError, ValueError) as error:
            raise Damaged(f"{self.folder(stage, key)} cannot be read: {error}") from error

    def write(self, stage: str, key: str, result: Result, about: Mapping[str, Any]) -> None:
        """Write a result under a temporary name, then move it into place.

        Where another process has put the same result there meanwhile, that one stays.

        Raises:
            BayesgapError: the store cannot be written to.
        """
        contents = {
            TENSORS: save({name: t.clone().contiguous() for name, t in result.tensors.items()}),
            VALUES: dump(result.values).encode(),
        }
        checksums = {name: _sha256(data) for name, data in contents.items()}
        manifest = {**about, "files": checksums}
        sealed = {"manifest": manifest, "sha256": _sha256(dump(manifest).encode())}
        contents[MANIFEST] = dump(sealed, indent=1).encode()
        temporary = f"{self.root}/{UNFINISHED}/{uuid.uuid4().hex}"
        try:
            self.fs.makedirs(temporary, exist_ok=True)
            for name, data in contents.items():
                self.fs.pipe_file(f"{temporary}/{name}", data)
            self._move(temporary, self.folder(stage, key))
        except OSError as error:
            raise BayesgapError(f"The store {self.url} cannot be written to: {error}.") from error

    def discard(self, stage: str, key: str) -> None:
        """Remove a damaged result."""
        self.fs.rm(self.folder(stage, key), recursive=True)

    def _move(self, source: str, target: str) -> None:
        self.fs.makedirs(self.fs._parent(target), exist_ok=True)
        if not isinstance(self.fs, LocalFileSystem):
            # Not one step, but a result counts only once its manifest matches all its files.
            self.fs.mv(source, target, recursive=True)
            return
        try:
            os.rename(source, target)
        except OSError:
            if not os.path.isdir(target):
                raise
            shutil.rmtree(source)

    def _bytes(self, stage: str, key: str, name: str, manifest: Mapping[str, Any]) -> bytes:
        path = f"{self.folder(stage, key)}/{name}"
        try:
            data: bytes = self.fs.cat_file(path)
        except OSError as error:
            raise Damaged(f"{path} is missing") from error
        if _sha256(data) != manifest["files"].get(name):
            raise Damaged(f"{path} does not match its checksum")
        return data


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
