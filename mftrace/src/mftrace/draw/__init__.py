"""Drawings of graphs, without any system package: SVG, PNG, Mermaid and DOT.

A graph becomes a ``Diagram`` (``diagram.py``): boxes and links with all their text, of which
one box may stand for many nodes (``repeats.py``, ``summary.py``). For SVG and PNG it is laid
out (``layout.py``); Mermaid and DOT leave that to whoever shows them.
"""
