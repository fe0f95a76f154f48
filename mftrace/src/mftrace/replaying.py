"""Replaying: a failure that a guard wrote down, run again alone."""

from __future__ import annotations

import os

from mfcore.node import Node
from mftrace.application import ApplicationError
from mftrace.guard_report import GuardReport
from mftrace.replay_archive import ReplayError
from mftrace.replay_file import LIMIT, read_replay


def replay(
    path: str | os.PathLike[str],
    *,
    operation: type[Node] | None = None,
    limit: int = LIMIT,
) -> GuardReport:
    """Run the operation of a replay file again, alone, and report how it went.

    Parameters
    ----------
    path : path
        A file that the tracer ``guard`` wrote.
    operation : operation class, optional
        The operation, where no pack provides it: one of your own.
    limit : int, optional
        Bytes that the file may have, and the value that its operation computes.

    Returns
    -------
    GuardReport
        ``report.reproduced`` tells whether the bad value came up again; as text it is what
        the guard said.

    Raises
    ------
    ReplayError
        If the file cannot be read, was changed or cut off, or its operation is not there
        or cannot be run on what the file holds.
    """
    application = read_replay(path, operation, limit)
    try:
        return application.report()
    except (ApplicationError, MemoryError) as error:
        raise ReplayError(f"{os.fspath(path)}: {error or 'not enough memory'}") from error
