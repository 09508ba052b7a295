import pytest

from phalanx.errors import ConfigError, TrackingError
from phalanx.tracking import server
from phalanx.tracking.target import choose_target, redact, require_target


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
    with pytest.raises(TrackingError, match=r"pip install 'phalanx\[server\]'"):
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
    assert redact("mongodb://me:p%40ss@lab:1/x?y=z") == "mongodb://***@lab:1/x?y=z"
    assert redact("mongodb://lab:1") == "mongodb://lab:1"
