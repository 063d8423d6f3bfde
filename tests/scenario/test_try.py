# SPDX-License-Identifier: Apache-2.0
"""./try, but for building: as root and as an ordinary user, twice in a row, and nothing left after stop."""
import os
import pwd
import re
import subprocess
import sys
import tempfile

import pytest

from harness.instance import TOP, build_dir
from harness.processes import all_processes
from trial.screen import can_be_entered

TRY = f"{TOP}/tests/try.py"


def environment(folder):
    return dict(os.environ, TRY_DIR=f"{folder}/try.d", POSTERN_BUILD=build_dir(), PYTHONDONTWRITEBYTECODE="1")


def run(folder, user, *args):
    change = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"] if user.pw_uid != os.geteuid() else []
    with open(f"{folder}/out", "w+") as out:  # a file: what stays running keeps it open
        done = subprocess.run([*change, sys.executable, TRY, *args], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment(folder), timeout=300)
        out.seek(0)
        return done.returncode, out.read()


def left_over(folder):
    found = []
    for process in all_processes():
        try:
            with open(f"/proc/{process.pid}/environ", "rb") as f:
                mine = f"TRY_DIR={folder}/".encode() in f.read()
            mine = mine or os.readlink(f"/proc/{process.pid}/cwd").startswith(f"{folder}/")
        except OSError:
            continue
        if mine and process.state != "Z":
            found.append(process)
    return found


@pytest.mark.parametrize("name", ["root", "nobody"])
def test_try_shows_mail_from_sender_to_reader(target, tmp_path, name):
    if os.geteuid() and name == "root":
        pytest.skip("not root")
    user = pwd.getpwnam(name) if not os.geteuid() else pwd.getpwuid(os.geteuid())
    if user.pw_uid and not can_be_entered(build_dir()):
        pytest.skip(f"{build_dir()} can't be entered by {name}")
    for place in (tmp_path, *tmp_path.parents):
        if str(place) == tempfile.gettempdir():
            break
        os.chmod(place, 0o755)
    folder = tmp_path / "x"
    folder.mkdir(mode=0o755)
    os.chown(folder, user.pw_uid, user.pw_gid)
    try:
        for _ in range(2 if name == "root" else 1):
            status, text = run(folder, user, "start")
            assert status == 0, text
        for wanted in (r"relay=mx1\.far\.test.*status=sent", r"relay=mx2\.far\.test.*status=sent", r"At noon\?", r"<nobody@here\.test>: ",
                       r"friend@dead\.far\.test", r"235 2\.7\.0", r"S: \+OK Logged in", r"S: \* SEARCH \d+ \d+", r"Sent with submission\.",
                       r"Incoming, IMAP +host localhost, port \d+, security SSL/TLS"):
            assert re.search(wanted, text), (wanted, text)
        assert ("all processes run as that user" in text) == (user.pw_uid != 0)
    finally:
        status, text = run(folder, user, "stop")
    assert (status, text) == (0, "stopped\n")
    assert not left_over(folder)
