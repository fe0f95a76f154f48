"""The tutorial's kind of network, and its training: what ``miniflow train`` does, as functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

import mfcore as mf
from mfcore.errors import DataError, DefinitionError, UnknownNameError

if TYPE_CHECKING:
    from mfoptim import History


@attrs.frozen(eq=False)
class Network:
    """A feed-forward network for one target, as nodes.

    Attributes
    ----------
    X, y : Input
        The features ``(n, k)`` and the target ``(n,)``.
    prediction : Node
        ``(n, 1)``.
    cost : Node
        The mean squared error between both.
    layers : str
        A short description: ``13 - 10 sigmoid - 1``.
    size : int
        The number of trained numbers, weights and biases.
    """

    X: mf.Input
    y: mf.Input
    prediction: mf.Node
    cost: mf.Node
    layers: str
    size: int


def build_network(
    features: int,
    hidden: Sequence[int] = (10,),
    activation: str = "Sigmoid",
    seed: int | np.random.Generator | None = None,
) -> Network:
    """Build a network of fully connected layers that predicts one number.

    Weights are drawn from the standard normal distribution, biases start at 0, as the
    tutorial has it.

    Parameters
    ----------
    features : int
        Columns of the data.
    hidden : sequence of int, optional
        Sizes of the hidden layers; none makes linear regression.
    activation : str, optional
        What follows each hidden layer: the name of any operation with one input.
    seed : int or numpy.random.Generator, optional
        Start of the random weights.

    Raises
    ------
    UnknownNameError
        If no enabled pack provides an operation.

    Examples
    --------
    >>> build_network(13, hidden=(10,)).layers
    '13 - 10 sigmoid - 1'
    """
    rng = np.random.default_rng(seed)
    registry = mf.registry.current()
    linear: Any = registry.operation("Linear")
    mse: Any = registry.operation("MSE")
    activate: Any = registry.operation(activation)
    if not is_activation(activate):
        raise DefinitionError(
            f"{activation} cannot be an activation: that takes an operation with one input and "
            f"a gradient, and no hyperparameter without a default"
        )
    X, y = mf.Input("X", shape=(None, features)), mf.Input("y", shape=(None,))
    layer: Any = X
    sizes = [features, *hidden, 1]
    for number, (size, width) in enumerate(pairwise(sizes), start=1):
        W = mf.Parameter(rng.standard_normal((size, width)), name=f"W{number}")
        b = mf.Parameter(np.zeros(width), name=f"b{number}")
        layer = linear(layer, W, b)
        if number < len(sizes) - 1:
            layer = activate(layer)
    middle = "".join(f" - {size} {activate.__name__.lower()}" for size in hidden)
    trained = sum((size + 1) * width for size, width in pairwise(sizes))
    return Network(X, y, layer, mse(y, layer), f"{features}{middle} - 1", trained)


def standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return columns with mean 0 and population deviation 1; constant ones become 0.

    Mean and deviation are those of the finite values, so that NaN and inf stay where they
    are and do not spread over their column.

    Parameters
    ----------
    values : (n, k) or (n,) float64
        Columns, or one column.

    Examples
    --------
    >>> standardised(np.array([[1.0, 5.0], [3.0, 5.0]]))
    array([[-1.,  0.],
           [ 1.,  0.]])
    """
    mean, deviation = mean_and_deviation(values)
    with np.errstate(over="ignore", invalid="ignore"):
        result: NDArray[np.float64] = (values - mean) / deviation
    return result


def mean_and_deviation(values: NDArray[np.float64]) -> tuple[Any, Any]:
    """Return each column's mean and population deviation; 1 where the column is constant."""
    finite = np.isfinite(values)
    count = np.maximum(finite.sum(axis=0), 1)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.where(finite, values, 0).sum(axis=0) / count
        off = np.where(finite, values - mean, 0)
        deviation = np.sqrt((off * off).sum(axis=0) / count)
    # Rounding gives a constant column of 0.1 a tiny deviation: compare, do not trust it.
    low = np.where(finite, values, np.inf).min(axis=0)
    high = np.where(finite, values, -np.inf).max(axis=0)
    constant = ~(low < high)
    return np.where(constant & finite.any(axis=0), low, mean), np.where(constant, 1.0, deviation)


def make_optimizer(name: str, settings: dict[str, Any]) -> Any:
    """Return an optimizer by name with the given hyperparameters.

    ``learning_rate`` is 0.01, the tutorial's, where neither the settings nor the optimizer
    say otherwise.

    Raises
    ------
    UnknownNameError
        If no enabled pack provides it.
    DataError
        If it has no such hyperparameter, or not such a value.
    """
    cls = mf.registry.current().optimizer(name)
    fields = {field.name: field for field in attrs.fields(cls)}
    if unknown := [key for key in settings if key not in fields]:
        raise DataError(
            f"the optimizer {cls.__name__} has no hyperparameter {unknown[0]!r}; "
            f"it has {', '.join(fields) or 'none'}."
        )
    rate = fields.get("learning_rate")
    if rate is not None and rate.default is attrs.NOTHING:
        settings = {"learning_rate": 0.01, **settings}
    if absent := [
        key for key, f in fields.items() if f.default is attrs.NOTHING and key not in settings
    ]:
        raise DataError(
            f"the optimizer {cls.__name__} needs {', '.join(absent)}: --set {absent[0]}=VALUE"
        )
    try:
        return cls(**settings)
    except (TypeError, ValueError) as error:
        raise DataError(str(error)) from None


def describe(optimizer: Any) -> str:
    """Return an optimizer as it would be written: its learning rate, and what is no default."""
    shown = [
        f"{field.name}={getattr(optimizer, field.name)!r}"
        for field in attrs.fields(type(optimizer))
        if field.name == "learning_rate" or getattr(optimizer, field.name) != field.default
    ]
    return f"{type(optimizer).__name__}({', '.join(shown)})"


def is_activation(operation: type[mf.Node]) -> bool:
    """Whether an operation can follow a layer: it has one input, and a gradient."""
    spec = mf.spec_of(operation)
    needs = [
        field.name
        for field in attrs.fields(operation)
        if field.name in spec.hyperparameters and field.default is attrs.NOTHING
    ]
    one = len(spec.inputs) == 1 and not spec.variadic
    return one and spec.backward is not None and not needs


def resolve(kind: str, name: str, suits: Callable[[Any], bool] | None = None) -> str:
    """Return a name as its pack writes it: ``sgd`` is ``SGD`` if only one name fits.

    Parameters
    ----------
    kind : str
        A key of ``mfcore.registry.KINDS``.
    name : str
        A short or a qualified name, in any case.
    suits : callable, optional
        Which of those there are to list if the name is unknown.

    Raises
    ------
    UnknownNameError
        If no enabled pack provides it; the message lists what there is.
    AmbiguousNameError
        If several packs provide the short name.
    """
    registry = mf.registry.current()
    known = registry.all(kind)
    labels = {label for full in known for label in (full, full.rpartition(".")[2])}
    fitting = {label for label in labels if label.casefold() == name.casefold()}
    label = fitting.pop() if len(fitting) == 1 else name
    try:
        getattr(registry, kind)(label)
    except UnknownNameError as error:
        first, _, rest = str(error).partition("\n")
        short = dict.fromkeys(
            full.rpartition(".")[2] for full in known if suits is None or suits(known[full])
        )
        listed = f"Known {kind}s are {', '.join(short) or 'none'}."
        end = "" if first.endswith("?") else "."
        raise UnknownNameError(f"{first}{end} {listed}\n{rest}".rstrip()) from None
    return label


def mean_squared_error(
    history: History, network: Network, X: NDArray[np.float64], y: NDArray[np.float64]
) -> float:
    """Return the cost of a trained network on all the given rows."""
    with np.errstate(all="ignore"):
        return float(history.session.run({network.X: X, network.y: y})[network.cost])


def train(
    network: Network,
    X: NDArray[np.float64],
    y: NDArray[np.float64],
    optimizer: Any,
    *,
    callbacks: Iterable[Any] = (),
    **options: Any,
) -> History:
    """Fit a network to data, without a warning: ``history.stopped`` says if it diverged.

    Parameters
    ----------
    network : Network
        What to train.
    X : (n, k) float64
        Features.
    y : (n,) float64
        Target.
    optimizer : optimizer
        An instance of an optimizer class.
    callbacks : iterable, optional
        Callbacks of ``mfoptim.fit``.
    **options
        Passed to ``mfoptim.fit``: ``epochs``, ``batch_size``, ``sampling``, ``seed``,
        ``engine``, ``validation_split``.

    Returns
    -------
    History
        See ``mfoptim.fit``.
    """
    import warnings

    from mfcore.errors import DivergenceWarning
    from mfoptim import fit

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DivergenceWarning)
        return fit(
            network.cost,
            {network.X: X, network.y: y},
            optimizer,
            callbacks=list(callbacks),
            **options,
        )
