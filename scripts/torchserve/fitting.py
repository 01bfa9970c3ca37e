"""Fits the server's configuration to the cores and the memory of this machine."""

import os
import re
import sys
from collections.abc import Collection
from pathlib import Path

from scripts.torchserve import frontend_limits, worker_environment
from scripts.torchserve.archives import Archive
from scripts.torchserve.configuration import replace_properties
from scripts.torchserve.frontend_limits import MIB
from scripts.torchserve.machine import Machine, find_memory
from scripts.torchserve.model_store import count_models
from scripts.torchserve.server import Server

POOL = "-Djava.util.concurrent.ForkJoinPool.common.parallelism="


def _fit_limits(
    server: Server, here: Machine, archives: Collection[Archive], *, model_api: bool
) -> frontend_limits.FrontendLimits:
    """Returns what the frontend may hold in this machine's memory, with a note when that is less than configured."""
    memory, origin = find_memory()
    request, queue, heap = frontend_limits.read_configured(server.properties)
    workers = here.threads_per_model(count_models(archives))
    queues = [frontend_limits.read_queue(archive.path, workers=workers) for archive in archives]
    if model_api:  # during a deploy, the old and the new version each have a queue
        queues.append(frontend_limits.ModelQueue(None, max((each.in_flight for each in queues), default=1)))
    found = frontend_limits.fit_limits(memory, queues, request, queue, heap)
    there = f"{memory // MIB} MiB ({origin})"
    if not found.fits:
        print(
            f"note: {there} is too little for {len(queues)} models: full queues of the largest requests would take "
            f"{found.required // MIB} MiB of a heap of {found.heap // MIB} MiB",
            file=sys.stderr,
        )
    elif (found.request, found.queue) != (request, queue):
        print(
            f"note: fitted to {there} and {len(queues)} models: requests of up to {found.request / MIB:.4g} MiB, "
            f"{found.queue} waiting for each model",
            file=sys.stderr,
        )
    return found


def write_fitted_config(
    server: Server,
    here: Machine,
    archives: Collection[Archive] = (),
    *,
    quiet: bool = False,
    model_api: bool = False,
) -> Path:
    """Writes the server's configuration, fitted to this machine, into its temporary folder.

    A larger thread pool that the user has configured is kept.
    """
    found = _fit_limits(server, here, archives, model_api=model_api)
    flags = frontend_limits.fit_java_flags(found, server.properties.get("vmargs", "").split())
    pools = [int(flag.removeprefix(POOL)) for flag in flags if re.fullmatch(f"{re.escape(POOL)}[0-9]+", flag)]
    flags = [flag for flag in flags if not flag.startswith(POOL)] + [f"{POOL}{max([here.pool_threads, *pools])}"]
    changes = {"vmargs": " ".join(flags)} | ({"disable_system_metrics": "true"} if quiet else {})
    changes |= {"max_request_size": str(found.request), "job_queue_size": str(found.queue)}
    # The shipped pattern does not know about this shell's OPSERVE_PASS_ENV; another pattern is the user's own.
    if server.properties.get("blacklist_env_vars") == worker_environment.withheld_pattern():
        changes["blacklist_env_vars"] = worker_environment.withheld_pattern(worker_environment.extra_names(os.environ))
    path = server.make_temp() / "config.properties"
    path.write_text(replace_properties(server.config.read_text(), changes))
    return path
