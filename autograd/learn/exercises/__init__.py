"""The checks of the exercises, a file a chapter; each registers itself with `autograd.learn.judging`."""

from . import (
    chapter_01,
    chapter_02,
    chapter_03,
    chapter_04,
    chapter_05,
    chapter_06,
    chapter_07,
    chapter_08,
    chapter_09,
    chapter_10,
    chapter_11,
    chapter_12,
    chapter_13,
    chapter_14,
)

__all__ = ["chapter_01", "chapter_02", "chapter_03", "chapter_04", "chapter_05", "chapter_06", "chapter_07",
           "chapter_08", "chapter_09", "chapter_10", "chapter_11", "chapter_12", "chapter_13", "chapter_14"]
