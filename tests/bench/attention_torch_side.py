"""The PyTorch side of attention_speed.py: scaled_dot_product_attention, whose kernel on the
processor is its flash attention, on [1, heads, tokens, head_dim] in float32, forward and backward.
Arguments and commands as attention_speed.cc's."""

import resource
import sys
import time

import torch
import torch.nn.functional as F


def main():
    row = dict(argument.split("=", 1) for argument in sys.argv[1:])
    torch.set_num_threads(int(row["threads"]))
    shape = (1, int(row["tokens"]), int(row["heads"]), int(row["head_dim"]))
    # Views of [tokens, heads * head_dim], as a projection leaves them.
    q, k, v = ((2 * torch.rand(shape) - 1).transpose(1, 2).requires_grad_() for _ in range(3))
    d_out = (2 * torch.rand(shape) - 1).transpose(1, 2)
    for command in sys.stdin:
        if command.strip() == "step":
            start = time.perf_counter()
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
                out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            middle = time.perf_counter()
            out.backward(d_out)
            print(f"{middle - start:.6f} {time.perf_counter() - middle:.6f}", flush=True)
            q.grad = k.grad = v.grad = None
        elif command.strip() == "peak":
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)


if __name__ == "__main__":
    main()
