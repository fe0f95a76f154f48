"""Operations and optimizers that are wrong on purpose, each with the check that must catch it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

import mfcore as mf
from mfcore import Node, operation, optimizer
from mfcore.domain import Domain, axis_of, integers, nonzero, positive, real

OPERATIONS: list[tuple[str, type[Node]]] = []
OPTIMIZERS: list[tuple[str, type]] = []


def caught_by(check: str) -> Callable[[type], type]:
    """Say which check must fail."""

    def note(cls: type) -> type:
        (OPERATIONS if issubclass(cls, Node) else OPTIMIZERS).append((check, cls))
        return cls

    return note


# Gradients


@caught_by("gradients")
@operation
class WrongInOneElement(Node):
    x: Node

    @staticmethod
    def forward(x):
        return x * x

    @staticmethod
    def backward(grad, x):
        slope = np.array(2 * x * grad)
        slope.reshape(-1)[-1:] *= 1.001
        return (slope,)


@caught_by("gradients")
@operation
class WrongSign(Node):
    x: Node

    @staticmethod
    def forward(x):
        return np.cos(x)

    @staticmethod
    def backward(grad, x):
        return (grad * np.sin(x),)


@caught_by("gradients")
@operation
class SwapsItsGradients(Node):
    x: Node
    y: Node

    @staticmethod
    def forward(x, y):
        return x * y

    @staticmethod
    def backward(grad, x, y):
        return grad * x, grad * y


@caught_by("gradients")
@operation
class ForgetsTheGradientThatArrives(Node):
    x: Node

    @staticmethod
    def forward(x):
        return x * x

    @staticmethod
    def backward(grad, x):
        return (2 * x * np.ones_like(grad),)


@caught_by("linearity")
@operation
class NotLinearInTheGradient(Node):
    x: Node

    @staticmethod
    def forward(x):
        return np.sin(x)

    @staticmethod
    def backward(grad, x):
        return (np.cos(x) * np.clip(grad, -1e-3, 1e-3),)


@caught_by("gradients")
@operation
class SaysNoneWhereThereIsAGradient(Node):
    x: Node
    y: Node

    @staticmethod
    def forward(x, y):
        return x * y

    @staticmethod
    def backward(grad, y):
        return grad * y, None


@caught_by("gradient form")
@operation
class TooFewGradients(Node):
    x: Node
    y: Node

    @staticmethod
    def forward(x, y):
        return x + 2 * y

    @staticmethod
    def backward(grad):
        return (grad,)


@caught_by("gradient form")
@operation
class GradientOfAnotherShape(Node):
    x: Node

    @staticmethod
    def forward(x):
        return np.sum(x * x, axis=-1)

    @staticmethod
    def backward(grad, x):
        return (np.expand_dims(np.sum(2 * x, axis=-1) * grad, -1),)


@caught_by("gradient form")
@operation
class GradientIsText(Node):
    x: Node

    @staticmethod
    def forward(x):
        return x * 1.0

    @staticmethod
    def backward(grad):
        return ("grad",)


# Broadcasting and sharing


@caught_by("broadcasting")
@operation
class ForgetsToBroadcast(Node):
    x: Node
    y: Node

    @staticmethod
    def forward(x, y):
        return x + y

    @staticmethod
    def backward(grad):
        return grad, grad


@caught_by("broadcasting")
@operation(broadcasts=True)
class AveragesWhereItShouldSum(Node):
    x: Node
    y: Node

    @staticmethod
    def forward(x, y):
        return x + y

    @staticmethod
    def backward(grad, y):
        if np.shape(y) != np.shape(grad):
            return grad, np.mean(grad) * np.ones_like(y)
        return grad, grad


@caught_by("broadcasting")
@operation(broadcasts=True)
class RefusesOtherShapesThoughItBroadcasts(Node):
    x: Node
    y: Node

    @staticmethod
    def forward(x, y):
        if np.shape(x) != np.shape(y):
            raise ValueError("shapes must be equal")
        return x * y

    @staticmethod
    def backward(grad, x, y):
        return grad * y, grad * x


@caught_by("same node twice")
@operation
class ComparesIdentity(Node):
    x: Node
    y: Node

    @staticmethod
    def forward(x, y):
        return x - y if x is not y else x + y

    @staticmethod
    def backward(grad):
        return grad, -grad


@caught_by("fan-out")
@operation
class HandsOutItsGradientOnce(Node):
    x: Node
    handed = [None]  # noqa: RUF012 - this is what is wrong

    @staticmethod
    def forward(x):
        return 3.0 * x

    @staticmethod
    def backward(grad):
        again = HandsOutItsGradientOnce.handed[0] is grad
        HandsOutItsGradientOnce.handed[0] = grad
        return (0.0 * grad if again else 3.0 * grad,)


# Dtypes and shapes


@caught_by("dtypes")
@operation
class LeaksFloat64(Node):
    x: Node

    @staticmethod
    def forward(x):
        return x * np.float64(2.0)

    @staticmethod
    def backward(grad):
        return (2 * grad,)


@caught_by("dtypes")
@operation
class LeaksFloat64Backward(Node):
    x: Node

    @staticmethod
    def forward(x):
        return 2 * x

    @staticmethod
    def backward(grad):
        return (grad * np.float64(2.0),)


@caught_by("dtypes")
@operation
class ComputesInFloat32(Node):
    x: Node

    @staticmethod
    def forward(x):
        return np.negative(x, dtype=np.float32)

    @staticmethod
    def backward(grad):
        return (-grad,)


@caught_by("layout")
@operation
class NeedsContiguousArrays(Node):
    x: Node

    @staticmethod
    def forward(x):
        if np.ndim(x) and not x.flags.c_contiguous:
            raise ValueError("the array is not contiguous")
        return 2 * x

    @staticmethod
    def backward(grad):
        return (2 * grad,)


@caught_by("layout")
@operation
class ReadsMemoryInItsOwnOrder(Node):
    x: Node

    @staticmethod
    def forward(x):
        return np.cumsum(x.ravel(order="K")).reshape(np.shape(x))


@caught_by("zero size")
@operation
class FailsOnNoElements(Node):
    x: Node

    @staticmethod
    def forward(x):
        return x - np.max(x)


@caught_by("0-d")
@operation
class FailsWithoutAxes(Node):
    x: Node

    @staticmethod
    def forward(x):
        result = np.zeros_like(x)
        result[:] = 2 * x
        return result

    @staticmethod
    def backward(grad):
        return (2 * grad,)


@caught_by("0-d")
@operation
class AddsAnAxisToNumbers(Node):
    x: Node

    @staticmethod
    def forward(x):
        return 2 * np.atleast_1d(x)


@caught_by("result")
@operation
class ReturnsAList(Node):
    x: Node

    @staticmethod
    def forward(x):
        return [2 * x]


@caught_by("result")
@operation
class ReturnsComplexNumbers(Node):
    x: Node

    @staticmethod
    def forward(x):
        return x + 0j


@caught_by("result")
@operation
class ForgetsToSave(Node):
    x: Node

    @staticmethod
    def samples():
        return [(np.ones(3),)]

    @staticmethod
    def forward(x):
        return np.exp(x)

    @staticmethod
    def backward(grad, saved):
        return (grad * saved,)


# Purity


@caught_by("arguments")
@operation
class WritesIntoItsInput(Node):
    x: Node

    @staticmethod
    def forward(x):
        if np.ndim(x):
            x *= 2
            return x.copy()
        return 2 * x


@caught_by("arguments")
@operation
class WritesIntoTheGradient(Node):
    x: Node

    @staticmethod
    def forward(x):
        return 2 * x

    @staticmethod
    def backward(grad):
        grad *= 2
        return (grad,)


@caught_by("arguments")
@operation
class WritesAndWritesBack(Node):
    x: Node

    @staticmethod
    def forward(x):
        if np.ndim(x):
            np.negative(x, out=x)
            np.negative(x, out=x)
        return 2 * x


@caught_by("arguments")
@operation
class WritesIntoWhatItSaved(Node):
    x: Node

    @staticmethod
    def forward(x):
        return np.exp(x), np.array(np.exp(x))

    @staticmethod
    def backward(grad, saved):
        saved *= grad
        return (saved.copy(),)


@caught_by("aliasing")
@operation
class ReturnsItsInput(Node):
    x: Node

    @staticmethod
    def forward(x):
        return x

    @staticmethod
    def backward(grad):
        return (grad,)


@caught_by("aliasing")
@operation
class ClaimsToBeAView(Node):
    x: Node
    views = True

    @staticmethod
    def forward(x):
        return 2 * x


@caught_by("determinism")
@operation
class DrawsFromItsOwnGenerator(Node):
    x: Node

    @staticmethod
    def forward(x):
        return x + np.random.default_rng().normal(size=np.shape(x))


@caught_by("determinism")
@operation
class CountsItsCalls(Node):
    x: Node
    calls = [0]  # noqa: RUF012 - this is what is wrong

    @staticmethod
    def forward(x):
        CountsItsCalls.calls[0] += 1
        return x + CountsItsCalls.calls[0]


@caught_by("state")
@operation
class RemembersWhatItSaw(Node):
    x: Node
    seen: list[Any] = attrs.field(factory=list, kw_only=True)
    cache = {}  # noqa: RUF012 - this is what is wrong

    @staticmethod
    def forward(x, seen):
        RemembersWhatItSaw.cache[np.shape(x), len(seen)] = float(np.sum(x))
        RemembersWhatItSaw.cache[len(RemembersWhatItSaw.cache), 0] = 0.0
        return 2 * x


@caught_by("state")
@operation
class DependsOnTheCallBefore(Node):
    x: Node
    last = [()]  # noqa: RUF012 - this is what is wrong

    @staticmethod
    def forward(x):
        again = DependsOnTheCallBefore.last[0] == np.shape(x)
        DependsOnTheCallBefore.last[0] = np.shape(x)
        return x + 0.0 if again else x + 1.0


@caught_by("state")
@operation
class SeedsTheGeneratorOfAllPrograms(Node):
    x: Node

    @staticmethod
    def forward(x):
        np.random.seed(0)  # noqa: NPY002 - this is what is wrong
        return x + np.random.normal(size=np.shape(x))  # noqa: NPY002


# What is asked for


@caught_by("names")
@operation
class AsksForMoreThanItUses(Node):
    x: Node

    @staticmethod
    def forward(x):
        return 2 * x

    @staticmethod
    def backward(grad, x, value):
        return (2 * grad,)


@caught_by("wanted")
@operation
class IgnoresWhatIsWanted(Node):
    x: Node
    y: Node

    @staticmethod
    def forward(x, y):
        return x * y

    @staticmethod
    def backward(grad, x, y, wanted):
        if wanted.x or wanted.y:
            return grad * y, grad * x
        return None, None


@caught_by("wanted")
@operation
class ChangesWithWhatIsWanted(Node):
    x: Node
    y: Node

    @staticmethod
    def forward(x, y):
        return x * y

    @staticmethod
    def backward(grad, x, y, wanted):
        if not wanted.y:
            return grad, None
        return grad * y if wanted.x else None, grad * x


@caught_by("pickling")
@operation
class HoldsAFunction(Node):
    x: Node
    of: Any = attrs.field(factory=lambda: lambda x: 2 * x, kw_only=True)

    @staticmethod
    def forward(x, of):
        return of(x)


@caught_by("file")
@operation
class HoldsWhatNoFileHolds(Node):
    x: Node
    factors: Any = attrs.field(factory=lambda: range(3).__iter__(), kw_only=True)

    @staticmethod
    def forward(x, factors):
        return 2 * x if factors else x * 1


@caught_by("inference")
@operation
class SaysAnotherShapeBeforeTheRun(Node):
    x: Node

    @staticmethod
    def forward(x):
        return np.sum(2 * x, axis=0) if isinstance(x, (np.ndarray, np.generic)) else 2 * x


@caught_by("inference")
@operation
class SaysThatFloatsAreFloat64(Node):
    x: Node

    @staticmethod
    def shape_and_dtype(x):
        return x.shape, np.dtype(np.float64)

    @staticmethod
    def forward(x):
        return 2 * x


@caught_by("inference")
@operation
class SaysThatAnAxisIsLeft(Node):
    x: Node
    keepdims: bool = True

    @staticmethod
    def shape_and_dtype(x, keepdims):
        return (1,) * x.ndim, x.dtype

    @staticmethod
    def forward(x, keepdims):
        return np.sum(x, keepdims=keepdims)


@caught_by("graph of gradients")
@operation
class ReadsOtherwiseOnNodes(Node):
    x: Node

    @staticmethod
    def forward(x):
        return 2 * x

    @staticmethod
    def backward(grad):
        return (2 * grad if isinstance(grad, (np.ndarray, np.generic)) else 3 * grad,)


@caught_by("engine mfjit.numpy")
@operation
class ComputesOtherwiseWhenCompiled(Node):
    x: Node

    @staticmethod
    def forward(x):
        return 2 * x if isinstance(x, (np.ndarray, np.generic)) else 3 * x


@caught_by("engine mfjit.numpy")
@operation
class ComputesOtherwiseWhenCompiledForThreeAxes(Node):
    x: Node

    @staticmethod
    def forward(x):
        return 3 * x if np.ndim(x) == 3 and type(x) is not np.ndarray else 2 * x


@caught_by("engine mfjit.numpy")
@operation
class DrawsOtherwiseWhenCompiled(Node):
    x: Node

    @staticmethod
    def forward(x, rng, training):
        if not training:
            return 2 * x
        kept = rng.random(x.shape) >= 0.5
        return x * kept if isinstance(x, (np.ndarray, np.generic)) else x * ~kept


@caught_by("traceable")
@operation
class IsAnotherFunctionOnNodes(Node):
    x: Node

    @staticmethod
    def forward(x):
        return x * x if isinstance(x, (np.ndarray, np.generic)) else x * abs(x)


# Right on its samples, wrong elsewhere in its domain


@caught_by("examples")
@operation
class WrongBeyondTwo(Node):
    x: Node

    domain = Domain(x=positive())

    @staticmethod
    def samples():
        return [(np.array([0.5, 1.5, 1.25]),)]

    @staticmethod
    def forward(x):
        return x * x

    @staticmethod
    def backward(grad, x):
        return (np.where(x > 2, 0 * grad, 2 * x * grad),)


@caught_by("examples")
@operation
class IsNotDefinedWhereItSays(Node):
    x: Node

    domain = Domain(x=nonzero())

    @staticmethod
    def samples():
        return [(np.array([0.5, 1.5, 2.5]),)]

    @staticmethod
    def forward(x):
        return np.sqrt(x)

    @staticmethod
    def backward(grad, value):
        return (grad / (2 * value),)


@caught_by("examples")
@operation
class RefusesShapesThatItsDomainAllows(Node):
    x: Node
    y: Node

    domain = Domain(x=real("n, k"), y=real("k, m"))

    @staticmethod
    def samples(rng):
        return [(rng.normal(size=(3, 3)), rng.normal(size=(3, 3)))]

    @staticmethod
    def forward(x, y):
        return x * y


@caught_by("examples")
@operation
class LeaksFloat64AlongTheLastAxis(Node):
    x: Node
    axis: int = 0

    domain = Domain(x=real("n, k"), axis=axis_of("x"))

    @staticmethod
    def samples(rng):
        return [(rng.normal(size=(3, 2)),)]

    @staticmethod
    def forward(x, axis):
        return np.sum(x, axis=axis, dtype=np.float64 if axis == -1 else None)

    @staticmethod
    def backward(grad, x, axis):
        return (np.expand_dims(grad, axis).astype(x.dtype) * np.ones_like(x),)


@caught_by("samples")
@operation
class DeclaresADomainOfNoField(Node):
    x: Node

    domain = Domain(y=positive())

    @staticmethod
    def forward(x):
        return 2 * x


@caught_by("samples")
@operation
class DeclaresAnEmptyDomain(Node):
    x: Node

    domain = Domain(x=integers(3, 3))

    @staticmethod
    def forward(x):
        return 2 * x


@caught_by("samples")
@operation
class DeclaresABoundThatNobodyKnows(Node):
    x: Node

    domain = Domain(x=integers(0, "n"))

    @staticmethod
    def forward(x):
        return 2 * x


@caught_by("samples")
@operation
class RefusesAllOfItsDomain(Node):
    x: Node

    domain = Domain(x=real("n, 2"))

    @staticmethod
    def forward(x):
        if x.shape[-1] != 3:
            raise ValueError("there must be 3 columns")
        return 2 * x


@caught_by("samples")
@operation
class RunsOnNothing(Node):
    x: Node

    @staticmethod
    def forward(x):
        raise ValueError("never")


@caught_by("samples")
@operation
class GivesNoSamples(Node):
    x: Node

    @staticmethod
    def samples():
        return []

    @staticmethod
    def forward(x):
        return 2 * x


# Optimizers


@caught_by("convergence")
@optimizer
class ClimbsInsteadOfDescending:
    learning_rate: float = 0.1

    @staticmethod
    def update(parameter, gradient, learning_rate):
        return parameter + learning_rate * gradient


@caught_by("arguments")
@optimizer
class UpdatesInPlace:
    learning_rate: float = 0.1

    @staticmethod
    def update(parameter, gradient, learning_rate):
        parameter -= learning_rate * gradient
        return parameter.copy()


@caught_by("arguments")
@optimizer
class UpdatesItsStateInPlace:
    learning_rate: float = 0.1

    @staticmethod
    def init(parameter):
        return (np.zeros_like(parameter),)

    @staticmethod
    def update(parameter, gradient, state, learning_rate):
        (velocity,) = state
        if np.ndim(velocity):
            velocity *= 0.5
            velocity += gradient
        else:
            velocity = 0.5 * velocity + gradient
        return parameter - learning_rate * velocity, (velocity,)


@caught_by("aliasing")
@optimizer
class StartsWithTheParameterItself:
    learning_rate: float = 0.1

    @staticmethod
    def init(parameter):
        return (parameter,)

    @staticmethod
    def update(parameter, gradient, state, learning_rate):
        return parameter - learning_rate * gradient, (0.5 * state[0],)


@caught_by("dtypes")
@optimizer
class WidensParameters:
    learning_rate: float = 0.1

    @staticmethod
    def update(parameter, gradient, learning_rate):
        return parameter - np.float64(learning_rate) * gradient


@caught_by("determinism")
@optimizer
class StepsAtRandom:
    learning_rate: float = 0.1

    @staticmethod
    def update(parameter, gradient, learning_rate):
        return parameter - learning_rate * gradient * np.random.default_rng().uniform(0.9, 1.1)


@caught_by("result")
@optimizer
class ForgetsItsState:
    learning_rate: float = 0.1

    @staticmethod
    def init(parameter):
        return (np.zeros_like(parameter),)

    @staticmethod
    def update(parameter, gradient, state, learning_rate):
        return parameter - learning_rate * (gradient + state[0])


@caught_by("state")
@optimizer
class KeepsALambdaInItsState:
    learning_rate: float = 0.1

    @staticmethod
    def init(parameter):
        return (lambda: 0.0,)

    @staticmethod
    def update(parameter, gradient, state, learning_rate):
        return parameter - learning_rate * gradient + state[0](), state


@caught_by("element by element")
@optimizer
class DividesByTheNorm:
    learning_rate: float = 0.1

    @staticmethod
    def update(parameter, gradient, learning_rate):
        return parameter - learning_rate * gradient / (1.0 + np.sqrt(np.sum(gradient**2)))


@caught_by("names")
@optimizer
class AsksForTheStepInVain:
    learning_rate: float = 0.1

    @staticmethod
    def update(parameter, gradient, learning_rate, step):
        return parameter - learning_rate * gradient


@caught_by("pickling")
@optimizer
class HoldsAScheduleThatCannotBePickled:
    learning_rate: Any = attrs.field(factory=lambda: lambda step: 0.1)

    @staticmethod
    def update(parameter, gradient, learning_rate):
        return parameter - learning_rate * gradient


@caught_by("step")
@optimizer
class CountsItsUpdates:
    learning_rate: float = 0.1
    calls = [0]  # noqa: RUF012 - this is what is wrong

    @staticmethod
    def update(parameter, gradient, learning_rate):
        CountsItsUpdates.calls[0] += 1
        return parameter - learning_rate * gradient / CountsItsUpdates.calls[0]


@caught_by("dtypes")
@optimizer
class WidensParametersWithMomentum:
    """It is right as long as its hyperparameters are the default ones."""

    learning_rate: float = 0.1
    momentum: float = 0.0

    @staticmethod
    def init(parameter):
        return (np.zeros_like(parameter),)

    @staticmethod
    def update(parameter, gradient, state, learning_rate, momentum):
        velocity = gradient + (np.float64(momentum) * state[0] if momentum else 0)
        return parameter - learning_rate * velocity, (velocity,)


@caught_by("result")
@optimizer
class FailsWithNesterov:
    """It is right as long as its hyperparameters are the default ones."""

    learning_rate: float = 0.1
    nesterov: bool = False

    @staticmethod
    def update(parameter, gradient, learning_rate, nesterov):
        return parameter - learning_rate * (gradient.velocity if nesterov else gradient)


@caught_by("engine mfjit.numpy")
@optimizer
class TrainsOtherwiseWhenCompiled:
    learning_rate: float = 0.1

    @staticmethod
    def update(parameter, gradient, learning_rate):
        if isinstance(parameter, (np.ndarray, np.generic)):
            return parameter - learning_rate * gradient
        return parameter - learning_rate * gradient * 1.01


# Optimizers whose formula is right, and whose update is not


class MomentsOfAdam:
    """Adam's formula, for those below that get it wrong."""

    @staticmethod
    def init(parameter):
        return np.zeros_like(parameter), np.zeros_like(parameter)

    @staticmethod
    def formula(theta, gradients, learning_rate, beta1, beta2, epsilon):
        """Kingma and Ba (2015), "Adam: a method for stochastic optimization", algorithm 1."""
        m = v = 0.0
        for t, g in enumerate(gradients, start=1):
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * g**2
            step = m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + epsilon)
            theta = theta - learning_rate * step
            yield theta


@caught_by("formula")
@optimizer
class ForgetsTheBiasCorrection(MomentsOfAdam):
    learning_rate: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    @staticmethod
    def update(parameter, gradient, state, learning_rate, beta1, beta2, epsilon):
        m = beta1 * state[0] + (1 - beta1) * gradient
        v = beta2 * state[1] + (1 - beta2) * gradient * gradient
        return parameter - learning_rate * m / (np.sqrt(v) + epsilon), (m, v)


@caught_by("formula")
@optimizer
class AddsEpsilonInsideTheRoot(MomentsOfAdam):
    learning_rate: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    @staticmethod
    def update(parameter, gradient, state, step, learning_rate, beta1, beta2, epsilon):
        m = beta1 * state[0] + (1 - beta1) * gradient
        v = beta2 * state[1] + (1 - beta2) * gradient * gradient
        root = np.sqrt(v / (1 - beta2**step) + epsilon)
        return parameter - learning_rate * m / (1 - beta1**step) / root, (m, v)


@caught_by("formula")
@optimizer
class CountsStepsFromZero(MomentsOfAdam):
    learning_rate: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    @staticmethod
    def update(parameter, gradient, state, step, learning_rate, beta1, beta2, epsilon):
        m = beta1 * state[0] + (1 - beta1) * gradient
        v = beta2 * state[1] + (1 - beta2) * gradient * gradient
        t = max(step - 1, 1)
        corrected = m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + epsilon)
        return parameter - learning_rate * corrected, (m, v)


class MomentumOfSutskever:
    """Momentum in its two forms, for those below that get them wrong."""

    @staticmethod
    def init(parameter):
        return (np.zeros_like(parameter),)

    @staticmethod
    def formula(theta, gradients, learning_rate, momentum, nesterov, weight_decay):
        """Sutskever et al. (2013), "On the importance of initialization", equations 1 to 4."""
        v, at = 0.0, theta
        for g in gradients:
            v = momentum * v - learning_rate * (g + weight_decay * at)
            theta = theta + v
            at = theta + momentum * v if nesterov else theta
            yield at


@caught_by("formula")
@optimizer
class ForgetsNesterov(MomentumOfSutskever):
    learning_rate: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0

    @staticmethod
    def update(parameter, gradient, state, learning_rate, momentum, nesterov, weight_decay):
        gradient = gradient + weight_decay * parameter
        v = momentum * state[0] - learning_rate * gradient
        if nesterov:
            return parameter + (momentum * v + (1 - momentum) * v), (v,)
        return parameter + v, (v,)


@caught_by("formula")
@optimizer
class DecaysOnlyWithoutNesterov(MomentumOfSutskever):
    learning_rate: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0

    @staticmethod
    def update(parameter, gradient, state, learning_rate, momentum, nesterov, weight_decay):
        if nesterov:
            v = momentum * state[0] - learning_rate * gradient
            return parameter + momentum * v - learning_rate * gradient, (v,)
        v = momentum * state[0] - learning_rate * (gradient + weight_decay * parameter)
        return parameter + v, (v,)


# Optimizers whose formula proves nothing


@caught_by("formula")
@optimizer
class StatesItsUpdateAsItsFormula:
    learning_rate: float = 0.1

    @staticmethod
    def update(parameter, gradient, learning_rate):
        """Robbins and Monro (1951)."""
        return parameter - learning_rate * gradient

    formula = update


@caught_by("formula")
@optimizer
class CopiesItsUpdateAsItsFormula:
    learning_rate: float = 0.1

    @staticmethod
    def update(parameter, gradient, learning_rate):
        return parameter - learning_rate * gradient

    @staticmethod
    def formula(theta, gradients, learning_rate):
        """Robbins and Monro (1951)."""
        return theta - learning_rate * gradients


@caught_by("formula")
@optimizer
class CallsItsUpdateInItsFormula:
    learning_rate: float = 0.1

    @staticmethod
    def update(parameter, gradient, learning_rate):
        return parameter - learning_rate * gradient

    @staticmethod
    def formula(theta, gradients, learning_rate):
        """Robbins and Monro (1951)."""
        for g in gradients:
            theta = CallsItsUpdateInItsFormula.update(theta, g, learning_rate)
            yield theta


def _scaled(gradient, learning_rate):
    return learning_rate * gradient


@caught_by("formula")
@optimizer
class SharesCodeWithItsFormula:
    learning_rate: float = 0.1

    @staticmethod
    def update(parameter, gradient, learning_rate):
        return parameter - _scaled(gradient, learning_rate)

    @staticmethod
    def formula(theta, gradients, learning_rate):
        """Robbins and Monro (1951)."""
        for g in gradients:
            theta = theta - _scaled(g, learning_rate)
            yield theta


@caught_by("formula")
@optimizer
class NamesNoSourceOfItsFormula:
    learning_rate: float = 0.1

    @staticmethod
    def update(parameter, gradient, learning_rate):
        return parameter - learning_rate * gradient

    @staticmethod
    def formula(theta, gradients, learning_rate):
        """Everybody knows it."""
        for g in gradients:
            theta = theta - learning_rate * g
            yield theta


# For the test of what is announced


@operation
class RightAfterAll(Node):
    x: Node
    expected_failures = {"gradients": "was wrong once"}  # noqa: RUF012 - of an author in a hurry

    @staticmethod
    def forward(x):
        return 2 * x

    @staticmethod
    def backward(grad):
        return (2 * grad,)


@mf.operation
class Twice(Node):
    """A right one."""

    x: Node
    factor: float = 2.0

    @staticmethod
    def forward(x, factor):
        return factor * x

    @staticmethod
    def backward(grad, factor):
        return (factor * grad,)
