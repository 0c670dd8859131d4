"""run.sh on a machine without a GPU: what it would build and ask is stubs in a temporary folder."""

import csv
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

HERE = pathlib.Path(__file__).parent
CONFORMANCE = HERE.parent / "conformance"


class RunTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.out = self.folder / "out"
        self.capability = "8.0"
        self.stub("bin/cmake", "true")
        self.stub("build/gpu_train", "exit 1")
        self.stub("build/device_conformance", 'echo "3 cases, 0 failed"')
        self.stub("bin/compute-sanitizer", 'echo "3 cases, 0 failed"')

    def stub(self, name, script):
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{script}\n")
        path.chmod(0o755)

    def run_script(self, command, *options):
        self.stub("bin/nvidia-smi", f'[[ "$*" != *compute_cap* ]] || echo {self.capability}')
        text = self.folder / "text.txt"
        text.write_text("In the beginning\n")
        environment = {**os.environ, "BUILD_DIR": str(self.folder / "build"),
                       "PATH": f"{self.folder}/bin:{os.environ['PATH']}"}
        done = subprocess.run(
            [HERE / "run.sh", command, self.out, "--text", text, *options], env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        self.printed = done.stdout
        return done.returncode

    def run_parts(self, command, *options):
        """The parts' exit statuses by name."""
        self.run_script(command, *options)
        with open(self.out / "parts.csv", newline="") as file:
            return {name: int(status) for name, status, _ in csv.reader(file)}

    def log(self, part):
        return (self.out / f"{part}.log").read_text()


class BuildTest(RunTest):
    def test_shows_the_error_that_is_far_above_the_end_of_its_log(self):
        self.stub("bin/cmake", '''[[ "$1" == --build ]] || exit 0
            echo "FAILED: norms.cu.o"; echo "norms.cu(3): error: no such name"
            for i in {1..40}; do echo "[$i/80] Building"; done
            exit 2''')
        self.assertEqual(self.run_parts("check"), {"build": 2})
        self.assertRegex(self.printed, r"\[40/80\] Building\nFAILED: norms.cu.o\n"
                         r"norms.cu\(3\): error: no such name\n== build FAILED \(2\)")


class ConformanceTest(RunTest):
    def test_runs_each_group_alone_where_the_whole_is_ended(self):
        self.stub("build/device_conformance", '''case "$1 $2" in
            " others"|"Linear others") echo "cuBLASLt: product: refused" >&2; exit 26 ;;
            *) echo "3 cases, 0 failed" ;;
        esac''')
        self.assertEqual(self.run_parts("check")["conformance_others"], 1)
        lines = self.log("conformance_others").splitlines()
        self.assertEqual(lines[0], "cuBLASLt: product: refused")
        self.assertIn("Linear: cuBLASLt: product: refused", lines)
        self.assertIn("Muon: 3 cases, 0 failed", lines)
        self.assertRegex(lines[-1], r"^alone, sound: CrossEntropy .* _d128; broken: Linear$")
        self.assertIn(f"| {lines[-1]} | NOT MET |", self.printed)

    def test_runs_the_groups_of_the_hopper_kernels(self):
        self.capability = "9.0"
        self.stub("build/device_conformance", '''case "$1 $2" in
            " hopper"|"_d64 hopper") exit 26 ;;
            *) echo "3 cases, 0 failed" ;;
        esac''')
        statuses = self.run_parts("check")
        self.assertEqual((statuses["conformance_others"], statuses["conformance_hopper"]), (0, 1))
        self.assertEqual(self.log("conformance_hopper").splitlines()[-1],
                         "alone, sound: Model_ _d128; broken: _d64")

    def test_runs_nothing_again_where_the_whole_reaches_its_end(self):
        self.stub("build/device_conformance", 'echo "3 cases, 1 failed"; exit 1')
        self.assertEqual(self.run_parts("check")["conformance_others"], 1)
        self.assertEqual(self.log("conformance_others"), "3 cases, 1 failed\n")

    def test_knows_a_group_for_every_case(self):
        script = (HERE / "run.sh").read_text()
        groups = re.search(r"others\) echo (.*?);;", script, re.DOTALL).group(1)
        groups = re.findall(r"\w+", groups)
        names = re.findall(r'\bName\("(\w+)"', (CONFORMANCE / "op_cases.cc").read_text())
        names += [f"_d{size}" for size in re.findall(
            r"\.head_dim = (\d+)", (CONFORMANCE / "attention_cases.cc").read_text())]
        self.assertGreater(len(names), 20)
        for name in names:
            self.assertTrue(any(group in name for group in groups), name)


class SanitizeTest(RunTest):
    def test_counts_what_kernels_do_and_nothing_else(self):
        # As the tool: an error of the driver's probing, a warning, and too many barriers, unless
        # it is told not to count, not to look, and to make room.
        self.stub("bin/compute-sanitizer", '''
            [[ "$*" == *"--error-exitcode 9 "* ]] || exit 0
            [[ "$*" == *"--report-api-errors no "* ]] || exit 9
            [[ "$*" == *"--racecheck-detect-level error "* || "$*" != *racecheck* ]] || exit 9
            [[ "$*" == *"--num-cuda-barriers 64 "* ]] || exit 9
            "${@: -3}"''')
        self.stub("build/device_conformance", 'echo "$*"; echo "3 cases, 0 failed"')
        statuses = self.run_parts("check")
        for tool in ("memcheck", "racecheck", "synccheck"):
            self.assertEqual(statuses[f"sanitize_{tool}_others"], 0, tool)
            self.assertEqual(self.log(f"sanitize_{tool}_others"),
                             "_T70_ others\n3 cases, 0 failed\n")

    def test_fails_where_there_is_a_finding(self):
        self.stub("bin/compute-sanitizer", '[[ "$2" != synccheck ]] || exit 9')
        statuses = self.run_parts("check")
        self.assertEqual([statuses[f"sanitize_{tool}_others"] for tool in
                          ("memcheck", "racecheck", "synccheck")], [0, 0, 9])


class KernelsTest(RunTest):
    CURVE = ("step,loss,aux_loss,imbalance,smallest,largest,gradient_norm,seconds\n"
             + "".join(f"{step},5.0,0,0.5,0.1,0.9,1.0,0.25\n" for step in range(1, 9)))

    def setUp(self):
        super().setUp()
        (self.folder / "curve.csv").write_text(self.CURVE)
        self.stub("build/gpu_train", f'''echo "$*" >> {self.folder}/runs
            for word; do [[ "$word" != curve=* ]] || cp {self.folder}/curve.csv "${{word#*=}}"; done
            ''')

    def kernels_of_runs(self):
        return re.findall(r"kernels=(\w+)", (self.folder / "runs").read_text())

    def test_trains_with_those_that_it_is_told(self):
        statuses = self.run_parts("train", "--kernels", "hopper")
        self.assertEqual(list(statuses.values()), [0] * 8, self.printed)
        self.assertEqual(self.kernels_of_runs(), ["hopper"] * 7)

    def test_trains_with_those_of_a_job_unless_told(self):
        self.run_parts("check")
        self.assertEqual(set(self.kernels_of_runs()), {"auto"})

    def test_refuses_others(self):
        self.assertEqual(self.run_script("train", "--kernels", "Hopper"), 2)
        self.assertIn("--kernels hopper|tensor_cores|rows", self.printed)


if __name__ == "__main__":
    unittest.main()
