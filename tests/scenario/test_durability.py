# SPDX-License-Identifier: Apache-2.0
"""What is acknowledged survives (RELIABILITY G1, G3, section 5: P1 to P4, P9 to P13): the short form of tests/crash/run.py."""
import os
import subprocess
import sys

import pytest
from crash import run as crash
from harness import inject
from harness.instance import TOP

SHORT = {"kill-one": 8, "kill-all": 5, "syscall": 6, "powercut": 6, "stop": 2, "reload": 4, "reload-kill": 4, "full": 3, "errors": 4, "each": 4, "syncfail": 3, "short": 3, "limits": 2, "clock": 2, "hosts": 6,
         "dns": 3, "submit-kill": 6, "submit-syscall": 3, "submit-powercut": 3, "local-kill": 6, "local-syscall": 2, "local-powercut": 3,
         "local-powercut-two": 3}


def run(method, target, count, *more):
    chosen = crash.METHODS[method]
    if chosen.unavailable():
        pytest.skip(chosen.unavailable())
    one = chosen.kind(chosen, crash.options(["--target", target, "--count", str(count), "--time-limit", "60", *more]))
    good = one.run()
    print(crash.HEAD)
    print(one.row())
    one.report()
    return good, one


@pytest.mark.parametrize("method", SHORT)
def test_acknowledged_mail_survives(target, method):
    good, one = run(method, target, SHORT[method])
    assert max(one.ledger.acked_count, one.ledger.deliveries) > 3, "no load: the run shows nothing"  # a busy machine gets few through
    assert good


@pytest.mark.parametrize("method", ["lie", "local-lie"])
def test_power_cut_with_a_lying_fdatasync_is_noticed(target, method):
    """The harness can fail (RELIABILITY G3)."""
    noticed, _ = run(method, target, 20, "--settle", "1", "--patience", "6")
    assert noticed


ORDER = [sys.executable, f"{TOP}/tests/crash/order.py"]


@pytest.mark.skipif(bool(inject.unavailable()), reason=inject.unavailable())
def test_what_any_file_system_may_keep_after_a_cut_is_enough(target):
    """P7: some of the states that nothing promises against. tests/crash/order.py without --states tries all."""
    if target != "postern":
        pytest.skip("reads the traces of Postern's daemons")
    done = subprocess.run([*ORDER, "--states", "6", "--seed", str(os.getpid())], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:]
    assert " 6 tried" in done.stdout and "\n6 states, 0 bad" in done.stdout


@pytest.mark.skipif(bool(inject.unavailable()), reason=inject.unavailable())
def test_what_any_file_system_may_keep_is_not_enough_when_syncs_are_lies(target):
    if target != "postern":
        pytest.skip("reads the traces of Postern's daemons")
    done = subprocess.run([*ORDER, "--states", "60", "--lie"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    assert done.returncode == 0 and "the lie was noticed" in done.stdout, done.stdout[-4000:]
