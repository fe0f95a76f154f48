"""``python -m benchmarks [NAME ...] [--quick]``: run all benchmarks, or those named."""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from typing import Any

from benchmarks.workload import first_run

NAMES = [
    "start", "boston", "digits", "bigmlp", "elementwise", "scalars", "cnn", "inference", "tracing",
    "packs",
]  # fmt: skip
SLOWING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no compile times")
    parser.add_argument(
        "--first-run", nargs=2, metavar=("NAME", "CONTENDER"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in NAMES]:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(NAMES)}")
    return options


def module(name: str) -> Any:
    return importlib.import_module(f"benchmarks.{name}")


def main() -> int:
    options = arguments()
    if any(variable in os.environ for variable in SLOWING):
        # They pin OpenBLAS to slower kernels; BLAS reads them when it is loaded, so start anew.
        environment = {k: v for k, v in os.environ.items() if k not in SLOWING}
        os.execvpe(sys.executable, [sys.executable, "-m", "benchmarks", *sys.argv[1:]], environment)
    if options.first_run:
        name, contender = options.first_run
        print(first_run(module(name.partition("-")[0]).workload(name), contender))
        return 0
    names = options.names or NAMES
    if len(names) == 1:
        return 0 if module(names[0]).main(quick=options.quick) else 1
    # A process each: what one workload sets up (threads, caches, memory) is not the next one's.
    failed = 0
    for name in names:
        command = [sys.executable, "-m", "benchmarks", name]
        failed |= subprocess.run(command + ["--quick"] * options.quick, check=False).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main())
