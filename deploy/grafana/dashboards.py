#!/usr/bin/env python3
"""Writes the dashboards of deploy/grafana/dashboards; a test holds the files to what this writes.

  deploy/grafana/dashboards.py
"""

import json
import os

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "dashboards")
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
JOBS = 'sinkforge_namespace=~"$namespace", sinkforge_job=~"$job"'
COLUMNS = 24


def target(expression, legend="", instant=False):
    found = {"datasource": SOURCE, "expr": expression, "legendFormat": legend}
    if instant:
        found |= {"instant": True, "range": False, "format": "table"}
    return found


def panel(title, description, unit, *targets, kind="timeseries", **more):
    """A panel without its place; `more`: width, height, low, high, and fields of the panel."""
    width, height = more.pop("width", 12), more.pop("height", 8)
    defaults = {"unit": unit, **more.pop("defaults", {})}
    for name in ("min", "max"):
        if name in more:
            defaults[name] = more.pop(name)
    if kind == "timeseries":
        defaults["custom"] = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 0,
                              "showPoints": "never", "spanNulls": False}
        more.setdefault("options", {"legend": {"displayMode": "list", "placement": "bottom"},
                                    "tooltip": {"mode": "multi", "sort": "desc"}})
    return {"type": kind, "title": title, "description": description, "datasource": SOURCE,
            "fieldConfig": {"defaults": defaults, "overrides": more.pop("overrides", [])},
            "gridPos": {"w": width, "h": height},
            "targets": [{"refId": chr(ord("A") + at), **one} for at, one in enumerate(targets)],
            **more}


def by_job(metric, more=""):
    """One series a job, also while a job's old and new worker both show it."""
    return f"max by (sinkforge_job{more}) ({metric}{{{JOBS}}})"


def layers_in_order(expression):
    """Labels are texts, which sort 10 before 2: layers up to 99 get two digits in legends."""
    return f'label_replace({expression}, "layer", "0$1", "layer", "(.)")'


def quantile(share, metric, labels=""):
    by = f"le, {labels}" if labels else "le"
    return (f"histogram_quantile({share}, "
            f"sum by ({by}) (rate({metric}_bucket[$__rate_interval])))")


def variable(name, label, query):
    return {"name": name, "label": label, "type": "query", "datasource": SOURCE, "query": query,
            "definition": query, "refresh": 2, "sort": 1, "multi": True, "includeAll": True,
            "allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]}}


DATASOURCE = {"name": "datasource", "label": "Data source", "type": "datasource",
              "query": "prometheus", "current": {}, "refresh": 1}
NAMESPACE = variable("namespace", "Namespace",
                     "label_values(sinkforge_job_info, sinkforge_namespace)")
JOB = variable("job", "Job", 'label_values(sinkforge_job_info{sinkforge_namespace=~"$namespace"}, '
               "sinkforge_job)")
PEAK = {"name": "peak_flops", "label": "Peak FLOP/s of a job's slots", "type": "textbox",
        "query": "1e12", "current": {"text": "1e12", "value": "1e12"}}

BLUE_TO_RED = {"mode": "continuous-BlYlRd"}
IMPORTANCE = {"color": BLUE_TO_RED, "min": 0, "max": 1, "decimals": 2}



def converted(kind):
    """Labels are texts, which sort 10 before 2; the matrix takes its titles from texts."""
    return {"id": "convertFieldType", "options": {"fields": {}, "conversions": [
        {"targetField": name, "destinationType": kind} for name in ("layer", "head")]}}


def sorted_by(field):
    return {"id": "sortBy", "options": {"fields": {}, "sort": [{"field": field, "desc": False}]}}


MATRIX = panel(
    "Importance of every head: $job",
    "Rows are layers, columns are heads; blue heads are switched off by their gate, red ones are "
    "always on. Needs workers with --export-importance, as the compose file and the monitoring "
    "overlay for Kubernetes start them.",
    "percentunit",
    target(f"max by (layer, head) (sinkforge_job_importance_ratio{{{JOBS}}})", instant=True),
    kind="table", width=12, height=10, repeat="job", repeatDirection="h",
    defaults={**IMPORTANCE, "custom": {"cellOptions": {"type": "color-background"},
                                       "align": "center", "filterable": False}},
    overrides=[{"matcher": {"id": "byName", "options": "layer\\head"},
                "properties": [{"id": "unit", "value": "string"},
                               {"id": "custom.cellOptions", "value": {"type": "auto"}}]}],
    options={"showHeader": True, "cellHeight": "sm"},
    # A sort keeps the order of equals, so that the last one says which comes first; columns and
    # rows then come in the order of their first value.
    transformations=[converted("number"), sorted_by("head"), sorted_by("layer"),
                     converted("string"),
                     {"id": "groupingToMatrix",
                      "options": {"columnField": "head", "rowField": "layer",
                                  "valueField": "Value"}}])

PER_JOB = "sinkforge_namespace, sinkforge_job"
BASE_AGAINST_AUX = (
    f"avg by (head_balance) (max by ({PER_JOB}) (sinkforge_job_imbalance_ratio{{{JOBS}}}) "
    f"* on ({PER_JOB}) group_left (head_balance) "
    f"max by ({PER_JOB}, head_balance) (sinkforge_job_info{{{JOBS}}}))")

HEAD_BALANCE = [
    panel("Imbalance by job",
          "Mean over layers of the coefficient of variation of the heads' importance (Eq. 6). 0 is "
          "balance.", "short",
          target(by_job("sinkforge_job_imbalance_ratio"), "{{sinkforge_job}}"), min=0),
    panel("Imbalance: base against aux",
          "The same, averaged over the jobs without (none) and with a head-balance loss.", "short",
          target(BASE_AGAINST_AUX, "{{head_balance}}"), min=0),
    panel("Imbalance by layer",
          "Coefficient of variation of the importance of each layer's heads.", "short",
          target(layers_in_order(by_job("sinkforge_job_layer_cv_ratio", ", layer")),
                 "{{sinkforge_job}} layer {{layer}}"), min=0),
    panel("Least and greatest importance",
          "Over all heads of the model. A least near 0: a head does no work.", "percentunit",
          target(by_job("sinkforge_job_importance_min_ratio"), "{{sinkforge_job}} least"),
          target(by_job("sinkforge_job_importance_max_ratio"), "{{sinkforge_job}} greatest"),
          min=0, max=1),
    panel("Base loss", "Cross entropy of the last step, nats per token, without the aux loss.",
          "short", target(by_job("sinkforge_job_loss_nats"), "{{sinkforge_job}}")),
    panel("Aux loss", "Head-balance loss of the last step, with its coefficient.", "short",
          target(by_job("sinkforge_job_aux_loss_nats"), "{{sinkforge_job}}")),
    panel("Validation bits per byte", "Of the last evaluation; lower is better.", "short",
          target(by_job("sinkforge_job_validation_bits_per_byte"), "{{sinkforge_job}}")),
    panel("Worst heads",
          "The ten heads with the least importance. Needs workers with --export-importance, as the "
          "compose file and the monitoring overlay for Kubernetes start them.",
          "percentunit",
          target("bottomk(10, " + by_job("sinkforge_job_importance_ratio", ", layer, head") + ")",
                 "{{sinkforge_job}} layer {{layer}} head {{head}}") |
          {"instant": True, "range": False},
          kind="bargauge", defaults=IMPORTANCE,
          options={"orientation": "horizontal", "displayMode": "gradient",
                   "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}),
    MATRIX,
]

TRAINING = [
    panel("Progress", "Optimizer steps done, of those asked for.", "percentunit",
          target(by_job("sinkforge_job_step") + " / " + by_job("sinkforge_job_target_steps"),
                 "{{sinkforge_job}}"), min=0, max=1),
    panel("Loss", "Base loss of the last step, nats per token.", "short",
          target(by_job("sinkforge_job_loss_nats"), "{{sinkforge_job}}")),
    panel("Learning rate", "Factor that the schedule applies to every learning rate.", "short",
          target(by_job("sinkforge_job_learning_rate_scale"), "{{sinkforge_job}}"), min=0),
    panel("Gradient norm", "Global norm before clipping.", "short",
          target(by_job("sinkforge_job_gradient_norm"), "{{sinkforge_job}}"), min=0),
    panel("Tokens per second", "Of the last step, over all ranks.", "suffix: tokens/s",
          target(by_job("sinkforge_job_tokens_per_second"), "{{sinkforge_job}}"), min=0),
    panel("Model FLOPs utilization",
          "Operations that the model needs (PaLM, appendix B) over the peak that you give above "
          "for all slots of a job together.", "percentunit",
          target(by_job("sinkforge_job_model_flops_per_second") + " / $peak_flops",
                 "{{sinkforge_job}}"), min=0),
    panel("Goodput",
          "Tokens that lasted for each second of the clock, over the rate inside a step: what "
          "starts, stalls and lost work leave. Mean of 5 minutes, by a recording rule.",
          "percentunit",
          target(f"max by (sinkforge_job) (sinkforge_job:goodput_ratio:avg5m{{{JOBS}}})",
                 "{{sinkforge_job}}"), min=0, max=1),
    panel("Memory", "Resident memory of rank 0's trainer.", "bytes",
          target(by_job("sinkforge_job_memory_bytes"), "{{sinkforge_job}}"), min=0),
    panel("Steps that a crash would cost", "Steps done since the newest durable checkpoint.",
          "short",
          target(f"max by (sinkforge_job) (sinkforge_job_step{{{JOBS}}} "
                 f"- sinkforge_job_checkpoint_step{{{JOBS}}})", "{{sinkforge_job}}"), min=0),
    panel("Step time", "Median and 95th percentile of the steps of all jobs.", "s",
          target(quantile(0.5, "sinkforge_step_seconds"), "median"),
          target(quantile(0.95, "sinkforge_step_seconds"), "95 %"), min=0),
]

FLEET = [
    panel("Running jobs", "Steps done, of those asked for, of the jobs chosen above.",
          "percentunit",
          target(by_job("sinkforge_job_step", ", sinkforge_namespace") + " / "
                 + by_job("sinkforge_job_target_steps", ", sinkforge_namespace"),
                 "{{sinkforge_namespace}} {{sinkforge_job}}") | {"instant": True, "range": False},
          kind="bargauge", min=0, max=1,
          options={"orientation": "horizontal", "displayMode": "basic",
                   "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}),
    panel("Throughput by job", "Tokens per second of the last step, of the jobs chosen above.",
          "suffix: tokens/s",
          target(by_job("sinkforge_job_tokens_per_second", ", sinkforge_namespace"),
                 "{{sinkforge_namespace}} {{sinkforge_job}}"), min=0),
    panel("Workers", "Worker daemons by state, as the coordinator knows them.", "short",
          target("sum by (state) (sinkforge_workers)", "{{state}}"), min=0),
    panel("Slots", "Device slots of connected workers.", "short",
          target("sum by (device, state) (sinkforge_slots)", "{{device}} {{state}}"), min=0),
    panel("Slots in use", "Share of each device's slots that run a rank.", "percentunit",
          target("max by (device) (device:slots_used:ratio)", "{{device}}"), min=0, max=1),
    panel("Jobs", "Jobs by state.", "short", target("sum by (state) (sinkforge_jobs)", "{{state}}"),
          min=0),
    panel("Queue", "Queued jobs by what they wait for.", "short",
          target("sum by (reason) (sinkforge_queued_jobs)", "{{reason}}"), min=0),
    panel("Oldest waiting job", "How long the job that waits longest has existed.", "s",
          target("max(sinkforge_queue_oldest_seconds)", "oldest"), min=0),
    panel("Wait for the first attempt", "From submission; median and 95th percentile.", "s",
          target(quantile(0.5, "sinkforge_job_wait_seconds"), "median"),
          target(quantile(0.95, "sinkforge_job_wait_seconds"), "95 %"), min=0),
    panel("Attempts", "Attempts that ended, by reason.", "short",
          target("sum by (reason) (increase(sinkforge_job_attempts_total[$__rate_interval])) > 0 "
                 "or sum by (reason) "
                 '(increase(sinkforge_job_attempts_total{reason="completed"}[$__rate_interval]))',
                 "{{reason}}"), min=0),
    panel("Faults", "Trainers that did not end by themselves or as asked.", "short",
          target("sum by (reason) (increase(sinkforge_worker_trainer_exits_total"
                 '{reason!~"completed|stopped"}[$__rate_interval]))', "{{reason}}"), min=0),
    panel("Checkpoint time", "Time to make one part durable: median and 95th percentile.", "s",
          target(quantile(0.5, "sinkforge_checkpoint_write_seconds"), "median"),
          target(quantile(0.95, "sinkforge_checkpoint_write_seconds"), "95 %"), min=0),
    panel("Checkpoints on disk", "Bytes of the checkpoint parts of each worker.", "bytes",
          target("sum by (instance) (sinkforge_worker_checkpoint_bytes)", "{{instance}}"), min=0),
    panel("Free disk", "Of the disks that hold the data folders.", "bytes",
          target("min by (instance) (sinkforge_worker_disk_free_bytes)", "worker {{instance}}"),
          target("min by (instance) (sinkforge_coordinator_disk_free_bytes)",
                 "coordinator {{instance}}"), min=0),
    panel("Calls", "99th percentile of unary calls to the coordinator.", "s",
          target(quantile(0.99, "sinkforge_rpc_seconds", "method"), "{{method}}"), min=0),
    panel("Scheduler and store",
          "99th percentile of one group of calls in the state machine, and of a synced write.", "s",
          target(quantile(0.99, "sinkforge_scheduling_seconds"), "scheduling"),
          target(quantile(0.99, "sinkforge_store_write_seconds"), "store"), min=0),
    panel("Spooled records", "Records of each worker that the coordinator has not acknowledged.",
          "short",
          target("sum by (instance, kind) (sinkforge_worker_spool_records)",
                 "{{instance}} {{kind}}"), min=0),
    panel("Step records", "Records per second that the coordinator takes in.",
          "suffix: records/s",
          target("sum(rate(sinkforge_step_records_total[$__rate_interval]))", "records"), min=0),
]


def dashboard(uid, title, description, panels, variables):
    x = y = row_height = 0
    placed = []
    for at, one in enumerate(panels):
        place = one["gridPos"]
        if x + place["w"] > COLUMNS:
            x, y, row_height = 0, y + row_height, 0
        placed.append({"id": at + 1, **one, "gridPos": {"x": x, "y": y, **place}})
        x += place["w"]
        row_height = max(row_height, place["h"])
    return {"uid": uid, "title": title, "description": description, "tags": ["sinkforge"],
            "editable": False, "schemaVersion": 38, "version": 1, "refresh": "10s",
            "timezone": "browser", "graphTooltip": 1, "time": {"from": "now-1h", "to": "now"},
            "links": [{"type": "dashboards", "title": "SinkForge", "tags": ["sinkforge"],
                       "asDropdown": True, "keepTime": True}],
            "templating": {"list": variables}, "panels": placed}


DASHBOARDS = {
    "head-balance.json": dashboard(
        "sinkforge-head-balance", "SinkForge: head balance",
        "Whether a few heads do all the work, by job, layer and head.", HEAD_BALANCE,
        [DATASOURCE, NAMESPACE, JOB]),
    "training.json": dashboard(
        "sinkforge-training", "SinkForge: training", "How the jobs train, and how fast.", TRAINING,
        [DATASOURCE, NAMESPACE, JOB, PEAK]),
    # Namespace and job choose among the workers' series of jobs. The coordinator's have neither in
    # a label, because their number has no bound: those panels show the whole fleet.
    "fleet.json": dashboard(
        "sinkforge-fleet", "SinkForge: fleet",
        "Workers, slots, the queue, faults and disks. Namespace and job choose what the panels of "
        "running jobs show; all others are about the whole fleet.", FLEET,
        [DATASOURCE, NAMESPACE, JOB]),
}


def main():
    for name, content in DASHBOARDS.items():
        with open(os.path.join(FOLDER, name), "w", encoding="utf-8") as file:
            file.write(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
