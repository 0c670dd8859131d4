"""Reports of two jobs: the page in a headless Chromium, the picture, CSV and JSON."""

import csv
import io
import json
import os
import re
import struct
import unittest
import unittest.mock

import browser
import harness

PICTURES = os.environ.get("SINKFORGE_SCREENSHOTS")
STEPS = 60


class ReportTest(harness.ClusterTest):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.jobs = [cls.cluster.submit(name="base-without-a-head-balance-loss", train__steps=STEPS,
                                       head_balance__loss="none", head_balance__coefficient=0),
                    cls.cluster.submit(name="aux", train__steps=STEPS)]
        cls.cluster.ok("wait", *cls.jobs)

    def report(self, *arguments):
        return self.cluster.ok("report", *self.jobs, *arguments)

    def open(self, size, dark):
        path = self.cluster.path("report.html")
        self.report("-o", path, "--force")
        page = browser.Browser("file://" + path)
        self.addCleanup(page.close)
        page.look(size, dark)
        page.open("file://" + path)
        page.await_value("document.querySelectorAll('details').length === 2", "it is drawn")
        return page

    def finish(self, page, name):
        if PICTURES:
            page.screenshot(os.path.join(PICTURES, f"{name}.png"))
        self.assertFalse(page.wider_than_the_screen(), "the page scrolls sideways")
        self.assertEqual(page.complaints, [])

    def test_the_page_has_every_figure(self):
        page = self.open(browser.DESKTOP, dark=False)
        # Five of curves, and one of points for each job.
        self.assertEqual(page.value("document.querySelectorAll('canvas').length"), 7)
        page.value("document.querySelectorAll('canvas')"
                   ".forEach((canvas, at) => canvas.id = 'c' + at)")
        for at in range(7):
            self.assertGreater(page.ink(f"#c{at}"), 0.01, at)
        # Three heatmaps of two layers of four heads for each job.
        self.assertEqual(page.value("document.querySelectorAll('table.heat td').length"), 48)
        page.value("document.querySelectorAll('details').forEach((part) => part.open = true)")
        text = page.text()
        for expected in (*self.jobs, "Step 60", "head_balance", f"{STEPS}/{STEPS}", "SinkForge 0.",
                         "8 rows"):
            self.assertIn(expected, text)
        page.value("document.querySelectorAll('details').forEach((part) => part.open = false)")
        # What explains lies above what is explained.
        for canvas, above, below in ((0, "smoothed", "raw"), (5, "mean of the layer", "heads")):
            drawn = page.value(f"Chart.getChart('c{canvas}').getSortedVisibleDatasetMetas()"
                               ".map((meta) => meta.label)")
            labels = [label for label in drawn if label.endswith((above, below))]
            self.assertTrue(labels[0].endswith(above), drawn)
            self.assertTrue(labels[-1].endswith(below), drawn)
        self.assertTrue(page.value("Chart.getChart('c5').data.datasets.at(-1).showLine"))
        self.assertEqual(page.cut_tables(), 0)
        self.finish(page, "report")

    def test_the_page_reads_on_a_dark_phone(self):
        page = self.open(browser.PHONE, dark=True)
        self.assertLess(page.background(), 60)
        # Curves and axes are drawn in colours of the dark theme.
        self.assertEqual(page.value("Chart.getChart(document.querySelector('canvas'))"
                                    ".options.scales.x.ticks.color"), "#9aa5b1")
        page.look(browser.PHONE, dark=False)
        page.await_value("Chart.getChart(document.querySelector('canvas'))"
                         ".options.scales.x.ticks.color === '#5c6670'", "the theme changes")
        page.look(browser.PHONE, dark=True)
        self.assertEqual(page.cut_tables(), 0)
        self.finish(page, "report-phone-dark")

    def test_a_job_without_history_says_so_instead_of_drawing_empty_axes(self):
        waiting = self.cluster.submit(name="waiting", resources__ranks=8)
        path = self.cluster.path("waiting.html")
        self.cluster.ok("report", waiting, "-o", path)
        page = browser.Browser("file://" + path)
        self.addCleanup(page.close)
        page.look(browser.DESKTOP, dark=False)
        page.open("file://" + path)
        page.await_value("document.querySelectorAll('details').length === 1", "it is drawn")
        self.assertEqual(page.value("document.querySelectorAll('.nothing').length"), 5)
        self.assertEqual(page.value("document.querySelectorAll('canvas:not([hidden])').length"), 0)
        self.assertIn("no data", page.text())
        self.assertNotIn("NaN", page.text())
        self.finish(page, "report-waiting")
        drawn = self.cluster.ok("report", waiting, "-o", self.cluster.path("waiting.png"))
        self.assertEqual(drawn.err, f"sinkforge: written: {self.cluster.path('waiting.png')}\n")
        self.cluster.ok("cancel", waiting)

    def test_a_job_that_is_named_twice_is_there_once(self):
        run = self.report(self.jobs[0], "--format", "json", "-o", "-")
        self.assertEqual([job["job_id"] for job in json.loads(run.out)["jobs"]], self.jobs)

    def test_a_place_that_cannot_be_written_is_named_before_anything_is_asked(self):
        path = self.cluster.path("missing/report.html")
        for run in (self.cluster.client("report", self.jobs[0], "-o", path),
                    self.cluster.client("report", "nobody-9", "-o", path)):
            self.assertEqual(run.code, 1)
            self.assertIn(f"{path}: cannot be written", run.err)
            self.assertNotIn(".tmp", run.err)

    def test_the_picture_is_drawn_by_gnuplot(self):
        path = self.cluster.path("figures.png")
        self.assertEqual(self.report("-o", path).err, f"sinkforge: written: {path}\n")
        with open(path, "rb") as file:
            content = file.read()
        self.assertEqual(content[:8], b"\x89PNG\r\n\x1a\n")
        # Three panels in a row; a row of curves and one of heatmaps for each job.
        self.assertEqual(struct.unpack(">II", content[16:24]), (3 * 560, 3 * 400))
        self.assertGreater(len(content), 40_000, "an empty picture is smaller")
        if PICTURES:
            with open(os.path.join(PICTURES, "figures.png"), "wb") as file:
                file.write(content)

    def test_no_label_of_the_picture_repeats_where_a_curve_hardly_moves(self):
        # This gnuplot also draws such curves as text, which can be read.
        folder, text = self.cluster.path("bin"), self.cluster.path("figures.txt")
        os.mkdir(folder)
        wrapper = os.path.join(folder, "gnuplot")
        with open(wrapper, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\n"
                       "sed -E -e 's/^set terminal .*/set terminal dumb 200 60/' -e '/multiplot/d'"
                       " -e 's/^([0-9]+) [-+.e0-9]+$/\\1 1.6698010\\1/'"
                       f' "$1" | /usr/bin/gnuplot > "{text}" 2>&1\n'
                       'exec /usr/bin/gnuplot "$1"\n')
        os.chmod(wrapper, 0o755)
        with unittest.mock.patch.dict(os.environ, PATH=f"{folder}:{os.environ['PATH']}"):
            self.report("-o", self.cluster.path("small.png"))
        with open(text, encoding="utf-8") as file:
            panels = [panel for panel in file.read().split("\f")
                      if re.search(r"^ +(Loss|Validation) *$", panel, re.MULTILINE)]
        self.assertEqual(len(panels), 2)
        for panel in panels:
            labels = re.findall(r"([0-9.]+) (?:\+-|\|-)", panel)
            self.assertGreater(len(labels), 3, panel)
            self.assertEqual(len(set(labels)), len(labels), panel)

    def test_csv_and_json_have_the_history(self):
        rows = list(csv.DictReader(io.StringIO(self.report("--format", "csv", "-o", "-").out)))
        found = {(row["job"], row["series"], int(row["step"])): row["value"] for row in rows}
        document = json.loads(self.report("--format", "json", "-o", "-").out)
        self.assertEqual([job["job_id"] for job in document["jobs"]], self.jobs)
        for job in document["jobs"]:
            history = self.cluster.history(job["job_id"], "imbalance,validation_loss")
            for name, points in history.items():
                self.assertEqual([(step, float(value)) for step, value in points],
                                 [tuple(point) for point in job["series"][name]])
                for step, value in points:
                    self.assertEqual(found[(job["job_id"], name, step)], value)
            self.assertEqual([heads["step"] for heads in job["heads"]], [1, 31, STEPS])
            last = self.cluster.history(job["job_id"], "importance/1/2")["importance/1/2"][-1]
            self.assertEqual(job["heads"][-1]["importance"][1][2], float(last[1]))
            self.assertEqual(job["environment"][0]["worker"], "w")
            self.assertEqual(job["micro_batch"], 8)
            self.assertGreater(job["summary"]["validation_bits_per_byte"], 0)

    def test_a_mistake_is_explained(self):
        unknown = self.cluster.client("report", "nobody-9")
        self.assertEqual(unknown.code, 3)
        self.assertIn("nobody-9", unknown.err)
        self.assertEqual(self.cluster.client("report", self.jobs[0], "--format", "pdf").code, 2)
        stdout = self.cluster.client("report", self.jobs[0], "--format", "png", "-o", "-")
        self.assertEqual(stdout.code, 2)
        self.assertIn("FILE.png", stdout.err)
        self.assertEqual(self.cluster.client("report", self.jobs[0], "-o", "a.pdf").code, 2)

    def test_what_is_there_is_kept(self):
        path = self.cluster.path("kept.html")
        with open(path, "w", encoding="utf-8") as file:
            file.write("mine")
        link = self.cluster.path("link.html")
        os.symlink(path, link)
        there = self.cluster.client("report", self.jobs[0], "-o", path)
        self.assertEqual(there.code, 1)
        self.assertIn("--force", there.err)
        linked = self.cluster.client("report", self.jobs[0], "-o", link, "--force")
        self.assertEqual(linked.code, 1)
        self.assertIn("no regular file", linked.err)
        with open(path, encoding="utf-8") as file:
            self.assertEqual(file.read(), "mine")

    def test_output_that_does_not_fit_is_an_error(self):
        for arguments in (["list"], ["metrics", self.jobs[0], "-o", "csv"], ["version"],
                          ["report", self.jobs[0], "--format", "csv", "-o", "-"], ["--help"],
                          ["watch", self.jobs[0]]):
            with self.subTest(arguments), open("/dev/full", "wb") as full:
                client = self.cluster.start_client(*arguments, stdout=full)
                _, errors = client.communicate(timeout=harness.WAIT_SECONDS)
                self.assertEqual(client.returncode, 1, errors)
                self.assertIn("could not be written whole", errors)


if __name__ == "__main__":
    unittest.main()
