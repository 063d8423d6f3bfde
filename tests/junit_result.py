#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Prints "RESULT passed failed" from a JUnit file as pytest writes it; a skipped test is neither. No file is a failure.

A second file holds the tests that failed, run once more. What passes there counts as passed, and a line "AGAIN: NAME" says so: such a test
depends on the machine's pace, and wants mending."""
import os
import sys
import xml.etree.ElementTree as ET


def read(path):
    """The tests' names by what became of them. A test may be there twice, once for its end: the worse counts."""
    ends = {}
    for case in ET.parse(path).getroot().iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        kinds = {child.tag for child in case}
        ends.setdefault(name, set()).add("failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed")
    return {end: {n for n, all_ends in ends.items() if worst(all_ends) == end} for end in ("failed", "skipped", "passed")}


def worst(ends):
    return next(end for end in ("failed", "passed", "skipped") if end in ends)


def main():
    first = read(sys.argv[1])
    again = set()
    if len(sys.argv) > 2 and os.path.exists(sys.argv[2]):
        again = first["failed"] & read(sys.argv[2])["passed"]
    for name in sorted(again):
        print(f"AGAIN: {name}")
    print("RESULT", len(first["passed"]) + len(again), len(first["failed"] - again))


try:
    main()
except (OSError, ET.ParseError) as e:
    print(f"no test results: {e}\nRESULT 0 1")
