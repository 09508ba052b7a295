import functools

import pytest

from phalanx.errors import ConfigError, TrackingError
from phalanx.tracking import server
from phalanx.tracking.target import Target, choose_target, redact, require_target


@pytest.fixture(autouse=True)
def _no_address(monkeypatch):
    monkeypatch.delenv("PHALANX_MONGO_URL", raising=False)


def test_the_most_explicit_address_wins(tmp_path, monkeypatch):
    monkeypatch.setenv("PHALANX_MONGO_URL", "mongodb://environment:1")

    def url(**given):
        return choose_target(**{"mongo_url": None, "results_dir": tmp_path, **given}).url

    assert url(sacred_address="sacred:3:db", mongo_url="mongodb://config:2") == "mongodb://sacred:3"
    assert url(mongo_url="mongodb://config:2") == "mongodb://config:2"
    assert url(mongo_url="config:2") == "mongodb://config:2"
    assert url() == "mongodb://environment:1"


def test_without_an_address_the_embedded_server_or_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "executable", lambda: "/bin/secantusd-py")
    target = choose_target(mongo_url=None, results_dir=tmp_path)
    assert target is not None
    assert (target.url, target.server_dir) == (None, tmp_path / "db")
    assert choose_target(mongo_url="none", results_dir=tmp_path) is None
    monkeypatch.setattr(server, "executable", lambda: None)
    assert choose_target(mongo_url=None, results_dir=tmp_path) is None
    with pytest.raises(TrackingError, match=r"pip install -e '\.\[server\]'"):
        require_target(mongo_url=None, results_dir=tmp_path)


@pytest.mark.parametrize(
    ("address", "url", "database"),
    [
        ("lab:27018:marl", "mongodb://lab:27018", "marl"),
        ("lab:27018", "mongodb://lab:27018", "phalanx"),
        ("marl", "mongodb://localhost:27017", "marl"),
        ("mongodb://lab:27018", "mongodb://lab:27018", "phalanx"),
    ],
)
def test_sacreds_forms_of_an_address(tmp_path, address, url, database):
    target = choose_target(mongo_url=None, results_dir=tmp_path, sacred_address=address)
    assert target is not None
    assert (target.url, target.database) == (url, database)


@pytest.mark.parametrize("address", ["mongodb://me:secret@lab:1", "me:secret@lab:1:db"])
@pytest.mark.parametrize("key", ["mongo_url", "sacred_address"])
def test_a_password_belongs_in_the_environment(tmp_path, monkeypatch, address, key):
    with pytest.raises(ConfigError, match="PHALANX_MONGO_URL") as error:
        choose_target(**{"mongo_url": None, "results_dir": tmp_path, key: address})
    assert "secret" not in str(error.value)
    monkeypatch.setenv("PHALANX_MONGO_URL", "mongodb://me:secret@lab:1")
    target = choose_target(mongo_url=None, results_dir=tmp_path)
    assert target is not None
    assert "secret" not in target.label


@pytest.mark.parametrize("key", ["mongo_url", "sacred_address"])
def test_a_malformed_address_is_refused(tmp_path, key):
    with pytest.raises(ConfigError, match=r"[Ee]xpected"):
        choose_target(**{"mongo_url": None, "results_dir": tmp_path, key: "mongodb://lab:port"})
    with pytest.raises(ConfigError, match=r"[Ee]xpected"):
        choose_target(**{"mongo_url": None, "results_dir": tmp_path, key: "lab:1:db:2:3"})


def test_redact():
    assert redact("mongodb://me:p%40ss@lab:1/x?y=z") == "mongodb://***@lab:1/x?y=***"
    assert redact("mongodb://me:p@ss@lab:1/?tls=true") == "mongodb://***@lab:1/?tls=true"
    assert (
        redact("mongodb://lab:1,other:2/x?replicaSet=r") == "mongodb://lab:1,other:2/x?replicaSet=r"
    )
    assert redact("mongodb://lab:1") == "mongodb://lab:1"


@pytest.mark.parametrize(
    "address",
    [
        "mongodb://me:s3 cret@lab:1",
        "mongodb://me:s3cret",
        "mongodb://me:s3cret/phalanx",
        "me:s3cret",
        "mongodb://me:s3/cret@lab",
        "mongodb://me:s3@cret@lab",
        "mongodb://lab:1/?password=s3cret",
        "mongodb://lab:1/?tls=true;passwd=s3cret",
        "mongodb://lab:1/?authMechanismProperties=TOKEN:s3cret",
        "mongodb+srv://me:s3 cret@lab",
    ],
)
def test_no_part_of_a_password_is_ever_shown(tmp_path, monkeypatch, address, recwarn):
    """Whether the address is refused or taken, and wherever it comes from."""
    shown = []
    monkeypatch.setenv("PHALANX_MONGO_URL", address)
    for given in ({}, {"mongo_url": address}, {"sacred_address": address}):
        try:
            target = choose_target(**{"mongo_url": None, "results_dir": tmp_path, **given})
        except ConfigError as error:
            shown.append(str(error))
        else:
            assert target is not None
            shown.append(target.label)
            with monkeypatch.context() as patched:
                connect = functools.partialmethod(Target.connect, timeout=0.05)
                patched.setattr(Target, "connect", connect)
                with pytest.raises(TrackingError) as failed, target.connected():
                    pytest.fail("connected")
            shown.append(str(failed.value))
    if "://" in address:
        shown += [redact(address), redact(f"lost {address}: refused")]
    shown += [str(warning.message) for warning in recwarn]
    for text in shown:
        assert "s3" not in text
        assert "cret" not in text.replace("secret", "")
