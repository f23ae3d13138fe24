from functools import partial

import pytest
from sklearn.svm import LinearSVC

from bayesgap.classifiers import svm
from bayesgap.paper import experiment
from bayesgap.runs.store import Result
from strategies import random_task


@pytest.mark.parametrize(("limit", "converged"), [(1, False), (100_000, True)])
def test_a_linear_svm_that_did_not_converge_is_a_result(limit, converged, monkeypatch):
    monkeypatch.setattr(svm, "LinearSVC", partial(LinearSVC, max_iter=limit))
    monkeypatch.setattr(experiment, "TEST_IMAGES", 20)
    task = Result(*random_task(0).to_tensors())
    trained = experiment.train_linear(task, images=40, sample_seed=1, seed=2)
    assert trained.values["converged"] is converged
    assert trained.values["images"] == 20
