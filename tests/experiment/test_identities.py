"""Seeds follow from identities: those of every stage that was ever run stay what they are."""

import hashlib
import json
from pathlib import Path

import pytest

from bayesgap.experiment.scales import NAMES
from bayesgap.experiment.setting import DIGIT_TASKS, Setting
from bayesgap.images.digits import Digits
from bayesgap.images.faces import Faces
from bayesgap.paper.engine.run import plan
from bayesgap.paper.registry import EXHIBITS
from bayesgap.runs.stage import in_order
from bayesgap.tasks.catalog import Known, known_tasks

# For each scale and source of images, a hash of the identities of the stages of each label.
KNOWN = json.loads((Path(__file__).parent / "identities.json").read_text("utf-8"))


class SomeFaces(Faces):
    """A copy of CelebA that nobody opens."""

    checksum = "1" * 64


FACE = Known("celeba-male", 1, "0" * 64, Path("/nowhere/celeba-male.v1.safetensors"), {})


def setting(scale, what):
    released = known_tasks()
    tasks = {
        "digits": {name: released[name][0] for name in DIGIT_TASKS},
        "faces": {FACE.name: FACE},
    }[what]
    return Setting(scale, 0, tasks, (Digits(), SomeFaces("/nowhere")))


@pytest.mark.parametrize("what", ["digits", "faces"])
@pytest.mark.parametrize("scale", NAMES)
def test_every_stage_has_the_identity_that_it_had(scale, what):
    exhibits = [each for each in EXHIBITS if what == "digits" or each.name != "fig3"]
    made = plan(setting(scale, what), exhibits)
    targets = [stage for graph in made.graphs for stage in graph.targets()]
    targets += [stage for wants in made.wanted.values() for stage in wants.stages.values()]
    found: dict[str, list[str]] = {}
    for stage in in_order(targets):
        found.setdefault(stage.label, []).append(stage.identity)
    hashes = {
        label: hashlib.sha256("".join(sorted(identities)).encode()).hexdigest()[:16]
        for label, identities in found.items()
    }
    known = KNOWN[f"{scale} {what}"]
    assert {label: hashes.get(label) for label in known} == known
