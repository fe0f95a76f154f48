"""A training loop, a second graph that checks the first on other rows, and predictions."""

import pickle

import numpy as np
from miniflow import *

rng = np.random.RandomState(11)
X_ = rng.randn(120, 5)
y_ = np.sin(X_[:, 0]) + X_[:, 1] ** 2 + 0.1 * rng.randn(120)
X_ = (X_ - np.mean(X_, axis=0)) / np.std(X_, axis=0)
X_train, X_test, y_train, y_test = X_[:90], X_[90:], y_[:90], y_[90:]

n_features = X_.shape[1]
n_hidden = 6
W1_ = rng.randn(n_features, n_hidden)
b1_ = np.zeros(n_hidden)
W2_ = rng.randn(n_hidden, 1)
b2_ = np.zeros(1)

X, y = Input(), Input()
W1, b1 = Input(), Input()
W2, b2 = Input(), Input()
l1 = Linear(X, W1, b1)
s1 = Sigmoid(l1)
l2 = Linear(s1, W2, b2)
MSE(y, l2)

feed_dict = {X: X_train, y: y_train, W1: W1_, b1: b1_, W2: W2_, b2: b2_}
graph = topological_sort(feed_dict)
trainables = [W1, b1, W2, b2]
epochs, batch_size = 100, 11
steps_per_epoch = len(X_train) // batch_size
print("Total number of examples = {}".format(len(X_train)))


def evaluate(trainables, X_, y_):
    X, y = Input(), Input()
    W1, b1 = Input(), Input()
    W2, b2 = Input(), Input()
    cost = MSE(y, Linear(Sigmoid(Linear(X, W1, b1)), W2, b2))
    values = [t.value for t in trainables]
    graph = topological_sort(dict(zip([X, y, W1, b1, W2, b2], [X_, y_] + values)))
    for n in graph:
        n.forward()
    target = graph[-1].inbound_nodes[0].value.reshape(-1, 1)
    guess = graph[-1].inbound_nodes[1].value.reshape(-1, 1)
    return cost.value, np.mean(abs(target - guess) <= 0.5)


for i in range(epochs):
    loss = 0
    for j in range(steps_per_epoch):
        rows = rng.randint(0, len(X_train), batch_size)
        X.value = X_train[rows]
        y.value = y_train[rows]
        forward_and_backward(graph)
        sgd_update(trainables, learning_rate=2e-2)
        loss += graph[-1].value
    print("Epoch: {}, Loss: {:.12f}".format(i + 1, loss / steps_per_epoch))

print("test", evaluate(trainables, X_test, y_test))
print("the fed array was trained:", W1.value is W1_, W1_[0, 0])

saved = pickle.loads(pickle.dumps([t.value for t in trainables]))
graph.pop(-1)
X.value = X_test
forward_pass(graph)
print([round(row[0], 6) for row in l2.value][:5])
for t, value in zip(trainables, saved):
    t.value = value
print(forward_pass(l2, graph)[:3].tolist())
