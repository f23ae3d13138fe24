"""The search for tight brackets: near adversarial points, and multipliers that prove them nearest.

For each point, the targets that may decide within the ball of its upper bound are kept; for each
of them `dual` finds multipliers, starting from the own components that are likely at the point
and taking in, one by one, those that the nearest point found still violates. The log-weights of
targets follow from each other's: w_j = exp M_j(r) at the radius r where they sum to 1 (see
`proof`), so that every target is given just what it needs. Each round can only raise the radius.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bayesgap.radius.dual import Pairs, ascend
from bayesgap.radius.frame import Frame
from bayesgap.tasks.bayes import BayesClassifier

WIDTH = 5  # own components of a pair at once
SMALLEST_SHARE = 1e-6  # of an own component at the point itself, to start with it
FRESH_SHARE = 0.02  # of the multipliers that a component starts with
ROUNDS = 20
PATIENCE = 3  # rounds without progress
FARTHEST = 1e6  # where no point of another decision was found
FARTHEST_START = 1e6  # times the multipliers up to which H is definite whatever the target
TINY = 1e-300
SHORT = 1e-3  # share of a bound by which a minimiser falls short of it in the hard case
MOST_DENSE = 512  # coordinates up to which the kernel of H is looked for
TIGHT = 1e-6  # relative difference of bounds, or progress of a round, that is as good as none
IMPOSSIBLE = -60.0  # nats below its class's rival that leave a target without a say
FAINT = -30.0  # nats: a log-weight at which others decide
STRETCHES = (1.0, 1 + 1e-6, 1 + 1e-4, 1.01, 1.1, 1.5, 2.0, 4.0, 16.0)  # of a ray, until it crosses
HALVINGS = 30  # of the way to the crossing


@dataclass(frozen=True)
class SearchResult:
    """What a search leaves: the nearest adversarial points, and multipliers.

    Attributes:
        moves: For each point, the displacement in pixels to the nearest one found that the
            classifier decides otherwise; 0 where none was found.
        pairs: Each point with each target that may decide its radius, and their multipliers.
    """

    moves: Float[Tensor, "n d"]
    pairs: Pairs


def search(
    classifier: BayesClassifier, frame: Frame, x: Float[Tensor, "n d"], y: Int[Tensor, " n"]
) -> SearchResult:
    """Look for the nearest point of another decision, and for multipliers, at decided points.

    Args:
        classifier: The task's Bayes-optimal classifier, in float64.
        frame: The components of the classifier's `marginal`, in few coordinates.
        x: The points, flattened; the classifier decides them as y.
        y: The label of each point.
    """
    searching = _Search(classifier, frame, x, y)
    first = searching.likeliest_targets()
    searching.shorten(first.point, searching.frame.means[first.target] - first.z)
    searching.climb(first)
    pairs = searching.possible_targets()
    searching.climb(pairs)
    searching.complete(pairs)
    pairs = pairs[searching.possible(pairs.point, pairs.target)]
    return SearchResult(searching.frame.displacements(x, searching.moves), pairs)


class _Search:
    """The state of a search: for each point the nearest crossing so far."""

    def __init__(self, classifier: BayesClassifier, frame: Frame, x: Tensor, y: Tensor):
        self.entropic = classifier.rule == "log-sum-exp"
        self.label = classifier.component_class  # of each component
        self.sizes = classifier.sizes
        self.frame = frame
        self.y = y
        self.z = self.frame.coordinates(x)
        self.values = self.frame.values(self.z)
        self.own = self.label == y[:, None]
        self.upper = torch.full_like(self.z[:, 0], torch.inf)
        self.moves = torch.zeros_like(self.z)

    def total(self, values: Float[Tensor, "... K"]) -> Float[Tensor, " ..."]:
        """What components amount to under the rule."""
        return values.logsumexp(dim=-1) if self.entropic else values.amax(dim=-1)

    def gap(self, values: Float[Tensor, "n K"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The log-joint of y less the largest other; negative where the decision is another."""
        totals = torch.stack([self.total(v) for v in values.split(self.sizes, dim=1)], dim=1)
        others = totals.scatter(1, y[:, None], -torch.inf).amax(dim=1)
        return totals.gather(1, y[:, None]).squeeze(1) - others

    def shorten(self, point: Int[Tensor, " B"], rays: Float[Tensor, "B D"]) -> None:
        """Keep where rays from their points first meet another decision, if that is nearer."""
        length = rays.norm(dim=1)
        rows = ((length > 0) & (length < self.upper[point])).nonzero().flatten()
        point, rays, length = point[rows], rays[rows], length[rows]
        # Along a ray the log-joint of every component is a parabola, which three values tell.
        z, y, here = self.z[point], self.y[point], self.values[point]
        ahead, behind = self.frame.values(z + rays), self.frame.values(z - rays)
        slope, bend = (ahead - behind) / 2, (ahead + behind) / 2 - here

        def crossed(stretch: Float[Tensor, " B"]) -> Bool[Tensor, " B"]:
            t = stretch[:, None]
            return self.gap(here + t * (slope + t * bend), y) < 0

        far = torch.full_like(length, torch.inf)
        for stretch in STRETCHES:
            there = torch.full_like(far, stretch)
            far = torch.where(far.isinf() & crossed(there), there, far)
        found = far.isfinite()
        near, far = torch.zeros_like(far), far.nan_to_num(posinf=STRETCHES[-1])
        for _ in range(HALVINGS):
            middle = (near + far) / 2
            over = crossed(middle)
            near, far = torch.where(over, near, middle), torch.where(over, middle, far)
        reached = torch.where(found, far * length, torch.inf)
        nearest = self.upper.scatter_reduce(0, point, reached, "amin")
        rows = (reached < self.upper[point]) & (reached == nearest[point])
        self.upper[point[rows]] = reached[rows]
        self.moves[point[rows]] = far[rows, None] * rays[rows]

    def likeliest_targets(self) -> Pairs:
        """Each point with the likeliest component of each other class."""
        best = torch.stack([part.argmax(dim=1) for part in self.values.split(self.sizes, dim=1)], 1)
        starts = torch.tensor([0, *self.sizes[:-1]]).cumsum(0)
        point, label = (self.y[:, None] != torch.arange(len(self.sizes))).nonzero().T
        return self.pairs(point, (best + starts)[point, label])

    def possible_targets(self) -> Pairs:
        """Each point with all targets that may have a say within its upper bound."""
        point, target = (~self.own).nonzero().T
        keep = self.possible(point, target)
        return self.pairs(point[keep], target[keep])

    def possible(self, point: Int[Tensor, " B"], target: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
        """Whether a target may have a say within the upper bound of its point.

        Mahalanobis distances change no faster than with the root of the largest precision.
        """
        distance = (2 * (self.frame.constants - self.values)).clamp(min=0).sqrt()
        reach = self.upper[:, None] * self.frame.precisions.amax(dim=1).sqrt()
        top = self.frame.constants - 0.5 * (distance - reach).clamp(min=0).square()
        bottom = self.frame.constants - 0.5 * (distance + reach).square()
        least = bottom.masked_fill(~self.own, -torch.inf).amax(dim=1)
        return top[point, target] - least[point] > IMPOSSIBLE

    def pairs(self, point: Int[Tensor, " B"], target: Int[Tensor, " B"]) -> Pairs:
        """Problems to start with: own components as likely as they are at the point itself.

        The multipliers' sum is that which would do if all covariances were equal.
        """
        width = min(WIDTH, max(self.sizes))
        values, own = self.values.masked_fill(~self.own, -torch.inf)[point].topk(width, dim=1)
        if self.entropic:
            used = values.softmax(dim=1) > SMALLEST_SHARE
        else:
            used = torch.arange(width).expand_as(own) == 0
        values = values.masked_fill(~used, -torch.inf)
        shares = values.softmax(dim=1)
        z = self.z[point]
        gradient = self.frame.slopes(z, target)
        for i in range(width):
            gradient = gradient - shares[:, i, None] * self.frame.slopes(z, own[:, i])
        height = self.total(values) - self.values[point, target]
        scale = height.clamp(min=TINY) / gradient.square().sum(dim=1).clamp(min=TINY)
        # Where the gradient vanishes that is far too much: H is surely definite up to a limit.
        precisions = self.frame.precisions.amax(dim=1)[own]
        limit = 1 / (shares * precisions).sum(dim=1).clamp(min=TINY)
        scale = torch.minimum(scale, FARTHEST_START * limit)
        return Pairs(
            point=point,
            z=z,
            target=target,
            own=own,
            used=used,
            log_weight=torch.zeros_like(height),
            multipliers=scale[:, None] * shares,
            value=torch.full_like(height, -torch.inf),
            moves=torch.zeros_like(z),
        )

    def climb(self, pairs: Pairs) -> None:
        """Improve pairs, in place, round by round until their points' bounds meet or stay."""
        live = torch.arange(len(pairs.point))
        best, stalled = torch.zeros_like(self.upper), torch.zeros_like(self.upper)
        for left in reversed(range(ROUNDS)):
            before = self.upper.clone()
            enough = 0.5 * (1.01 * self.upper[pairs.point].clamp(max=FARTHEST)).square()
            ascend(self.frame, pairs, live, entropic=self.entropic, enough=enough)
            self.shorten(pairs.point[live], pairs.moves[live])
            radii, log_weights = self.radii(pairs)
            reached = radii.amin(dim=1)
            moved = (reached > (1 + TIGHT) * best) | (self.upper < (1 - TIGHT) * before)
            stalled = torch.where(moved, 0, stalled + 1)
            best = torch.maximum(best, reached)
            waiting = (stalled < PATIENCE) & (reached < (1 - TIGHT) * self.upper)
            mine = radii[pairs.point, self.label[pairs.target]]
            live = (
                (waiting[pairs.point] & (log_weights > FAINT) & (mine < self.upper[pairs.point]))
                .nonzero()
                .flatten()
            )
            if not (left and len(live)):  # what is taken in has to be climbed with
                break
            if self.entropic:
                self.weigh(pairs, live, mine[live], log_weights[live])
            self.extend(pairs, live)

    def complete(self, pairs: Pairs) -> None:
        """Look for nearest points in the hard case, where Ψ is largest as H becomes singular.

        The minimiser u* is then too short, and the nearest points are u* ± τv with v in H's
        kernel, as far away as Ψ says.
        """
        if self.z.shape[1] > MOST_DENSE:
            return
        bound = (2 * pairs.value.clamp(min=0)).sqrt()
        short = pairs.moves.norm(dim=1) < (1 - SHORT) * bound
        rows = (short & (bound < (1 - SHORT) * self.upper[pairs.point])).nonzero().flatten()
        inverses = self.frame.inverses() if len(rows) else None
        for row in rows.tolist():
            assert inverses is not None
            multipliers = pairs.multipliers[row]
            own = (multipliers[:, None, None] * inverses[pairs.own[row]]).sum(dim=0)
            hessian = multipliers.sum() * inverses[pairs.target[row]] - own
            kernel = torch.linalg.eigh(hessian).eigenvectors[:, 0]
            u = pairs.moves[row]
            along, lacking = u @ kernel, bound[row] ** 2 - u @ u
            root = (along.square() + lacking).sqrt()
            rays = torch.stack([u + (root - along) * kernel, u - (root + along) * kernel])
            self.shorten(pairs.point[row].expand(2), rays)

    def radii(self, pairs: Pairs) -> tuple[Float[Tensor, "n classes"], Float[Tensor, " B"]]:
        """For each class the largest r at which the weights exp M_j(r) of its targets sum to 1.

        It is infinite for the own class, and at most the upper bound for the others.

        Returns:
            The radii, and M_j of each pair at that of its class.
        """
        total = pairs.multipliers.sum(dim=1)
        height = pairs.log_weight - pairs.value / total  # C, whatever the log-weight was
        at = pairs.point, pairs.target
        heights = torch.full_like(self.values, -torch.inf).index_put(at, height)
        steepness = torch.zeros_like(self.values).index_put(at, 1 / total)

        def beyond(r: Tensor) -> Tensor:
            rise = 0.5 * steepness * r[:, self.label].square()
            parts = (heights + rise).split(self.sizes, dim=1)
            return torch.stack([self.total(part) for part in parts], dim=1) > 0

        limit = self.upper.clamp(max=FARTHEST)[:, None].expand(-1, len(self.sizes))
        low, high = torch.zeros_like(limit), limit
        for _ in range(HALVINGS + 10):
            middle = (low + high) / 2
            over = beyond(middle)
            low, high = torch.where(over, low, middle), torch.where(over, middle, high)
        own = self.y[:, None] == torch.arange(len(self.sizes))
        low = torch.where(beyond(limit), low, limit)
        mine = low[pairs.point, self.label[pairs.target]]
        return low.masked_fill(own, torch.inf), height + 0.5 * mine.square() / total

    def weigh(
        self,
        pairs: Pairs,
        rows: Int[Tensor, " live"],
        radius: Float[Tensor, " live"],
        log_weights: Float[Tensor, " live"],
    ) -> None:
        """Give targets the log-weights that they need at the radius reached.

        Where that is 0, their shares at the point itself.
        """
        values = self.values[pairs.point[rows]]
        label = self.label[pairs.target[rows]]
        among = values.masked_fill(self.label != label[:, None], -torch.inf).logsumexp(dim=1)
        shares = values.gather(1, pairs.target[rows, None]).squeeze(1) - among
        pairs.log_weight[rows] = torch.where(radius > 0, log_weights.clamp(max=0), shares)

    def extend(self, pairs: Pairs, rows: Int[Tensor, " live"]) -> None:
        """Take in the own component that each pair's nearest point leaves farthest behind."""
        values = self.frame.values(pairs.z[rows] + pairs.moves[rows])
        needed = values.gather(1, pairs.target[rows, None]) - pairs.log_weight[rows, None]
        ahead = (values - needed).masked_fill(~self.own[pairs.point[rows]], -torch.inf)
        # How far the target still is from winning there, as a share of the distance.
        total = pairs.multipliers[rows].sum(dim=1)
        lacking = self.total(ahead) * total > TIGHT * pairs.value[rows]
        taken = torch.where(pairs.used[rows], pairs.own[rows], pairs.own[rows, :1])
        best, fresh = ahead.scatter(1, taken, -torch.inf).max(dim=1)
        lacking &= best > (FAINT if self.entropic else 0.0)
        rows, fresh, total = rows[lacking], fresh[lacking], total[lacking]
        used = pairs.used[rows]
        least = pairs.multipliers[rows].argmin(dim=1)
        slot = torch.where(used.all(dim=1), least, used.sum(dim=1))
        pairs.own[rows, slot] = fresh
        pairs.used[rows, slot] = True
        pairs.multipliers[rows, slot] = FRESH_SHARE * total
