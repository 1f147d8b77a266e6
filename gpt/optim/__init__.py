"""Optimizers on flat parameter buffers, and learning-rate schedules.

Every module of this folder is imported here, so that a new optimizer is one file: a subclass of `Optimizer`.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
