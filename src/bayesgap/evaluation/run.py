"""One classifier examined: what is doubtful of it, attacks, and what is doubtful of the result."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bayesgap.attacks.base import Attack
from bayesgap.attacks.boundary import norms
from bayesgap.attacks.closed_form import ClosedForm, has_closed_form
from bayesgap.attacks.closest import RESTARTS, Closest
from bayesgap.attacks.decision_walk import DecisionWalk
from bayesgap.attacks.score_walk import ScoreWalk
from bayesgap.classifiers.module import Boxed, decisions, evaluating, outputs
from bayesgap.errors import BayesgapError
from bayesgap.evaluation.classifier_doubts import classifier_doubts
from bayesgap.evaluation.doubts import (
    CHANGED,
    FAILS,
    NO_GRADIENTS,
    NOT_NEAREST,
    OF_GRADIENTS,
    OUTSIDE,
    RANDOM,
    SATURATED,
    Doubt,
    voiding,
)
from bayesgap.evaluation.measure import Outcome, attack_decisions, best_outcome, summarise
from bayesgap.evaluation.nearer import (
    Pool,
    certified_doubt,
    changes_doubt,
    clear_of_rounding,
    differences_doubt,
    restarts_doubt,
    turned_doubt,
)
from bayesgap.evaluation.record import Certified, Evaluation, Facts, Passes, measured
from bayesgap.evaluation.result_doubts import result_doubts
from bayesgap.norms import L2, Norm

Look = Callable[[nn.Module, Tensor, Outcome], Doubt | None]

QUERIES = 10_000  # a point, of walks without gradients where they are chosen by themselves
CLOSED_FORM = ClosedForm.name
EXACT_OR_FREE = frozenset({CLOSED_FORM, ScoreWalk.name, DecisionWalk.name})


@dataclass
class Run:
    """Attacks on one classifier, one after the other, and what is doubted meanwhile.

    Attributes:
        classifier: The classifier.
        x: The points.
        y: The label of each point.
        weights: What each point counts for.
        pool: Images of the task, from which walks start.
        norm: What perturbations are measured by.
        box: Smallest and largest pixel value of adversarial images; None for no limits.
        doubts: What was found doubtful so far.
        outcomes: What each attack found, by its name.
        passes: What each attack took, by its name.
    """

    classifier: nn.Module
    x: Float[Tensor, "n C H W"]
    y: Int[Tensor, " n"]
    weights: Float[Tensor, " n"]
    pool: Float[Tensor, "m C H W"]
    norm: Norm
    box: tuple[float, float] | None
    doubts: list[Doubt] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    passes: dict[str, Passes] = field(default_factory=dict)

    @cached_property
    def decided_pool(self) -> Pool:
        """The pool, and the decision on each of its images."""
        return Pool(self.pool, decisions(self.classifier, self.pool))

    @cached_property
    def confined(self) -> nn.Module:
        """The classifier, or in a box that of clipped images, whose nearest ones are the same."""
        return self.classifier if self.box is None else Boxed(self.classifier, self.box)

    @cached_property
    def outside(self) -> Float[Tensor, " n"]:
        """How far each point lies outside the box, in pixel units."""
        clipped = self.x if self.box is None else self.x.clamp(*self.box)
        return norms(self.x - clipped)

    @property
    def names(self) -> set[str]:
        """What is doubted."""
        return {doubt.name for doubt in self.doubts}

    @property
    def nearest(self) -> Outcome:
        """The nearest success at each point so far."""
        return best_outcome(list(self.outcomes.values()))

    def examine(
        self, asked: Sequence[Attack] | None, certified: Certified | None, *, full: bool
    ) -> None:
        """Doubt the classifier, attack it, and doubt the result.

        Args:
            asked: The attacks to run; None for those that suit the classifier.
            certified: The optimum's certified distances; None where there are none.
            full: Whether to look for nearer images by single pixels, differences of scores and
                restarts too.
        """
        with evaluating(self.classifier), self._kept():
            right = None if certified is None else certified.correct.double().mean().item()
            self.doubts += classifier_doubts(self.classifier, self.x, self.y, optimum=right)
            self.doubts += self._outside()
            self.attack(self.automatic() if asked is None else asked)
            sure = CLOSED_FORM in self.outcomes
            if voiding(self.doubts) is None and not sure:
                self.look_aside(add=asked is None, full=full)
            if certified is not None and not sure and self.box is None:
                clear = clear_of_rounding(self.classifier, self.x, self.nearest)
                found = certified_doubt(self.classifier, clear, certified.upper, certified.images)
                self.doubts += [] if found is None or NOT_NEAREST in self.names else [found]
            self.doubts += result_doubts(
                self.classifier,
                self.x,
                self.y,
                self.nearest,
                summarise([self.nearest], self.y, weights=self.weights),
                self.outcomes,
                self.decided_pool,
                known=self.names,
                boxed=self.box is not None,
            )

    def measured(self, certified: Certified | None, facts: Facts, no_gap: str) -> Evaluation:
        """What was found, in numbers.

        Args:
            certified: The optimum's certified distances; None where there are none.
            facts: What was evaluated, and how.
            no_gap: Why there is no gap, where there are no certificates.
        """
        x, y, weights = self.x, self.y, self.weights
        return measured(
            x, y, weights, self.outcomes, certified, self.doubts, self.passes, facts, no_gap
        )

    def attack(self, attacks: Sequence[Attack]) -> None:
        """Run them, and count what they take."""
        for attack in attacks:
            start = time.perf_counter()
            with _counted(self.classifier) as count:
                self.outcomes[attack.name] = attack_decisions(
                    self.classifier, attack, self.x, norm=self.norm, box=self.box
                )
            self.passes[attack.name] = Passes(
                count["forwards"] / len(self.x),
                count["backwards"] / len(self.x),
                time.perf_counter() - start,
            )

    def automatic(self) -> list[Attack]:
        """The attacks that suit the classifier and what is doubted of it."""
        if has_closed_form(self.classifier) and self.box is None:
            return [ClosedForm()]
        chosen: list[Attack] = [] if NO_GRADIENTS in self.names else [Closest(self.pool)]
        if not chosen or (self.names & OF_GRADIENTS and voiding(self.doubts) is None):
            chosen.append(self._without_gradients())
        return chosen

    def _without_gradients(self) -> Attack:
        kind = DecisionWalk if SATURATED in self.names else ScoreWalk
        return kind(self.pool, queries=QUERIES)

    def look_aside(self, *, add: bool, full: bool) -> None:
        """Look for nearer images in other ways; where there are any, attack again.

        Args:
            add: Whether to add attacks.
            full: Whether to look by single pixels, differences of scores and restarts too.
        """
        doubt = self._nearer(changes=full, scores=full)
        if doubt is None:
            return
        if not add or doubt.name == FAILS or EXACT_OR_FREE & self.outcomes.keys():
            self.doubts.append(doubt)
            return
        before, names = self.nearest.sizes, list[str]()
        for attack in (Closest(self.pool, restarts=RESTARTS), self._without_gradients()):
            self.attack([attack])
            names.append(attack.name)
            again = self._nearer(changes=full, scores=False)
            if again is None:
                break
        if again is not None and again.voids:
            self.doubts.append(again)
            return
        # What was found before attacks were added voids nothing any more.
        gained = 1 - (self.nearest.sizes / before).nan_to_num(1.0).mean().item()
        added = f"{' and '.join(names)} then came nearer by {gained:.1%} on average"
        remedy = "Sizes may still be a little too large: other attacks may come nearer."
        finding = f"{doubt.finding}; {added}"
        self.doubts.append(replace(doubt, finding=finding, remedy=remedy, voids=False))

    def _outside(self) -> Iterator[Doubt]:
        out = int((self.outside > 0).sum())
        if out:
            yield Doubt(
                OUTSIDE,
                f"{out} of {len(self.x)} points lie outside it, by up to an L2 of "
                f"{self.outside.max().item():.3g}",
                "Sizes include the way into the box, and are not exactly the smallest: clip the "
                "points, or give a larger box.",
            )

    def _nearer(self, *, changes: bool, scores: bool) -> Doubt | None:
        """What the first way to look finds that finds nearer images."""
        best = clear_of_rounding(self.classifier, self.x, self.nearest)
        # Clipping brings points in the box nowhere farther, but only these.
        best = replace(best, sizes=best.sizes.masked_fill(self.outside > 0, torch.inf))
        if best.norm != L2 or not (best.sizes.isfinite() & (best.sizes > 0)).any():
            return None
        ways: list[Look] = [partial(turned_doubt, pool=self.decided_pool)]
        ways += [changes_doubt] if changes else []
        if scores and not EXACT_OR_FREE & self.outcomes.keys() and SATURATED not in self.names:
            ways += [differences_doubt, *([] if OF_GRADIENTS & self.names else [restarts_doubt])]
        for way in ways:
            try:
                doubt = way(self.confined, self.x, best)
            except BayesgapError as error:
                doubt = Doubt(
                    FAILS,
                    str(error).removesuffix("."),
                    "Nearer images could not be looked for: let it decide whatever image it is "
                    "asked about.",
                )
            if doubt is not None:
                return doubt
        return None

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Notice what changes the classifier while it is attacked, and give its tensors back."""
        tensors = [*self.classifier.parameters(), *self.classifier.buffers()]
        before = [tensor.detach().clone() for tensor in tensors]
        said = outputs(self.classifier, self.x).argmax(dim=1)
        try:
            yield
            moved = int((outputs(self.classifier, self.x).argmax(dim=1) != said).sum())
        finally:
            changed = 0
            with torch.no_grad():
                for now, then in zip(tensors, before, strict=True):
                    if not torch.equal(_plain(now), _plain(then)):
                        changed += 1
                        now.copy_(then)
        if changed or (moved and RANDOM not in self.names):
            self.doubts.append(
                Doubt(
                    CHANGED,
                    f"{changed} of its {len(tensors)} tensors changed while it was attacked, and "
                    f"its decision on {moved} of {len(self.x)} points",
                    "An attack trains it or leaves hooks behind, or it counts what it is asked: "
                    "its tensors were given back, the sizes are of another classifier.",
                    voids=True,
                )
            )


def _plain(tensor: Tensor) -> Tensor:
    """The numbers of a tensor of any kind, with 0 for NaN, which is no number's equal."""
    dense = tensor if tensor.layout == torch.strided else tensor.to_dense()
    return dense.nan_to_num() if dense.element_size() > 1 else dense.float().nan_to_num()


@contextmanager
def _counted(classifier: nn.Module) -> Iterator[dict[str, int]]:
    """Count the images that go through a module, and those that gradients come back for.

    None of what has a closed form, which needs neither: a hook would be in its way.
    """
    count = {"forwards": 0, "backwards": 0}
    if has_closed_form(classifier):
        yield count
        return

    def came_back(gradient: Tensor) -> None:
        count["backwards"] += len(gradient)

    def went_through(module: nn.Module, images: tuple[Any, ...], logits: Any) -> None:
        count["forwards"] += len(logits)
        if isinstance(logits, Tensor) and logits.requires_grad:
            logits.register_hook(came_back)

    handle = classifier.register_forward_hook(went_through)
    try:
        yield count
    finally:
        handle.remove()
