# %% [markdown]
# # From one neuron to Boston
#
# A neural network is a graph. Numbers flow through it forward, and the blame for the error flows
# through it backward. In this notebook you build that graph node by node, watch both flows, check
# every number by hand, and end with a network that learns house prices in Boston.
#
# You need to know what a function and a derivative are, and some Python with NumPy. Run the cells
# from top to bottom, and change what you like: that is what a notebook is for.
#
# If you know the course that MiniFlow comes from, [this table](from-the-course.md) says what each
# of its names is called here.

# %%
import numpy as np

import mfcore as mf

# %% [markdown]
# ## 1. Nodes and graphs
#
# A **node** is one step of a calculation. An *input* is a node whose value you give later; an
# *operation* is a node that reads other nodes. Nothing is calculated yet:

# %%
from mfops_basic import Add, Mul

x, y, z = mf.Input("x"), mf.Input("y"), mf.Input("z")
total = Add(x, y, z)
total

# %% [markdown]
# A **session** runs a graph. You feed it a value for each input, and the **run** that comes back
# knows the value of every node.

# %% case: add of three
run = mf.Session(total).run({x: 4, y: 5, z: 10})
print("4 + 5 + 10 =", run[total])

# %% case: product of three
product = Mul(x, y, z)
run = mf.Session(product).run({x: 4, y: 5, z: 10})
print("4 * 5 * 10 =", run[product])

# %% [markdown]
# Operations can be nested, and NumPy's operators build nodes too: `(x + y) * z` is the same graph as
# `Mul(Add(x, y), z)`. The last line of the next cell is a graph, which shows itself as a picture:
# inputs at the top, the result at the bottom, data flowing down.

# %%
f = (x + y) * z
graph = mf.Graph(f)
graph

# %% [markdown]
# ## 2. The order of things
#
# A node can be calculated as soon as all that it reads is known. So before anything runs, the nodes
# are put into a **topological order**: one in which every node comes after those that it reads.

# %%
[graph.name(node) for node in graph]

# %% [markdown]
# The order is found by **Kahn's algorithm**. Start with the nodes that read nothing. Take one, put
# it into the order, and remove the edges that lead from it. A node with no edge left into it is
# ready, and joins the queue. The *console* tracer prints each of these steps:

# %%
with mf.tracing("console", phases="sort"):
    mf.Graph(f)

# %% [markdown]
# Now the **forward pass** is simple: go through the nodes in this order and calculate each one.
# With $x = -2$, $y = 5$ and $z = -4$ we expect $(-2 + 5) \cdot (-4) = -12$.

# %% case: sum times z
session = mf.Session(graph)
with mf.tracing("console", phases="forward"):
    run = session.run({x: -2, y: 5, z: -4})

# %% [markdown]
# ## 3. A neuron
#
# A neuron multiplies each of its inputs by a *weight*, adds the products up, and adds a *bias*:
#
# $$ o = \sum_i x_i w_i + b $$
#
# That is a sum of products, and we can build it from `Add` and `Mul` alone:

# %%
x1, x2, w1, w2, b = (mf.Input(name) for name in ("x1", "x2", "w1", "w2", "b"))
neuron = Add(Mul(x1, w1), Mul(x2, w2), b)

run = mf.Session(neuron).run({x1: 3.0, x2: -1.0, w1: 0.5, w2: 2.0, b: 1.5})
print("3 * 0.5 + (-1) * 2 + 1.5 =", run[neuron])
mf.Graph(neuron)

# %% [markdown]
# One node for each product soon becomes a crowd. Matrices do the same for many inputs, many
# examples and many neurons at once. If each row of $X$ is an example and each column of $W$ holds
# the weights of a neuron, then
#
# $$ Z = X W + b $$
#
# holds in row $i$ and column $j$ what neuron $j$ answers to example $i$. The bias $b$ is added to
# every row. That is the operation `Linear`.

# %% case: linear
from mfops_nn import Linear

X, W, b = mf.Input("X"), mf.Input("W"), mf.Input("b")
layer = Linear(X, W, b)

feeds = {X: [[1.0, 2.0], [3.0, 4.0]], W: [[5.0, 6.0], [7.0, 8.0]], b: [-1.0, -1.0]}
run = mf.Session(layer).run(feeds)
print(run[layer])

# %% [markdown]
# ## 4. Bending the line: the sigmoid
#
# A linear layer after a linear layer is still linear: it can only draw straight lines. So a network
# sends each result through a function that is not linear. Ours is the **sigmoid**
#
# $$ \sigma(x) = \frac{1}{1 + e^{-x}} $$
#
# which squeezes every number into the range from 0 to 1. Its derivative can be written with its own
# value, which saves work later:
#
# $$ \sigma'(x) = \sigma(x)\,(1 - \sigma(x)) $$

# %% case: sigmoid of linear
from mfops_nn import Sigmoid

activation = Sigmoid(Linear(X, W, b))

feeds = {X: [[-1.0, -2.0], [-1.0, -2.0]], W: [[2.0, -3.0], [2.0, -3.0]], b: [-3.0, -5.0]}
run = mf.Session(activation).run(feeds)
print(run[activation])

# %%
import matplotlib.pyplot as plt

inputs = np.linspace(-8, 8, 161)
values = Sigmoid.forward(inputs)  # an operation is a plain function of arrays: call it alone

figure, axes = plt.subplots(figsize=(5, 2.6), dpi=80, layout="constrained")
axes.plot(inputs, values, label="sigmoid")
axes.plot(inputs, values * (1 - values), label="its derivative", linestyle="--")
axes.legend()
axes.grid(alpha=0.3)

# %% [markdown]
# The derivative is at most 0.25, and nearly nothing far from zero. Keep that in mind: it is why deep
# stacks of sigmoids learn slowly.
#
# ## 5. How wrong are we? The cost
#
# To learn, a network needs one number that says how wrong it is. Ours is the **mean squared error**
# between the true values $y$ and the network's answers $a$:
#
# $$ C = \frac{1}{m} \sum_{i=1}^{m} (y_i - a_i)^2 $$
#
# The square makes all errors positive, and large ones count more than small ones.

# %% case: mean squared error
from mfops_nn import MSE

y, a = mf.Input("y"), mf.Input("a")
cost = MSE(y, a)

run = mf.Session(cost).run({y: [1, 2, 3], a: [4.5, 5, 10]})
print(f"{run[cost]:.10f}")
print(((1 - 4.5) ** 2 + (2 - 5) ** 2 + (3 - 10) ** 2) / 3, "by hand")

# %% [markdown]
# ## 6. Backward: who is to blame?
#
# We want to know how the result changes if we change each input a little: the **gradient**. The
# **chain rule** gives it step by step. For $f = s z$ with $s = x + y$:
#
# $$
# \frac{\partial f}{\partial z} = s, \qquad
# \frac{\partial f}{\partial s} = z, \qquad
# \frac{\partial f}{\partial x} = \frac{\partial f}{\partial s} \cdot \frac{\partial s}{\partial x}
#                               = z \cdot 1, \qquad
# \frac{\partial f}{\partial y} = z \cdot 1
# $$
#
# With $x = -2$, $y = 5$, $z = -4$ that is 3 for $z$, and $-4$ for both $x$ and $y$. **Backpropagation**
# is this bookkeeping, done by the graph: go through the nodes in reverse order; each node takes what
# its readers sent to it, and sends to each of its own inputs its share.

# %% case: sum times z
x, y, z = graph.inputs
run = session.run({x: -2, y: 5, z: -4})
print("f =", run[f])
for node in (x, y, z):
    print(f"df/d{node.name} =", run.gradients[node])

# %% [markdown]
# The tracer shows the messages themselves. Read it from the top: the result gets a 1 to start with
# (how $f$ changes with $f$), and everything else follows.

# %%
with mf.tracing("console", phases="backward"):
    session.run({x: -2, y: 5, z: -4}).backward(wrt=[x, y, z])

# %% [markdown]
# A node that is read twice is sent two gradients, and its own is their **sum**: both ways through the
# graph count. For $g = x \cdot x + x$ at $x = 3$ the derivative is $2 \cdot 3 + 1 = 7$:

# %%
g = x * x + x
with mf.tracing("console", phases="backward", nodes="x"):
    mf.Session(g).run({x: 3.0}).backward()

# %% [markdown]
# ## 7. One layer, every number
#
# Now the whole chain: a linear layer, a sigmoid, a cost. Two examples, two features, one neuron.

# %% case: one layer and its gradients
X, y, W1, b = mf.Input("X"), mf.Input("y"), mf.Input("W1"), mf.Input("b")
linear = Linear(X, W1, b)
a = Sigmoid(linear)
cost = MSE(y, a)

feeds = {
    X: np.array([[-1.0, -2.0], [-1.0, -2.0]]),
    y: np.array([1, 2]),
    W1: np.array([[2.0], [3.0]]),
    b: np.array([-3.0]),
}
run = mf.Session(cost).run(feeds)
print(f"cost = {run[cost]:.12f}")
for node in (X, y, W1, b):
    print(f"gradient of {node.name}:")
    print(run.gradients[node])

# %% [markdown]
# A run shows itself as its graph, with the values on the edges and, in red, the gradients that came
# back along them. Hold the pointer over a box to see more.

# %%
run

# %% [markdown]
# And here is the same by hand, in NumPy, one line for each formula. With $Z = X W_1 + b$ and
# $a = \sigma(Z)$:
#
# $$
# \frac{\partial C}{\partial a} = -\frac{2}{m}(y - a), \qquad
# \frac{\partial C}{\partial Z} = \frac{\partial C}{\partial a} \odot a \odot (1 - a)
# $$
#
# $$
# \frac{\partial C}{\partial X} = \frac{\partial C}{\partial Z} W_1^\top, \qquad
# \frac{\partial C}{\partial W_1} = X^\top \frac{\partial C}{\partial Z}, \qquad
# \frac{\partial C}{\partial b} = \sum_i \Big(\frac{\partial C}{\partial Z}\Big)_i
# $$
#
# ($\odot$ multiplies element by element.)

# %% case: one layer and its gradients
X_, W1_, b_ = feeds[X], feeds[W1], feeds[b]
y_ = feeds[y].reshape(-1, 1)  # a column, as the answers are

Z_ = X_ @ W1_ + b_
a_ = 1 / (1 + np.exp(-Z_))
cost_ = np.mean((y_ - a_) ** 2)

by_hand_a = -2 / len(y_) * (y_ - a_)
by_hand_Z = by_hand_a * a_ * (1 - a_)
by_hand = {
    X: by_hand_Z @ W1_.T,
    y: (2 / len(y_) * (y_ - a_)).ravel(),
    W1: X_.T @ by_hand_Z,
    b: by_hand_Z.sum(axis=0),
}

print(f"cost = {cost_:.12f}")
for node, gradient in by_hand.items():
    agree = np.allclose(gradient, run.gradients[node], rtol=1e-9, atol=0)
    print(f"gradient of {node.name}, {'as' if agree else 'NOT as'} the framework says:")
    print(gradient)

# %% [markdown]
# Where does the gradient of $W_1$ come from? `explain` opens the ledger: the chain rule from the cost
# back to the node, and for each node on the way what was sent to it, by whom, and how it was
# calculated.

# %%
import mftrace

mftrace.explain(run, W1)

# %% [markdown]
# There is a third witness. The derivative is the limit of a quotient of differences, so moving one
# weight a little, both ways, must tell the same:
#
# $$ \frac{\partial C}{\partial w} \approx \frac{C(w + h) - C(w - h)}{2h} $$

# %%
h = 1e-5
moved = []
for i in range(2):
    step = np.zeros((2, 1))
    step[i] = h
    up = mf.Session(cost).run({**feeds, W1: W1_ + step})[cost]
    down = mf.Session(cost).run({**feeds, W1: W1_ - step})[cost]
    moved.append((up - down) / (2 * h))

print("by differences ", " ".join(f"{value:.4e}" for value in moved))
print("by the graph   ", " ".join(f"{value:.4e}" for value in run.gradients[W1].ravel()))

# %% [markdown]
# ## 8. Gradient descent: walking downhill
#
# The gradient points uphill. To make a function small, walk the other way, in small steps:
#
# $$ x \leftarrow x - \eta \, \frac{\partial f}{\partial x} $$
#
# $\eta$ is the **learning rate**. Let us find the minimum of $f(x) = x^4 - 3x^3 + 2$ from $x = 6$ with
# $\eta = 0.01$, until a step is smaller than $0.00001$. The derivative $4x^3 - 9x^2$ is zero at
# $x = 9/4$, so we know where it has to go.
#
# What is to be changed is a **parameter**: a node that has a value of its own. The node keeps its
# first value; the session holds the present one.

# %% case: gradient descent on x^4 - 3x^3 + 2
x = mf.Parameter(6.0, name="x")
f = x**4 - 3 * x**3 + 2
session = mf.Session(f)

path = [6.0]
step = np.inf
while abs(step) > 0.00001:
    step = 0.01 * session.run().gradients[x]
    session[x] = session[x] - step
    path.append(float(session[x]))

print(f"after {len(path) - 1} steps: x = {path[-1]:.6f}")

# %%
figure, axes = plt.subplots(figsize=(5, 2.8), dpi=80, layout="constrained")
curve = np.linspace(0, 3.2, 200)
axes.plot(curve, curve**4 - 3 * curve**3 + 2)
axes.plot(path, [p**4 - 3 * p**3 + 2 for p in path], "o-", markersize=3, label="the way down")
axes.set(xlim=(0, 3.2), ylim=(-8, 8))  # the start, at x = 6, is far above to the right
axes.legend()
axes.grid(alpha=0.3)

# %% [markdown]
# The slope at $x = 6$ is so steep that the first step leaps across the whole valley. From there the way
# leads back, in steps that shrink as the ground becomes flat. A learning rate that is too large leaps
# out of the valley for good; with one that is too small it takes very long. Try $0.1$ and $0.0001$.
#
# ## 9. One step of training
#
# Training a network is the same walk, in as many dimensions as it has weights. Below, $W_1$ and $b$ are
# parameters now, so `session.step` can do all at once: forward, backward, and the optimizer's update.
# `SGD` stands for stochastic gradient descent.

# %%
from mfoptim import SGD

W1 = mf.Parameter([[2.0], [3.0]], name="W1")
b = mf.Parameter([-3.0], name="b")
cost = MSE(y, Sigmoid(Linear(X, W1, b)))
batch = {X: [[-1.0, -2.0], [0.5, 1.0]], y: [0.0, 1.0]}

session = mf.Session(cost)
before = session.run(batch)
by_hand = session[b] - 0.5 * before.gradients[b]

for number in range(1, 5):
    print(f"step {number}: cost {session.step(batch, SGD(learning_rate=0.5)):.6f}")
    if number == 1:
        print("   b by hand", by_hand, "and by the optimizer", session[b])

# %% [markdown]
# ## 10. Boston
#
# Now real data: 506 neighbourhoods of Boston in the 1970s, each with 13 features, and the median value
# of its houses in 1000 dollars. The data serve here as the benchmark of the course, and not as a model
# of houses: one of the columns was built on a racist assumption, which
# [the page on the command line](command-line.md) explains.
#
# The features have very different scales, so we **standardise** them: subtract the mean of each column
# and divide by its standard deviation. Then one learning rate suits all.

# %%
from miniflow.datasets import load_boston

boston = load_boston()
features = (boston.X - boston.X.mean(axis=0)) / boston.X.std(axis=0)

print("rows and features:", features.shape)
print("names:", ", ".join(boston.features))
print(f"prices from {boston.y.min():.0f} to {boston.y.max():.0f}, on average {boston.y.mean():.2f}")

# %% [markdown]
# The network: 13 features, a hidden layer of 10 sigmoids, and one linear neuron that answers with a
# price. Weights start at random (if all were equal, all neurons would learn the same), biases at zero.
# `shape=(None, 13)` says that a batch may have any number of rows.

# %%
rng = np.random.default_rng(9)

X, y = mf.Input("X", shape=(None, 13)), mf.Input("y", shape=(None,))
W1, b1 = mf.Parameter(rng.normal(size=(13, 10)), name="W1"), mf.Parameter(np.zeros(10), name="b1")
W2, b2 = mf.Parameter(rng.normal(size=(10, 1)), name="W2"), mf.Parameter(np.zeros(1), name="b2")

prediction = Linear(Sigmoid(Linear(X, W1, b1)), W2, b2)
cost = MSE(y, prediction)
mf.Graph(cost)

# %% [markdown]
# That is all there is to it: the same three operations as before. The network has
# $13 \cdot 10 + 10 + 10 \cdot 1 + 1 = 151$ numbers to learn.
#
# It would be slow to look at all 506 rows before each step. **Stochastic** gradient descent looks at a
# small random batch, 11 rows here, and takes the gradient of those as an estimate. An *epoch* is as
# many batches as the data hold: 46. Each batch is drawn with replacement (`sampling="resample"`), as
# the course does it.

# %% case: boston
from mfoptim import fit

data = {X: features, y: boston.y}
history = fit(
    cost, data, SGD(learning_rate=0.01), epochs=100, batch_size=11, sampling="resample", seed=9
)
error = history.session.run(data)[cost]

print(f"loss of the first epoch {history.loss[0]:.2f}, of the last {history.loss[-1]:.2f}")
print(f"mean squared error on all rows {error:.2f}")
print("steps:", history.steps)

# %% [markdown]
# From five random starts the course's own program ends with a loss of 5.2 to 7.0 and a mean squared
# error of 6.3 to 7.5, so we are where we should be. A history shows itself:

# %%
history

# %% [markdown]
# For a picture to keep there is `history.plot("loss.png")`, or with a logarithmic axis, on which the
# slow progress of the later epochs can be seen:

# %%
figure, axes = plt.subplots(figsize=(5, 2.8), dpi=80, layout="constrained")
history.plot(ax=axes, log=True)
axes.set_title("13 - 10 - 1 on the Boston data", fontsize=10)
axes.margins(x=0.02)

# %% [markdown]
# What did it learn? `mf.function` makes a plain Python function of a part of the graph; with a session
# it uses the trained weights.

# %%
predict = mf.function(X, prediction, session=history.session)
answers = predict(features).ravel()

print("  true  answer")
for true, answer in zip(boston.y[:8], answers[:8]):
    print(f"{true:6.1f} {answer:7.1f}")
print(f"typical error: {np.mean(np.abs(boston.y - answers)):.2f} thousand dollars")

# %%
figure, axes = plt.subplots(figsize=(3.6, 3.4), dpi=80, layout="constrained")
axes.scatter(boston.y, answers, s=8, alpha=0.5)
axes.plot([5, 50], [5, 50], color="black", linewidth=1)
axes.set(xlabel="true price", ylabel="answer")
axes.grid(alpha=0.3)

# %% [markdown]
# A perfect network would put every point on the line. (The column of points at 50 is the data's:
# nothing is recorded above that. And we asked about rows that it was trained on.
# How well it does on rows that it has never seen is another question: give `fit` a
# `validation_split=0.2` and look at `history.validation_loss`.)
#
# ## 11. The same graph on other engines
#
# A graph does not say how it is run. The *reference* engine goes through the nodes one by one, as you
# did by hand. The *numpy* engine reads the operations once, and plans all buffers ahead. The *numba*
# engine compiles the whole training loop into machine code (for this one, `numba` has to be installed).
# All of them calculate the same:

# %%
for engine in ("reference", "numpy", "numba"):
    trained = fit(
        cost, data, SGD(0.01), epochs=5, batch_size=11, sampling="resample", seed=9, engine=engine
    )
    print(f"{trained.session.trains_on:9}  loss of epoch 5: {trained.loss[-1]:.6f}")

# %% [markdown]
# ## 12. Gradients are nodes, too
#
# So far gradients were numbers, calculated for one run. `mf.gradient` gives them as *nodes*: a graph
# that calculates the gradient, and that can be drawn, compiled, and differentiated again. The second
# derivative of $x^4 - 3x^3 + 2$ is $12x^2 - 18x$, which is $20.25$ at $x = 9/4$: positive, so the place
# that we found is indeed a minimum.

# %%
x = mf.Input("x", shape=(), dtype=float)
f = x**4 - 3 * x**3 + 2
slope = mf.gradient(f, x)
curvature = mf.gradient(slope, x)

run = mf.Session([f, slope, curvature]).run({x: 2.25})
print("f     =", run[f])
print("f'    =", run[slope])
print("f''   =", run[curvature])

# %% [markdown]
# ## 13. A node of your own
#
# In the course you write the nodes yourself. Here too: an operation is two pure functions, its formula
# and its derivative. `backward` asks by name for what it needs: `grad` is what its readers sent, and
# here it also wants the input `x`. It returns one gradient for each input.


# %%
@mf.operation
class Square(mf.Node):
    """The square ``x * x``."""

    x: mf.Node

    @staticmethod
    def forward(x):
        return x * x

    @staticmethod
    def backward(grad, x):
        return (grad * 2 * x,)


s = mf.Input("s")
run = mf.Session(np.sum(Square(s))).run({s: [1.0, -2.0, 3.0]})
print(run.gradients[s])

# %% [markdown]
# That is MiniFlow: nodes, an order, a pass forward, a pass backward, and a step downhill. From here:
#
# - [from the course to MiniFlow](from-the-course.md): each name of the course, and what it is called here;
# - [training](training.md): other optimizers, validation, early stopping;
# - [tracing](tracing.md): more ways to watch a graph work;
# - [engines](engines.md): what happens beneath, and how fast it is;
# - [drawing](drawing.md): pictures of graphs, small and large.
