#!/usr/bin/env python3
"""Times PyTorch on the card that the benchmark runs on: attention and a training step of the model.

Usage: peers.py attention|model [name=value ...]. Prints CSV lines as attention_bench and
`run.sh bench` do, so that one table holds both. Attention is SDPA's flash and cuDNN backends, and
FlexAttention with a learned sink (its log-sum-exp gives the gate); backward in a fixed order, where
PyTorch has one, and in any; the model is the same nanochat
family under torch.compile, with SDPA.
"""

import statistics
import sys

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from compare_curves import utilisation_percent

REPEATS = 21


def median_seconds(run, repeats=REPEATS):
    run()
    torch.cuda.synchronize()
    times = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e-3)
    return statistics.median(times)


def flex_sink(q, k, v, sinks):
    """Output and gate of attention with a learned sink logit per head."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention
    length = q.shape[2]
    mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, length, length)
    attend = torch.compile(flex_attention)

    def run():
        out, lse = attend(q, k, v, block_mask=mask, return_lse=True)
        gate = torch.sigmoid(lse - sinks[None, :, None])
        return out * gate.unsqueeze(-1).to(out.dtype), gate
    return run


def backward_in_fixed_order(forward, inputs, d_out):
    """Seconds of the backward where it must give the same bits every time; None: there is none."""
    torch.use_deterministic_algorithms(True)
    try:
        out = forward()
        return median_seconds(lambda: torch.autograd.grad(out, inputs, d_out, retain_graph=True))
    except RuntimeError:
        return None
    finally:
        torch.use_deterministic_algorithms(False)


def bench_attention(tokens=16384, width=2048):
    def line(what, length, dim, forward, fixed, any_order):
        flop = 2.0 * tokens * length * width
        backward = "" if fixed is None else f"{2.5 * flop / fixed * 1e-12:.1f}"
        print(f"torch,{what},{length},{dim},{flop / forward * 1e-12:.1f},{backward},"
              f"{2.5 * flop / any_order * 1e-12:.1f}", flush=True)

    for dim in (64, 128):
        for length in (2048, 4096, 8192, 16384):
            shape = (tokens // length, width // dim, length, dim)
            q, k, v = (torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True)
                       for _ in range(3))
            d_out = torch.randn_like(q)
            for name, backend in (("flash", SDPBackend.FLASH_ATTENTION),
                                  ("cudnn", SDPBackend.CUDNN_ATTENTION)):
                with sdpa_kernel(backend):
                    def forward():
                        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
                    try:
                        there = median_seconds(forward)
                        out = forward()
                        back = median_seconds(lambda: torch.autograd.grad(
                            out, (q, k, v), d_out, retain_graph=True))
                        fixed = backward_in_fixed_order(forward, (q, k, v), d_out)
                    except RuntimeError as error:
                        print(f"torch,{name},{length},{dim},not run: {error},,", flush=True)
                        continue
                line(name, length, dim, there, fixed, back)
            sinks = torch.zeros(shape[1], device="cuda", requires_grad=True)
            try:
                forward = flex_sink(q, k, v, sinks)
                there = median_seconds(forward)
                out, gate = forward()
                d_gate = torch.full_like(gate, 1e-6)
                back = median_seconds(lambda: torch.autograd.grad(
                    (out, gate), (q, k, v, sinks), (d_out, d_gate), retain_graph=True))
            except Exception as error:  # the compiler's errors have no common class
                print(f"torch,flex_sink,{length},{dim},not run: {type(error).__name__},,",
                      flush=True)
                continue
            line("flex_sink", length, dim, there, None, back)


def norm(x):
    return F.rms_norm(x, (x.size(-1),))


class Block(nn.Module):
    def __init__(self, width, dim):
        super().__init__()
        self.dim = dim
        self.c_q, self.c_k, self.c_v, self.c_proj = (
            nn.Linear(width, width, bias=False) for _ in range(4))
        self.c_gate = nn.Linear(width, width // dim, bias=False)
        self.c_fc = nn.Linear(width, 4 * width, bias=False)
        self.m_proj = nn.Linear(4 * width, width, bias=False)

    def heads(self, x):
        return x.view(*x.shape[:2], -1, self.dim)

    def rotate(self, x, cosine, sine):
        a, b = x.chunk(2, dim=-1)
        return norm(torch.cat((a * cosine + b * sine, -a * sine + b * cosine), -1))

    def forward(self, x, cosine, sine):
        y = norm(x)
        q = self.rotate(self.heads(self.c_q(y)), cosine, sine).transpose(1, 2)
        k = self.rotate(self.heads(self.c_k(y)), cosine, sine).transpose(1, 2)
        v = self.heads(self.c_v(y)).transpose(1, 2)
        gate = torch.sigmoid(self.c_gate(y))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
        x = x + self.c_proj((out * gate.unsqueeze(-1)).flatten(2))
        x = x + self.m_proj(F.relu(self.c_fc(norm(x))).square())
        return x, gate.float().mean((0, 1))


class Model(nn.Module):
    def __init__(self, depth, vocab, length, dim):
        super().__init__()
        width = 64 * depth
        self.wte = nn.Embedding(vocab, width)
        self.blocks = nn.ModuleList(Block(width, dim) for _ in range(depth))
        self.lm_head = nn.Linear(width, vocab, bias=False)
        angles = torch.outer(torch.arange(length), 10000.0 ** (-torch.arange(0, dim, 2) / dim))
        self.register_buffer("cosine", angles.cos()[None, :, None].bfloat16())
        self.register_buffer("sine", angles.sin()[None, :, None].bfloat16())

    def forward(self, tokens, targets, coefficient):
        x = norm(self.wte(tokens))
        aux = 0.0
        for block in self.blocks:
            x, importance = block(x, self.cosine, self.sine)
            variance = importance.var(unbiased=False) / importance.mean().square()
            aux = aux + importance.numel() * variance
        logits = 15 * torch.tanh(self.lm_head(norm(x)).float() / 15)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten()) + coefficient * aux


def bench_model(depth=12, vocab=65536, rows=8, length=2048, dim=128, coefficient=1e-3, steps=12):
    torch.manual_seed(1)
    model = Model(depth, vocab, length, dim).cuda()
    # Two groups stand for the optimizer: fused AdamW over everything is less work than Muon, so the
    # comparison favours PyTorch.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    compiled = torch.compile(model)
    tokens, targets = (torch.randint(vocab, (rows, length), device="cuda") for _ in range(2))

    def step():
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = compiled(tokens, targets, coefficient)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(3):
        step()
    seconds = median_seconds(step, steps)
    peak = torch.cuda.max_memory_allocated() / 2**30
    tokens_per_second = rows * length / seconds
    share = utilisation_percent(tokens_per_second, sum(p.numel() for p in model.parameters()),
                                depth, vocab, length)
    print(f"torch,d{depth},{tokens_per_second:.0f},{share:.1f},{peak:.2f}", flush=True)


def main(arguments):
    which = {"attention": bench_attention, "model": bench_model}
    if not arguments or arguments[0] not in which:
        print(__doc__, file=sys.stderr)
        return 2
    options = dict(word.split("=", 1) for word in arguments[1:])
    which[arguments[0]](**{name: float(value) if "." in value or "e" in value else int(value)
                           for name, value in options.items()})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
