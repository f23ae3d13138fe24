"""Stub."""


def as_classifier(thing, *, image_shape, classes):
    """Stub."""
    return thing
