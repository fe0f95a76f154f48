"""MiniFlow pack: engines that compile a graph, its gradients and the optimizer's update."""

from __future__ import annotations

__version__ = "0.1.0"
