#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Look-ups a second through proxymap: table_proxy.py [--keys N] [--peer postfix]. $POSTERN_BUILD names the build.

Each system's own `postmap -q -` reads keys that are in a texthash table, one process and 20 at a time; ours also with 1 and 20 tasks in a
process (bench/table_proxy), which is how its daemons ask."""
import argparse
import os
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests"))
from harness import Instance, unavailable  # noqa: E402
from harness.instance import build_dir  # noqa: E402


def postmaps(mail, table, keys, processes):
    argv = [f"{mail.commands}/postmap", "-c", mail.etc] if not mail.root else \
        ["chroot", mail.root, mail.inside(mail.programs["postmap"]), "-c", mail.inside(mail.etc)]
    text = "".join(f"k{n}\n" for n in range(keys)).encode()
    running = [subprocess.Popen([*argv, "-q", "-", table], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) for _ in range(processes)]
    begin = time.monotonic()
    feeders = [threading.Thread(target=p.communicate, args=(text,)) for p in running]
    for feeder in feeders:
        feeder.start()
    for feeder in feeders:
        feeder.join()
    assert all(p.returncode == 0 for p in running), [p.returncode for p in running]
    return processes * keys / (time.monotonic() - begin)


def measure(target, keys):
    mail = Instance(target=target, start=False)
    path = f"{mail.etc}/table"
    table = f"proxy:texthash:{mail.inside(path)}"
    mail.settings.update({"proxy_read_maps": table, "local_recipient_maps": ""})
    with mail:
        with open(path, "w") as f:
            f.writelines(f"k{n} v{n}\n" for n in range(100000))
        mail.write_config()
        mail.start()
        for processes in (1, 20):
            postmaps(mail, table, 100, 1)
            rates = [postmaps(mail, table, keys if processes == 1 else max(keys // 10, 100), processes) for _ in range(3)]
            print(f"{target}: {processes} postmap: {' '.join(f'{rate:.0f}' for rate in sorted(rates))} look-ups a second", flush=True)
        if target == "postern":
            for tasks in (1, 20):
                print("postern:", subprocess.run([f"{build_dir()}/bench/table_proxy", mail.etc, table, str(tasks), "2", "100000"],
                                                 capture_output=True, text=True, check=True).stdout.strip(), flush=True)


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--keys", type=int, default=20000)
    options.add_argument("--peer", default="postfix")
    arguments = options.parse_args()
    measure("postern", arguments.keys)
    if unavailable(arguments.peer):
        print(f"{arguments.peer}: {unavailable(arguments.peer)}")
    else:
        measure(arguments.peer, arguments.keys)
