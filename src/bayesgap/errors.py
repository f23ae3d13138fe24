"""The one exception type that means "what was asked cannot be done, and here is why".

Everything that a user can get wrong (a shape, a label, a name, a damaged file) raises
`BayesgapError` with one sentence that holds the offending value and what to do. The command
line prints that sentence and exits with 2; anything else that is raised is a bug of ours.
"""


class BayesgapError(ValueError):
    """The request or its data are invalid; the message says what was wrong and what to do."""
