"""Writing the source of a program: lines, names, and access to values in memory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from mfjit.ir import Shape, Value
from mfjit.numba_elementwise import Literals
from mfjit.numba_storage import Storage

if TYPE_CHECKING:
    from collections.abc import Iterator


@attrs.frozen
class Access:
    """Elements of memory by the indices of a loop nest: ``pointer[start + sum(i * stride)]``.

    ``shift`` is an expression that is added, known only when the program runs.
    """

    pointer: str
    start: int
    strides: tuple[int, ...]
    shift: str = ""

    def index(self, names: Sequence[str]) -> str:
        """Return the index at given loop variables."""
        terms = [
            name if stride == 1 else f"{name} * {stride}"
            for name, stride in zip(names, self.strides, strict=True)
            if stride
        ]
        if self.start or not terms:
            terms.append(str(self.start))
        if self.shift:
            terms.append(self.shift)
        return " + ".join(terms)


class Source:
    """Lines of a function that is being written."""

    def __init__(self, storage: Storage, threads: int) -> None:
        self.storage = storage
        self.threads = threads
        self.literals = Literals()
        self.functions: set[str] = set()
        self.kernels: dict[tuple[str, str], None] = {}
        self.lines: list[str] = []
        self.depth = 0
        self.parallel = False
        self.draws = False
        self._shared: dict[str, None] | None = None
        self.shifts: dict[Value, str] = {}
        self.rows: tuple[str, str] | None = None
        self.hoisted: list[str] | None = None
        self.run_depth = 0
        self._count = 0

    def line(self, text: str) -> None:
        """Write one line."""
        self.lines.append("    " * self.depth + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Write a head, and what follows indented."""
        self.line(head)
        self.depth += 1
        yield
        self.depth -= 1

    def name(self, kind: str) -> str:
        """Return a new name."""
        self._count += 1
        return f"{kind}{self._count}"

    def access(self, value: Value, shape: Shape | None = None) -> Access | None:
        """Return where a value lies as an operand over a shape that it broadcasts to.

        ``None`` for literals and settings, which are expressions.
        """
        layout = self.storage.layouts[value]
        if layout.base.op in ("literal", "setting"):
            return None
        pointer, start = self.storage.locate(layout.base)
        shape = value.shape if shape is None else shape
        added = len(shape) - value.ndim
        strides = [
            stride if size == wanted and size != 1 else 0
            for size, wanted, stride in zip(value.shape, shape[added:], layout.strides, strict=True)
        ]
        shift = self.shifts.get(layout.base, "")
        return Access(pointer, start + layout.offset, (0,) * added + tuple(strides), shift)

    def result(self, value: Value, strides: tuple[int, ...]) -> Access:
        """Return where a result is written."""
        pointer, start = self.storage.locate(value)
        return Access(pointer, start, strides, self.shifts.get(value, ""))

    def scalar(self, value: Value) -> str:
        """Return the expression of a literal or a setting, or of a view of one."""
        base = self.storage.layouts[value].base
        if base.op == "literal":
            return self.literals.text(base.attributes["value"], base.dtype)
        return f"c{base.attributes['index']}"

    def load(self, value: Value, access: Access | None, names: Sequence[str]) -> str:
        """Return the expression of an element of a value."""
        if access is None:
            return self.scalar(value)
        text = f"{self.local(access.pointer)}[{access.index(names)}]"
        return f"({text} != 0)" if value.dtype.kind == "b" else text

    def store(self, access: Access, names: Sequence[str], text: str) -> None:
        """Write an assignment to an element."""
        pointer, index = self.local(access.pointer), access.index(names)
        if self._shared is None:
            self.line(f"{pointer}[{index}] = {text}")
        else:
            # numba would remove an assignment through a pointer that the loop does not return.
            self.line(f"put({pointer}, {index}, {text})")

    @contextmanager
    def before_the_run(self) -> Iterator[None]:
        """Write what is the same for all blocks of a run, before it."""
        if self.hoisted is None:
            yield
            return
        lines, depth, shared = self.lines, self.depth, self._shared
        self.lines, self.depth, self._shared = [], self.run_depth, None
        yield
        self.hoisted += self.lines
        self.lines, self.depth, self._shared = lines, depth, shared

    def local(self, pointer: str) -> str:
        """Return the name of a pointer where the source is being written."""
        if self._shared is None:
            return pointer
        self._shared[pointer] = None
        return f"{pointer}_shared"

    @contextmanager
    def shared_among_threads(self, variable: str, count: int) -> Iterator[None]:
        """Write a loop whose iterations run on any thread; pointers are made in each anew."""
        self.parallel = True
        self._shared = {}
        self.line(f"for {variable} in prange({count}):")
        self.depth += 1
        at = len(self.lines)
        yield
        self.lines[at:at] = [
            "    " * self.depth + f"{name}_shared = {self.pointer_from(name)}"
            for name in self._shared
        ]
        self.depth -= 1
        self._shared = None

    def pointer_from(self, name: str) -> str:
        """Return the expression that makes a pointer of its address."""
        pointers = self.storage.pointers
        if name in pointers:
            return f"at_{pointers[name].dtype.name}(z{pointers[name].slot})"
        leaf = self.storage.lowered.inputs[int(name[1:])]
        return f"at_{leaf.dtype.name}(z{name})"

    @contextmanager
    def nest(self, shape: Shape) -> Iterator[list[str]]:
        """Write loops over a shape; give their variables."""
        names = [self.name("i") if size != 1 else "0" for size in shape]
        depth = self.depth
        for name, size in zip(names, shape):
            if size != 1:
                self.line(f"for {name} in range({size}):")
                self.depth += 1
        yield names
        self.depth = depth
