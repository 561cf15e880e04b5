"""Muon for the matrices and kernels of a network, AdamW for the rest.

    m = 0.95 m + g;   u = g + 0.95 m;   w -= rate * 0.2 sqrt(max(rows, columns)) * orthogonal(u)

`orthogonal` is U V^T of u = U S V^T, by five Newton-Schulz steps in bf16: every direction of a matrix learns equally fast, which needs
fewer samples than Adam's scaling number by number. A kernel [out, in, 3, 3] is the matrix [out, in * 9]. Sources: Jordan et al., Muon
(2024); the factor 0.2 sqrt(max) gives updates of AdamW's size, so both take the same rates: Liu et al., arXiv:2502.16982.
"""
from collections import defaultdict

import torch


def orthogonal(u):
    """u: [batch, rows, columns]; the singular values of each matrix become about 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = u.shape[1] > u.shape[2]
    x = (u.transpose(1, 2) if tall else u).bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        s = x @ x.transpose(1, 2)
        x = a * x + (b * s + c * (s @ s)) @ x
    return (x.transpose(1, 2) if tall else x).float()


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr, momentum=0.95, weight_decay=0.01):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            alike = defaultdict(list)
            for p in group["params"]:
                self.state[p].setdefault("momentum", torch.zeros_like(p, memory_format=torch.contiguous_format))
                alike[p.shape[0], p[0].numel()].append(p)
            for (rows, columns), params in alike.items():
                grads = [p.grad.contiguous() for p in params]
                means = [self.state[p]["momentum"] for p in params]
                torch._foreach_mul_(means, group["momentum"]), torch._foreach_add_(means, grads)
                u = torch.stack([(g + group["momentum"] * m).view(rows, columns) for g, m in zip(grads, means)])
                size = group["lr"] * 0.2 * max(rows, columns) ** 0.5
                for p, x in zip(params, orthogonal(u)):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(x.view(p.shape), alpha=-size)
