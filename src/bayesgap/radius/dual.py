"""The search for multipliers: how far can the region of one target component be pushed away?

For a target component j of another class, with log-weight log w_j, and own components i, let
q_i(u) = a_i(x + u) − b_j(x + u) + log w_j. Wherever the target's share decides, all of
Σ λ_i q_i(u) + ΛH(λ/Λ) ≤ 0 hold (Λ = Σ λ_i ≥ 0), so the squared distance to there is at least twice

    Ψ(λ) = min over u of ½‖u‖² + Σ_i λ_i q_i(u) + ΛH(λ/Λ),

a concave function whose gradient is q_i(u*) − log(λ_i/Λ) and whose curvature is −J H⁻¹ Jᵀ less
that of the entropy, with H = I + Σ_i λ_i(Σ_j⁻¹ − Σ_i⁻¹) positive definite and J the gradients of
the q_i at the minimiser u*. Newton's method climbs it for all pairs of a point and a target at
once. Nothing here has to be believed: `proof` finds out what the multipliers are worth.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bayesgap.radius.frame import Frame

ITERATIONS = 80
GAIN = 1e-8  # relative to the value: what is worth another step
SMALLEST_SHARE = 1e-13  # of a multiplier in their sum; below, its component is left out
KEPT = 0.9  # of the way to where a multiplier becomes 0, with entropy
SHORTER = 4.0  # factor by which a step that does not climb is shortened
LONGER = 3.0  # factor by which the next may be longer than one that does
LONGEST_STEP = 100.0  # relative to the sum of the multipliers
SMALLEST_STEP = 1e-9  # relative to the multipliers
RIDGE = 1e-12  # relative, added to curvatures that may be singular
TINY = 1e-300
SMALLEST_CURVATURE = 1e-100  # where Ψ is linear a step is long, but a number
COPIES = 3  # of all loadings of a problem that are in memory at once
DENSE = 16  # coordinates up to which H is formed
CHUNK_BYTES = 256 * 2**20


@dataclass
class Pairs:
    """Problems: each a point, a target component and the own components that hold it off.

    Attributes:
        point: Index of each problem's point.
        z: Coordinates of each problem's point.
        target: Index of each problem's target component.
        own: Indices of each problem's m own components; any index in an unused place.
        used: Which of the m places are used: the first ones.
        log_weight: log w of each target, in nats.
        multipliers: λ of each own component; 0 in unused places.
        value: Ψ(λ) of each problem, half a squared distance.
        moves: The minimiser u* of each problem, in coordinates.
    """

    point: Int[Tensor, " B"]
    z: Float[Tensor, "B D"]
    target: Int[Tensor, " B"]
    own: Int[Tensor, "B m"]
    used: Bool[Tensor, "B m"]
    log_weight: Float[Tensor, " B"]
    multipliers: Float[Tensor, "B m"]
    value: Float[Tensor, " B"]
    moves: Float[Tensor, "B D"]

    def __getitem__(self, rows: Tensor) -> "Pairs":
        """Some of the problems.

        Args:
            rows: Their indices, or whether to take each.
        """
        return Pairs(**{name: tensor[rows] for name, tensor in vars(self).items()})


class Local(NamedTuple):
    """What the q_i of a batch of problems are made of.

    Attributes:
        difference: s_j − s_i, differences of the target's and the own components' inverse noises.
        target_loadings: W_j of the target component.
        own_loadings: W_i of each own component.
        constants: q_i(0) of each own component, in nats.
        gradients: The gradient of each q_i at 0.
        hessians: The Hessian of each q_i; None unless coordinates are so few that it is formed.
    """

    difference: Float[Tensor, "B m S"]
    target_loadings: Float[Tensor, "B l D"]
    own_loadings: Float[Tensor, "B m l D"]
    constants: Float[Tensor, "B m"]
    gradients: Float[Tensor, "B m D"]
    hessians: Float[Tensor, "B m D D"] | None

    def of(self, rows: Bool[Tensor, " B"]) -> "Local":
        """Those of some of the problems.

        Args:
            rows: Whether to take each problem.
        """
        hessians = None if self.hessians is None else self.hessians[rows]
        kept = {name: part[rows] for name, part in self._asdict().items() if part is not None}
        return Local(**{**kept, "hessians": hessians})


class DualValue(NamedTuple):
    """Ψ at some multipliers, with its first two derivatives.

    Attributes:
        legal: Whether H is positive definite there; where not, nothing else means anything.
        value: Ψ of each problem, at most half the squared distance that it is about.
        moves: The minimiser u* of each problem, in coordinates.
        slope: The gradient of Ψ in the multipliers.
        curvature: Minus the Hessian of Ψ in the multipliers.
    """

    legal: Bool[Tensor, " B"]
    value: Float[Tensor, " B"]
    moves: Float[Tensor, "B D"]
    slope: Float[Tensor, "B m"]
    curvature: Float[Tensor, "B m m"]


def ascend(
    frame: Frame,
    pairs: Pairs,
    rows: Int[Tensor, " live"],
    *,
    entropic: bool,
    enough: Float[Tensor, " B"],
) -> None:
    """Climb Ψ from where some pairs' multipliers are, in place.

    Args:
        frame: The components in few coordinates.
        pairs: The problems; their multipliers, values and moves are overwritten.
        rows: Indices of the problems to climb.
        entropic: Whether the entropy belongs to Ψ (the rule of the log-sum-exp).
        enough: For each problem, the value of Ψ above which it need not be climbed on.
    """
    width, (latent, dimension) = pairs.own.shape[1], frame.loadings.shape[1:]
    floats = dimension * (COPIES * (width + 1) * latent + 4 * width)
    # Those with few components together: none is computed for places that a whole chunk leaves.
    rows = rows[pairs.used[rows].sum(dim=1).argsort(stable=True)]
    for chunk in rows.split(max(1, CHUNK_BYTES // (8 * floats))):
        _ascend(frame, pairs, chunk, entropic, enough[chunk])


def _ascend(
    frame: Frame, pairs: Pairs, live: Int[Tensor, " live"], entropic: bool, enough: Tensor
) -> None:
    problems = pairs[live]
    width = int(problems.used.sum(dim=1).max())
    for name in ("own", "used", "multipliers"):
        setattr(problems, name, getattr(problems, name)[:, :width])
    at, used = _local(frame, problems), problems.used
    current, step = torch.zeros_like(problems.multipliers), problems.multipliers
    value = torch.full_like(problems.value, -torch.inf)
    # How far steps may go: less after each that failed, so that they end at the edge of where H
    # is definite if the maximum lies there (the hard case of trust regions).
    reach = torch.full_like(value, torch.inf)
    for _ in range(ITERATIONS):
        trial = (current + step).clamp(min=0)
        e = _dual_value(at, trial, entropic)
        better = e.legal & (e.value >= value)
        rows = live[better]
        pairs.multipliers[rows, :width] = trial[better]
        pairs.value[rows] = e.value[better]
        pairs.moves[rows] = e.moves[better]
        once = current.sum(dim=1) > 0  # not while the first legal multipliers are sought
        current = torch.where(better[:, None], trial, current)
        value = torch.where(better, e.value, value)
        fresh, gain = _newton(e, trial, used, entropic)
        length = step.abs().sum(dim=1)
        reach = torch.where(better, LONGER * reach, torch.where(once, length / SHORTER, reach))
        step = torch.where(better[:, None], fresh, step / SHORTER)
        length = step.abs().sum(dim=1, keepdim=True).clamp(min=TINY)
        step = step * (reach[:, None] / length).clamp(max=1.0)
        still = (step.abs() <= SMALLEST_STEP * current).all(dim=1)
        done = torch.where(better, gain <= GAIN * value.abs(), still) | (value > enough)
        if done.all():
            break
        on = ~done
        live, enough, used = live[on], enough[on], used[on]
        at = at.of(on)
        current, value, step, reach = current[on], value[on], step[on], reach[on]


def _local(frame: Frame, pairs: Pairs) -> Local:
    z, own, target = pairs.z, pairs.own, pairs.target
    values = frame.values(z)
    slopes = torch.stack([frame.slopes(z, one) for one in own.unbind(dim=1)], dim=1)
    heights = values.gather(1, own) - values.gather(1, target[:, None])
    hessians = None
    if z.shape[1] <= DENSE:
        inverses = frame.inverses()
        hessians = inverses[target][:, None] - inverses[own]
    return Local(
        frame.precisions[target][:, None] - frame.precisions[own],
        frame.loadings[target],
        frame.loadings[own],
        heights + pairs.log_weight[:, None],
        frame.slopes(z, target)[:, None] - slopes,
        hessians,
    )


def _factorised(
    at: Local, multipliers: Float[Tensor, "B m"]
) -> tuple[Bool[Tensor, " B"], Callable[[Tensor], Tensor]]:
    """Where H is positive definite, and how its inverse multiplies rows of vectors (B, k, D).

    H = diag(E) + VᵀV − BᵀB by the Woodbury identity, with E positive: the rows of V are √λ_i W_i,
    those of B are √Λ W_j. With T = I + V E⁻¹Vᵀ, H is positive definite where the Schur complement
    P = I − B E⁻¹Bᵀ + B E⁻¹Vᵀ T⁻¹ V E⁻¹Bᵀ is. E may be negative where H is not, but no more than
    as many of its values as there are factors: in few coordinates H itself is factorised.
    """
    if at.hessians is not None:
        dense = torch.eye(at.hessians.shape[-1]).to(multipliers)
        dense = dense + (multipliers[:, :, None, None] * at.hessians).sum(dim=1)
        whole, info = torch.linalg.cholesky_ex(dense)
        return info == 0, lambda right: torch.cholesky_solve(right.mT, whole).mT
    total = multipliers.sum(dim=1)
    diagonal = 1 + (multipliers[:, :, None] * at.difference).sum(dim=1)
    own = (multipliers.sqrt()[:, :, None, None] * at.own_loadings).flatten(1, 2)
    rows = torch.cat([own, total.sqrt()[:, None, None] * at.target_loadings], dim=1)
    scaled = rows / diagonal[:, None]
    gram = scaled @ rows.mT
    held, eye = own.shape[1], torch.eye(rows.shape[1]).to(gram)
    outer, outer_info = torch.linalg.cholesky_ex((gram + eye)[:, :held, :held])
    cross = torch.linalg.solve_triangular(outer, gram[:, :held, held:], upper=False)
    schur = (eye - gram)[:, held:, held:] + cross.mT @ cross
    inner, inner_info = torch.linalg.cholesky_ex(schur)

    def inverse(right: Tensor) -> Tensor:
        first = right / diagonal[:, None]
        inside = (first @ rows.mT).mT
        y = torch.linalg.solve_triangular(outer, inside[:, :held], upper=False)
        below = torch.cholesky_solve(cross.mT @ y - inside[:, held:], inner)
        above = torch.linalg.solve_triangular(outer.mT, y - cross @ below, upper=True)
        return first - torch.cat([above, below], dim=1).mT @ scaled

    return (diagonal > 0).all(dim=1) & (outer_info == 0) & (inner_info == 0), inverse


def _dual_value(at: Local, multipliers: Float[Tensor, "B m"], entropic: bool) -> DualValue:
    """Ψ, its minimiser and its derivatives."""
    definite, inverse = _factorised(at, multipliers)
    gradient = (multipliers[:, :, None] * at.gradients).sum(dim=1, keepdim=True)
    u = -inverse(gradient)
    on_target = (u @ at.target_loadings.mT) @ at.target_loadings
    on_own = (at.own_loadings @ u[:, :, :, None]).mT @ at.own_loadings
    turned = at.difference * u - on_target + on_own.squeeze(2)  # each Hessian of a q_i times u
    q = at.constants + ((at.gradients + 0.5 * turned) @ u.mT).squeeze(2)
    value = 0.5 * u.square().sum(dim=(1, 2)) + (multipliers * q).sum(dim=1)
    steep = at.gradients + turned
    curvature = inverse(steep) @ steep.mT
    if entropic:
        sums = multipliers.sum(dim=1, keepdim=True).clamp(min=TINY)
        shares = (multipliers / sums).clamp(min=SMALLEST_SHARE)
        value = value - (multipliers * shares.log()).sum(dim=1)
        q = q - shares.log()
        curvature = curvature + torch.diag_embed(1 / (shares * sums)) - 1 / sums[:, :, None]
    return DualValue(definite & value.isfinite(), value, u.squeeze(1), q, curvature)


def _newton(
    e: DualValue, multipliers: Float[Tensor, "B m"], used: Bool[Tensor, "B m"], entropic: bool
) -> tuple[Float[Tensor, "B m"], Float[Tensor, " B"]]:
    """Newton's step of the multipliers that are free to move, and the gain that it promises.

    A step ends where the first multiplier becomes 0, or, with entropy, before.
    """
    least = SMALLEST_SHARE * multipliers.sum(dim=1, keepdim=True) if entropic else 0.0
    above = multipliers > least
    free = used & (above | (e.slope > 0))
    eye = torch.eye(used.shape[1]).to(e.curvature)
    curvature = torch.where(free[:, :, None] & free[:, None], e.curvature, eye)
    scale = curvature.diagonal(dim1=1, dim2=2).clamp(min=SMALLEST_CURVATURE).rsqrt()
    scaled = scale[:, :, None] * curvature * scale[:, None] + RIDGE * eye
    slope = torch.where(free, e.slope, 0.0)
    step = scale * torch.linalg.solve_ex(scaled, scale * slope)[0]
    gain = 0.5 * (slope * step).sum(dim=1)
    room = (KEPT if entropic else 1.0) * multipliers / -step.clamp(max=-TINY)
    room = torch.where(above & (step < 0), room, torch.inf).amin(dim=1, keepdim=True)
    # Where no point is in reach Ψ grows for ever, and Newton's step is as good as infinite.
    longest = LONGEST_STEP * multipliers.sum(dim=1, keepdim=True)
    room = torch.minimum(room, longest / step.abs().sum(dim=1, keepdim=True).clamp(min=TINY))
    return step * room.clamp(max=1.0), gain
