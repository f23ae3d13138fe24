import pytest
import torch
from torch import nn

from bayesgap import files
from bayesgap.classifiers.allconv import AllConvolutional
from bayesgap.classifiers.nearest import NearestNeighbour
from bayesgap.classifiers.stored import from_tensors, to_tensors
from bayesgap.classifiers.svm import train_linear_svm, train_rbf_svms
from bayesgap.errors import BayesgapError
from toys import generator, normal, two_blobs

SHAPE = (1, 8, 8)


def cnn(classes, scales=None):
    network = AllConvolutional(SHAPE, classes, 3, generator=generator(classes), scales=scales)
    for layer in network.layers:
        if isinstance(layer, nn.Conv2d):
            assert layer.bias is not None
            layer.bias.data.uniform_(-1, 1, generator=generator(1))
    return network.eval()


def linear(classes):
    x, y = two_blobs(0, 200, SHAPE, classes, separation=2.0)
    return train_linear_svm(x, y, classes=classes, seed=0)


def rbf(classes):
    x, y = two_blobs(0, 40, SHAPE, classes)
    return train_rbf_svms(x, y, classes=classes, gammas=[0.01234567890123])[0]


def nearest(classes):
    return NearestNeighbour(*two_blobs(0, 40, SHAPE, classes))


def images(classifier):
    return normal(0, 6, *SHAPE).to(next(iter(classifier.state_dict().values())))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("make", [cnn, linear, rbf, nearest])
def test_a_stored_classifier_gives_the_same_logits_to_the_last_bit(make, classes):
    classifier = make(classes)
    again = from_tensors(*to_tensors(classifier))
    assert type(again) is type(classifier)
    logits = again(images(classifier))
    assert logits.shape == (6, classes)
    assert torch.equal(logits, classifier(images(classifier)))


@pytest.mark.parametrize("scales", [0, 2, 3])
def test_a_network_keeps_its_scales(scales):
    network = cnn(2, scales)
    again = from_tensors(*to_tensors(network))
    assert again.scales == scales
    assert torch.equal(again(images(network)), network(images(network)))


def test_a_network_stored_before_scales_could_be_chosen_has_the_papers():
    network = cnn(2)
    tensors, metadata = to_tensors(network)
    del metadata["scales"]
    assert metadata.keys() == {"kind", "image_shape", "classes", "width"}
    again = from_tensors(tensors, metadata)
    assert again.scales == network.scales == 1
    assert torch.equal(again(images(network)), network(images(network)))


@pytest.mark.parametrize("scales", [2, 4, -1, "2"])
def test_a_stored_network_of_other_scales_is_refused(scales):
    tensors, metadata = to_tensors(cnn(2))
    with pytest.raises(BayesgapError, match="damaged"):
        from_tensors(tensors, {**metadata, "scales": scales})


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("make", [cnn, linear, rbf, nearest])
def test_so_does_one_from_a_file_wherever_its_tensors_lie_in_it(tmp_path, make, classes):
    classifier, path = make(classes), tmp_path / "classifier.safetensors"
    tensors, metadata = to_tensors(classifier)
    # A header that grows moves the tensors, and matrix products round by their alignment.
    for length in range(0, 64, 8):
        padded = {**metadata, "pad": "x" * length}
        files.save_tensors(path, tensors, kind="classifier", metadata=padded)
        again = from_tensors(*files.load_tensors(path, kind="classifier"))
        assert torch.equal(again(images(classifier)), classifier(images(classifier)))


@pytest.mark.parametrize("make", [cnn, linear, rbf, nearest])
def test_a_stored_classifier_comes_back_frozen_and_in_evaluation_mode(make):
    again = from_tensors(*to_tensors(make(2)))
    assert not any(tensor.requires_grad for tensor in again.parameters())
    assert not again.training


def test_a_classifier_of_another_kind_cannot_be_stored():
    with pytest.raises(BayesgapError, match=r"A Linear cannot be stored\."):
        to_tensors(nn.Linear(2, 2))


@pytest.mark.parametrize("metadata", [{}, {"kind": "forest"}])
def test_metadata_of_an_unknown_kind_are_refused_with_it(metadata):
    with pytest.raises(BayesgapError, match=repr(metadata.get("kind"))):
        from_tensors({}, metadata)


@pytest.mark.parametrize("make", [cnn, linear, rbf, nearest])
def test_a_stored_classifier_that_lacks_something_is_refused_with_its_name(make):
    tensors, metadata = to_tensors(make(2))
    name = sorted(tensors)[0]
    less = {key: tensor for key, tensor in tensors.items() if key != name}
    with pytest.raises(BayesgapError, match=f"stored classifier .*{name}"):
        from_tensors(less, metadata)


def test_a_stored_network_of_another_size_is_refused():
    tensors, metadata = to_tensors(cnn(2))
    with pytest.raises(BayesgapError, match="damaged"):
        from_tensors(tensors, {**metadata, "width": 2})


@pytest.mark.parametrize("make", [linear, rbf, nearest])
def test_a_machine_does_not_share_its_tensors_with_who_made_it(make):
    tensors, metadata = to_tensors(make(2))
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    machine = from_tensors(tensors, metadata)
    before = {name: tensor.clone() for name, tensor in machine.state_dict().items()}
    for tensor in tensors.values():
        tensor.zero_()
    assert all(torch.equal(machine.state_dict()[name], before[name]) for name in before)
