import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bayesgap


def test_every_public_name_can_be_had():
    for name in bayesgap.__all__:
        assert getattr(bayesgap, name) is not None
    assert dir(bayesgap) == sorted(bayesgap.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = bayesgap.nothing_like_it


def test_type_checkers_see_the_names_that_users_get():
    tree = ast.parse(Path(bayesgap.__file__).read_text())
    imports = {
        alias.name: node.module.removeprefix("bayesgap.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("bayesgap.")
        for alias in node.names
    }
    del imports["__version__"]
    assert imports == bayesgap._MODULES
    assert sorted([*imports, "__version__"]) == sorted(bayesgap.__all__)


def test_help_does_not_wait_for_torch():
    script = (
        "import sys\n"
        "from bayesgap import cli\n"
        "try:\n"
        "    cli.app(['--help'])\n"
        "except SystemExit:\n"
        "    pass\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
