"""Adding and multiplying, the same inputs used again and again, one sort for several outputs."""

from __future__ import print_function

from miniflow import *

x, y, z = Input(), Input(), Input()
total = Add(x, y, z)
product = Mul(x, y, z)
feed_dict = {x: 4, y: 5, z: 10}
graph = topological_sort(feed_dict)
output = forward_pass(total, graph)
print(
    "{} + {} + {} = {} (according to miniflow)".format(
        feed_dict[x], feed_dict[y], feed_dict[z], output
    )
)
print([forward_pass(product, graph), output, x.value])

# The bonus: (x + y) + y, with the inputs that are part of the other graph already.
again = Add(Add(x, y), y)
sorted_nodes = topological_sort(feed_dict=feed_dict)
print("(x + y) + y =", forward_pass(again, sorted_nodes))

# A network on top of another one's output.
p = Input()
r = Add(p, y)
sorted_nodes = topological_sort({p: output, y: feed_dict[y]})
print(forward_pass(r, sorted_nodes))
print(forward_pass(output_node=r, sorted_nodes=sorted_nodes))

a, b, c, d, e = Input(), Input(), Input(), Input(), Input()
factorial = Mul(a, b, c, d, e)
print("5! =", forward_pass(factorial, topological_sort({a: 1, b: 2, c: 3, d: 4, e: 5})))
