#!/usr/bin/env python3
"""Times PyTorch on the card that the benchmark runs on: attention and a training step of the model.

Usage: peers.py sdpa|flex|model [name=value ...]. Prints CSV lines as attention_bench and step_bench
do. Attention is SDPA's flash and cuDNN backends, and FlexAttention with a learned sink, whose
log-sum-exp gives the gate and its sums; backward in a fixed order, where PyTorch has one, and in
any. The model is the same nanochat family under torch.compile: fp32 parameters, bfloat16
activations, cuDNN's attention (flash where that is refused), Muon batched by shape and fused AdamW.
What PyTorch refuses is said in a line, and the rest goes on.
"""

import statistics
import sys
import time

import torch
import torch._functorch.config
import torch.nn.functional as F
import torch.utils.deterministic
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

REPEATS = 21
WARM_UP_SECONDS = 0.1  # a card at rest is at a fraction of its clock
CLEARED_BYTES = 2**30
LENGTHS = (2048, 4096, 8192, 16384)
HEAD_DIMS = (64, 128)


def median_seconds(run):
    """As attention_bench does: the median of single runs after some that warm up. A buffer larger
    than the cache is cleared before each, so that no run finds its data there, and the host has
    launched it before the device comes to it."""
    cleared = torch.empty(CLEARED_BYTES, dtype=torch.int8, device="cuda")

    def once():
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        cleared.zero_()
        begin.record()
        run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) * 1e-3

    once()  # which may compile
    started = time.perf_counter()
    while time.perf_counter() - started < WARM_UP_SECONDS:
        once()
    return statistics.median(once() for _ in range(REPEATS))


def not_run(what, error):
    first_line = (str(error).strip() or "no reason given").splitlines()[0]
    print(f"NOT RUN {what}: {type(error).__name__}: {first_line}", flush=True)


def backward_in_fixed_order(forward, inputs, d_out):
    """Seconds of the backward where it gives the same bits every time; None: there is none."""
    torch.use_deterministic_algorithms(True)
    # Else every tensor is filled before it is written, which is time for nothing.
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        out = forward()

        def backward():
            return torch.autograd.grad(out, inputs, d_out, retain_graph=True)
        first = backward()
        for _ in range(3):
            if not all(map(torch.equal, first, backward())):
                return None
        return median_seconds(backward)
    except RuntimeError:
        return None
    finally:
        torch.use_deterministic_algorithms(False)


class AttentionBench:
    """Random queries, keys and values of one shape, and the lines of what is timed on them."""

    def __init__(self, length, dim, tokens, width):
        self.length, self.dim = length, dim
        self.flop = 2.0 * tokens * length * width
        self.shape = (tokens // length, width // dim, length, dim)
        self.q, self.k, self.v = (
            torch.randn(self.shape, device="cuda", dtype=torch.bfloat16, requires_grad=True)
            for _ in range(3))
        self.d_out = torch.randn_like(self.q)

    def sdpa(self, name, backend):
        inputs = self.q, self.k, self.v

        def forward():
            return F.scaled_dot_product_attention(*inputs, is_causal=True)
        try:
            with sdpa_kernel(backend):
                there = median_seconds(forward)
                out = forward()
                back = median_seconds(lambda: torch.autograd.grad(out, inputs, self.d_out,
                                                                  retain_graph=True))
                fixed = backward_in_fixed_order(forward, inputs, self.d_out)
        except RuntimeError as error:
            return not_run(f"{name} {self.length} {self.dim}", error)
        return self.line(name, there, fixed, back)

    def flex(self):
        # Here, for nothing else needs it, and only new versions of PyTorch have AuxRequest.
        from torch.nn.attention.flex_attention import AuxRequest, create_block_mask, flex_attention

        def flex_sink(q, k, v, sinks, mask):
            """Attention with a learned sink logit per head, and the sums of its gate."""
            out, aux = flex_attention(q, k, v, block_mask=mask, return_aux=AuxRequest(lse=True))
            gate = torch.sigmoid(aux.lse - sinks[None, :, None])
            return out * gate.unsqueeze(-1).to(out.dtype), gate.sum((0, 2))

        torch.compiler.reset()  # code made for one shape, not for all
        inputs = self.q, self.k, self.v, torch.zeros(self.shape[1], device="cuda",
                                                     requires_grad=True)
        mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, self.length, self.length,
                                 device="cuda")
        compiled = torch.compile(flex_sink, dynamic=False)
        there = median_seconds(lambda: compiled(*inputs, mask))
        outputs = compiled(*inputs, mask)
        d_outputs = self.d_out, torch.full_like(outputs[1], 1e-6)
        # Its backward sums in a fixed order as it is: no gradients are added by atomics.
        back = median_seconds(lambda: torch.autograd.grad(outputs, inputs, d_outputs,
                                                          retain_graph=True))
        self.line("flex_sink", there, back, back)

    def line(self, name, there, fixed, back):
        backward = "" if fixed is None else f"{2.5 * self.flop / fixed * 1e-12:.1f}"
        print(f"torch,{name},{self.length},{self.dim},{self.flop / there * 1e-12:.1f},{backward},"
              f"{2.5 * self.flop / back * 1e-12:.1f}", flush=True)


def bench_sdpa(tokens=16384, width=2048):
    for dim in HEAD_DIMS:
        for length in LENGTHS:
            bench = AttentionBench(length, dim, tokens, width)
            bench.sdpa("flash", SDPBackend.FLASH_ATTENTION)
            bench.sdpa("cudnn", SDPBackend.CUDNN_ATTENTION)


def bench_flex(tokens=16384, width=2048):
    # The graph of a forward is kept for many backwards, whose buffers must then not be reused.
    torch._functorch.config.donated_buffer = False
    for dim in HEAD_DIMS:
        for length in LENGTHS:
            bench = AttentionBench(length, dim, tokens, width)
            try:
                bench.flex()
            except Exception as error:  # the compiler's errors have no common class
                not_run(f"flex_sink {length} {dim}", error)


def norm(x):
    return F.rms_norm(x, (x.size(-1),))


class Linear(nn.Linear):
    """fp32 parameters, products in the type of the activations."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x):
        return F.linear(x, self.weight.to(x.dtype))


class Block(nn.Module):
    def __init__(self, width, dim):
        super().__init__()
        self.dim = dim
        self.c_q, self.c_k, self.c_v, self.c_proj = (Linear(width, width) for _ in range(4))
        self.c_gate = Linear(width, width // dim)
        self.c_fc = Linear(width, 4 * width)
        self.m_proj = Linear(4 * width, width)

    def matrices(self):
        return [layer.weight for layer in (self.c_q, self.c_k, self.c_v, self.c_proj, self.c_fc,
                                           self.m_proj)]

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
    def __init__(self, depth, vocab, length, dim, coefficient):
        super().__init__()
        width = 64 * depth
        self.coefficient = coefficient
        self.wte = nn.Embedding(vocab, width)
        self.blocks = nn.ModuleList(Block(width, dim) for _ in range(depth))
        self.lm_head = Linear(width, vocab)
        angles = torch.outer(torch.arange(length), 10000.0 ** (-torch.arange(0, dim, 2) / dim))
        self.register_buffer("cosine", angles.cos()[None, :, None].bfloat16())
        self.register_buffer("sine", angles.sin()[None, :, None].bfloat16())

    def forward(self, tokens, targets):
        x = norm(self.wte(tokens).bfloat16())
        aux = 0.0
        for block in self.blocks:
            x, importance = block(x, self.cosine, self.sine)
            variance = importance.var(unbiased=False) / importance.mean().square()
            aux = aux + importance.numel() * variance
        logits = 15 * torch.tanh(self.lm_head(norm(x)).float() / 15)
        base = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return base + self.coefficient * aux


@torch.compile(dynamic=False)
def muon_direction(gradients, momenta):
    """Newton-Schulz in bfloat16 of Nesterov's direction, of all matrices of one shape at once."""
    momenta.lerp_(gradients, 0.05)
    x = gradients.lerp(momenta, 0.95).bfloat16()
    tall = x.size(-2) > x.size(-1)
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return x.mT if tall else x


class Muon:
    def __init__(self, parameters, lr):
        self.lr = lr
        self.groups = []
        for shape in sorted({tuple(p.shape) for p in parameters}):
            group = [p for p in parameters if tuple(p.shape) == shape]
            self.groups.append((group, torch.zeros((len(group), *shape), device=group[0].device)))

    @torch.no_grad()
    def step(self):
        for group, momenta in self.groups:
            update = muon_direction(torch.stack([p.grad for p in group]), momenta).float()
            rows, columns = group[0].shape
            torch._foreach_add_(group, update.unbind(),
                                alpha=-self.lr * max(1.0, rows / columns) ** 0.5)


def bench_model(depth=12, vocab=65536, rows=8, micro_steps=4, length=2048, dim=128,
                coefficient=1e-3):
    torch.manual_seed(1)
    model = Model(depth, vocab, length, dim, coefficient).cuda()
    matrices = [weight for block in model.blocks for weight in block.matrices()]
    others = [model.wte.weight, model.lm_head.weight,
              *(block.c_gate.weight for block in model.blocks)]
    optimizers = (Muon(matrices, lr=0.02),
                  torch.optim.AdamW(others, lr=4e-3, betas=(0.8, 0.95), weight_decay=0,
                                    fused=True))
    compiled = torch.compile(model, dynamic=False)
    batches = torch.randint(vocab, (micro_steps, 2, rows, length), device="cuda")

    def step():
        for tokens, targets in batches:
            (compiled(tokens, targets) / micro_steps).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad(set_to_none=True)

    # In this order: a backend that cannot be used gives way to the next.
    with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION], set_priority=True):
        step()
        torch.cuda.reset_peak_memory_stats()
        seconds = median_seconds(step)
    peak = (torch.cuda.max_memory_allocated() - CLEARED_BYTES) / 2**30
    parameters = sum(p.numel() for p in model.parameters())
    print(f"torch,d{depth},{parameters},{rows * length * micro_steps},{seconds:.6f},{peak:.2f},,,",
          flush=True)


def main(arguments):
    which = {"sdpa": bench_sdpa, "flex": bench_flex, "model": bench_model}
    if not arguments or arguments[0] not in which:
        print(__doc__, file=sys.stderr)
        return 2
    options = dict(word.split("=", 1) for word in arguments[1:])
    which[arguments[0]](**{name: float(value) if "." in value or "e" in value else int(value)
                           for name, value in options.items()})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
