#!/usr/bin/env python3
"""Prints the failed tests of a JUnit report by ctest, each with the end of its output."""

import sys
import xml.etree.ElementTree

LINES = 40


def main():
    for case in xml.etree.ElementTree.parse(sys.argv[1]).iter("testcase"):
        failure = case.find("failure")
        if failure is None:
            continue
        print(f"-- {case.get('name')}: {failure.get('message') or 'failed'}, {case.get('time')} s")
        output = (case.findtext("system-out") or "").rstrip().splitlines()
        print("\n".join("   " + line for line in output[-LINES:]))


if __name__ == "__main__":
    main()
