# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the scenario tests; tests/harness/README.md tells how to use them."""
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness import Instance, Sink, unavailable  # noqa: E402


@pytest.fixture
def target():
    """The mail system under test, or a skip with the reason."""
    reason = unavailable()
    if reason and os.environ.get("POSTERN_BUILD"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    return os.environ.get("HARNESS_TARGET", "postern")


@pytest.fixture
def make_sink():
    """make_sink(...): a started Sink; all are stopped at the end."""
    made = []

    def make(**options):
        made.append(Sink(**options).start())
        return made[-1]
    yield make
    for sink in made:
        sink.stop()


@pytest.fixture
def sink(make_sink):
    return make_sink()


@pytest.fixture
def make_mail(target, request):
    """make_mail(...): a started Instance; all are stopped at the end, and kept if the test failed."""
    made = []

    def make(start=True, **options):
        mail = Instance(target=target, **options)
        made.append(mail)
        if start:
            mail.start()
        return mail
    yield make
    failed = getattr(request.node, "failed", False)
    for mail in reversed(made):
        mail.keep = mail.keep or failed
        mail.close()


@pytest.fixture
def mail(make_mail, sink):
    return make_mail(relay=sink)


@pytest.hookimpl(tryfirst=True, hookwrapper=True)
def pytest_runtest_makereport(item):
    outcome = yield
    if outcome.get_result().failed:
        item.failed = True
