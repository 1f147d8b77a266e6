"""Views that show a tape to a person: text, steps, cards, graph, player, memory and comparison.

A view reads a tape and never changes it: values that the backward pass has freed are recomputed for it, then dropped.
They are called through the methods of Tape and Tensor, which autograd/core/views.py declares.
"""
