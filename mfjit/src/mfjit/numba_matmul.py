"""Matrix products of a program compiled by numba: loops of its own where small, else BLAS."""

from __future__ import annotations

import attrs

from mfjit.fuse import Group
from mfjit.ir import Shape, Value
from mfjit.numba_blas import provider
from mfjit.numba_source import Access, Source

SMALL_PRODUCT = 512
"""Multiplications up to which a product is a loop: a call of BLAS costs more than it saves."""

SMALL_VECTOR_PRODUCT = 4096
"""The same for a matrix and a vector, which BLAS does not compute faster."""


@attrs.frozen
class _Matrix:
    """An operand of a product: its element at a row and a column, and as BLAS wants it."""

    value: Value
    access: Access | None

    def blas(self) -> tuple[bool, int] | None:
        """Return whether it lies transposed, and the stride of its rows; None if neither."""
        if self.access is None:
            return None
        rows, columns = self.value.shape[-2:]
        row, column = self.access.strides[-2:]
        if (column == 1 or columns == 1) and (row >= columns or rows == 1):
            return False, max(row, columns) if rows != 1 else columns
        if (row == 1 or rows == 1) and (column >= rows or columns == 1):
            return True, max(column, rows) if columns != 1 else rows
        return None


def is_small(value: Value) -> bool:
    """Whether a product is computed by loops."""
    n, k = value.args[0].shape[-2:]
    m = value.shape[-1]
    limit = SMALL_VECTOR_PRODUCT if 1 in (n, m) else SMALL_PRODUCT
    return n * k * m <= limit or provider() is None


def write_matmul(source: Source, group: Group) -> None:
    """Write a matrix product, for each index of the leading axes."""
    value = group.values[0]
    result = source.result(value, source.storage.layouts[value].strides)
    batch = value.shape[:-2]
    operands = []
    for arg in value.args:
        shape = (*batch, *arg.shape[-2:])
        operand = _Matrix(arg, source.access(arg, shape))
        if not is_small(value) and operand.blas() is None:
            operand = _copied(source, operand, shape)
        operands.append(operand)
    if value.size == 0:
        return
    with source.nest(batch) as names:
        if is_small(value):
            _write_loops(source, value, operands, result, names)
        else:
            _write_blas(source, value, operands, result, names)


def _copied(source: Source, operand: _Matrix, shape: Shape) -> _Matrix:
    value = operand.value
    strides = []
    step = 1
    for size in reversed(value.shape):
        strides.append(step)
        step *= size
    offset = source.storage.reserve(value.nbytes) // value.dtype.itemsize
    target = Access(source.storage.arena_pointer(value.dtype), offset, tuple(reversed(strides)))
    plain = source.access(value)
    with source.nest(value.shape) as names:
        source.store(target, names, source.load(value, plain, names))
    added = len(shape) - value.ndim
    repeated = tuple(
        0 if size != wanted else stride
        for size, wanted, stride in zip(value.shape, shape[added:], target.strides)
    )
    return _Matrix(value, Access(target.pointer, offset, (0,) * added + repeated))


def _write_blas(
    source: Source, value: Value, operands: list[_Matrix], result: Access, names: list[str]
) -> None:
    n, k = value.args[0].shape[-2:]
    m = value.shape[-1]
    first, last = source.rows or ("0", str(n))
    count = str(n) if source.rows is None else f"{last} - {first}"
    parts = []
    flips = []
    for operand in operands:
        flipped, stride = operand.blas() or (False, 0)
        assert operand.access is not None
        row = first if operand is operands[0] else "0"
        start = operand.access.index([*names, row, "0"])
        flips.append(str(int(flipped)))
        parts.append(f"advance({source.local(operand.access.pointer)}, {start}), {stride}")
    start = result.index([*names, first, "0"])
    source.line(
        f"gemm_of_{provider()}({', '.join(flips)}, {count}, {m}, {k}, {', '.join(parts)}, "
        f"advance({source.local(result.pointer)}, {start}), {m})"
    )


def _write_loops(
    source: Source, value: Value, operands: list[_Matrix], result: Access, names: list[str]
) -> None:
    n, k = value.args[0].shape[-2:]
    m = value.shape[-1]
    x, y = operands
    zero = source.literals.text(0, value.dtype)
    i, j, inner, total = (source.name(kind) for kind in ("i", "j", "q", "r"))
    first, last = source.rows or ("0", str(n))
    rows, columns = f"for {i} in range({first}, {last}):", f"for {j} in range({m}):"
    with source.block(rows), source.block(columns):
        source.line(f"{total} = {zero}")
        with source.block(f"for {inner} in range({k}):"):
            left = source.load(x.value, x.access, [*names, i, inner])
            right = source.load(y.value, y.access, [*names, inner, j])
            source.line(f"{total} = add_in_any_order({total}, {left} * {right})")
        source.store(result, [*names, i, j], total)
