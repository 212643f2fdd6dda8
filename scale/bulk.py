"""Scoring a whole corpus on Ray Data: a stream of units to a pool of engines, on this machine or on a cluster.

    report = score_dataset(BulkRequest(files, folder, artifact), on_done)

    units whose parts are missing -> Ray Data -> one UnitActor for each group of cores -> parts -> report.json

What streams through Ray are numbers of units and what became of them; texts go from the input's files to the engine
that scores them and from there into a part, in one process, so nothing is copied and memory is bounded by a unit a
process. An actor that dies is started again by Ray and its units are done again; the driver that dies is started again
by whoever wants the job done. `scale/bulk_job.py` says why every row is there once, whatever died.

On a cluster (`address`), input, output and artifact must have the same paths on all machines.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
import ray.data

from relevance.artifact import Artifact, load_artifact
from scale.bulk_errors import BulkError
from scale.bulk_job import JobFolder, Task, begin
from scale.bulk_rows import input_files
from scale.bulk_score import UnitActor
from scale.bulk_units import blocks_of
from service.assembly import num_threads_for, num_workers_for

# What streams through the object store is a few numbers a unit; this is the least that Ray takes.
OBJECT_STORE_BYTES = 80 * 2**20
MAX_BLOCKS = 20_000
# Nothing is reported to anybody, and the backend's word on actors' arguments (they outlive the driver's death only if
# it does, which ends the run anyway) is kept out of the output.
RAY_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}


@dataclass(frozen=True, slots=True)
class Engines:
    """Where a job runs."""

    address: str | None = None
    """Of a Ray cluster; None: a Ray of this process's own."""
    actors: int | None = None
    """Engines; None: as many as the cores have room for."""
    threads: int | None = None
    """Of one engine; None: as served."""


@dataclass(frozen=True, slots=True)
class Room:
    """What a Ray has."""

    cores: int
    node_cores: int
    """Of its smallest node."""
    gpus: int


@dataclass(frozen=True, slots=True)
class Pool:
    """The engines of a job, and what each holds."""

    actors: int
    threads: int
    cpus: float
    """Of what Ray has to give: fewer than threads where more is asked for than there is, or nothing would start."""
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class BulkRequest:
    """One job."""

    source: Path
    folder: Path
    artifact: Path
    task: Task = field(default_factory=Task)
    engines: Engines = field(default_factory=Engines)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is."""

    rows_done: int
    """Of all runs."""
    rows: int


def score_dataset(request: BulkRequest, on_progress: Callable[[Progress], None]) -> dict[str, Any]:
    """Do what is missing of a job; its report. `on_progress` is called when it begins and after each block.

    Raises:
        BulkError: the job cannot begin, or ended before everything was done.
    """
    files = [path.resolve() for path in input_files(request.source)]
    artifact = load_artifact(request.artifact)
    with begin(request.folder.resolve(), files, request.task, artifact.model_id) as job:
        missing = job.missing()
        done = job.num_rows - sum(unit.num_rows for unit in missing)
        on_progress(Progress(done, job.num_rows))
        totals: dict[str, Any] = {"rows": 0, "errors": 0, "tokens": 0, "seconds": 0.0}
        num_actors, began = 0, time.monotonic()
        if missing:
            with _running_ray(request.engines.address) as room:
                pool = pool_for(artifact, request.engines, room)
                num_actors = min(pool.actors, len(missing))
                began = time.monotonic()
                for row in _stream(job, request.artifact.resolve(), replace(pool, actors=num_actors)):
                    for name in totals:
                        totals[name] += row[name]
                    on_progress(Progress(done + totals["rows"], job.num_rows))
        left = job.missing()
        if left:
            raise BulkError(f"{len(left)} units are missing at the end; the same command goes on from there")
        report = _report(job, totals, time.monotonic() - began, num_actors)
        job.write_report(report)
        return report


def pool_for(artifact: Artifact, engines: Engines, room: Room) -> Pool:
    """As many engines as there is room for, each as it is served; what was asked for counts more.

    Raises:
        BulkError: the artifact runs on a GPU, and there is none.
    """
    graph, target = artifact.manifest.graph, artifact.manifest.target
    if target != "cpu":
        if not room.gpus:
            raise BulkError(f"{artifact.model_id} is for {target}, and Ray knows of no GPU")
        actors, threads = engines.actors or room.gpus, engines.threads or 1
        return Pool(actors, threads, min(threads, room.cores / actors), gpus=1)
    num_workers = num_workers_for(graph.hidden_size, room.node_cores)
    threads = num_threads_for(artifact, engines.threads, num_workers, room.node_cores) or room.node_cores
    actors = engines.actors or max(1, room.cores // threads)
    return Pool(actors, threads, min(threads, room.cores / actors))


def _stream(job: JobFolder, artifact: Path, pool: Pool) -> Iterator[dict[str, Any]]:
    """What became of each unit, as it is done."""
    missing = [{"unit": unit.number} for unit in job.missing()]
    dataset = ray.data.from_items(missing, override_num_blocks=blocks_of(len(missing), MAX_BLOCKS))
    arguments = (str(job.folder), [str(file) for file in job.files], str(artifact), pool.threads)
    done = dataset.map_batches(
        UnitActor,
        fn_constructor_args=arguments,
        compute=ray.data.ActorPoolStrategy(size=pool.actors),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus or None,
        batch_size=1,
        batch_format="numpy",
    )
    try:
        yield from done.iter_rows()
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise BulkError(f"an engine ended with: {str(cause).splitlines()[-1]}") from error


@contextmanager
def _running_ray(address: str | None) -> Iterator[Room]:
    """A Ray for this job; the room it has."""
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # noqa: TID251 - Ray takes these from nowhere else
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        num_cores = node_cores = len(os.sched_getaffinity(0))
        # One slot more than engines need: what Ray Data itself runs must not wait for an engine to end.
        ray.init(num_cpus=num_cores + 1, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet)
    else:
        ray.init(address=address, **quiet)
        num_cores = int(ray.cluster_resources().get("CPU", 1))
        node_cores = min(int(node["Resources"].get("CPU", 1)) for node in ray.nodes() if node["Alive"])
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    try:
        yield Room(num_cores, max(1, node_cores), int(ray.cluster_resources().get("GPU", 0)))
    finally:
        ray.shutdown()


def _report(job: JobFolder, totals: dict[str, Any], seconds: float, num_actors: int) -> dict[str, Any]:
    return {
        "rows": job.num_rows,
        "units": len(job.units),
        "rows_this_run": totals["rows"],
        "errors_this_run": totals["errors"],
        "tokens_this_run": totals["tokens"],
        "seconds_this_run": round(seconds, 2),
        "engines": num_actors,
        "documents_per_s": round(totals["rows"] / seconds, 2) if totals["rows"] else None,
        "tokens_per_s": round(totals["tokens"] / seconds, 1) if totals["rows"] else None,
    }


def with_cost(report: dict[str, Any], price_per_hour: float) -> dict[str, Any]:
    """`report` with the cost of this run, and of a million documents at its rate, at this price of all machines."""
    seconds, rows = report["seconds_this_run"], report["rows_this_run"]
    cost = price_per_hour * seconds / 3600
    per_million = round(1e6 * cost / rows, 4) if rows else None
    return {**report, "cost_this_run": round(cost, 4), "cost_per_million_documents": per_million}


def parts_of(folder: Path) -> Sequence[Path]:
    """The parts of a job, in the order of its rows."""
    return sorted(folder.glob("part-*"))
