#!/usr/bin/env python3
"""Every rule of tests/tidy sees its offending sample and lets its good sample pass."""

import pathlib
import tempfile
import unittest

import core_alone
import include_rules
import text_rules
import tidy
import tree


def make_tree(files):
    """`files`: path to text, or to (text, executable)."""
    made = []
    for path, content in files.items():
        text, executable = content if isinstance(content, tuple) else (content, False)
        made.append(tree.File(path, text, executable))
    return tree.Tree(made)


def include(header):
    return f'#include "{header}"\n'


INTERFACE = "class Door {\n public:\n  virtual void Open() = 0;\n};\n"
TWO_DOORS = "class A final : public Door {};\nclass B : public base::Door {};\n"
SUITE = {"tests/conformance/door.cc": "TEST_P(Suite, Opens) { Door& door = Make(); }\n"}

# rule: (offending samples, good samples).
SAMPLES = {
    include_rules.kernels_stand_alone: (
        [{"kernels/a.h": include("base/check.h")}, {"server/a.cc": include("kernels/tensor.h")},
         {"worker/daemon/a.cc": include("kernels/tensor.h")}],
        [{"kernels/a.h": include("kernels/b.h")},
         {"worker/trainer/a.cc": include("kernels/tensor.h")},
         {"tests/unit/a.cc": include("kernels/tensor.h")}]),
    include_rules.programs_meet_in_proto: (
        [{"server/a.cc": include("worker/b.h")}, {"client/a.cc": include("server/b.h")},
         {"base/a.cc": include("client/b.h")}],
        [{"server/a.cc": include("server/b.h") + include("sinkforge/v1/job.pb.h")},
         {"tests/a.cc": include("server/b.h") + include("worker/b.h")}]),
    include_rules.logic_is_pure: (
        [{"server/state/a.cc": "#include <mutex>\n"},
         {"server/scheduler/a.h": "#include <grpcpp/grpcpp.h>\n"},
         {"server/state/a.cc": include("base/mutex.h")},
         {"server/state/a.cc": "auto now = std::chrono::steady_clock::now();\n"}],
        [{"server/state/a.cc": "#include <vector>\n// steady_clock::now() is never called here.\n"},
         {"server/rpc/a.cc": "#include <mutex>\n"}]),
    include_rules.libraries_stay_behind_interfaces: (
        [{"server/store/a.cc": "#include <rocksdb/db.h>\n"},
         {"worker/a.cc": "#include <prometheus/counter.h>\n"},
         {"kernels/cpu/a.cc": "#include <cuda_runtime.h>\n"},
         {"client/submit.cc": "#include <grpcpp/grpcpp.h>\n"},
         {"server/state/a.cc": include("sinkforge/v1/job_service.grpc.pb.h")}],
        [{"base/rocks_kv_store.cc": "#include <rocksdb/db.h>\n"},
         {"base/metrics.cc": "#include <prometheus/counter.h>\n"},
         {"kernels/cuda/a.cu": "#include <cuda_runtime.h>\n"},
         {"server/rpc/a.cc": "#include <grpcpp/grpcpp.h>\n",
          "server/main.cc": "#include <grpcpp/grpcpp.h>\n"}]),
    include_rules.interfaces_have_two_implementations: (
        [{"base/door.h": INTERFACE, "base/a.h": "class A final : public Door {};\n", **SUITE},
         {"base/door.h": INTERFACE, "base/a.h": TWO_DOORS}],
        [{"base/door.h": INTERFACE, "base/a.h": TWO_DOORS, **SUITE}]),
    include_rules.nothing_includes_tests: (
        [{"server/a.cc": include("tests/support/b.h")}],
        [{"tests/a.cc": include("tests/support/b.h")}]),
    include_rules.core_uses_the_standard_library: (
        [{"kernels/a.cc": include("absl/strings/str_cat.h")},
         {"worker/trainer/core/a.cc": include("base/clock.h")},
         {"worker/trainer/core/a.cc": "#include <gtest/gtest.h>\n"}],
        [{"kernels/a.cc": "#include <vector>\n#include <dnnl.hpp>\n#include <omp.h>\n"},
         {"worker/trainer/core/a.cc": include("kernels/tensor.h")},
         {"worker/trainer/b.cc": include("absl/strings/str_cat.h")}]),
    text_rules.headers_guard_themselves: (
        [{"a.h": "// A header for a test.\n#ifndef A\n"}],
        [{"a.h": "// A header for a test.\n#pragma once\n"}]),
    text_rules.first_lines_say_what_for: (
        [{"a.cc": "#include <vector>\n"}, {"a.cc": "// a.cc\n"}, {"a.sh": "#!/bin/sh\nset -e\n"}],
        [{"a.cc": "// Says hello to everyone.\n"},
         {"a.sh": "#!/bin/sh\n# Says hello to everyone.\n"}]),
    text_rules.lines_fit: (
        [{"a.cc": "//" + "x" * 99 + "\n"}, {"a.proto": "//" + "x" * 129 + "\n"}],
        [{"a.cc": "//" + "x" * 98 + "\n"}, {"a.md": "x" * 300 + "\n"}]),
    text_rules.files_fit: (
        [{"a.cc": "int x;\n" * 701}], [{"a.cc": "int x;\n" * 700}, {"a.md": "x\n" * 900}]),
    text_rules.nobody_sleeps: (
        [{"server/a.cc": "std::this_thread::sleep_for(1s);\n"},
         {"tests/a.cc": "  usleep(5);\n"}],
        [{"server/a.cc": "done.WaitFor(1s);  // Not sleep_for(1s).\n"}]),
    text_rules.time_is_an_argument: (
        [{"server/a.cc": "auto now = std::chrono::steady_clock::now();\n"},
         {"worker/a.cc": "const auto now = std::chrono::system_clock::now();\n"},
         {"client/a.cc": "std::srand(time(nullptr));\n"}],
        [{"base/clock.cc": "return std::chrono::steady_clock::now();\n"},
         {"server/main.cc": "auto now = std::chrono::steady_clock::now();\n"},
         {"server/a.cc": "void Tick(const base::Now& now);\n"}]),
    text_rules.todos_name_an_issue: (
        [{"a.cc": "// TODO: finish\n"}, {"a.py": "# FIXME later\n"}],
        [{"a.cc": "// TODO(#12): the last word.\n"}]),
    text_rules.paths_are_portable: (
        [{"a.cc": 'Open("/home/' + 'ann/data");\n'}, {"a.sh": "cd /wo" + "rk/tree\n"},
         {"a.yaml": "path: /ro" + "ot/x\n"}],
        [{"a.cc": 'Open("/var/lib/sinkforge"); Get("/workers");\n'}]),
    text_rules.scripts_run: (
        [{"a.sh": ("#!/usr/bin/env bash\n", False)}, {"a.sh": ("echo\n", True)}],
        [{"a.sh": ("#!/usr/bin/env bash\n", True), "a.py": '"""A module of functions."""\n'}]),
    text_rules.no_dead_sources: (
        [{"base/a.cc": "// x\n", "base/CMakeLists.txt": "sinkforge_library(base SOURCES aa.cc)"},
         {"base/a.h": "#pragma once\n"}],
        [{"base/a.cc": include("base/a.h"), "base/a.h": "#pragma once\n",
          "base/CMakeLists.txt": "sinkforge_library(base SOURCES a.cc)"},
         {"kernels/ref/a.cc": "// x\n", "kernels/CMakeLists.txt": "SOURCES ref/a.cc\n"}]),
    text_rules.decisions_have_numbers: (
        [{"base/adr/0001-a.md": "# 0002: A\n"},
         {"base/adr/0001-a.md": "# 0001: A\n", "base/adr/0001-b.md": "# 0001: B\n"}],
        [{"base/adr/0001-a.md": "# 0001: A\n", "kernels/adr/0001-b.md": "# 0001: B\n"}]),
}


class RulesTest(unittest.TestCase):

    def test_every_rule_has_samples(self):
        rules = set(include_rules.RULES + text_rules.RULES) - {text_rules.exceptions_are_needed}
        self.assertEqual(rules, set(SAMPLES))

    def test_offending_samples_are_caught(self):
        for rule, (offending, _) in SAMPLES.items():
            for number, files in enumerate(offending):
                with self.subTest(rule=rule.__name__, sample=number):
                    findings = list(rule(make_tree(files)))
                    self.assertTrue(findings)
                    for finding in findings:
                        self.assertRegex(finding, r"^[\w./-]+:\d+: .+")

    def test_good_samples_pass(self):
        for rule, (_, good) in SAMPLES.items():
            for number, files in enumerate(good):
                with self.subTest(rule=rule.__name__, sample=number):
                    self.assertEqual(list(rule(make_tree(files))), [])

    def test_an_exception_that_nothing_needs_is_caught(self):
        text_rules.CLOCK_READERS["server/gone.cc"] = "for this test"
        self.addCleanup(text_rules.CLOCK_READERS.pop, "server/gone.cc")
        found = list(text_rules.exceptions_are_needed(make_tree({})))
        self.assertTrue(any("server/gone.cc" in line for line in found))
        needed = {"server/gone.cc": "x = std::chrono::steady_clock::now();\n"}
        found = list(text_rules.exceptions_are_needed(make_tree(needed)))
        self.assertFalse(any("server/gone.cc" in line for line in found))


class TreeTest(unittest.TestCase):

    def test_reads_files_but_not_build_outputs(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for path in ("base/a.cc", "build/release/b.cc", ".git/c.cc"):
                (root / path).parent.mkdir(parents=True)
                (root / path).write_text("// Nothing.\n")
            self.assertEqual([file.path for file in tree.read_tree(root)], ["base/a.cc"])

    def test_leaves_out_the_git_file_of_a_linked_work_tree(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / ".git").write_text("gitdir: elsewhere\n")
            self.assertEqual(list(tree.read_tree(root)), [])


class FormatTest(unittest.TestCase):

    def test_badly_formatted_code_is_caught(self):
        self.assertIsNotNone(tidy.clang_format(), "deploy/local/install.sh test installs it")
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / ".clang-format").write_text("BasedOnStyle: Google\n")
            (root / "good.cc").write_text("int x;\n")
            self.assertEqual(list(tidy.format_findings(root)), [])
            (root / "bad.cc").write_text("int   x ;\n")
            findings = list(tidy.format_findings(root))
            self.assertTrue(findings and all("bad.cc" in line for line in findings), findings)


class CoreAloneTest(unittest.TestCase):

    def test_a_library_of_the_services_is_caught(self):
        for path in ("/usr/include/absl/base/config.h", "/usr/include/gtest/gtest.h",
                     "/usr/include/google/protobuf/message.h", "/usr/include/yaml-cpp/yaml.h"):
            self.assertFalse(core_alone.is_allowed(path, pathlib.Path("/tmp/x")), path)

    def test_the_standard_library_passes(self):
        for path in ("/usr/include/c++/12/vector", "/usr/include/stdio.h", "/tmp/x/kernels/a.h",
                     "/usr/lib/gcc/x86_64-linux-gnu/12/include/omp.h", "/usr/include/dnnl.hpp",
                     "/usr/include/oneapi/dnnl/dnnl.h"):
            self.assertTrue(core_alone.is_allowed(path, pathlib.Path("/tmp/x")), path)


if __name__ == "__main__":
    unittest.main()
