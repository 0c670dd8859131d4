"""Who may include whom: the seven dependency rules of the architecture.

Each rule is a function from a tree to findings, "path:line: what is wrong; what to do".
"""

import re

OURS = ("kernels", "base", "proto", "tokenizer", "server", "worker", "client", "tests",
        "sinkforge")
CORE = "worker/trainer/core"

# What the standard library and the vendors' mathematics libraries may be named in the subset that
# builds on a bare GPU machine.
CORE_VENDOR = re.compile(
    r"^(dnnl|dnnl_types|omp|immintrin|cblas|nccl)\.h(pp)?$|^oneapi/dnnl/"
    r"|^cu(da|blas|dnn|rand)\w*\.h$|^cub/|^cooperative_groups|^nvtx3/|^sys/|^fcntl\.h$|^unistd\.h$")
STANDARD = re.compile(r"^[a-z_0-9]+$")

GRPC = re.compile(r"^grpc(pp|\+\+)?/|\.grpc\.pb\.h$")
ROCKSDB = re.compile(r"^rocksdb/")
PROMETHEUS = re.compile(r"^prometheus/")
CIVETWEB = re.compile(r"^(civetweb\.h|CivetServer\.h)$")
CUDA = re.compile(r"^(cu(da|blas|dnn|rand)\w*|nccl|nvml)\.h$|^(cub|cooperative_groups|nvtx3)/")


def is_ours(header):
    return header.split("/")[0] in OURS


def finding(file, number, what):
    return f"{file.path}:{number}: {what}"


def kernels_stand_alone(tree):
    """Rule 1: kernels includes nothing of ours; only worker/trainer and tests use it."""
    for file in tree.cpp():
        for number, header, _ in file.includes():
            if file.under("kernels") and is_ours(header) and not header.startswith("kernels/"):
                yield finding(file, number, f"kernels may not include {header}")
            users = ("kernels", "worker/trainer", "tests")
            if header.startswith("kernels/") and not file.under(*users):
                yield finding(file, number, f"only worker/trainer uses kernels, not {file.path}")


def programs_meet_in_proto(tree):
    """Rule 2: server, worker and client never include one another; base and proto none of them."""
    programs = ("server", "worker", "client")
    for file in tree.cpp():
        own = file.path.split("/")[0]
        for number, header, _ in file.includes():
            other = header.split("/")[0]
            if own in programs and other in programs and other != own:
                yield finding(file, number, f"{own} may not include {header}; meet in proto")
            if own in ("base", "proto", "tokenizer") and other in programs:
                yield finding(file, number, f"{own} is below the programs: not {header}")


# Time is an argument there; locks and threads belong to who calls.
IMPURE = re.compile(r"^(thread|mutex|shared_mutex|condition_variable|future|semaphore|stop_token"
                    r"|base/mutex\.h|base/rpc\.h|base/kv_store\.h|base/metrics\.h)$")


def logic_is_pure(tree):
    """Rule 3: server/state and server/scheduler know no gRPC, RocksDB, threads or clock."""
    for file in tree.cpp():
        if not file.under("server/state", "server/scheduler"):
            continue
        for number, header, _ in file.includes():
            if GRPC.search(header) or ROCKSDB.search(header) or IMPURE.search(header):
                yield finding(file, number, f"pure logic may not include {header}")
        for number, line in file.code_lines():
            if re.search(r"\bRealClock\b|::now\s*\(", line):
                yield finding(file, number, "pure logic takes the time as an argument")


def libraries_stay_behind_interfaces(tree):
    """Rule 4: RocksDB, CUDA, gRPC and Prometheus each stay where they are wrapped."""
    for file in tree.cpp():
        if file.under("tests"):
            continue
        name = file.path.rsplit("/", 1)[-1]
        for number, header, _ in file.includes():
            if ROCKSDB.search(header) and not (file.under("base") and "kv_store" in name):
                yield finding(file, number, "RocksDB is used through base/kv_store.h only")
            if PROMETHEUS.search(header) and not re.match(r"base/metrics\w*\.(h|cc)$", file.path):
                yield finding(file, number, "Prometheus is used through base/metrics.h only")
            if CIVETWEB.search(header) and file.path != "base/http.cc":
                yield finding(file, number, "CivetWeb is used through base/http.h only")
            if CUDA.search(header) and not (file.under("kernels/cuda") or "nccl" in name):
                yield finding(file, number, "CUDA stays in kernels/cuda and the NCCL collective")
            if GRPC.search(header) and not may_use_grpc(file):
                yield finding(file, number, "gRPC stays in rpc/ folders, transports and main.cc")


# Files outside an rpc/ folder that are transports, each with its reason.
TRANSPORTS = {
    "client/coordinator.cc": "the client's only connection; the commands see plain calls",
    "worker/trainer/worker_link.h": "the trainer's end of its worker's service",
    "worker/trainer/worker_link.cc": "the trainer's end of its worker's service",
}


def may_use_grpc(file):
    name = file.path.rsplit("/", 1)[-1]
    return ("/rpc/" in file.path or file.path.startswith(("base/rpc", "base/tls")) or
            name == "main.cc" or file.path in TRANSPORTS)


CLASS = re.compile(r"^\s*class\s+(\w+)[^;{]*\{", re.MULTILINE)
PURE_VIRTUAL = re.compile(r"\bvirtual\b[^;{}]*=\s*0\s*;")

# Abstract classes that hide an implementation rather than leave a choice of it, each with what
# they hide. They need neither a second implementation nor a suite.
HIDING = {
    "base/clock.h:Clock": "the machine's clocks; logic takes what they say as an argument",
    "base/metrics.h:Counter": "prometheus-cpp",
    "base/metrics.h:Histogram": "prometheus-cpp",
    "base/metrics.h:Metrics": "prometheus-cpp",
    "base/kv_store.h:KvStore": "RocksDB; tests use it in a temporary folder",
    "worker/trainer/core/trainer.h:Trainer": "the model's arena and the optimizer",
}

# Interfaces whose implementations have nothing in common to test, each with the reason.
WITHOUT_SUITE = {
    "client/progress.h:ProgressDisplay": "each draws differently, which is its purpose",
    "worker/trainer/run_host.h:RunHost": "files of a folder, and a worker's service",
    "worker/trainer/make_collective.h:RendezvousStore": "a service, and a test's map",
}


def interfaces(tree):
    """(file, line number, name) of every class of ours that declares a pure virtual function."""
    for file in tree.cpp():
        if file.suffix != ".h" or file.under("tests"):
            continue
        text = "\n".join(line for _, line in file.code_lines())
        classes = list(CLASS.finditer(text))
        for at, match in enumerate(classes):
            end = classes[at + 1].start() if at + 1 < len(classes) else len(text)
            if PURE_VIRTUAL.search(text, match.end(), end):
                yield file, text.count("\n", 0, match.start(1)) + 1, match.group(1)


def interfaces_have_two_implementations(tree):
    """Rule 5: at least two implementations (one may be a fake), one suite that all of them pass."""
    everything = "\n".join(file.text for file in tree.cpp())
    suites = "\n".join(file.text for file in tree.cpp() if file.under("tests") and
                       re.search(r"\b(TEST_P|TYPED_TEST\w*|INSTANTIATE_\w+)\(", file.text))
    for file, number, name in interfaces(tree):
        key = f"{file.path}:{name}"
        if key in HIDING:
            continue
        derived = set(re.findall(rf"(?:class|struct)\s+(\w+)[^;{{]*:\s*[^;{{]*public\s+(?:\w+::)*"
                                 rf"{name}\b", everything))
        if len(derived) < 2:
            yield finding(file, number, f"interface {name} has {len(derived)} implementation(s); "
                          "it needs two, or it is no interface")
        if key not in WITHOUT_SUITE and not re.search(rf"\b{name}\b", suites):
            yield finding(file, number, f"interface {name} has no suite (TEST_P) in tests")


def nothing_includes_tests(tree):
    """Rule 6: nothing outside tests includes anything in tests."""
    for file in tree.cpp():
        for number, header, _ in file.includes():
            if header.startswith("tests/") and not file.under("tests"):
                yield finding(file, number, f"only tests may include {header}")


def core_uses_the_standard_library(tree):
    """Rule 7: kernels and the trainer's core use the standard library and the vendors' alone."""
    for file in tree.cpp():
        if not file.under("kernels", CORE):
            continue
        for number, header, _ in file.includes():
            allowed = (STANDARD.match(header) or CORE_VENDOR.search(header) or
                       header.startswith(("kernels/", CORE + "/")))
            if not allowed:
                yield finding(file, number, f"must build on a bare GPU machine: not {header}")


RULES = [kernels_stand_alone, programs_meet_in_proto, logic_is_pure,
         libraries_stay_behind_interfaces, interfaces_have_two_implementations,
         nothing_includes_tests, core_uses_the_standard_library]
