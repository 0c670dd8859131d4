#!/usr/bin/env python3
"""Builds kernels and the trainer's core with nothing else on the include path, and runs the table
of op cases: the subset that must work on a bare GPU machine.

Usage: tests/tidy/core_alone.py BUILD_FOLDER WORK_FOLDER. Copies the sources to WORK_FOLDER, so that
no other header of the tree can be found, compiles each of them, and reads from the compiler which
headers it used: only the standard library's and the vendors' are allowed. BUILD_FOLDER has the
compile_commands.json that says which processor level a file is for.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

FOLDERS = ("kernels", "worker/trainer/core")
# The op cases and the plain `main` that runs them without a test library.
CASES = ["attention_cases.cc", "conformance_main.cc", "harness.cc", "harness.h", "op_case.h",
         "op_cases.cc"]
# Of Debian's /usr/include: the C and C++ libraries, the kernel's, and oneDNN.
ALLOWED = re.compile(
    r"^/usr/(lib/gcc|include/(c\+\+|x86_64-linux-gnu|aarch64-linux-gnu|linux|asm|asm-generic|bits"
    r"|sys|gnu|oneapi))/|^/usr/include/[\w-]+\.h$|^/usr/include/dnnl\w*\.hpp$|^/usr/local/cuda")
FLAGS = ["-std=c++20", "-O1", "-fopenmp", "-fPIC", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow",
         "-Werror"]


def is_allowed(header, root):
    return header.startswith(f"{root}/") or ALLOWED.match(header) is not None


def copy_subset(source, root):
    shutil.rmtree(root, ignore_errors=True)
    for folder in FOLDERS:
        shutil.copytree(source / folder, root / folder)
    cuda = root / "kernels" / "cuda"
    shutil.rmtree(cuda, ignore_errors=True)  # Needs NVIDIA's compiler; built by the preset `cuda`.
    conformance = root / "tests" / "conformance"
    conformance.mkdir(parents=True)
    for name in CASES:
        shutil.copy(source / "tests" / "conformance" / name, conformance / name)


def own_flags(build):
    """Source file to the flags that are its own: processor level, rounding, definitions."""
    flags = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        flags[entry["file"]] = [word for word in entry["command"].split()
                                if re.match(r"-m|-f(?!sanitize)|-DSINK", word)]
    return flags


def compile_source(source, root, flags):
    """Returns (object, what went wrong)."""
    target, dependencies = source.with_suffix(".o"), source.with_suffix(".d")
    launcher = [shutil.which("ccache")] if shutil.which("ccache") else []
    name = {path: str(path.relative_to(root)) for path in (source, target, dependencies)}
    command = launcher + ["g++", *FLAGS, *flags, "-I", ".", "-MD", "-MF", name[dependencies],
                          "-c", name[source], "-o", name[target]]
    made = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return target, made.stderr
    names = dependencies.read_text().replace("\\\n", " ").split(":", 1)[1].split()
    headers = [os.path.normpath(root / name) for name in names]
    foreign = sorted({header for header in headers if not is_allowed(header, root)})
    return target, "".join(f"{source}: uses {header}\n" for header in foreign)


def main(arguments):
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    tree = pathlib.Path(__file__).resolve().parents[2]
    root = pathlib.Path(arguments[1]).resolve() / "core_alone"
    flags = own_flags(pathlib.Path(arguments[0]))
    copy_subset(tree, root)
    # A kernel for another architecture is in no command and is left out, as in the build.
    sources = [path for path in sorted(root.rglob("*.cc"))
               if str(tree / path.relative_to(root)) in flags]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(
            lambda path: compile_source(path, root, flags[str(tree / path.relative_to(root))]),
            sources))
    problems = "".join(problem for _, problem in results)
    if problems or not sources:
        print(problems or "no sources found")
        return 1

    program = root / "conformance"
    linked = subprocess.run(["g++", "-fopenmp", "-o", str(program), *[str(o) for o, _ in results],
                             "-ldnnl", "-lpthread"], capture_output=True, text=True, check=False)
    if linked.returncode != 0:
        print(linked.stderr)
        return 1
    return subprocess.run([str(program)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
