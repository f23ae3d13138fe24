"""All sources of real images: a new one takes its own file, and a line here."""

from collections.abc import Sequence

from bayesgap.errors import BayesgapError
from bayesgap.images.digits import Digits
from bayesgap.images.faces import Faces
from bayesgap.images.source import Source

SOURCES: tuple[Source, ...] = (Digits(), Faces())


def with_faces(folder: str | None) -> tuple[Source, ...]:
    """All sources, that of faces with a copy where one is given.

    Args:
        folder: The folder of a copy of CelebA; None where there is none.
    """
    return tuple(Faces(folder) if isinstance(source, Faces) else source for source in SOURCES)


def source_of(task: str, sources: Sequence[Source] = SOURCES) -> Source:
    """The source whose images a task's name says it has.

    Args:
        task: The name of a task without its variant, for example "mnist-0-6".
        sources: The sources to look among.

    Raises:
        BayesgapError: none of the sources has tasks of such a name.

    Example:
        >>> source_of("mnist-0-6").what
        'digits'
    """
    for source in sources:
        if source.owns(task):
            return source
    known = ", ".join(f"{source.name}-…" for source in sources)
    raise BayesgapError(f"There are no images for a task {task!r}: names are {known}.")
