"""Running a graph of stages: in this process, on local workers, or on a Dask cluster."""

import contextlib
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from typing import Any

import dask
import torch
from dask.base import compute
from dask.callbacks import Callback
from dask.delayed import Delayed, delayed
from threadpoolctl import threadpool_limits

from bayesgap.errors import BayesgapError
from bayesgap.progress import progress, silent
from bayesgap.runs.source import forget
from bayesgap.runs.stage import Stage, in_order
from bayesgap.runs.store import Damaged, Result, Store

_ONE_STAGE = threading.Lock()


@dataclass(frozen=True)
class Resources:
    """Where and how widely stages run.

    Attributes:
        workers: How many processes of this machine compute; with 1 it is this one.
        threads: How many threads each stage computes with. With the same number results are equal
            to the last bit.
        cluster: The address of a Dask scheduler that runs the stages instead; its workers must see
            the same store.
    """

    workers: int = 1
    threads: int = 1
    cluster: str | None = None


class Finished:
    """The results of a run, read from its store when they are asked for."""

    def __init__(self, store: Store, threads: int, stages: Sequence[Stage]):
        """Remember where the results lie."""
        self.store = store
        self.threads = threads
        self.stages = list(stages)

    def __getitem__(self, stage: Stage) -> Result:
        """The result of a stage."""
        return self.store.read(stage.name, stage.key(self.threads))

    def manifest(self, stage: Stage) -> dict[str, Any]:
        """How the result came about, with the seconds that it took."""
        return self.store.manifest(stage.name, stage.key(self.threads)) or {}


def run(targets: Sequence[Stage], store: Store, resources: Resources) -> Finished:
    """Compute what is missing of the targets and all that they need.

    What the store holds is not computed again; what is damaged there is reported on standard
    error, removed and computed again.

    Raises:
        BayesgapError: a stage refused its input, or the cluster cannot be reached.
    """
    forget()
    stages = in_order(targets)
    missing = [stage for stage in stages if not _is_stored(stage, store, resources.threads)]
    # Workers stay silent; their parent reports on them.
    quiet = resources.cluster is not None or resources.workers > 1
    tasks: dict[str, Delayed] = {}
    for stage in missing:
        upstream = [tasks[other.work] for other in stage.inputs.values() if other.work in tasks]
        key = stage.key(resources.threads)
        name = f"{stage.label or stage.name}-{key}"
        call = delayed(execute, pure=False)
        tasks[stage.work] = call(
            stage, key, store.url, resources.threads, quiet, upstream, dask_key_name=name
        )
    if tasks:
        _compute(list(tasks.values()), resources, already=len(stages) - len(missing))
    return Finished(store, resources.threads, stages)


def execute(
    stage: Stage, key: str, url: str, threads: int, quiet: bool, upstream: list[None]
) -> None:
    """Compute one stage from its stored inputs and store its result; what a worker does.

    Args:
        stage: The stage to compute.
        key: The key under which the run that asked for it will look for the result.
        url: The path of the store.
        threads: How many threads to compute with.
        quiet: Whether to show no progress.
        upstream: Only there to make the graph wait for the inputs.

    Raises:
        BayesgapError: the source that this process reads is not that of the run.
    """
    _die_with_parent()
    if stage.key(threads) != key:
        raise BayesgapError(
            f"The source that {stage.label or stage.name} depends on is not the one that this run "
            "began with: it was edited, or a worker has another release. Finished stages are kept; "
            "start the run again."
        )
    store = Store(url)
    inputs = {
        name: store.read(other.name, other.key(threads)) for name, other in stage.inputs.items()
    }
    # The number of threads is the process's: a worker of several threads takes stages in turn.
    with _ONE_STAGE:
        start = time.perf_counter()
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with threadpool_limits(threads), silent() if quiet else contextlib.nullcontext():
                given = {**inputs, **stage.settings, **stage.places, **stage.code}
                result = stage.function(**given, seed=stage.seed)
        finally:
            torch.set_num_threads(before)
        if not isinstance(result, Result):
            given_back = type(result).__name__
            raise BayesgapError(f"The stage {stage.name} must return a Result; got a {given_back}.")
        seconds = time.perf_counter() - start
    store.write(stage.name, key, result, {**stage.describe(threads), "seconds": seconds})


@cache
def _die_with_parent() -> None:
    """In a worker process, end when the process that started it does, however that ended."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _is_stored(stage: Stage, store: Store, threads: int) -> bool:
    key = stage.key(threads)
    try:
        return store.verify(stage.name, key) is not None
    except Damaged as damage:
        print(f"Damaged result, computed again: {damage}.", file=sys.stderr)
        store.discard(stage.name, key)
        return False


def _compute(tasks: list[Delayed], resources: Resources, already: int) -> None:
    if resources.cluster is not None:
        _compute_on_cluster(tasks, resources.cluster)
        return
    scheduler = "synchronous" if resources.workers == 1 else "processes"
    with progress("computing stages", already + len(tasks)) as advance:
        advance(already)
        with (
            Callback(posttask=lambda key, *_: advance(note=str(key).rpartition("-")[0])),
            dask.config.set({"multiprocessing.context": "spawn"}),
        ):
            # One at a time: by sixes, as is the default, one worker idles while stages wait.
            try:
                compute(*tasks, scheduler=scheduler, num_workers=resources.workers, chunksize=1)
            except BrokenProcessPool as error:
                raise BayesgapError(
                    "A worker process was ended from outside, as happens where memory runs out. "
                    "Finished stages are kept; the same command goes on from there, and --workers "
                    "1 takes less memory."
                ) from error


def _compute_on_cluster(tasks: list[Delayed], address: str) -> None:
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise BayesgapError(
            "A Dask cluster needs the extra: pip install 'bayesgap[cluster]'."
        ) from error
    print(f"Connecting to the Dask scheduler at {address}.", file=sys.stderr)
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise BayesgapError(f"No Dask scheduler answers at {address}: {error}.") from error
    with client, progress("computing stages", len(tasks)) as advance:
        for future in as_completed(client.compute(tasks)):
            future.result()
            advance(note=str(future.key).rpartition("-")[0])
