"""Gradients of one layer, and of a hidden layer that two losses and a hand-made loop read."""

from miniflow import *

X, W, b = Input(), Input(), Input()
y = Input()
f = Linear(X, W, b)
a = Sigmoid(f)
cost = MSE(y, a)
X_ = np.array([[-1.0, -2.0], [-1, -2]])
W_ = np.array([[2.0], [3.0]])
b_ = np.array([-3.0])
y_ = np.array([1, 2])
graph = topological_sort({X: X_, y: y_, W: W_, b: b_})
forward_and_backward(graph)
gradients = [t.gradients[t] for t in [X, W, b]]
print(gradients)
print(y.gradients[y].ravel())
print(cost.gradients[a], a.gradients[f], f.gradients[W])

# Two readers of one hidden layer: their gradients add up.
rng = np.random.RandomState(3)
X, W1, b1, W2, b2, W3, b3, y, z = [Input() for _ in range(9)]
hidden = Sigmoid(Linear(X, W1, b1))
one = MSE(y, Linear(hidden, W2, b2))
two = MSE(z, Linear(hidden, W3, b3))
graph = topological_sort(
    {
        X: rng.randn(6, 4),
        W1: rng.randn(4, 3),
        b1: np.zeros(3),
        W2: rng.randn(3, 1),
        b2: np.zeros(1),
        W3: rng.randn(3, 1),
        b3: np.zeros(1),
        y: rng.randn(6),
        z: rng.randn(6),
    }
)
for n in graph:
    n.forward()
for n in graph[::-1]:
    n.backward()
print(one.value, two.value)
for t in [X, W1, b1, W2, b2, W3, b3]:
    print(t.gradients[t])

# Finite differences against the gradient, by changing the fed array.
before = one.value + two.value
W1.value[0, 0] += 1e-6
forward_pass(graph)
print(round((one.value + two.value - before) / 1e-6, 4), round(W1.gradients[W1][0, 0], 4))
