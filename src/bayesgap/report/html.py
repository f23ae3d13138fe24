"""Pages of HTML, each one self-contained file: their templates, and the pictures within them."""

import base64
import io
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bayesgap import files
from bayesgap.drawing import SVG, Picture, words

DPI = 130  # of pictures that are no lines


def rendered(template: str, **names: Any) -> str:
    """A page, in which all text is escaped.

    Args:
        template: The name of a file in `templates`.
        names: What the template speaks of.
    """
    environment = Environment(
        loader=PackageLoader("bayesgap.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("percent", "number", "slug", "setting"):
        environment.filters[name] = getattr(words, name)
    environment.filters["embedded"] = _embedded
    return environment.get_template(template).render(**names)


def _embedded(picture: Picture) -> Markup:
    """A picture as a data URL."""
    data = io.BytesIO()
    metadata = {"Date": None} if picture.kind == "svg" else {}
    with matplotlib.rc_context(SVG):
        picture.figure.savefig(data, format=picture.kind, dpi=DPI, metadata=metadata)
    media = {"svg": "image/svg+xml", "png": "image/png"}[picture.kind]
    return Markup(f"data:{media};base64,{base64.b64encode(data.getvalue()).decode()}")


def write_text(path: Path, text: str) -> None:
    """Write a file of text, whole or not at all.

    Args:
        path: Where it goes; an existing file is replaced.
        text: What it holds.

    Raises:
        BayesgapError: the folder is missing or not writable.
    """
    files.write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
