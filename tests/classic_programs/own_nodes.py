"""Nodes of the program's own, with the course's nodes before and after them."""

import numpy as np
from miniflow import *


class ReLU(Node):
    def __init__(self, node):
        Node.__init__(self, [node])

    def forward(self):
        self.value = np.maximum(self.inbound_nodes[0].value, 0)

    def backward(self):
        self.gradients = {n: np.zeros_like(n.value) for n in self.inbound_nodes}
        for n in self.outbound_nodes:
            grad_cost = n.gradients[self]
            self.gradients[self.inbound_nodes[0]] += grad_cost * (self.value > 0)


class Times(Node):
    def __init__(self, inbound_nodes):
        Node.__init__(self, inbound_nodes)

    def forward(self):
        self.value = self.inbound_nodes[0].value * self.inbound_nodes[1].value

    def backward(self):
        p, q = self.inbound_nodes
        self.gradients = {n: np.zeros_like(n.value) for n in self.inbound_nodes}
        for n in self.outbound_nodes:
            self.gradients[p] += n.gradients[self] * q.value
            self.gradients[q] += n.gradients[self] * p.value


class SoftmaxCrossEntropy(Node):
    def __init__(self, logits, labels):
        Node.__init__(self, [logits, labels])

    def forward(self):
        z = self.inbound_nodes[0].value
        e = np.exp(z - z.max(axis=1, keepdims=True))
        self.probabilities = e / e.sum(axis=1, keepdims=True)
        rows = np.arange(len(z))
        self.value = -np.mean(np.log(self.probabilities[rows, self.inbound_nodes[1].value]))

    def backward(self):
        share = self.probabilities.copy()
        share[np.arange(len(share)), self.inbound_nodes[1].value] -= 1
        self.gradients[self.inbound_nodes[0]] = share / len(share)
        self.gradients[self.inbound_nodes[1]] = np.zeros(len(share))


def sgd_update(trainables, learning_rate=1e-2, momentum=0.9, velocity={}):
    for t in trainables:
        velocity[t] = momentum * velocity.get(t, 0) - learning_rate * t.gradients[t]
        t.value += velocity[t]


rng = np.random.RandomState(0)
X_ = rng.randn(60, 2)
labels_ = (X_[:, 0] * X_[:, 1] > 0).astype(int)

X, labels, W1, b1, gate, W2, b2 = [Input() for _ in range(7)]
l1 = Linear(X, W1, b1)
h = Times([ReLU(l1), gate])
l2 = Linear(Sigmoid(h), W2, b2)
cost = SoftmaxCrossEntropy(l2, labels)
feed_dict = {
    X: X_,
    labels: labels_,
    W1: rng.randn(2, 8),
    b1: np.zeros(8),
    gate: np.ones((60, 8)),
    W2: rng.randn(8, 2),
    b2: np.zeros(2),
}
graph = topological_sort(feed_dict)
for epoch in range(30):
    forward_and_backward(graph)
    sgd_update([W1, b1, W2, b2], learning_rate=0.1)
    if epoch % 10 == 9:
        print("Epoch: {}, Loss: {:.6f}".format(epoch + 1, graph[-1].value))
print("accuracy", np.mean(np.argmax(l2.value, axis=1) == labels_))
