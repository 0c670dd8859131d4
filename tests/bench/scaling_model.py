#!/usr/bin/env python3
"""The written model of data-parallel training with ZeRO-1 on 8 to 1,024 GPUs, as numbers.

worker/trainer/SCALING.md explains every term. Nothing here is measured: the machine is the one that
the options describe.

  tests/bench/scaling_model.py                      # the table of the document
  tests/bench/scaling_model.py --depth 20 --exchange-bytes 2
"""

import argparse
import math

GPUS = (8, 16, 32, 64, 128, 256, 512, 1024)
GPUS_PER_NODE = 8
VOCABULARY = 65536
SEQUENCE = 2048
BATCH_TOKENS = 524288


def parameters(depth):
    """(matrices, embeddings) of the preset d<depth>: width 64 d, MLP 4 x width, untied."""
    width = 64 * depth
    return 12 * width * width * depth, 2 * VOCABULARY * width


def model(options, gpus):
    """The times of one optimizer step in seconds, and bytes per GPU."""
    matrices, embeddings = parameters(options.depth)
    count = matrices + embeddings
    rows = BATCH_TOKENS // SEQUENCE
    # A row is the smallest share: GPUs beyond the rows have nothing to do.
    rows_per_gpu = math.ceil(rows / gpus)
    attention = 12 * options.depth * 64 * options.depth * SEQUENCE * 0.5  # causal, per token
    flops = (6 * (matrices + embeddings / 2) + attention) * rows_per_gpu * SEQUENCE
    compute = flops / (options.tflops * 1e12)
    micro_steps = max(1, rows_per_gpu // options.rows_max)
    backward_last = compute * 2 / 3 / micro_steps
    inside = gpus <= GPUS_PER_NODE
    bandwidth = (options.nvlink if inside else options.network) * 1e9
    one_way = count * options.exchange_bytes * (gpus - 1) / gpus / bandwidth
    # Newton-Schulz on the owner: 5 iterations of 4 s^2 l + 2 s^3; 4 square and 2 of 4:1 a layer.
    width = 64 * options.depth
    muon_flops = options.depth * 5 * width**3 * (4 * 6 + 2 * (16 + 2))
    largest = 5 * width**3 * (16 + 2)
    update = max(muon_flops / gpus, largest) / (options.tflops * 1e12)
    # Per micro-step: one small message for the importance sums; per step: norm and control word.
    latency = (micro_steps + 2) * 2 * math.log2(gpus) * options.latency_us * 1e-6
    exposed = max(0.0, one_way - backward_last) + max(0.0, one_way - update) + latency
    step = compute + update + exposed
    # Gradients and parameters in float32 on every GPU; momentum (4) and Adam (8) are divided.
    state = 8 * count + (4 * matrices + 8 * embeddings) / gpus
    return {
        "rows": rows_per_gpu,
        "compute": compute,
        "one_way": one_way,
        "bytes": 2 * count * options.exchange_bytes * (gpus - 1) / gpus,
        "update": update,
        "exposed": exposed,
        "efficiency": compute / step * min(1.0, rows / gpus),
        "state": state,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, default=32, help="of the preset (default 32: 2B)")
    parser.add_argument("--tflops", type=float, default=400, help="of one GPU in this model")
    parser.add_argument("--nvlink", type=float, default=300, help="GB/s a GPU, inside a machine")
    parser.add_argument("--network", type=float, default=40, help="GB/s a GPU, between machines")
    parser.add_argument("--latency-us", type=float, default=15, help="of one small message")
    parser.add_argument("--rows-max", type=int, default=16, help="rows of a micro-batch on a GPU")
    parser.add_argument("--exchange-bytes", type=int, default=4, choices=(2, 4),
                        help="of a gradient or parameter on the wire")
    options = parser.parse_args()
    print(f"d{options.depth}: {sum(parameters(options.depth)) / 1e9:.2f}e9 parameters, "
          f"{options.exchange_bytes} bytes each on the wire")
    print("| GPUs | rows a GPU | compute ms | bytes sent a GPU | one way ms | update ms | "
          "exposed ms | efficiency | state GB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for gpus in GPUS:
        m = model(options, gpus)
        print(f"| {gpus} | {m['rows']} | {m['compute'] * 1e3:.0f} | {m['bytes'] / 1e9:.1f}e9 | "
              f"{m['one_way'] * 1e3:.0f} | {m['update'] * 1e3:.1f} | {m['exposed'] * 1e3:.0f} | "
              f"{m['efficiency'] * 100:.0f} % | {m['state'] / 1e9:.1f} |")


if __name__ == "__main__":
    main()
