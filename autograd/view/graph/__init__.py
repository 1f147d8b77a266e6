"""The computation graph, folded by scope, coloured and drawn."""
