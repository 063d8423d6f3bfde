# SPDX-License-Identifier: Apache-2.0
"""local(8) beside Debian's Postfix: the cases of local_cases.py, and what Postfix did with them (local_cases.json, made by
`local_cases.py observe postfix`). RELIABILITY T08 to T13, T31 to T33 and the .forward row of section 4 are among them."""
import json
import os
import shutil
import subprocess
import sys

import pytest

import local_cases

HERE = os.path.dirname(os.path.abspath(__file__))


def test_local_does_what_postfix_does(target, tmp_path):
    if os.geteuid() or target != "postern":
        pytest.skip("makes users of its own: needs root, and is for Postern")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode or not shutil.which("unshare"):
        pytest.skip("no mount namespaces here")
    result = tmp_path / "ours.json"
    done = subprocess.run([sys.executable, f"{HERE}/local_cases.py", "observe", "postern", str(result)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    with open(f"{HERE}/local_cases.json") as f:
        found = local_cases.differences(json.loads(result.read_text()), json.load(f))
    unexplained = [f"{key}\n  {text}" for key, text in found if key not in local_cases.DIFFERENCES]
    assert not unexplained, "\n".join(unexplained)
    assert len(local_cases.CASES) >= 200
