#!/usr/bin/env python3
"""Checks the repository's own rules: include directions, shape of files, banned calls, format.

Usage: tests/tidy/tidy.py [rules|format] [ROOT]. Prints one line a finding; exit status 1 if any.
"""

import pathlib
import re
import shutil
import subprocess
import sys

import include_rules
import text_rules
import tree

CLANG_FORMAT_VERSION = "14"  # Other versions break lines elsewhere.


def rule_findings(root):
    files = tree.read_tree(root)
    for rule in include_rules.RULES + text_rules.RULES:
        for finding in rule(files):
            yield f"{finding} [{rule.__name__}]"


def clang_format():
    """The one version that the format is defined by, or None."""
    for name in (f"clang-format-{CLANG_FORMAT_VERSION}", "clang-format"):
        program = shutil.which(name)
        if program is None:
            continue
        version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        if re.search(rf"version {CLANG_FORMAT_VERSION}\.", version.stdout):
            return program
    return None


def format_findings(root):
    program = clang_format()
    if program is None:
        yield (f"clang-format {CLANG_FORMAT_VERSION} is not installed; "
               "deploy/local/install.sh test installs it")
        return
    files = [str(root / file.path) for file in tree.read_tree(root).cpp()]
    checked = subprocess.run([program, "--dry-run", "--Werror", "--style=file", *files],
                             capture_output=True, text=True, check=False)
    for line in checked.stderr.splitlines():
        if ": error:" in line:
            yield f"{line}; run {program} -i on it"


def main(arguments):
    what = arguments[0] if arguments else "rules"
    if what not in ("rules", "format"):
        print(__doc__, file=sys.stderr)
        return 2
    default = pathlib.Path(__file__).resolve().parents[2]
    root = pathlib.Path(arguments[1]).resolve() if len(arguments) > 1 else default
    findings = list(rule_findings(root) if what == "rules" else format_findings(root))
    for line in findings:
        print(line)
    print(f"{len(findings)} finding(s)")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
