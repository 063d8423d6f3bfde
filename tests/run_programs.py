#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs test programs, as many at once as there are processors, and counts: run_programs.py KIND BUILD-DIRECTORY PROGRAM...

unit      cmocka programs; every test in them counts, and so does a program that dies or hangs
valgrind  the same under Valgrind: a program is one test, which fails on any error or leak that Valgrind reports
fuzz      fuzz targets from the seeds in tests/fuzz/seeds, for FUZZ_SECONDS each; if that is not set, for four, in the same order of inputs
          each time, so that a change is judged by itself and not by luck; a target is one test

The last line is "RESULT passed failed".
"""
import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
FUZZ_SECONDS = int(os.environ.get("FUZZ_SECONDS", "4"))
TIMEOUT = {"unit": 120, "valgrind": 300, "fuzz": 60 + 3 * FUZZ_SECONDS}
VALGRIND = ["valgrind", "-q", "--error-exitcode=99", "--leak-check=full", "--errors-for-leak-kinds=definite", "--track-fds=no"]


def command(kind, build, program, scratch):
    path = os.path.join(build, program)
    if kind == "unit":
        return [path]
    if kind == "valgrind":
        return VALGRIND + [path]
    corpus = os.path.join(scratch, "corpus")  # libFuzzer writes what it finds into the first directory
    os.mkdir(corpus)
    seeds = os.path.join(HERE, "fuzz", "seeds", os.path.basename(program).removeprefix("fuzz_"))
    dice = [] if "FUZZ_SECONDS" in os.environ else ["-seed=1"]
    return [path, f"-max_total_time={FUZZ_SECONDS}", *dice, corpus] + ([seeds] if os.path.isdir(seeds) else [])


def run(kind, build, program):
    """Returns (passed, failed, text to show)."""
    env = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="TAP", MALLOC_PERTURB_="165", UBSAN_OPTIONS="print_stacktrace=1",
               ASAN_OPTIONS="detect_leaks=1:abort_on_error=0:allocator_may_return_null=1", srcdir=os.path.dirname(HERE))
    if kind == "valgrind":
        env.update(POSTERN_VALGRIND="1", MALLOC_PERTURB_="0")
    with tempfile.TemporaryDirectory(prefix="postern-test-") as scratch:
        try:
            done = subprocess.run(command(kind, build, program, scratch), cwd=scratch, env=env, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT[kind], check=False)
            code, output = done.returncode, done.stdout.decode("utf-8", "replace")
        except subprocess.TimeoutExpired as late:
            code, output = f"no end after {TIMEOUT[kind]} s", (late.stdout or b"").decode("utf-8", "replace")
        except OSError as e:
            code, output = str(e), ""
    if kind != "unit":
        return (1, 0, f"ok: {program}") if code == 0 else (0, 1, f"{output[-6000:]}\nFAILED: {program}: {code}")
    passed, failed = (len(re.findall(rf"^{word} \d+", output, re.M)) for word in ("ok", "not ok"))
    if code != 0 and failed == 0:
        failed = 1
    if code == 0 and passed == 0:
        return 0, 1, f"{output[-6000:]}\nFAILED: {program}: ran no test"
    return passed, failed, f"{output[-6000:]}\nFAILED: {program}: {code}" if failed else f"ok: {program} ({passed})"


def main():
    kind, build, programs = sys.argv[1], os.path.abspath(sys.argv[2]), sys.argv[3:]
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        for good, bad, text in pool.map(lambda program: run(kind, build, program), programs):
            passed, failed = passed + good, failed + bad
            print(text, flush=True)
    if not programs:
        print("FAILED: no programs to run")
        failed = 1
    print(f"RESULT {passed} {failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
