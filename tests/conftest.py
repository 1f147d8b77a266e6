"""With REQUIRE_EXTRAS set, a test that was skipped because an extra is missing fails the run."""

import os

import hypothesis
import pytest

hypothesis.settings.register_profile("shared machine", deadline=None)  # a test never measures time
hypothesis.settings.load_profile("shared machine")


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
