import json

from bayesgap.paper import fit


def test_another_fit_is_another_version_and_replaces_nothing(tmp_path, monkeypatch):
    # The smallest fit that takes every path; the shipped settings need minutes.
    monkeypatch.setattr(fit, "COMPONENTS", 2)
    monkeypatch.setattr(fit, "LATENT", 1)
    monkeypatch.setattr(fit, "FLOORS", (1e-2, 1e-1))
    monkeypatch.setattr(fit, "TRAINING_IMAGES", 200)
    monkeypatch.setattr(fit, "VALIDATION_IMAGES", 100)
    monkeypatch.setattr(fit, "CNN_WIDTH", 1)
    real = fit.load_mnist

    def few(digits, *, split):
        x, y = real(digits, split=split)
        return x[:300], y[:300]

    monkeypatch.setattr(fit, "load_mnist", few)
    first = fit.fit_digits([3, 8], tmp_path)
    bytes_of_first = (tmp_path / first["file"]).read_bytes()
    second = fit.fit_digits([3, 8], tmp_path)
    assert (first["version"], second["version"]) == (1, 2)
    assert (tmp_path / first["file"]).read_bytes() == bytes_of_first
    assert first["sha256"] == second["sha256"]  # the same data and seed give the same fit
    catalogue = json.loads((tmp_path / "catalogue.json").read_text())
    assert [entry["version"] for entry in catalogue["mnist-3-8"]] == [1, 2]
    assert first["settings"]["noise_floor"] in fit.FLOORS
    for variant in ("symmetric", "asymmetric"):
        assert set(first["facts"][variant]["accuracy_on_real_digits"]) == {
            "bayes-optimal",
            "cnn",
            "linear-svm",
            "rbf-svm",
        }
