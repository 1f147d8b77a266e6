"""The tests of both packages: `samples` and `duck` are shared."""
