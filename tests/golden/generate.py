#!/usr/bin/python3
"""Writes the golden files of tests/golden/data with PyTorch's autograd.

The model, the losses and the optimizers are written here a second time, from the mathematics alone
(arXiv 2602.01203 and the nanochat model family), with attention as a plain T x T matrix. Gradients
are those of float64 autograd. What 10 optimizer steps leave is kept in float64, beside the error
that PyTorch itself makes in float32 on the same steps: the yardstick for ours.

Needs `deploy/local/install.sh golden` (PyTorch 1.13 or newer). Run it again only when the
definitions change: `/usr/bin/python3 tests/golden/generate.py`. The result is deterministic.
"""

import json
import math
import pathlib
import struct

import numpy
import torch

LAYERS, WIDTH, HEADS, MLP_WIDTH, VOCABULARY = 2, 24, 4, 32, 32
HEAD_DIM = WIDTH // HEADS
SEQUENCE, ROWS, MICRO_STEPS, STEPS = 12, 2, 2, 10
EPSILON = 2.0**-23  # Of every RMS norm, whatever the dtype: float32's machine epsilon.
ROPE_BASE, SOFTCAP = 10000.0, 15.0
SHARED_HEADS = 1

DATA = pathlib.Path(__file__).parent / "data"


def save_safetensors(path, tensors, metadata):
    """The safetensors format: header length, JSON header padded with spaces, raw little-endian."""
    header = {"__metadata__": {key: str(value) for key, value in metadata.items()}}
    names = {"float32": "F32", "float64": "F64", "int32": "I32"}
    offset = 0
    for name, array in tensors.items():
        header[name] = {
            "dtype": names[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)))
        out.write(text)
        for array in tensors.values():
            out.write(numpy.ascontiguousarray(array).tobytes())


class Case:
    """One combination of attention, loss and MLP."""

    def __init__(self, attention, gate, head_norm, lse_gradient="exact", loss="none", shared=0,
                 base=True, mlp="relu_squared"):
        self.attention, self.gate, self.head_norm = attention, gate, head_norm
        self.lse_gradient, self.loss, self.shared, self.base = lse_gradient, loss, shared, base
        self.mlp = mlp

    def parameters_name(self):
        return (self.attention + ("_" + self.gate if self.attention == "gated" else "")
                + ("_swiglu" if self.mlp == "swiglu" else ""))

    def name(self):
        parts = [self.parameters_name()]
        if self.head_norm != "none":
            parts.append(self.head_norm)
        if self.lse_gradient != "exact":
            parts.append(self.lse_gradient)
        parts.append(self.loss + ("_shared" if self.shared else ""))
        if not self.base:
            parts.append("alone")
        return "_".join(parts)


def rms_norm(x):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + EPSILON)


def rope(x):
    """[B, T, H, d]; the first half of the channels is rotated against the second."""
    half = HEAD_DIM // 2
    frequency = ROPE_BASE ** (-2.0 * torch.arange(half, dtype=torch.float64) / HEAD_DIM)
    angle = torch.arange(x.shape[1], dtype=torch.float64)[:, None] * frequency
    cos, sin = angle.cos().to(x.dtype)[:, None, :], angle.sin().to(x.dtype)[:, None, :]
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos + second * sin, -first * sin + second * cos], -1)


def attention(case, parameters, prefix, x):
    """x [B, T, C], normalised. Returns the output projection's input, and the gate [B, T, H]."""
    batch, sequence, _ = x.shape

    def heads(name):
        return (x @ parameters[prefix + name].T).view(batch, sequence, HEADS, HEAD_DIM)

    q, k = rms_norm(rope(heads("c_q.weight"))), rms_norm(rope(heads("c_k.weight")))
    v = heads("c_v.weight")
    z = torch.einsum("bthd,bjhd->bhtj", q, k) / math.sqrt(HEAD_DIM)
    future = torch.ones(sequence, sequence, dtype=torch.bool).triu(1)
    z = z.masked_fill(future, -math.inf)
    lse = z.logsumexp(-1)  # [B, H, T]
    plain = torch.einsum("bhtj,bjhd->bthd", (z - lse[..., None]).exp(), v)

    if case.attention == "vanilla":
        out = plain if case.head_norm == "none" else rms_norm(plain)
        if case.lse_gradient == "exact":
            gate = (z - lse[..., None]).exp()[..., 1:].sum(-1)
        else:
            gate = 1 - (z[..., 0] - lse.detach()).exp()
            gate = gate * (torch.arange(sequence) > 0)  # Row 0 has one key: its gate is 0.
        gate = gate.transpose(1, 2)
    elif case.attention == "sink":
        sinks = parameters[prefix + "sinks"][None, :, None]
        gate = torch.sigmoid((lse if case.lse_gradient == "exact" else lse.detach()) - sinks)
        gate = gate.transpose(1, 2)
        out = gate[..., None] * plain
    else:
        aggregated = plain if case.head_norm == "none" else rms_norm(plain)
        opened = torch.sigmoid(x @ parameters[prefix + "c_gate.weight"].T)
        opened = opened.view(batch, sequence, HEADS, -1)  # One channel head-wise, d element-wise.
        out = opened * aggregated
        gate = opened.mean(-1)
    return out.reshape(batch, sequence, WIDTH), gate


def swiglu(gate, up):
    return torch.nn.functional.silu(gate) * up


def forward(case, parameters, inputs, targets):
    """Base loss of one micro-step (nats a token) and the gates of each layer."""
    x = rms_norm(parameters["transformer.wte.weight"][inputs])
    gates = []
    for layer in range(LAYERS):
        prefix = f"transformer.h.{layer}."
        out, gate = attention(case, parameters, prefix + "attn.", rms_norm(x))
        x = x + out @ parameters[prefix + "attn.c_proj.weight"].T
        y = rms_norm(x)
        if case.mlp == "swiglu":
            hidden = swiglu(y @ parameters[prefix + "mlp.c_gate.weight"].T,
                            y @ parameters[prefix + "mlp.c_up.weight"].T)
        else:
            hidden = torch.relu(y @ parameters[prefix + "mlp.c_fc.weight"].T) ** 2
        x = x + hidden @ parameters[prefix + "mlp.c_proj.weight"].T
        gates.append(gate)
    logits = SOFTCAP * torch.tanh(rms_norm(x) @ parameters["lm_head.weight"].T / SOFTCAP)
    logits = logits.view(-1, VOCABULARY)
    return torch.nn.functional.cross_entropy(logits, targets.reshape(-1).long()), gates


def variation(importance):
    """CV with the population's standard deviation."""
    mean = importance.mean()
    return ((importance - mean) ** 2).mean().sqrt() / mean


def balance_loss(case, gates):
    """Coefficient 1. `gates`: per layer [B, T, H]."""
    total = torch.zeros((), dtype=gates[0].dtype)
    for gate in gates:
        importance = gate.mean((0, 1))
        if case.loss == "cv":
            order = sorted(range(HEADS), key=lambda h: (-importance[h].item(), h))
            ranked = importance[order[: case.shared + 1]].detach()
            assert case.shared == 0 or ranked[-2] - ranked[-1] > 1e-4, "shared heads too close"
            counted = importance[sorted(order[case.shared :])]
            mean = counted.mean()
            total = total + len(counted) * ((counted - mean) ** 2).mean() / mean**2
        elif case.loss == "switch":
            values = gate.detach().numpy().reshape(-1, HEADS)
            top = numpy.sort(values, axis=1)
            close = (top[:, -1] - top[:, -2] < 1e-5) & (top[:, -1] > 0)
            assert not close.any(), "two heads too close for float32 to tell the larger one"
            first = values.argmax(1)  # Of equal values the first: all zero at position 0, vanilla.
            share = torch.tensor(numpy.bincount(first, minlength=HEADS) / len(first)).to(gate.dtype)
            total = total + HEADS * (share * importance / importance.sum()).sum()
    return total


def backward(case, parameters, inputs, targets):
    """One step's gradients over its micro-steps, and what was measured on the way."""
    for tensor in parameters.values():
        tensor.grad = None
    base_sum, aux_sum = 0.0, 0.0
    importance = torch.zeros(LAYERS, HEADS, dtype=torch.float64)
    layer_cv = torch.zeros(LAYERS, dtype=torch.float64)
    for micro in range(MICRO_STEPS):
        base, gates = forward(case, parameters, inputs[micro], targets[micro])
        aux = balance_loss(case, gates)
        total = (base if case.base else 0 * base) + aux
        (total / MICRO_STEPS).backward()
        base_sum += base.item() / MICRO_STEPS if case.base else 0.0
        aux_sum += aux.item() / MICRO_STEPS
        for layer, gate in enumerate(gates):
            of_layer = gate.detach().double().mean((0, 1))
            importance[layer] += of_layer / MICRO_STEPS
            layer_cv[layer] += variation(of_layer) / MICRO_STEPS
    return {"base": base_sum, "aux": aux_sum, "imbalance": layer_cv.mean().item(),
            "importance": importance, "layer_cv": layer_cv}


def is_block_matrix(name):
    return name.startswith("transformer.h.") and not is_gate(name)


def is_gate(name):
    return name.endswith("attn.sinks") or name.endswith("attn.c_gate.weight")


# nanochat's rates. The embeddings' are scaled by (width / 768)^-0.5 beside Muon.
MUON = {"matrix": 0.02, "embedding": 0.2, "unembedding": 0.004, "gate": 0.02, "decay": 0.0}
ADAMW = {"matrix": 3e-3, "embedding": 3e-3, "unembedding": 3e-3, "gate": 0.02, "decay": 0.1}
BETA1, BETA2, ADAM_EPSILON = 0.8, 0.95, 1e-10
CLIP, WARMDOWN = 1.0, 0.2


def group_of(name):
    if is_block_matrix(name):
        return "matrix"
    if is_gate(name):
        return "gate"
    return "unembedding" if name == "lm_head.weight" else "embedding"


def newton_schulz(x):
    x = x / (x.norm() + 1e-7)
    flip = x.shape[0] > x.shape[1]
    if flip:
        x = x.T
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if flip else x


class Optimizer:
    def __init__(self, kind, parameters):
        self.kind, self.rates = kind, MUON if kind == "muon" else ADAMW
        self.first = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self.second = {name: torch.zeros_like(p) for name, p in parameters.items()}

    def rate(self, name, step):
        down = round(WARMDOWN * STEPS)
        scale = min(1.0, (STEPS - step) / down)
        rate = self.rates[group_of(name)] * scale
        if self.kind == "muon" and group_of(name) in ("embedding", "unembedding"):
            rate *= (WIDTH / 768) ** -0.5
        return rate

    @torch.no_grad()
    def update(self, parameters, step):
        """`step` counts from 0."""
        norm = math.sqrt(sum(p.grad.double().square().sum().item() for p in parameters.values()))
        clip = min(1.0, CLIP / (norm + 1e-6))  # As torch.nn.utils.clip_grad_norm_.
        for name, p in parameters.items():
            g, rate = p.grad * clip, self.rate(name, step)
            if self.kind == "muon" and is_block_matrix(name):
                momentum = 0.85 + 0.10 * min(1.0, step / 300)
                buffer = self.first[name]
                buffer += (1 - momentum) * (g - buffer)
                g = g + momentum * (buffer - g)
                p -= rate * math.sqrt(max(1.0, p.shape[0] / p.shape[1])) * newton_schulz(g)
                continue
            if is_block_matrix(name):
                p -= rate * self.rates["decay"] * p
            first, second = self.first[name], self.second[name]
            first += (1 - BETA1) * (g - first)
            second += (1 - BETA2) * (g * g - second)
            corrected = second / (1 - BETA2 ** (step + 1))
            p -= rate / (1 - BETA1 ** (step + 1)) * first / (corrected.sqrt() + ADAM_EPSILON)


def random_parameters(case, generator):
    """Nothing is zero, as it would be at initialisation: a small wrong term must show."""

    def normal(deviation, *shape):
        return (deviation * torch.randn(*shape, generator=generator)).float()

    parameters = {"transformer.wte.weight": normal(1.0, VOCABULARY, WIDTH)}
    for layer in range(LAYERS):
        prefix = f"transformer.h.{layer}."
        for name in ("c_q", "c_k", "c_v", "c_proj"):
            parameters[f"{prefix}attn.{name}.weight"] = normal(WIDTH**-0.5, WIDTH, WIDTH)
        if case.attention == "sink":
            parameters[prefix + "attn.sinks"] = normal(1.5, HEADS)
        if case.attention == "gated":
            rows = HEADS if case.gate == "head" else WIDTH
            parameters[prefix + "attn.c_gate.weight"] = normal(0.3, rows, WIDTH)
        for name in ("c_gate", "c_up") if case.mlp == "swiglu" else ("c_fc",):
            parameters[f"{prefix}mlp.{name}.weight"] = normal(WIDTH**-0.5, MLP_WIDTH, WIDTH)
        parameters[prefix + "mlp.c_proj.weight"] = normal(MLP_WIDTH**-0.5, WIDTH, MLP_WIDTH)
    parameters["lm_head.weight"] = normal(0.4, VOCABULARY, WIDTH)
    return parameters


def leaves(parameters, dtype):
    return {name: p.to(dtype).clone().requires_grad_() for name, p in parameters.items()}


def train(case, kind, start, dtype, inputs, targets):
    parameters = leaves(start, dtype)
    optimizer = Optimizer(kind, parameters)
    for step in range(STEPS):
        backward(case, parameters, inputs[step], targets[step])
        optimizer.update(parameters, step)
    return {name: p.detach().double() for name, p in parameters.items()}


def all_cases():
    architectures = [("vanilla", "head", "none"), ("vanilla", "head", "rms"),
                     ("sink", "head", "none")]
    architectures += [("gated", gate, norm) for gate in ("head", "element")
                      for norm in ("none", "rms")]
    losses = [("none", 0), ("cv", 0), ("cv", SHARED_HEADS), ("switch", 0)]
    cases = [Case(*a, "exact", *loss) for a in architectures for loss in losses]
    # Detached, vanilla differs only by the loss; the sink's own output uses the gate too.
    cases += [Case("vanilla", "head", "none", "detached", *loss) for loss in losses[1:]]
    cases += [Case("sink", "head", "none", "detached", *loss) for loss in losses]
    cases += [Case(*a, loss="cv", base=False) for a in (architectures[0], architectures[2],
                                                        architectures[-1])]
    # The MLP knows nothing of attention: one architecture is enough.
    cases.append(Case("gated", "head", "none", loss="cv", mlp="swiglu"))
    return cases


def write_parameters(case):
    # A seed at which no two heads are so close that float32 could not tell the larger one.
    parameters = random_parameters(case, torch.Generator().manual_seed(4))
    save_safetensors(DATA / f"parameters_{case.parameters_name()}.safetensors",
                     {name: p.numpy() for name, p in parameters.items()}, {})
    return parameters


def write_gradients(case, start, inputs, targets):
    parameters = leaves(start, torch.float64)
    measured = backward(case, parameters, inputs[0], targets[0])
    tensors = {"importance": measured["importance"].numpy(),
               "layer_cv": measured["layer_cv"].numpy(),
               "losses": numpy.array([measured["base"], measured["aux"], measured["imbalance"]])}
    for name, p in parameters.items():
        gradient = p.grad if p.grad is not None else torch.zeros_like(p)
        tensors["gradient." + name] = gradient.float().numpy()
    save_safetensors(DATA / f"gradients_{case.name()}.safetensors", tensors, {})


def write_swiglu_op():
    """SwiGLU alone, from gates that are nearly shut to ones that are wide open."""
    generator = torch.Generator().manual_seed(7)
    ends = torch.tensor([-1000.0, -200.0, -90.0, 0.0, 90.0, 1000.0])
    inputs = {"gate": torch.cat([torch.linspace(-30, 30, 121), ends])}
    for name in ("up", "d_act"):
        inputs[name] = torch.randn(len(inputs["gate"]), generator=generator)
    gate, up = (inputs[name].double().requires_grad_() for name in ("gate", "up"))
    act = swiglu(gate, up)
    act.backward(inputs["d_act"].double())
    save_safetensors(DATA / "op_swiglu.safetensors",
                     {**{name: x.numpy() for name, x in inputs.items()},
                      "act": act.detach().numpy(), "d_gate": gate.grad.numpy(),
                      "d_up": up.grad.numpy()}, {})


def write_steps(case, kind, start, inputs, targets):
    exact = train(case, kind, start, torch.float64, inputs, targets)
    rounded = train(case, kind, start, torch.float32, inputs, targets)
    tensors, worst = {}, 0.0
    for name, value in exact.items():
        error = ((rounded[name] - value).norm() / value.norm()).item()
        worst = max(worst, error)
        tensors["parameter." + name] = value.numpy()
        tensors["error." + name] = numpy.array([error])
    save_safetensors(DATA / f"steps_{case.name()}_{kind}.safetensors", tensors, {})
    print(f"{case.name():32} {kind:6} PyTorch's largest float32 error {worst:.2e}")


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    DATA.mkdir(exist_ok=True)
    for old in DATA.glob("*.safetensors"):
        old.unlink()
    generator = torch.Generator().manual_seed(1203)
    shape = (STEPS, MICRO_STEPS, ROWS, SEQUENCE + 1)
    tokens = torch.randint(VOCABULARY, shape, generator=generator)
    inputs, targets = tokens[..., :-1], tokens[..., 1:]
    save_safetensors(DATA / "batches.safetensors",
                     {"inputs": inputs.int().numpy(), "targets": targets.int().numpy()}, {})
    write_swiglu_op()
    for case in all_cases():
        start = write_parameters(case)
        write_gradients(case, start, inputs, targets)
        # Ten steps for each architecture, with the paper's loss.
        if case.loss == "cv" and case.shared == 0 and case.base and case.lse_gradient == "exact":
            for kind in ("muon", "adamw"):
                write_steps(case, kind, start, inputs, targets)
    total = sum(path.stat().st_size for path in DATA.glob("*.safetensors"))
    print(f"{len(list(DATA.glob('*.safetensors')))} files, {total / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
