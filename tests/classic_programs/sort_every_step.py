"""A graph that is sorted anew for each batch, with the module's name in front."""

import numpy as np

import miniflow as mf

rng = np.random.RandomState(5)
x_all = rng.randn(40, 3)
y_all = x_all @ np.array([1.0, -2.0, 0.5]) + 3

X, Y = mf.Input(), mf.Input()
W, b = mf.Input(), mf.Input()
linear = mf.Linear(X, W, b)
cost = mf.MSE(linear, Y)
W_ = rng.randn(3, 1)
b_ = rng.randn(1)
trainables = [W, b]
for epoch in range(20):
    loss = 0
    for start in range(0, 40, 8):
        feed_dict = {X: x_all[start : start + 8], Y: y_all[start : start + 8], W: W_, b: b_}
        graph = mf.topological_sort(feed_dict)
        mf.forward_and_backward(graph)
        mf.sgd_update(trainables)
        loss += graph[-1].value
    print("Epoch: {}, Loss: {:.9f}".format(epoch + 1, loss / 5))
print(W_.ravel(), b_)
