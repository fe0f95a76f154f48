"""``python -m benchmarks [NAME ...]``: run all benchmarks, or those named."""

from __future__ import annotations

import importlib
import os
import sys

NAMES = ["start", "boston"]
SLOWING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def main() -> None:
    names = sys.argv[1:] or NAMES
    if unknown := [name for name in names if name not in NAMES]:
        sys.exit(f"no benchmark {unknown[0]!r}; there are {', '.join(NAMES)}")
    if any(variable in os.environ for variable in SLOWING):
        # They pin OpenBLAS to slower kernels; BLAS reads them when it is loaded, so start anew.
        environment = {k: v for k, v in os.environ.items() if k not in SLOWING}
        os.execvpe(sys.executable, [sys.executable, "-m", "benchmarks", *names], environment)
    for name in names:
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()
