"""The coordinator's web page in a headless Chromium, against a running job.

With SINKFORGE_SCREENSHOTS=FOLDER the pictures that a person should look at are kept there.
"""

import json
import os
import unittest
import urllib.error
import urllib.request

import browser
import harness

LONG = {"train__steps": 100_000, "evaluation__every_steps": 20, "checkpoint__every_steps": 50}
PICTURES = os.environ.get("SINKFORGE_SCREENSHOTS")


def fetch(url, method="GET"):
    """(status, headers, body)"""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method),
                                    timeout=30) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


class PageTest(harness.ClusterTest):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.url = f"http://{cls.cluster.http_address}"
        cls.running = cls.cluster.submit(name="running", **LONG)
        cls.waiting = cls.cluster.submit(name="waiting-with-a-name-of-many-words",
                                         resources__ranks=8, **LONG)
        cls.cluster.await_step(cls.running, 45)

    def open(self, path, size, dark):
        page = browser.Browser(self.url)
        self.addCleanup(page.close)
        page.look(size, dark)
        page.open(self.url + path)
        return page

    def finish(self, page, name):
        if PICTURES:
            page.screenshot(os.path.join(PICTURES, f"{name}.png"))
        self.assertFalse(page.wider_than_the_screen(), "the page scrolls sideways")
        self.assertEqual(page.complaints, [])

    def test_the_front_page_shows_jobs_queue_and_workers(self):
        page = self.open("/", browser.DESKTOP, dark=False)
        page.await_value("document.querySelectorAll('section').length === 3", "it is filled")
        text = page.text()
        for expected in (self.running, self.waiting, "not enough slots exist", "needs 8", "1/1",
                         "live"):
            self.assertIn(expected, text)
        self.assertGreater(page.background(), 200)
        self.finish(page, "front")

    def test_newer_jobs_hide_neither_what_runs_nor_the_head_of_the_queue(self):
        many = self.cluster.write_job(name="many", file="many.yaml", resources__ranks=8, **LONG)
        self.cluster.ok("sweep", many, "--seeds", ",".join(str(seed) for seed in range(1, 206)),
                        "--name", "many")
        page = self.open("/", browser.DESKTOP, dark=False)
        page.await_value("document.querySelectorAll('section').length === 3", "it is filled")
        text = page.text()
        self.assertIn(self.running, text)
        self.assertIn(self.waiting, text)
        self.assertRegex(text, r"(?i)jobs: 20\d of 20\d")
        self.assertRegex(text, r"(?i)queue: 200 of 20\d")
        self.finish(page, "front-many")

    def test_the_front_page_shows_whole_rows_on_a_phone(self):
        page = self.open("/", browser.PHONE, dark=False)
        page.await_value("document.querySelectorAll('section').length === 3", "it is filled")
        text = page.text()
        for expected in (self.running, self.waiting, "needs 8", "1/1"):
            self.assertIn(expected, text)
        self.assertNotEqual(page.value("getComputedStyle(document.querySelector('td.number'), "
                                       "'::before').content"), "none", "a number has no title")
        self.assertEqual(page.cut_tables(), 0)
        self.finish(page, "front-phone")

    def test_a_job_shows_live_curves_and_its_heads_on_a_dark_phone(self):
        page = self.open(f"/#/job/{self.running}", browser.PHONE, dark=True)
        page.await_value("document.querySelectorAll('table.heat td').length === 8",
                         "two layers of four heads are there")
        for at in range(3):
            self.assertGreater(page.ink(f".panel:nth-child({at + 1}) canvas"), 0.01)
        shown = "Number(document.querySelector('progress').value)"
        first = page.value(shown)
        page.await_value(f"{shown} > {first}", "the numbers move by themselves")
        self.assertLess(page.background(), 60)
        self.assertIn("attempt started", page.text().lower())
        day = self.cluster.events(self.running)[0]["time"][:10]
        self.assertRegex(page.text(), day + r" \d\d:\d\d:\d\dZ")
        self.finish(page, "job-phone-dark")

    def test_links_lead_to_a_job_and_back(self):
        page = self.open("/", browser.DESKTOP, dark=True)
        page.await_value("document.querySelector('td a') !== null", "there is a link")
        page.value(f"document.querySelector('a[href=\"#/job/{self.running}\"]').click()")
        page.await_value("document.querySelectorAll('table.heat td').length === 8", "the job")
        self.finish(page, "job-dark")
        page.value("document.querySelector('h1 a').click()")
        page.await_value("document.querySelectorAll('section').length === 3", "the front page")
        self.finish(page, "front-dark")

    def test_an_unknown_job_is_named(self):
        page = self.open("/#/job/nobody-7", browser.DESKTOP, dark=False)
        page.await_value("!document.getElementById('trouble').hidden", "it complains")
        trouble = page.value("document.getElementById('trouble').textContent")
        self.assertIn("nobody-7", trouble)
        self.assertNotIn("trying again", trouble)
        page.value("document.querySelector('main a').click()")
        page.await_value("document.querySelectorAll('section').length === 3", "the front page")
        self.assertTrue(page.value("document.getElementById('trouble').hidden"))

    def test_it_says_so_when_the_coordinator_goes_and_recovers(self):
        own = harness.Cluster()
        self.addCleanup(own.close)
        own.start_coordinator()
        page = browser.Browser(f"http://{own.http_address}")
        self.addCleanup(page.close)
        page.open(f"http://{own.http_address}/")
        page.await_value("document.querySelectorAll('section').length === 3", "it is filled")
        own.coordinator.kill()
        page.await_value("!document.getElementById('trouble').hidden", "it says so")
        own.start_coordinator()
        page.await_value("document.getElementById('trouble').hidden", "it is well again")

    def test_the_api_answers_as_the_services_do(self):
        status, headers, body = fetch(f"{self.url}/api/jobs/{self.running}")
        self.assertEqual(status, 200)
        self.assertEqual(json.loads(body)["job_id"], self.running)
        self.assertIn("default-src 'self'", headers["Content-Security-Policy"])
        for path, expected, word in (("/api/jobs/nobody-7", 404, "nobody-7"),
                                     (f"/api/jobs/{self.running}/metrics?series=nothing", 400,
                                      "importance_min"),
                                     (f"/api/jobs/{self.running}/metrics?max_points=x", 400,
                                      "max_points"),
                                     ("/api/jobs?page_size=-1", 400, "page_size"),
                                     ("/nothing", 404, "/nothing"),
                                     ("/../../etc/passwd", 404, "nothing is here")):
            status, _, body = fetch(self.url + path)
            self.assertEqual(status, expected, path)
            self.assertIn(word, json.loads(body)["message"], path)
        self.assertEqual(fetch(f"{self.url}/api/jobs", "POST")[0], 405)
        self.assertEqual(fetch(f"{self.url}/", "HEAD")[2], "")


if __name__ == "__main__":
    unittest.main()
