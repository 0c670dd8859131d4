"""What every file looks like, and which calls are banned where.

Each rule is a function from a tree to findings, "path:line: what is wrong; what to do".
"""

import pathlib
import re

LINES_MAX = 700
COLUMNS_MAX = {".proto": 130, ".cmake": 130, ".txt": 130, ".yaml": 120}
CODE_COLUMNS_MAX = 100

# This folder shows what the rules catch, so its own samples would be caught.
SAMPLES = "tests/tidy/"


def finding(file, number, what):
    return f"{file.path}:{number}: {what}"


def headers_guard_themselves(tree):
    """But not "-inl.h": those are compiled once for each level of the processor."""
    for file in tree:
        if file.path.endswith("-inl.h"):
            continue
        if file.suffix in {".h", ".cuh"} and "#pragma once" not in file.lines:
            yield finding(file, 1, "a header needs `#pragma once`")


def first_lines_say_what_for(tree):
    """A comment of two words at least on the first line, after the one that names a shell."""
    opening = {".h": "//", ".cuh": "//", ".cc": "//", ".cu": "//", ".proto": "//", ".py": '"""',
               ".sh": "#", ".cmake": "#", ".yaml": "#", ".yml": "#", ".supp": "#"}
    for file in tree:
        mark = opening.get(file.suffix)
        if mark is None:
            continue
        lines = file.lines[1:] if file.text.startswith("#!") else file.lines
        first = lines[0] if lines else ""
        if not first.startswith(mark) or len(first.removeprefix(mark).split()) < 2:
            yield finding(file, 1, "the first line is a comment that says what the file is for")


def lines_fit(tree):
    for file in tree:
        limit = CODE_COLUMNS_MAX if file.is_code else COLUMNS_MAX.get(file.suffix)
        for number, line in enumerate(file.lines, 1) if limit else ():
            if len(line) > limit:
                yield finding(file, number, f"{len(line)} columns; at most {limit}")


def files_fit(tree):
    for file in tree:
        if (file.is_code or file.suffix in COLUMNS_MAX) and len(file.lines) > LINES_MAX:
            yield finding(file, 1, f"{len(file.lines)} lines; split files above {LINES_MAX}")


# Where sleeping or reading the machine's clock is right, each with its reason.
CLOCK_READERS = {
    "client/coordinator.cc": "gRPC takes the deadline of a call as a point in time",
    "client/local_start.cc": "waits for daemons that it started",
    "client/process.cc": "waits for processes of this machine",
    "client/stop_signal.cc": "a wait that a signal ends",
    "server/daemon.cc": "gRPC takes the deadline of a shutdown as a point in time",
    "worker/trainer/core/stopwatch.h": "measures durations for reports; the core may not use base",
    "worker/trainer/worker_link.cc": "gRPC takes the deadline of a call as a point in time",
}
SLEEPERS = {
    "tests/bench/coordinator_load.cc": "brings load at a rate, and polls another process",
    "tests/bench/load_process.cc": "polls for the file that another process writes",
    "tests/bench/load_submitter.cc": "brings load at a rate",
    "tests/unit/client/process_test.cc": "polls the log of a process, which gives no other sign",
}

SLEEP = re.compile(r"\bsleep_(for|until)\s*\(|(?<![\w.>:])(u|nano)?sleep\s*\(")
CLOCK = re.compile(r"\b(steady|system|high_resolution)_clock::now\s*\(|\bclock_gettime\s*\("
                   r"|\bgettimeofday\s*\(|(?<![\w.>])(std::)?time\((nullptr|NULL|0)\)")


def nobody_sleeps(tree):
    for file in tree.cpp():
        if file.path in SLEEPERS or file.under("tests/tidy"):
            continue
        for number, line in file.code_lines():
            if SLEEP.search(line):
                yield finding(file, number, "no sleeping: wait for the condition, with a time-out")


def time_is_an_argument(tree):
    for file in tree.cpp():
        if file.under("base", "tests") or file.path.endswith("/main.cc"):
            continue
        if file.path in CLOCK_READERS:
            continue
        for number, line in file.code_lines():
            if CLOCK.search(line):
                yield finding(file, number, "take the time as an argument or from base/clock.h")


def exceptions_are_needed(tree):
    """An exception that nothing needs any more would hide the next mistake."""
    for table, pattern in ((CLOCK_READERS, CLOCK), (SLEEPERS, SLEEP)):
        for path in table:
            file = tree.files.get(path)
            if file is None or not pattern.search("\n".join(line for _, line in file.code_lines())):
                yield f"{path}:1: no longer needs its exception in tests/tidy; remove it"


def todos_name_an_issue(tree):
    for file in tree:
        if file.path.startswith(SAMPLES):
            continue
        for number, line in enumerate(file.lines, 1):
            if re.search(r"\b(TODO|FIXME|XXX)\b(?!\(#\d+\))", line):
                yield finding(file, number, "finish it, or name the issue: TODO(#12)")


def paths_are_portable(tree):
    """No path that exists on one machine only."""
    pattern = re.compile(r"(?<![\w.$}{~/-])/(work|root|home/\w+|Users/\w+)(?=/|\b(?![\w-]))")
    for file in tree:
        if file.path.startswith(SAMPLES):
            continue
        for number, line in enumerate(file.lines, 1):
            match = pattern.search(line)
            if match:
                yield finding(file, number, f"{match.group(0)} is a path of one machine")


def scripts_run(tree):
    for file in tree:
        shebang = file.text.startswith("#!")
        if shebang and not file.executable:
            yield finding(file, 1, "starts with #! but is not executable; chmod +x")
        if file.suffix == ".sh" and not shebang:
            yield finding(file, 1, "a script starts with #!/usr/bin/env bash")


def no_dead_sources(tree):
    """Every source is in a CMakeLists.txt above it; every header is included by somebody."""
    included = set()
    for file in tree.cpp():
        for _, header, quoted in file.includes():
            included.add(header)
            if quoted:  # Also found beside the file that includes it.
                included.add((pathlib.PurePosixPath(file.path).parent / header).as_posix())
    for file in tree.cpp():
        path = pathlib.PurePosixPath(file.path)
        if file.suffix in {".cc", ".cu"}:
            listed = False
            for folder in path.parents:
                lists = tree.files.get((folder / "CMakeLists.txt").as_posix())
                name = path.relative_to(folder).as_posix()
                if lists and re.search(rf"(?<![\w/]){re.escape(name)}(?!\w)", lists.text):
                    listed = True
            if not listed:
                yield finding(file, 1, "is in no CMakeLists.txt; add or delete it")
        elif file.path not in included:
            yield finding(file, 1, "is included by nobody; use or delete it")


def decisions_have_numbers(tree):
    """adr/NNNN-*.md starts with its number, which no other of its folder has."""
    seen = {}
    for file in tree:
        path = pathlib.PurePosixPath(file.path)
        if path.parent.name != "adr":
            continue
        number = path.name[:4]
        if not file.text.startswith(f"# {number}: "):
            yield finding(file, 1, f"starts with '# {number}: '")
        first = seen.setdefault((path.parent, number), file.path)
        if first != file.path:
            yield finding(file, 1, f"has the number of {first}; give it the next one")


RULES = [headers_guard_themselves, first_lines_say_what_for, lines_fit, files_fit, nobody_sleeps,
         time_is_an_argument, exceptions_are_needed, todos_name_an_issue, paths_are_portable,
         scripts_run, no_dead_sources, decisions_have_numbers]
