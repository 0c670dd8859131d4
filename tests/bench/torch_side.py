"""The PyTorch side of train_speed.py: the same model, optimizer and batch, a step at a time.

Arguments: key=value of the row, and compile=yes|no. Commands on standard input as train_speed.cc's
`step` and `peak`; `peak` also prints the resident set before the model was made, which is what the
library itself takes.
"""

import math
import sys
import time

import torch
import torch.nn.functional as F


def resident(field):
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith(field):
                return float(line.split()[1]) / 1024
    return 0.0


class Attention(torch.nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.c_q = torch.nn.Linear(width, width, bias=False)
        self.c_k = torch.nn.Linear(width, width, bias=False)
        self.c_v = torch.nn.Linear(width, width, bias=False)
        self.c_proj = torch.nn.Linear(width, width, bias=False)

    def forward(self, x, cosine, sine):
        batch, length, width = x.shape

        def split(y):
            return y.view(batch, length, self.heads, width // self.heads).transpose(1, 2)

        def turn(y):
            first, second = y.chunk(2, dim=-1)
            y = torch.cat([first * cosine + second * sine, second * cosine - first * sine], dim=-1)
            return F.rms_norm(y, (y.size(-1),))

        q, k, v = turn(split(self.c_q(x))), turn(split(self.c_k(x))), split(self.c_v(x))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(out.transpose(1, 2).reshape(batch, length, width))


class Layer(torch.nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.attn = Attention(width, heads)
        self.c_fc = torch.nn.Linear(width, 4 * width, bias=False)
        self.c_proj = torch.nn.Linear(4 * width, width, bias=False)

    def forward(self, x, cosine, sine):
        x = x + self.attn(F.rms_norm(x, (x.size(-1),)), cosine, sine)
        return x + self.c_proj(F.relu(self.c_fc(F.rms_norm(x, (x.size(-1),)))).square())


class Model(torch.nn.Module):
    def __init__(self, row):
        super().__init__()
        width, heads, context = row["width"], row["heads"], row["context"]
        self.wte = torch.nn.Embedding(row["vocabulary"], width)
        self.layers = torch.nn.ModuleList(Layer(width, heads) for _ in range(row["layers"]))
        self.lm_head = torch.nn.Linear(width, row["vocabulary"], bias=False)
        half = width // heads // 2
        frequency = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
        angle = torch.outer(torch.arange(context, dtype=torch.float64), frequency)
        self.register_buffer("cosine", angle.cos().float(), persistent=False)
        self.register_buffer("sine", angle.sin().float(), persistent=False)
        for name, weight in self.named_parameters():
            if name.endswith("c_proj.weight") or name.startswith("lm_head"):
                torch.nn.init.zeros_(weight)

    def forward(self, tokens, targets):
        x = F.rms_norm(self.wte(tokens), (self.wte.embedding_dim,))
        for layer in self.layers:
            x = layer(x, self.cosine, self.sine)
        logits = self.lm_head(F.rms_norm(x, (x.size(-1),)))
        logits = 15.0 * torch.tanh(logits / 15.0)
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))


class Muon(torch.optim.Optimizer):
    """nanochat's, in float32 throughout."""

    def __init__(self, parameters, rate):
        super().__init__(parameters, {"lr": rate})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                buffer, g = state["momentum"], p.grad
                buffer.lerp_(g, 0.05)
                g = g.lerp_(buffer, 0.95)
                x = g.T if g.size(0) > g.size(1) else g
                x = x / (x.norm() + 1e-7)
                for _ in range(5):
                    a = x @ x.T
                    b = torch.addmm(a, a, a, beta=-4.7750, alpha=2.0315)
                    x = torch.addmm(x, b, x, beta=3.4445)
                if g.size(0) > g.size(1):
                    x = x.T
                p.add_(x, alpha=-group["lr"] * max(1.0, g.size(0) / g.size(1)) ** 0.5)


def make_optimizers(model, kind):
    matrices = list(model.layers.parameters())
    others = [*model.wte.parameters(), *model.lm_head.parameters()]
    adamw = {"betas": (0.8, 0.95), "eps": 1e-10, "weight_decay": 0.0, "fused": True}
    if kind == "adamw":
        return [torch.optim.AdamW(matrices + others, lr=3e-4, **adamw)]
    return [Muon(matrices, 0.02), torch.optim.AdamW(others, lr=0.004, **adamw)]


def main():
    row = dict(argument.split("=", 1) for argument in sys.argv[1:])
    row = {key: int(value) if value.isdigit() else value for key, value in row.items()}
    torch.set_num_threads(row["threads"])
    torch.manual_seed(1)
    before = resident("VmRSS:")
    model = Model(row)
    optimizers = make_optimizers(model, row["optimizer"])
    run = torch.compile(model) if row["compile"] == "yes" else model
    batch = torch.randint(0, row["vocabulary"], (row["rows"], row["context"] + 1))
    tokens, targets = batch[:, :-1].contiguous(), batch[:, 1:].contiguous()

    def step():
        start, processor = time.perf_counter(), time.process_time()
        loss = run(tokens, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        value = loss.item()
        if not math.isfinite(value):
            sys.exit("torch_side.py: the loss is not finite")
        return time.perf_counter() - start, time.process_time() - processor, value

    for command in sys.stdin:
        if command.strip() == "step":
            print("%.6f %.6f %.6f" % step(), flush=True)
        elif command.strip() == "peak":
            print(f"{resident('VmHWM:'):.1f} {before:.1f}", flush=True)


if __name__ == "__main__":
    main()
