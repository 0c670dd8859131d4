"""The dashboards hold to the rules of Grafana's dashboard linter, by their names there.

Not applied, with what takes their place: template-job-rule, template-instance-rule, target-job-rule
and target-instance-rule. A job of ours is chosen by sinkforge_namespace and sinkforge_job, because
`job` and `instance` say only which process was scraped (job_series_are_selected).
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
DEPLOY = os.path.join(HERE, "..", "..", "deploy")
sys.path.insert(0, os.path.join(DEPLOY, "grafana"))
import dashboards  # noqa: E402

FOLDER = os.path.join(DEPLOY, "grafana", "dashboards")
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def read(name):
    with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
        return json.load(file)


def substituted(expression):
    """With values in place of Grafana's variables."""
    for name, value in (("$__rate_interval", "1m"), ("$namespace", ".*"), ("$job", ".*"),
                        ("$peak_flops", "1e12")):
        expression = expression.replace(name, value)
    return expression


class DashboardTest(unittest.TestCase):

    def setUp(self):
        self.boards = {name: read(name) for name in sorted(os.listdir(FOLDER))}
        self.assertEqual(len(self.boards), 3)
        self.panels = [(name, panel) for name, board in self.boards.items()
                       for panel in board["panels"]]
        self.queries = [(f"{name}: {panel['title']}", target["expr"])
                        for name, panel in self.panels for target in panel["targets"]]

    def test_the_files_are_what_the_script_writes(self):
        self.assertEqual(self.boards, dashboards.DASHBOARDS, "run deploy/grafana/dashboards.py")

    def test_template_datasource_rule_and_uneditable_dashboard_rule(self):
        for name, board in self.boards.items():
            first = board["templating"]["list"][0]
            self.assertEqual((first["name"], first["type"], first["query"]),
                             ("datasource", "datasource", "prometheus"), name)
            self.assertFalse(board["editable"], name)
        self.assertEqual(len({board["uid"] for board in self.boards.values()}), 3)

    def test_template_on_time_change_reload_rule_and_template_label_promql_rule(self):
        for name, board in self.boards.items():
            for variable in board["templating"]["list"]:
                if variable["type"] != "query":
                    continue
                self.assertEqual(variable["refresh"], 2, name)
                self.assertRegex(variable["query"],
                                 r"^label_values\(sinkforge_\w+(\{.*\})?, \w+\)$")
                self.assertEqual(variable["datasource"], SOURCE)

    def test_panel_rules(self):
        """panel-datasource-rule, -title-description-rule, -units-rule, -no-targets-rule."""
        for name, panel in self.panels:
            where = f"{name}: {panel['title']}"
            self.assertTrue(panel["title"] and panel["description"], where)
            self.assertEqual(panel["datasource"], SOURCE, where)
            self.assertTrue(panel["fieldConfig"]["defaults"]["unit"], where)
            self.assertTrue(panel["targets"], where)
            for target in panel["targets"]:
                self.assertEqual(target["datasource"], SOURCE, where)
                self.assertTrue(target["refId"], where)

    def test_panels_have_places_of_their_own(self):
        for name, board in self.boards.items():
            taken = set()
            for panel in board["panels"]:
                place = panel["gridPos"]
                cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                         for y in range(place["y"], place["y"] + place["h"])}
                self.assertLessEqual(place["x"] + place["w"], 24, name)
                self.assertFalse(cells & taken, f"{name}: {panel['title']}")
                taken |= cells
            ids = [panel["id"] for panel in board["panels"]]
            self.assertEqual(len(ids), len(set(ids)), name)

    def test_target_promql_rule(self):
        rules = [{"record": f"q:q:q{at}", "expr": substituted(expression)}
                 for at, (_, expression) in enumerate(self.queries)]
        with tempfile.NamedTemporaryFile("w", suffix=".yml", encoding="utf-8") as file:
            json.dump({"groups": [{"name": "queries", "rules": rules}]}, file)
            file.flush()
            run = subprocess.run(["promtool", "check", "rules", file.name], capture_output=True,
                                 text=True, check=False)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)

    def test_target_rate_interval_rule(self):
        for where, expression in self.queries:
            self.assertNotIn("$__interval", expression, where)
            for window in re.findall(r"\[([^\]]*)\]", expression):
                self.assertEqual(window, "$__rate_interval", where)

    def test_target_counter_agg_rule(self):
        """A counter is shown by its rate or increase; nothing else is."""
        for where, expression in self.queries:
            for metric in re.findall(r"\bsinkforge_\w+", expression):
                is_counter = metric.endswith(("_total", "_bucket"))
                in_rate = re.search(rf"\b(rate|increase)\({metric}\b", expression) is not None
                self.assertEqual(is_counter, in_rate, f"{where}: {metric}")

    def test_job_series_are_selected(self):
        for where, expression in self.queries:
            for metric, selector in re.findall(r"\b(sinkforge_job[:_]\w+(?::\w+)*)(\{[^}]*\})?",
                                               expression):
                if metric.startswith(("sinkforge_job_wait_seconds", "sinkforge_job_attempts")):
                    continue  # of the coordinator: without a job
                self.assertEqual(selector, "{" + dashboards.JOBS + "}", f"{where}: {metric}")

    def test_dashboards_with_panels_of_jobs_let_one_choose(self):
        for name, board in self.boards.items():
            chosen = {variable["name"] for variable in board["templating"]["list"]}
            used = {variable for panel in board["panels"] for target in panel["targets"]
                    for variable in re.findall(r"\$(namespace|job)\b", target["expr"])}
            self.assertEqual(used, {"namespace", "job"}, name)
            self.assertLessEqual(used, chosen, name)

    def test_layers_in_legends_are_in_the_order_of_numbers(self):
        (query,) = [query for where, query in self.queries if where.endswith("Imbalance by layer")]
        (found,) = re.findall(r'"layer", "(.*)", "layer", "(.*)"\)$', query)
        replacement, pattern = found
        names = [re.sub(f"^(?:{pattern})$", replacement.replace("$1", r"\1"), str(layer))
                 for layer in range(100)]
        self.assertEqual(names, sorted(names))
        self.assertEqual((names[2], names[10]), ("02", "10"))

    def test_layers_and_heads_of_the_matrix_are_in_the_order_of_numbers(self):
        """The panel's transformations, carried out here, on labels of two digits."""
        (matrix,) = [panel for _, panel in self.panels if panel["title"].startswith("Importance")]
        rows = [{"layer": str(layer), "head": str(head)}
                for layer in sorted(range(12), key=str) for head in sorted(range(11), key=str)]
        for step in matrix["transformations"]:
            options = step["options"]
            if step["id"] == "convertFieldType":
                kinds = {"number": float, "string": lambda number: f"{number:g}"}
                for change in options["conversions"]:
                    field = change["targetField"]
                    for row in rows:
                        row[field] = kinds[change["destinationType"]](row[field])
            elif step["id"] == "sortBy":
                (key,) = options["sort"]
                rows.sort(key=lambda row, field=key["field"]: row[field], reverse=key["desc"])
            else:
                self.assertEqual(step["id"], "groupingToMatrix")
                columns = list(dict.fromkeys(row[options["columnField"]] for row in rows))
                lines = list(dict.fromkeys(row[options["rowField"]] for row in rows))
        self.assertEqual(columns, [str(head) for head in range(11)])
        self.assertEqual(lines, [str(layer) for layer in range(12)])

    def test_every_metric_is_documented(self):
        with open(os.path.join(DEPLOY, "prometheus", "README.md"), encoding="utf-8") as file:
            documented = set(re.findall(r"\bsinkforge_\w+", file.read()))
        with open(os.path.join(DEPLOY, "prometheus", "rules", "recording.yml"),
                  encoding="utf-8") as file:
            recorded = set(re.findall(r"record: (\S+)", file.read()))
        names = r"\b(?:sinkforge_\w+|device|fleet|method)(?::\w+)*"
        for where, expression in self.queries:
            for metric in re.findall(names, re.sub(r"\b(by|on|group_left) \([^)]*\)|\{[^}]*\}", "",
                                                   expression)):
                known = metric in recorded or re.sub(r"_bucket$", "", metric) in documented
                self.assertTrue(known, f"{where}: {metric}")


if __name__ == "__main__":
    unittest.main()
