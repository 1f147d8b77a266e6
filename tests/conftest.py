"""With REQUIRE_EXTRAS set, a test that was skipped because an extra is missing fails the run."""

import os

import pytest


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("REQUIRE_EXTRAS") or reporter is None:
        return
    missing = [r for r in reporter.stats.get("skipped", []) if "could not import" in str(r.longrepr)]
    if missing:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        for r in missing:
            reporter.write_line(f"an extra is missing: {r.nodeid}: {r.longrepr[-1]}", red=True)
