"""Defining operations: what the decorator accepts, what it refuses, what the core then does."""

from __future__ import annotations

import copy
import pickle
import sys
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from attrs import validators

import mfcore as mf
from mfcore import spec_of
from mfcore.errors import (
    BackwardError,
    DefinitionError,
    ForwardError,
    NodeUseError,
    NotDifferentiableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable as OnlyForTypeCheckers

pytestmark = pytest.mark.usefixtures("core_packs")

HERE = sys.modules[__name__]


def plain(x):
    return x * 1.0


def make(*, forward=plain, backward=None, name="Made", decorator=mf.operation, **fields):
    """Return an operation class; fields are annotations, inputs by default one, ``x``."""
    body = {"__annotations__": fields or {"x": mf.Node}, "__module__": __name__}
    if forward is not None:
        body["forward"] = staticmethod(forward)
    if backward is not None:
        body["backward"] = staticmethod(backward)
    return decorator(type(name, (mf.Node,), body))


def run(node, feeds=None, **options):
    return mf.Session(node, seed=0).run(feeds, **options)


# Asking by name


@mf.operation
class Everything(mf.Node):
    x: mf.Node
    y: mf.Node
    scale: float = 2.0

    @staticmethod
    def forward(y, x, rng, scale, training):
        return x * y * scale, ("kept", rng.random(), training)

    @staticmethod
    def backward(saved, wanted, scale, value, y, grad, x, training):
        HERE.seen = {"saved": saved, "wanted": wanted, "scale": scale, "value": value}
        HERE.seen |= {"grad": grad, "x": x, "y": y, "training": training}
        return grad * y * scale, grad * x * scale


def test_functions_are_given_what_they_ask_for_by_name_in_any_order():
    x, y = mf.Input("x"), mf.Input("y")
    result = run(Everything(x, y, scale=3.0), {x: 2.0, y: 5.0}, training=True)

    gradients = result.backward(wrt=[x])

    assert result[result.session.graph.outputs[0]] == 30
    assert gradients[x] == 15
    drawn = np.random.default_rng(0).random()
    wanted = HERE.seen.pop("wanted")
    assert HERE.seen == {
        "saved": ("kept", drawn, True),
        "scale": 3.0,
        "value": 30.0,
        "grad": 1.0,
        "x": 2.0,
        "y": 5.0,
        "training": True,
    }
    assert (wanted.x, wanted.y) == (True, False)
    assert tuple(wanted) == (True, False)


def test_training_is_off_unless_asked_for():
    @mf.operation
    class Training(mf.Node):
        x: mf.Node

        @staticmethod
        def forward(x, training):
            return x * (10 if training else 1)

    x = mf.Input("x")
    node = Training(x)

    assert run(node, {x: 1.0})[node] == 1
    assert run(node, {x: 1.0}, training=True)[node] == 10


def test_random_numbers_come_from_the_session_seed():
    @mf.operation
    class Noise(mf.Node):
        x: mf.Node

        @staticmethod
        def forward(x, rng):
            return x + rng.normal(size=x.shape)

    x = mf.Input("x")
    node = Noise(x)
    feeds = {x: np.zeros(3)}
    first, second = mf.Session(node, seed=7), mf.Session(node, seed=7)

    drawn = [first.run(feeds)[node] for _ in range(2)]

    assert not np.array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn, [second.run(feeds)[node] for _ in range(2)])


def test_keyword_only_parameters_are_passed_by_keyword():
    @mf.operation
    class Keywords(mf.Node):
        x: mf.Node
        y: mf.Node
        power: int

        @staticmethod
        def forward(x, *, power, y):
            return x**power - y

        @staticmethod
        def backward(*, grad, x, power):
            return grad * power * x ** (power - 1), -grad

    x, y = mf.Input("x"), mf.Input("y")
    result = run(Keywords(x, y, power=3), {x: 2.0, y: 1.0})

    assert result["keywords_1"] == 7
    gradients = result.backward()
    assert (gradients[x], gradients[y]) == (12, -1)


def star(*terms):
    return sum(terms[1:], terms[0])


def grouped(terms):
    assert isinstance(terms, tuple)
    return sum(terms[1:], terms[0])


def star_back(grad, *terms):
    return tuple(grad * i for i in range(1, len(terms) + 1))


def grouped_back(terms, grad):
    assert isinstance(terms, tuple)
    return tuple(grad * i for i in range(1, len(terms) + 1))


def counted_back(grad, wanted):
    assert isinstance(wanted, tuple)
    return tuple(grad * i for i in range(1, len(wanted) + 1))


@pytest.mark.parametrize("forward", [star, grouped])
@pytest.mark.parametrize("backward", [star_back, grouped_back, counted_back])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_variadic_inputs_come_one_by_one_or_as_a_tuple(forward, backward, count):
    Total = make(forward=forward, backward=backward, terms=tuple[mf.Node, ...])
    inputs = [mf.Input(f"x{i}") for i in range(count)]
    node = Total(*inputs)

    result = run(node, {x: float(i) for i, x in enumerate(inputs)})

    assert node.inputs == tuple(inputs)
    assert result[node] == sum(range(count))
    assert [result.gradients[x] for x in inputs] == list(range(1, count + 1))


def behind(first, rest, *, scale):
    return first * scale - sum(rest)


def behind_star(first, *rest, scale):
    return first * scale - sum(rest)


def behind_swapped(scale, rest, first):
    return first * scale - sum(rest)


@pytest.mark.parametrize("forward", [behind, behind_star, behind_swapped])
def test_a_variadic_input_may_follow_fixed_ones(forward):
    def backward(grad, rest, scale, first):
        return (grad * scale, *(-grad for _ in rest))

    fields = {"first": mf.Node, "rest": tuple[mf.Node, ...], "scale": float}
    Op = make(forward=forward, backward=backward, **fields)
    a, b, c = (mf.Input(name) for name in "abc")
    result = run(Op(a, b, c, scale=10.0), {a: 2.0, b: 3.0, c: 4.0})

    assert result["made_1"] == 13
    assert [result.gradients[n] for n in (a, b, c)] == [10, -1, -1]
    assert Op(first=a, rest=[b, c], scale=1.0).inputs == (a, b, c)
    assert spec_of(Op).input_names(3) == ("first", "rest[0]", "rest[1]")


def test_wanted_of_a_variadic_operation_goes_by_position():
    seen = []

    def backward(grad, wanted):
        seen.append(wanted)
        return (grad,) * len(wanted)

    Total = make(forward=star, backward=backward, terms=tuple[mf.Node, ...])
    x, y = mf.Input("x"), mf.Input("y")
    run(Total(x, y, 2.0), {x: 1.0, y: 1.0}).backward(wrt=[y])

    assert seen == [(False, True, False)]


def test_a_variadic_operation_without_inputs_is_refused():
    Total = make(forward=star, terms=tuple[mf.Node, ...])

    with pytest.raises(NodeUseError, match="at least one input"):
        Total()


# What is refused when the class is defined


def unknown(x, temperature):
    return x


def unknown_backward(grad, weight):
    return (grad,)


def keywords(x, **options):
    return x


def starred(*x):
    return x[0]


def takes_backward_names(x, grad):
    return x


DEFINITIONS = {
    "forward asks for an unknown name": (
        {"forward": unknown},
        "operation Made: unknown asks for 'temperature'.*it may ask for rng, training, x",
    ),
    "backward asks for an unknown name": (
        {"backward": unknown_backward},
        "operation Made: unknown_backward asks for 'weight'.*grad, saved, training, value, wanted",
    ),
    "forward asks for what only backward has": ({"forward": takes_backward_names}, "'grad'"),
    "forward takes **options": ({"forward": keywords}, r"Made: keywords must ask by name"),
    "a star before a single input": ({"forward": starred}, r"Made: starred takes \*x"),
    "no forward": ({"forward": None}, "operation Made has no forward"),
    "no input": ({"rate": float}, "operation Made has no input"),
    "a ufunc as forward": ({"forward": np.exp}, "plain Python function"),
    "an input after a variadic one": (
        {"forward": star, "terms": tuple[mf.Node, ...], "x": mf.Node},
        "variadic input must be the last",
    ),
    "two variadic inputs": (
        {"forward": star, "terms": tuple[mf.Node, ...], "x": tuple[mf.Node, ...]},
        "variadic input must be the last",
    ),
    "an optional input": ({"x": mf.Node, "y": mf.Node | None}, "y is typed.*an input is typed"),
    "an input typed as a leaf": ({"x": mf.Input}, "x is typed.*an input is typed"),
    "a list of inputs": ({"x": list[mf.Node]}, "x is typed.*an input is typed"),
    "unknown inputs that broadcast": (
        {"decorator": mf.operation(broadcasts=["z"])},
        r"broadcasts names \['z'\], which are no inputs",
    ),
}


@pytest.mark.parametrize("case", DEFINITIONS, ids=str)
def test_a_wrong_definition_is_refused_and_says_what_is_wrong(case):
    definition, message = DEFINITIONS[case]

    with pytest.raises(DefinitionError, match=message):
        make(**definition)


@pytest.mark.parametrize("method", ["forward", "backward"])
def test_functions_must_be_static(method):
    body = {"__annotations__": {"x": mf.Node}, "forward": staticmethod(plain)}
    body[method] = lambda self: self

    with pytest.raises(DefinitionError, match=f"operation Bad: {method} must be a @staticmethod"):
        mf.operation(type("Bad", (mf.Node,), body))


RESERVED = ["name", "inputs", "forward", "backward", "grad", "value", "saved", "wanted"]
RESERVED += ["rng", "training", "samples", "site", "qualified_name", "_code", "_own"]


@pytest.mark.parametrize("name", RESERVED)
@pytest.mark.parametrize("kind", [mf.Node, int])
def test_reserved_and_private_field_names_are_refused(name, kind):
    body = {"__annotations__": {"x": mf.Node, name: kind}}

    with pytest.raises(DefinitionError, match=f"cannot be called '{name}'"):
        mf.operation(type("Bad", (mf.Node,), body))


@pytest.mark.parametrize("thing", [int, plain], ids=["class", "function"])
def test_only_subclasses_of_node_become_operations(thing):
    with pytest.raises(DefinitionError, match=r"must subclass mfcore\.Node"):
        mf.operation(thing)


def test_a_class_without_the_decorator_is_no_operation():
    class Forgotten(mf.Node):
        x: mf.Node

    with pytest.raises(DefinitionError, match="Forgotten is no operation: decorate"):
        Forgotten()
    with pytest.raises(DefinitionError, match="Node is no operation"):
        mf.Node()
    with pytest.raises(DefinitionError, match="Input is no operation"):
        spec_of(mf.Input)


def test_a_class_derived_from_an_operation_without_the_decorator_does_not_run_as_its_parent():
    class Forgotten(Scaled):
        @staticmethod
        def forward(x, scale):
            return x * 0

    with pytest.raises(DefinitionError, match="Forgotten is no operation"):
        Forgotten(mf.Input())


# Annotations and hyperparameters


@mf.operation
class Scaled(mf.Node):
    """Scaled by a number."""

    kinds: ClassVar[int] = 3
    x: mf.Node
    scale: float = 2.0

    @staticmethod
    def forward(x, scale):
        return x * scale

    @staticmethod
    def backward(grad, scale):
        return (grad * scale,)


def test_the_specification_of_an_operation():
    spec = spec_of(Scaled)

    assert spec is spec_of(Scaled(1.0))
    assert (spec.name, spec.inputs, spec.variadic) == ("Scaled", ("x",), False)
    assert spec.hyperparameters == ("scale",)
    assert (spec.forward_asks, spec.backward_asks) == (("x", "scale"), ("grad", "scale"))
    assert not spec.saves
    assert spec.declared == ()
    assert Scaled.__doc__ == "Scaled by a number."
    assert Scaled.forward(2.0, 3.0) == 6
    assert Scaled.backward(1.0, 3.0) == (3.0,)


EVALUATED = """
import mfcore as mf
from mfcore import Node

@mf.operation
class Op(mf.Node):
    x: Node
    rest: tuple[mf.Node, ...]
    scale: float = 1.0

    @staticmethod
    def forward(x, rest, scale):
        return x * scale
"""


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
@pytest.mark.parametrize("module", [__name__, "a_module_that_is_not_registered"])
def test_annotations_may_be_evaluated_or_strings(future, module):
    namespace: dict[str, Any] = {"__name__": module}
    exec(compile(future + EVALUATED, "x", "exec", dont_inherit=True), namespace)
    spec = spec_of(namespace["Op"])

    assert (spec.inputs, spec.variadic) == (("x", "rest"), True)
    assert spec.hyperparameters == ("scale",)
    with pytest.raises(NodeUseError, match="scale must be float"):
        namespace["Op"](1.0, 2.0, scale="much")


def test_annotations_may_name_what_is_imported_for_type_checkers_only():
    @mf.operation
    class Typed(mf.Node):
        x: mf.Node
        function: OnlyForTypeCheckers[[int], int] = abs
        strange: 1 + None = 3

        @staticmethod
        def forward(x, function, strange):
            return x * function(-2) * strange

    assert run(Typed(1.0))["typed_1"] == 6


def test_an_operation_can_be_defined_inside_a_function_with_local_names():
    from mfcore import Node

    @mf.operation
    class Local(Node):
        x: Node
        y: mf.Node

        @staticmethod
        def forward(x, y):
            return x + y

    assert spec_of(Local).inputs == ("x", "y")
    assert run(Local(1.0, 2.0))["local_1"] == 3


HINTS = [
    (float, [1.5, 2, np.float32(1)], ["1", None, True, [1.0]]),
    (int, [1, np.int8(1)], [1.5, "1", None, True]),
    (bool, [True, np.False_], [1, "yes", None]),
    (str, ["a"], [1, None]),
    (int | None, [None, 3], [1.5, True]),
    (int | tuple[int, ...] | None, [None, 3, (1, 2)], ["a", 1.5]),
    (list[int], [[1], []], [(1,)]),
    (Any, [1, "a", None, object], []),
    (object, [1, None], []),
]


@pytest.mark.parametrize(("hint", "good", "bad"), HINTS, ids=lambda v: str(v)[:30])
def test_hyperparameters_are_checked_by_their_annotation(hint, good, bad):
    Op = make(forward=lambda x: x, x=mf.Node, option=hint)

    for value in good:
        assert Op(1.0, option=value).option is value
    for value in bad:
        with pytest.raises(NodeUseError, match=r"Made: option must be .*, not"):
            Op(1.0, option=value)


def test_hyperparameters_may_have_validators_converters_and_factories_of_their_own():
    @mf.operation
    class Checked(mf.Node):
        x: mf.Node
        rate: float = mf.hyperparameter(default=0.5, validator=validators.in_((0.5, 1.5)))
        shape: Any = mf.hyperparameter(converter=tuple, factory=list)

        @staticmethod
        def forward(x, rate, shape):
            return x

    assert Checked(1.0, rate=1.5).rate == 1.5
    assert Checked(1.0).shape == ()
    assert Checked(1.0, shape=[1, 2]).shape == (1, 2)
    with pytest.raises(ValueError, match="rate"):
        Checked(1.0, rate=2.0)


def test_hyperparameters_are_keyword_only_and_required_without_default():
    Op = make(forward=lambda x, axis: x, x=mf.Node, axis=int)

    with pytest.raises(TypeError, match="positional"):
        Op(1.0, 3)
    with pytest.raises(TypeError, match="axis"):
        Op(1.0)


def test_an_input_may_follow_a_hyperparameter_with_default():
    @mf.operation
    class Mixed(mf.Node):
        x: mf.Node
        scale: float = 2.0
        y: mf.Node

        @staticmethod
        def forward(x, y, scale):
            return x * scale + y

    assert run(Mixed(1.0, 5.0))["mixed_1"] == 7


# Inheritance and own initialisers


def test_operations_inherit_fields_and_functions():
    @mf.operation
    class Shifted(Scaled):
        shift: float = 1.0

        @staticmethod
        def forward(x, scale, shift):
            return x * scale + shift

    x = mf.Input("x")
    result = run(Shifted(x, shift=10.0), {x: 3.0})

    assert spec_of(Shifted).hyperparameters == ("scale", "shift")
    assert spec_of(Shifted).backward is spec_of(Scaled).backward
    assert spec_of(Scaled).hyperparameters == ("scale",)
    assert result["shifted_1"] == 16
    assert result.gradients[x] == 2


def test_a_derived_operation_may_add_an_input():
    @mf.operation
    class Added(Scaled):
        y: mf.Node

        @staticmethod
        def forward(x, y, scale):
            return x * scale + y

        @staticmethod
        def backward(grad, scale):
            return grad * scale, grad

    x, y = mf.Input("x"), mf.Input("y")
    result = run(Added(x, y), {x: 1.0, y: 1.0})

    assert Added(x, y).inputs == (x, y)
    assert (result.gradients[x], result.gradients[y]) == (2, 1)


@pytest.mark.parametrize("calls_super", [True, False])
def test_an_operation_may_have_a_post_init_and_still_knows_its_line(calls_super):
    @mf.operation
    class Careful(mf.Node):
        x: mf.Node
        low: float
        high: float

        def __attrs_post_init__(self):
            if calls_super:
                super().__attrs_post_init__()
            if self.low > self.high:
                raise ValueError(f"empty range of {self.site[1]}")

        @staticmethod
        def forward(x, low, high):
            return np.clip(x, low, high)

    line = sys._getframe().f_lineno + 1
    node = Careful(2.0, low=0.0, high=1.0)

    assert node.site == (__file__, line)
    assert run(node)[node] == 1
    with pytest.raises(ValueError, match="empty range"):
        Careful(2.0, low=1.0, high=0.0)


# What backward may return


def cubic(x):
    return x * x * x


RETURNS = {
    "a tuple": lambda grad, x: (3 * x * x * grad,),
    "a list": lambda grad, x: [3 * x * x * grad],
    "a bare array": lambda grad, x: 3 * x * x * grad,
    "float64": lambda grad, x: (np.asarray(3 * x * x * grad, np.float64),),
}


@pytest.mark.parametrize("backward", RETURNS.values(), ids=RETURNS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [2, [1, 2, 3], []], ids=["0-d", "1-d", "empty"])
def test_one_gradient_may_be_bare_or_listed_and_gets_the_dtype_of_its_input(backward, dtype, value):
    x = mf.Input("x")
    node = make(forward=cubic, backward=backward)(x)
    array = np.array(value, dtype)

    gradient = run(node, {x: array}).backward(grad=np.ones(array.shape), wrt=[x])[x]

    assert gradient.dtype == dtype
    np.testing.assert_array_equal(gradient, 3 * array**2, strict=True)


@pytest.mark.parametrize("returned", [1.0, (1.0,), [1], (np.float32(1),), (np.array(1),)], ids=repr)
def test_a_gradient_may_be_a_number_where_the_input_is_one(returned):
    x = mf.Input("x")
    node = make(backward=lambda grad: returned)(x)

    gradient = run(node, {x: 3.0}).gradients[x]

    assert gradient == 1
    assert gradient.dtype == np.float64


@pytest.mark.parametrize("nothing", [None, (None,), [None]], ids=repr)
def test_none_is_no_gradient_and_looked_up_it_is_zero(nothing):
    x = mf.Input("x")
    node = make(backward=lambda: nothing)(x)

    gradient = run(node, {x: np.ones((2, 2), np.float32)}).backward(grad=np.ones((2, 2)))[x]

    np.testing.assert_array_equal(gradient, np.zeros((2, 2), np.float32), strict=True)


def test_integer_inputs_keep_float_gradients():
    x = mf.Input("x")
    node = make(forward=lambda x: x * 0.5, backward=lambda grad: grad * 0.5)(x)

    gradient = run(node, {x: np.array([1, 2])}).backward(grad=np.ones(2))[x]

    np.testing.assert_array_equal(gradient, [0.5, 0.5])
    assert gradient.dtype == np.float64


COUNTS = [
    (lambda grad: grad, 1),
    (lambda grad: (grad,), 1),
    (lambda grad: [grad, grad, grad], 3),
    (lambda grad: (), 0),
]


@pytest.mark.parametrize(("backward", "count"), COUNTS)
def test_a_wrong_number_of_gradients_is_an_error_that_names_the_node(backward, count):
    Op = make(forward=lambda x, y: x + y, backward=backward, x=mf.Node, y=mf.Node)
    x = mf.Input("x")
    result = run(Op(x, 2.0, name="odd"), {x: 1.0})

    with pytest.raises(
        BackwardError, match=rf"odd \(.*Made, built at .*{count} gradients for 2 inputs"
    ):
        result.gradients  # noqa: B018 - asking computes


WRONG = [((2,), (3,)), ((1, 3), (3,)), ((), (2,)), ((2, 1), (2, 2)), ((3,), (1, 3))]


@pytest.mark.parametrize(("returned", "shape"), WRONG)
def test_a_gradient_of_the_wrong_shape_is_an_error_that_names_node_input_and_shapes(
    returned, shape
):
    x = mf.Input("x")
    node = make(backward=lambda grad: np.ones(returned))(x)
    result = run(node, {x: np.ones(shape)})

    with pytest.raises(BackwardError) as caught:
        result.backward(grad=np.ones(shape), wrt=[x])

    for part in ("made_1", str(returned), "'x'", str(shape), f"{__file__}:{node.site[1]}"):
        assert part in str(caught.value)


BROADCASTS = [
    ((2, 3), (3,)),
    ((2, 3), (2, 1)),
    ((2, 3), ()),
    ((2, 3), (1, 1, 1)),
    ((0, 3), (1, 3)),
    ((4, 2, 3), (2, 1)),
]


@pytest.mark.parametrize(("left", "right"), BROADCASTS)
@pytest.mark.parametrize("declared", [True, ["x", "y"]])
def test_gradients_are_summed_back_where_the_operation_declares_that_it_broadcasts(
    left, right, declared
):
    Product = make(
        forward=lambda x, y: x * y,
        backward=lambda grad, x, y: (grad * y, grad * x),
        decorator=mf.operation(broadcasts=declared),
        x=mf.Node,
        y=mf.Node,
    )
    generator = np.random.default_rng(1)
    a, b = generator.normal(size=left), generator.normal(size=right)
    x, y = mf.Input("x"), mf.Input("y")
    result = run(Product(x, y), {x: a, y: b})
    grad = generator.normal(size=np.broadcast_shapes(left, right))

    gradients = result.backward(grad=grad)

    full = np.broadcast_shapes(left, right)
    axes = tuple(range(len(full) - len(right)))
    axes += tuple(i + len(axes) for i, n in enumerate(right) if n == 1 and full[len(axes) + i] != 1)
    expected = (grad * a).sum(axis=axes).reshape(right)
    np.testing.assert_allclose(gradients[y], expected, strict=True)
    assert gradients[x].shape == left


def test_gradients_are_not_summed_back_where_nothing_was_declared():
    fields = {"x": mf.Node, "y": mf.Node}
    Sum = make(
        forward=lambda x, y: x + y,
        backward=lambda grad: (grad, grad),
        decorator=mf.operation(broadcasts=["x"]),
        **fields,
    )
    x, y = mf.Input("x"), mf.Input("y")
    feeds = {x: np.ones(3), y: np.ones((2, 3))}

    fine = run(Sum(x, y), feeds).backward(grad=np.ones((2, 3)))
    swapped = run(Sum(y, x), feeds)

    np.testing.assert_array_equal(fine[x], [2, 2, 2])
    with pytest.raises(BackwardError, match="for its input 'y'"):
        swapped.backward(grad=np.ones((2, 3)))


@pytest.mark.parametrize("returned", [None, 3.0, [1.0], "text", (1.0, 2.0)], ids=repr)
def test_a_forward_that_returns_no_array_is_an_error_that_names_it(returned):
    node = make(forward=lambda x: returned)(1.0, name="odd")

    with pytest.raises(ForwardError, match=r"odd \(.*returned .*, not a NumPy array"):
        run(node)


def test_a_forward_that_returns_no_array_is_blamed_before_the_one_that_reads_it():
    node = make(forward=lambda x: None)(1.0, name="culprit")

    with pytest.raises(ForwardError, match=r"forward of culprit .* returned NoneType"):
        run(node + 1)


@pytest.mark.parametrize("returned", [np.ones(2), [1, 2], np.float64(1), (1, 2, 3)], ids=repr)
def test_a_forward_that_forgets_what_to_save_is_an_error(returned):
    node = make(forward=lambda x: returned, backward=lambda grad, saved: (grad,))(1.0)

    with pytest.raises(ForwardError, match="made_1"):
        run(node)


def test_an_operation_without_backward_runs_but_has_no_gradient():
    x = mf.Input("x")
    node = make()(x, name="dead_end")
    result = run((node + x).sum(), {x: np.ones(2)})

    with pytest.raises(NotDifferentiableError, match=r"dead_end \(.*Made, built at .*no backward"):
        result.backward(wrt=[x])


def test_what_forward_and_backward_raise_is_told_with_the_node_and_its_inputs():
    def fail(x, y):
        raise ZeroDivisionError("oh")

    def fail_back(grad, x):
        raise ZeroDivisionError("oh")

    x = mf.Input("x")
    with pytest.raises(ForwardError) as forward:
        run(make(forward=fail, x=mf.Node, y=mf.Node)(x, np.ones((2, 3))), {x: np.float32(1)})
    y = make(backward=fail_back)(x)
    result = run(y, {x: 1.0})
    with pytest.raises(BackwardError) as backward:
        result.gradients  # noqa: B018

    for error, more in ((forward, "x float32[], y float64[2, 3]"), (backward, "grad float64[]")):
        assert isinstance(error.value.__cause__, ZeroDivisionError)
        for part in ("made_1", "Made, built at", __file__, "ZeroDivisionError: oh", more):
            assert part in str(error.value)


# apply: one operation inside another


def test_apply_reads_on_arrays_and_on_nodes():
    @mf.operation
    class Saving(mf.Node):
        x: mf.Node
        scale: float = 3.0
        kept: tuple = mf.hyperparameter(factory=tuple)

        @staticmethod
        def forward(x, kept, *, scale):
            return x * scale, "saved"

        @staticmethod
        def backward(grad, saved, scale):
            return (grad * scale,)

    x = mf.Input("x")

    assert mf.apply(Saving, 2.0) == 6
    assert mf.apply(Saving, 2.0, scale=5.0) == 10
    node = mf.apply(Saving, x, scale=5.0)
    assert isinstance(node, Saving)
    assert run(node, {x: 2.0})[node] == 10


@pytest.mark.parametrize("forward", [behind, behind_star, behind_swapped])
def test_apply_spreads_variadic_inputs_on_arrays(forward):
    fields = {"first": mf.Node, "rest": tuple[mf.Node, ...], "scale": float}
    Op = make(forward=forward, **fields)

    assert mf.apply(Op, 2.0, 3.0, 4.0, scale=10.0) == 13


def test_apply_refuses_what_it_cannot_give():
    Noise = make(forward=lambda x, rng: x)
    Axis = make(forward=lambda x, axis: x, x=mf.Node, axis=int)

    with pytest.raises(DefinitionError, match="asks for rng"):
        mf.apply(Noise, 1.0)
    with pytest.raises(TypeError, match="Made needs its hyperparameter axis="):
        mf.apply(Axis, 1.0)
    with pytest.raises(TypeError, match="no hyperparameter axes"):
        mf.apply(Axis, 1.0, axis=1, axes=2)


# Copies and pickles


def test_operations_and_nodes_can_be_pickled_and_copied():
    x = mf.Input("x", shape=(None, 2), dtype="float32")
    W = mf.Parameter(np.ones((2, 2)), name="W")
    node = Scaled(x @ W + 1.0, scale=4.0, name="top")

    for again in (pickle.loads(pickle.dumps(node)), copy.deepcopy(node)):
        graph = mf.Graph(again)
        assert again is not node
        assert (again.name, again.scale, again.site) == ("top", 4.0, node.site)
        assert [graph.name(n) for n in graph] == list(mf.Graph(node).names[1])
        assert (graph["x"].shape, graph["x"].dtype) == (x.shape, x.dtype)
        assert not graph["W"].value.flags.writeable
        feeds = {"x": np.eye(2, dtype=np.float32)}
        np.testing.assert_array_equal(run(again, feeds)[again], run(node, feeds)[node])
    assert pickle.loads(pickle.dumps(Scaled)) is Scaled


def test_a_pickled_graph_keeps_shared_nodes_shared():
    x = mf.Input("x")
    shared = x * 2
    again = pickle.loads(pickle.dumps(shared + shared))

    assert again.inputs[0] is again.inputs[1]
    assert len(mf.Graph(again)) == 4
