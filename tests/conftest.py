"""Every test runs with shapes checked, without the network, and away from the user's files."""

import os
import socket
import sys

import hypothesis
import pytest
from jaxtyping import install_import_hook

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch: two workers share two cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Before anything of visavis is imported: shapes and types in signatures are checked when called.
install_import_hook("visavis", "beartype.beartype")

SECRETS = {
    name: f"canary-5b1f-{name.lower()}"
    for name in ("WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY")
}
"""What is in the environment while files are written, and must be in none of them."""

hypothesis.settings.register_profile("long", hypothesis.settings())  # recipes/fuzz.py chooses it

LOOPBACK = ("127.0.0.1", "::1", "localhost")

LONGEST = ("test_notebook", "test_validation", "test_ddp")


def pytest_collection_modifyitems(items):
    """The longest files first, or one worker would be left with one of them in the end."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture(autouse=True)
def _at_home(tmp_path_factory, monkeypatch):
    """No key, no cache and no settings of whoever runs the tests; what a subprocess sees, too."""
    home = tmp_path_factory.mktemp("home")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("NETRC", str(home / "netrc"))
    # One for all tests: a new one costs each subprocess seconds for the cache of fonts.
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path_factory.getbasetemp() / "matplotlib"))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """A test that reaches out fails at once, instead of passing where the network happens to be."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family != socket.AF_UNIX and address[0] not in LOOPBACK:
            raise OSError(f"a test tried to connect to {address[0]}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """An experiment that went through every stage, with tiny models; copy it before changing it.

    The workers of pytest-xdist share it: the first that needs it makes it.
    """
    import small
    import tiny
    from visavis import run_folder
    from visavis.files import lock
    from visavis.stages.run import run

    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    with lock(shared, wait=True), tiny.few_points(), pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        if not (shared / "experiment" / run_folder.REPORT).exists():
            run(shared / "experiment", small.experiment(), "smoke", small.dataset())
    return shared / "experiment"


@pytest.fixture
def few_points():
    """As `finished` was made."""
    import tiny

    with tiny.few_points():
        yield


@pytest.fixture
def secrets_in(monkeypatch):
    """Secrets are in the environment; returns what finds the files of a folder that hold one."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)

    def found(folder):
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert files
        return [path for path in files if b"canary-5b1f" in path.read_bytes()]

    return found


@pytest.fixture
def visavis_command(monkeypatch, capsys):
    """Call the command line; its exit code, stdout and stderr."""
    from visavis.cli import main
    from visavis.training import memory

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["visavis", *map(str, arguments)])
        monkeypatch.setattr(memory, "keep_freed_memory", lambda: None)
        code = main()
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def few_images(monkeypatch):
    """A few shapes, whatever is asked for; returns what was asked for."""
    import small
    from visavis import data

    asked = []

    def resolve(wanted):
        asked.append(wanted)
        return small.dataset()

    monkeypatch.setattr(data, "resolve", resolve)
    return asked


@pytest.fixture
def own_registry(monkeypatch):
    """No model is registered, before and after."""
    from visavis import registry

    monkeypatch.setattr(registry, "files", [])
    monkeypatch.setattr(registry, "registered", {})
    monkeypatch.setattr("visavis.models.building.registered", registry.registered)
    monkeypatch.setattr("visavis.models.library.registered", registry.registered)
    monkeypatch.setattr(sys, "path", [*sys.path])
