#!/usr/bin/env python3
"""How much faster two ranks on two cores train one job than one rank on one core.

The same job runs with one rank and with two, one thread each, in turn; the median step time of each
run counts, without its first steps. The efficiency is the ratio of two medians of neighbouring runs
over the number of ranks; the median of the pairs and their extremes are printed.

  tests/bench/rank_efficiency.py --pairs 3
"""

import argparse
import os
import statistics
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

import harness  # noqa: E402  (found by the line above)

WARMUP_STEPS = 5


def median_step(cluster, ranks, options, number):
    job_id = cluster.submit(
        name=f"ranks{ranks}-{number}", resources__ranks=ranks, resources__threads=1,
        model__layers=options.layers, model__width=options.width, model__heads=options.width // 32,
        data__sequence_length=256, data__validation=[], train__steps=options.steps,
        train__batch_tokens=options.batch_tokens, train__micro_batch=options.batch_tokens // 256,
        checkpoint__every_steps=0, evaluation__every_steps=0)
    # One process that sleeps; a client started again and again would take the ranks' processors.
    cluster.ok("wait", job_id)
    steps = cluster.history(job_id, "step_seconds")["step_seconds"][WARMUP_STEPS:]
    return statistics.median(float(seconds) for _, seconds in steps)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--ranks", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=30, help="of each run")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    options = parser.parse_args()
    cluster = harness.Cluster()
    try:
        cluster.start_coordinator()
        cluster.start_worker(slots=options.ranks)
        efficiencies = []
        for number in range(options.pairs):
            one = median_step(cluster, 1, options, number)
            many = median_step(cluster, options.ranks, options, number)
            efficiencies.append(one / many / options.ranks)
            print(f"pair {number + 1}: 1 rank {one * 1e3:.1f} ms, {options.ranks} ranks "
                  f"{many * 1e3:.1f} ms a step, efficiency {efficiencies[-1] * 100:.0f} %",
                  flush=True)
        print(f"efficiency of {options.ranks} ranks: median "
              f"{statistics.median(efficiencies) * 100:.0f} %, from "
              f"{min(efficiencies) * 100:.0f} % to {max(efficiencies) * 100:.0f} %")
    finally:
        cluster.close()


if __name__ == "__main__":
    main()
