"""The lesson's steps one after the other, with names bound anew: lists, matrices, sigmoid, cost."""

import numpy as np
from miniflow import *

inputs, weights, bias = Input(), Input(), Input()
f = Linear(inputs, weights, bias)
feed_dict = {inputs: [6, 14, 3], weights: [0.5, 0.25, 1.4], bias: 2}
graph = topological_sort(feed_dict)
output = forward_pass(f, graph)
print("should be 12.7 with this example: " + str(output))

X, W, b = Input(), Input(), Input()
f = Linear(X, W, b)
g = Sigmoid(f)
X_ = np.array([[-1.0, -2.0], [-1, -2]])
W_ = np.array([[2.0, -3], [2.0, -3]])
b_ = np.array([-3.0, -5])
graph = topological_sort({X: X_, W: W_, b: b_})
forward_pass(graph)
print(f.value)
print(forward_pass(g, graph))
print(graph[-1].value.shape, len(graph), isinstance(graph, list))

y, a = Input(), Input()
cost = MSE(y, a)
graph = topological_sort({y: np.array([1, 2, 3]), a: np.array([4.5, 5, 10])})
forward_pass(graph)
print(cost.value)
