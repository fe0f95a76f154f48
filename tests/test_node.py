"""Nodes: identity, immutability, names, where they were built, and NumPy's syntax on them."""

from __future__ import annotations

import operator
import sys
import types

import attrs
import numpy as np
import pytest
from naming import without_address

import mfcore as mf
import mfops_basic as ops
from mfcore.errors import NodeUseError, UndeclaredFunctionError
from mfops_nn import Linear

pytestmark = pytest.mark.usefixtures("core_packs")


def line():
    """The line that calls."""
    return sys._getframe(1).f_lineno


def value(node, **feeds):
    return mf.Session(node).run(feeds)[node]


# Identity and immutability


def test_nodes_compare_and_hash_by_identity():
    x, also_x = mf.Input("x"), mf.Input("x")

    assert x == x  # noqa: PLR0124
    assert x != also_x
    assert len({x, also_x, x}) == 2
    assert {x: 1, also_x: 2}[x] == 1
    assert (x == 0) is False


LEAVES = [mf.Input("n"), mf.Parameter([1.0], name="n"), mf.Constant(1.0, name="n")]
NODES = [*LEAVES, ops.Exp(1.0, name="n")]


@pytest.mark.parametrize("node", NODES, ids=repr)
def test_nodes_cannot_be_changed(node):
    for name in (
        "name",
        "inputs",
        "anything",
        "_code",
        *(f.name for f in attrs.fields(type(node))),
    ):
        with pytest.raises((attrs.exceptions.FrozenAttributeError, AttributeError)):
            setattr(node, name, None)
    assert node.name == "n"


def test_values_of_parameters_and_constants_are_copied_and_read_only():
    array = np.ones(2)
    nodes = [mf.Parameter(array), mf.Constant(array)]
    array[0] = 7

    for node in nodes:
        np.testing.assert_array_equal(node.value, [1, 1])
        with pytest.raises(ValueError, match="read-only"):
            node.value[0] = 3


def test_the_representation_says_operation_pack_and_name():
    x = mf.Input("x")

    assert repr(x) == "<mfcore.Input 'x'>"
    assert repr(ops.Exp(x)) == "<mfops_basic.Exp>"
    assert repr(Linear(x, 1.0, 0.0, name="top")) == "<mfops_nn.Linear 'top'>"
    assert Linear.qualified_name() == "mfops_nn.Linear"


def test_leaves_have_no_inputs_and_operations_list_theirs_in_order():
    x, y = mf.Input("x"), mf.Input("y")

    assert [leaf.inputs for leaf in LEAVES] == [(), (), ()]
    assert (x - y).inputs == (x, y)
    assert (x * x).inputs == (x, x)
    assert isinstance(ops.Exp(3).inputs[0], mf.Constant)


@pytest.mark.parametrize("name", ["", "  ", 3, ["x"], b"x"], ids=repr)
@pytest.mark.parametrize(
    "build", [mf.Input, lambda n: mf.Constant(1, n), lambda n: ops.Exp(1, name=n)]
)
def test_names_are_strings_that_are_not_empty(build, name):
    with pytest.raises(NodeUseError, match="a node's name must be a non-empty string"):
        build(name)


@pytest.mark.parametrize(
    ("shape", "kept"), [((None, 3), (None, 3)), (3, (3,)), ([2, np.int64(2)], (2, 2)), ((), ())]
)
def test_declared_shapes_are_tuples(shape, kept):
    assert mf.Input(shape=shape).shape == kept


@pytest.mark.parametrize(
    "options",
    [
        {"shape": (-1,)},
        {"shape": ("n",)},
        {"shape": (1.5,)},
        {"dtype": complex},
        {"dtype": "huh"},
        {"dtype": object},
    ],
    ids=repr,
)
def test_unusable_shapes_and_dtypes_are_refused(options):
    with pytest.raises(NodeUseError):
        mf.Input("x", **options)


REFUSED = [
    None,
    "text",
    b"bytes",
    1j,
    [1j],
    ["a"],
    [None],
    [[1], [1, 2]],
    np.array([object()]),
    {},
    np.datetime64(1, "s"),
]


@pytest.mark.parametrize("unusable", REFUSED, ids=without_address)
@pytest.mark.parametrize(
    "build", [mf.Parameter, mf.Constant, ops.Exp], ids=["Parameter", "Constant", "Exp"]
)
def test_values_that_are_no_numbers_are_refused(build, unusable):
    with pytest.raises(NodeUseError):
        build(unusable)


def test_parameters_are_floats():
    assert mf.Parameter([1, 2]).value.dtype == np.float64
    assert mf.Parameter(True).value.dtype == np.float64
    assert mf.Parameter(np.ones(1, np.float32)).value.dtype == np.float32


# Where a node was built


def helper(x):
    return np.tanh(x)


SITES = {
    "operator": lambda x: (x + 1, line()),
    "reflected operator": lambda x: (np.ones(2) @ x, line()),
    "constructor": lambda x: (Linear(x, x, x), line()),
    "variadic constructor": lambda x: (ops.Add(x, x, x), line()),
    "ufunc": lambda x: (np.exp(x), line()),
    "NumPy function": lambda x: (np.sum(x, axis=0), line()),
    "NumPy function of a list": lambda x: (np.concatenate([x, x]), line()),
    "method": lambda x: (x.reshape(2, 3), line()),
    "property": lambda x: (x.T, line()),
    "index": lambda x: (x[1:], line()),
    "input": lambda x: (mf.Input("y"), line()),
    "parameter": lambda x: (mf.Parameter(1.0), line()),
    "constant that is made on the way": lambda x: ((x + 1).inputs[1], line()),
    "input of a constructor": lambda x: (ops.Exp(2.0).inputs[0], line()),
    "apply": lambda x: (mf.apply(ops.Exp, x), line()),
    "function of the user": lambda x: (helper(x), helper.__code__.co_firstlineno + 1),
}  # fmt: skip


@pytest.mark.parametrize("case", SITES)
def test_a_node_remembers_the_line_that_built_it(case):
    node, expected = SITES[case](mf.Input("x"))

    assert node.site == (__file__, expected)


def test_parts_of_an_expression_over_several_lines_remember_their_own_line():
    first = line() + 2
    node = np.tanh(
        mf.Input("x")
        @ mf.Input("W")
    )  # fmt: skip

    assert node.inputs[0].inputs[0].site[1] == first
    assert node.inputs[0].inputs[1].site[1] == first + 1
    assert node.inputs[0].site[1] in (first, first + 1)
    assert node.site[1] == first - 1


def test_a_node_built_by_another_package_remembers_that_package_s_line():
    pack = types.ModuleType("somepack")
    source = "import numpy as np\ndef layer(x):\n    return np.tanh(x)\n"
    exec(compile(source, "somepack/layers.py", "exec"), vars(pack))

    assert pack.layer(mf.Input("x")).site == ("somepack/layers.py", 3)


def test_the_place_of_birth_is_part_of_errors():
    x, at = mf.Input("x"), line()

    with pytest.raises(NodeUseError, match=rf"x \(mfcore\.Input, built at .*test_node\.py:{at}\)"):
        bool(x)


# What a node cannot do, and what to do instead

MISUSES = {
    "bool": (bool, r"np\.where"),
    "if": (lambda x: 1 if x else 2, r"np\.logical_and"),
    "and": (lambda x: x and 1, "logical_and"),
    "chained comparison": (lambda x: 0 < x < 1, "truth of"),
    "len": (len, "length"),
    "iter": (iter, "by index"),
    "unpacking": (lambda x: [*x], "by index"),
    "in": (lambda x: 1 in x, "by index"),
    "float": (float, "no value before a run"),
    "int": (int, "no value before a run"),
    "complex": (complex, "no value before a run"),
    "range": (range, "no value before a run"),
    "asarray": (np.asarray, r"Session\(node\)\.run\(feeds\)\[node\]"),
    "array of nodes": (lambda x: np.array([x, x]), "no value before a run"),
    "a constant of nodes": (lambda x: mf.Constant([x, 1.0]), "no value before a run"),
}


@pytest.mark.parametrize("case", MISUSES)
def test_using_a_node_as_a_number_says_what_to_do_instead(case):
    misuse, message = MISUSES[case]

    with pytest.raises(NodeUseError, match=message):
        misuse(mf.Input("x"))


UNDECLARED = {
    "np.linalg.norm": np.linalg.norm,
    "np.arctan2": lambda x: np.arctan2(x, 1),
    "np.add.reduce": np.add.reduce,
    "np.multiply.outer": lambda x: np.multiply.outer(x, x),
    "np.cumsum": np.cumsum,
    "np.floor_divide": lambda x: x // 2,
    "np.remainder": lambda x: x % 2,
    "np.add on nodes does not support out=": lambda x: np.add(x, 1, out=np.ones(2)),
    "np.exp on nodes does not support where=": lambda x: np.exp(x, where=np.array([True])),
    "np.sum on nodes does not support dtype=": lambda x: np.sum(x, dtype=float),
}


@pytest.mark.parametrize("name", UNDECLARED)
def test_a_function_that_nobody_declared_is_an_error_that_names_it(name):
    with pytest.raises(UndeclaredFunctionError) as caught:
        UNDECLARED[name](mf.Input("x"))

    assert name in str(caught.value)


def test_adding_a_node_to_an_array_in_place_is_refused():
    array = np.ones(2)

    with pytest.raises(UndeclaredFunctionError, match="out="):
        array += mf.Input("x")
    np.testing.assert_array_equal(array, 1)


# Operators: all build what NumPy computes

BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
COMPARE = [operator.lt, operator.le, operator.gt, operator.ge]
A, B = np.array([[0.5, 2.0], [3.0, 1.5]]), np.array([[2.0, 0.5], [1.0, 3.0]])


@pytest.mark.parametrize("symbol", [*BINARY, *COMPARE, operator.matmul], ids=lambda f: f.__name__)
@pytest.mark.parametrize("kind", ["node", "array", "list", "scalar", "number"])
def test_binary_operators_take_nodes_and_values_on_both_sides(symbol, kind):
    if symbol is operator.matmul and kind in ("scalar", "number"):
        kind = "array"
    x, y = mf.Input("x"), mf.Input("y")
    other = {"node": y, "array": B, "list": B.tolist(), "scalar": np.float64(2), "number": 2}[kind]
    plain = B if kind in ("node", "list") else other
    feeds = {"x": A, "y": B} if kind == "node" else {"x": A}

    np.testing.assert_array_equal(value(symbol(x, other), **feeds), symbol(A, plain))
    np.testing.assert_array_equal(value(symbol(other, x), **feeds), symbol(plain, A))


@pytest.mark.parametrize("symbol", [operator.and_, operator.or_])
def test_logical_operators(symbol):
    p, q = np.array([True, True, False, False]), np.array([True, False, True, False])
    x = mf.Input("x")

    np.testing.assert_array_equal(value(symbol(x, q), x=p), symbol(p, q))
    np.testing.assert_array_equal(value(symbol(q, x), x=p), symbol(q, p))
    np.testing.assert_array_equal(value(~x, x=p), ~p)


UNARY = {
    "-x": (operator.neg, np.negative),
    "abs": (abs, np.abs),
    "T": (lambda x: x.T, np.transpose),
    "transpose": (lambda x: x.transpose(), np.transpose),
    "transpose(1, 0)": (lambda x: x.transpose(1, 0), np.transpose),
    "transpose((1, 0))": (lambda x: x.transpose((1, 0)), np.transpose),
    "reshape(4)": (lambda x: x.reshape(4), np.ravel),
    "reshape(-1, 1)": (lambda x: x.reshape(-1, 1), lambda a: a.reshape(-1, 1)),
    "reshape((1, 4))": (lambda x: x.reshape((1, 4)), lambda a: a.reshape(1, 4)),
    "squeeze": (lambda x: x.reshape(1, 4).squeeze(0), np.ravel),
    "sum": (lambda x: x.sum(), np.sum),
    "sum axis": (lambda x: x.sum(axis=0, keepdims=True), lambda a: a.sum(axis=0, keepdims=True)),
    "mean": (lambda x: x.mean(1), lambda a: a.mean(1)),
    "max": (lambda x: x.max(), np.max),
    "min": (lambda x: x.min(axis=(0, 1)), np.min),
    "dot": (lambda x: x.dot(x), lambda a: a @ a),
    "index": (lambda x: x[1:, ::2], lambda a: a[1:, ::2]),
    "index by a list": (lambda x: x[[1, 0, 1]], lambda a: a[[1, 0, 1]]),
    "new axis": (lambda x: x[..., None], lambda a: a[..., None]),
    "index by a node": (lambda x: x[mf.Constant([1, 1])], lambda a: a[[1, 1]]),
    "np.sum": (lambda x: np.sum(x, 0), lambda a: np.sum(a, 0)),
    "np.exp": (np.exp, np.exp),
    "np.where": (lambda x: np.where(x > 1, x, 0), lambda a: np.where(a > 1, a, 0)),
    "np.concatenate": (
        lambda x: np.concatenate((x, B), axis=1), lambda a: np.concatenate((a, B), axis=1)),
    "np.equal": (lambda x: np.equal(x, 2), lambda a: a == 2),
}  # fmt: skip


@pytest.mark.parametrize("case", UNARY)
def test_numpy_s_syntax_on_nodes_builds_what_numpy_computes(case):
    on_nodes, on_arrays = UNARY[case]
    x = mf.Input("x")

    np.testing.assert_array_equal(value(on_nodes(x), x=A), on_arrays(A), strict=True)


def test_plus_x_is_x():
    x = mf.Input("x")

    assert +x is x


def test_operators_in_place_build_a_new_node():
    x = mf.Input("x")
    y = x
    y += 1
    y *= 2

    assert x.inputs == ()
    assert value(y, x=3) == 8


def test_a_node_within_an_index_is_refused_with_advice():
    x = mf.Input("x")

    with pytest.raises(UndeclaredFunctionError, match=r"np\.take"):
        x[0, x]


# Constants


@pytest.mark.parametrize("number", [2, 2.5, True], ids=repr)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
@pytest.mark.parametrize("symbol", [operator.add, operator.mul, operator.truediv])
def test_python_numbers_adapt_to_the_array_beside_them_as_in_numpy(symbol, number, dtype):
    x = mf.Input("x")
    array = np.array([1, 2], dtype)

    np.testing.assert_array_equal(
        value(symbol(x, number), x=array), symbol(array, number), strict=True
    )
    np.testing.assert_array_equal(
        value(symbol(number, x), x=array), symbol(number, array), strict=True
    )


def test_arrays_and_numpy_scalars_keep_their_dtype_as_constants():
    x = mf.Input("x")
    array = np.ones(2, np.float32)

    assert value(x * np.float64(2), x=array).dtype == np.float64
    assert value(x * np.ones(2), x=array).dtype == np.float64
    assert value(x * np.float32(2), x=array).dtype == np.float32


def test_operations_of_constants_alone_are_computed():
    assert value(ops.Add(1, 2, 3)) == 6
    assert value(ops.Divide(1, 2)) == 0.5
    assert value(Linear(np.eye(2), np.ones((2, 1)), 1.0)).tolist() == [[2], [2]]
