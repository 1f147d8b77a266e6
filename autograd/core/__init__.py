"""The engine's foundations.

methods, registry        operators and methods of NumPy's arrays on a Tensor, its protocols; the op behind each
leaf                     data, gradient and version counter of a leaf
signature, formula       an op's arguments; formula, VJP rules and kernels (contract: what a kernel returns)
arrays                   checks, private copies and casts of arrays of any library
mode                     grad mode, scopes, tracing, the executor of kernels
multi_output, recompute  values that are tuples of arrays; values that were freed
describe, errors         descriptions of arrays and records, and errors that point at a record
tree, views              for transforms: arrays in containers; methods of Tape and Tensor that show them
"""
