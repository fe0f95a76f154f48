"""The course's rules, written down plainly: what the programs here must print the same as.

Every formula stands here a second time on purpose, so that it shares nothing with the packs.
"""

import numpy as np


class Node:
    def __init__(self, inbound_nodes=()):
        self.inbound_nodes = list(inbound_nodes)
        self.outbound_nodes = []
        self.value = None
        self.gradients = {}
        for source in self.inbound_nodes:
            source.outbound_nodes.append(self)


class Input(Node):
    def __init__(self):
        Node.__init__(self)

    def forward(self, value=None):
        if value is not None:
            self.value = value

    def backward(self):
        self.gradients = {self: 0}
        for consumer in self.outbound_nodes:
            self.gradients[self] += consumer.gradients[self]


class Add(Node):
    def __init__(self, *terms):
        Node.__init__(self, terms)

    def forward(self):
        self.value = sum(n.value for n in self.inbound_nodes)


class Mul(Node):
    def __init__(self, *factors):
        Node.__init__(self, factors)

    def forward(self):
        self.value = 1
        for n in self.inbound_nodes:
            self.value = self.value * n.value


class Linear(Node):
    def __init__(self, X, W, b):
        Node.__init__(self, [X, W, b])

    def forward(self):
        X, W, b = self.inbound_nodes
        self.value = np.dot(X.value, W.value) + b.value

    def backward(self):
        X, W, b = self.inbound_nodes
        self.gradients = {n: np.zeros_like(n.value) for n in (X, W, b)}
        for consumer in self.outbound_nodes:
            arriving = consumer.gradients[self]
            self.gradients[X] += np.dot(arriving, W.value.T)
            self.gradients[W] += np.dot(X.value.T, arriving)
            self.gradients[b] += np.sum(arriving, axis=0)


class Sigmoid(Node):
    def __init__(self, x):
        Node.__init__(self, [x])

    def forward(self):
        self.value = 1.0 / (1.0 + np.exp(-self.inbound_nodes[0].value))

    def backward(self):
        (x,) = self.inbound_nodes
        self.gradients = {x: np.zeros_like(x.value)}
        for consumer in self.outbound_nodes:
            self.gradients[x] += self.value * (1 - self.value) * consumer.gradients[self]


class MSE(Node):
    def __init__(self, y, a):
        Node.__init__(self, [y, a])

    def forward(self):
        y, a = (n.value.reshape(-1, 1) for n in self.inbound_nodes)
        self.m = len(y)
        self.diff = y - a
        self.value = np.mean(self.diff**2)

    def backward(self):
        y, a = self.inbound_nodes
        self.gradients = {y: 2 / self.m * self.diff, a: -2 / self.m * self.diff}


def topological_sort(feed_dict):
    nodes = list(feed_dict)
    for node in nodes:
        nodes += [n for n in node.outbound_nodes if n not in nodes]
    waits = {n: {m for m in n.inbound_nodes if m in nodes} for n in nodes}
    order = []
    ready = [n for n in nodes if not waits[n]]
    while ready:
        node = ready.pop(0)
        if isinstance(node, Input):
            node.value = feed_dict[node]
        order.append(node)
        for consumer in node.outbound_nodes:
            waits[consumer].remove(node)
            if not waits[consumer]:
                ready.append(consumer)
    return order


def forward_pass(output_node, sorted_nodes=None):
    """``forward_pass(output, graph)`` first, later ``forward_pass(graph)``."""
    for node in output_node if sorted_nodes is None else sorted_nodes:
        node.forward()
    return None if sorted_nodes is None else output_node.value


def forward_and_backward(graph):
    for node in graph:
        node.forward()
    for node in graph[::-1]:
        node.backward()


def sgd_update(trainables, learning_rate=1e-2):
    for t in trainables:
        t.value -= learning_rate * t.gradients[t]
