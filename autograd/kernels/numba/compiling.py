"""Compilation of the loops behind the Numba kernels, in single and double precision, with the machine code cached."""

from __future__ import annotations

import os
import threading

import numba
from numba import types
from numba.extending import intrinsic

# Sums may be taken in any order, a·b + c rounded once.  NaN and infinity keep their meaning.
FLAGS = {"reassoc", "contract", "nsz"}
EXACT = {"contract"}  # where the order of the operations is what makes them accurate

OPTIONS = dict(nogil=True, fastmath=FLAGS, error_model="numpy")

SINGLE, BOTH = (types.float32,), (types.float32, types.float64)

WITHOUT_CACHE: list[str] = []  # why functions were compiled without keeping the result
WAITING: list = []             # loops, and how they are to be compiled in double precision when that is needed
COMPILING = threading.Lock()


def read(ndim, layout="C"):
    """Type of an array that a loop only reads."""
    return lambda real: types.Array(real, ndim, layout, readonly=True)


def write(ndim, layout="C"):
    """Type of an array that a loop writes or updates."""
    return lambda real: types.Array(real, ndim, layout)


def integers(ndim):
    """Type of an array of integers that a loop reads."""
    return lambda real: types.Array(types.int64, ndim, "C", readonly=True)


def number(real):
    """Type of a float in double precision, whatever the arrays are."""
    return types.float64


def integer(real):
    """Type of an integer."""
    return types.int64


def loop(*arguments, reals=BOTH):
    """Compile the function below for arguments of these types: in single precision at once, in double (if that is in
    `reals`) when it is needed.  The machine code is cached on disk, beside this file or in a folder of the user's."""
    single, *double = [tuple([type_of(real) for type_of in arguments]) for real in reals]

    def compiled(function):
        made = _compiled(function, single)
        WAITING.extend((made, signature) for signature in double)
        return made
    return compiled


def compile_double():
    """Compile the loops in double precision, too, if that has not been done.  Other threads may be running them."""
    with COMPILING:
        while WAITING:
            made, signature = WAITING[-1]
            for result in _compiled(made.py_func, signature).overloads.values():
                made.add_overload(result)
            WAITING.pop()


def _compiled(function, signature):
    try:
        if not (numba.config.CACHE_DIR or os.access(os.path.dirname(function.__code__.co_filename), os.W_OK)
                or os.path.isabs(os.path.expanduser("~"))):  # Numba would make a folder called ~
            raise RuntimeError("there is neither a home folder nor a place beside this package")
        made = numba.njit(cache=True, **OPTIONS)(function)
    except RuntimeError as error:  # there is no place to keep it
        WITHOUT_CACHE.append(f"{type(error).__name__}: {error}")
        made = numba.njit(**OPTIONS)(function)
    try:
        made.compile(signature)
    except Exception as error:  # the cache has damaged files, or is full; if it is the function, that comes again
        try:
            made.recompile()  # forgets what there is in the cache
            made.compile(signature)
        except Exception:
            WITHOUT_CACHE.append(f"{type(error).__name__}: {error}")
            made = numba.njit(**OPTIONS)(function)
            made.compile(signature)
    made.disable_compile()
    return made


def inlined(fastmath=frozenset()):
    """Compile the function below into each loop that calls it.

    Without that the process that compiles a loop calls the function as it was optimized alone, and a process that loads
    the loop from the cache as it was optimized for that loop: two runs of one seed would differ in their last bits.
    """
    return numba.njit(nogil=True, fastmath=set(fastmath), forceinline=True)


@intrinsic
def start_of(_, a):
    """Return a pointer to the first element of an array."""
    def code(context, builder, signature, arguments):
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data
    return types.CPointer(a.dtype)(a), code


@inlined()
def row_of(a, *index):
    """Row a[index] of an array of layout "A" whose rows are contiguous, which the vectorizer has to know."""
    return numba.carray(start_of(a[index]), (a.shape[-1],))
