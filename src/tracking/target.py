"""Which MongoDB a run is mirrored to, and connections to it."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError, TrackingError
from . import server

URL_VARIABLE = "PHALANX_MONGO_URL"
NO_DATABASE = "none"
EMBEDDED = "embedded"
DEFAULT_DATABASE = "phalanx"

# What may be shown of an address's options; any other may hold a secret.
_SHOWN_OPTIONS = {
    *(
        "authsource",
        "authmechanism",
        "replicaset",
        "readpreference",
        "directconnection",
        "tls",
        "ssl",
    ),
    *("retrywrites", "w", "journal", "appname", "maxpoolsize", "serverselectiontimeoutms"),
    *("connecttimeoutms", "sockettimeoutms"),
}
_OPTION = re.compile(r"([?&;])([^=&;?\s]*)=([^&;\s]*)")
# Everything up to the last @ of a line: a password may hold any other character, blanks too.
_CREDENTIALS = re.compile(r"(?<=://)[^\n]*@")
# user:password where the @host is missing: what looks like a port is none.
_NO_HOST = re.compile(r"(?<=://)[^\s/?@:,]+:(?!\d{1,5}(?![^\s/?,:'\")\]]))[^\n]*")
_SECRET_OPTION = re.compile(
    r"[?&;][^=&;?]*(?:pass|pwd|secret|token|authMechanismProperties)[^=&;?]*=", re.I
)
# host:port:database, host:port or database, as Sacred's -m takes them
_SACRED_ADDRESS = re.compile(
    r"(?:(?P<host>[\w.-]+):(?P<port>\d{1,5}))?(?::|^)?(?P<database>[\w-]+)?$"
)


def redact(url: str) -> str:
    """A text without the user, the password and the options of the address in it.

    >>> redact("mongodb://me:secret@db.lab:27017/x")
    'mongodb://***@db.lab:27017/x'
    >>> redact("mongodb://me:my secret@lab"), redact("mongodb://me:secret"), redact("me:secret@lab:1")
    ('mongodb://***@lab', 'mongodb://***', '***@lab:1')
    >>> redact("mongodb://lab/?tls=true&password=secret")
    'mongodb://lab/?tls=true&password=***'
    """
    if "://" not in url and "@" in url:
        url = "***@" + url.rpartition("@")[2]
    url = _NO_HOST.sub("***", _CREDENTIALS.sub("***@", url))
    return _OPTION.sub(_without_secret, url)


def _without_secret(option: re.Match[str]) -> str:
    mark, name, value = option.groups()
    return f"{mark}{name}={value if name.lower() in _SHOWN_OPTIONS else '***'}"


def reason(error: Exception) -> str:
    """What went wrong, in one line without credentials.

    >>> reason(OSError("lab:27017: refused (configured timeouts: 3 s), Timeout: 3 s, Topology: ..."))
    'lab:27017: refused'
    """
    return redact(str(error)).split(",")[0].split(" (configured timeouts")[0][:150]


@dataclass(frozen=True)
class Target:
    """A database to record into.

    Attributes:
        database: its name.
        url: address of the server; None for the embedded server.
        server_dir: folder of the embedded server.
    """

    database: str
    url: str | None = None
    server_dir: Path | None = None

    @property
    def label(self) -> str:
        """Printable name, free of credentials, the same on every run that records here."""
        where = redact(self.url) if self.url else f"embedded server in {self.server_dir}"
        return f"{where}, database {self.database}"

    def connect(self, timeout: float = 3.0) -> Any:
        """A ``pymongo`` database; starts the embedded server if that is what is wanted.

        Nothing here waits much longer than ``timeout`` seconds for a server that does not answer.

        Raises:
            TrackingError: the embedded server cannot be started.
            pymongo.errors.PyMongoError: the address is wrong.
        """
        import pymongo

        milliseconds = int(timeout * 1000)
        client: Any = pymongo.MongoClient(
            self.address(),
            serverSelectionTimeoutMS=milliseconds,
            connectTimeoutMS=milliseconds,
            socketTimeoutMS=5 * milliseconds,
            appname="phalanx",
        )
        return client[self.database]

    @contextlib.contextmanager
    def connected(self) -> Iterator[Any]:
        """The database, which answers, for the length of a ``with`` block.

        Raises:
            TrackingError: it does not answer.
        """
        from pymongo.errors import PyMongoError

        db = self.connect()
        with db.client:
            try:
                db.command("ping")
                yield db
            except PyMongoError as error:
                raise TrackingError(
                    f"{self.label} cannot be reached: {redact(str(error))[:200]}"
                ) from None

    def address(self) -> str:
        """Address of the server, which is started if it is the embedded one.

        Raises:
            TrackingError: it cannot be started.
        """
        if self.url is not None:
            return self.url
        assert self.server_dir is not None
        return server.start(self.server_dir).url

    def uri(self) -> str:
        """The address with the name of the database in it, as other programs take it."""
        scheme, _, rest = self.address().partition("://")
        rest, _, options = rest.partition("?")
        hosts, _, login_database = rest.partition("/")
        if "@" in hosts and "authSource=" not in options:
            # The name also says where the user is known, which need not be this database.
            options = f"{options}&authSource={login_database or 'admin'}".lstrip("&")
        return f"{scheme}://{hosts}/{self.database}" + (f"?{options}" if options else "")


def choose_target(
    *,
    mongo_url: str | None,
    results_dir: Path,
    database: str = DEFAULT_DATABASE,
    sacred_address: str | None = None,
) -> Target | None:
    """Where to record: Sacred's ``-m``, ``mongo_url``, the environment, else the embedded server.

    Returns None when there is nothing to record into: ``none`` was asked for, or no address is given
    and the embedded server is not installed.

    Raises:
        ConfigError: an address is malformed, or carries a password outside the environment.
    """
    if sacred_address is not None:
        return _from_sacred(sacred_address, database)
    if mongo_url is not None:
        _refuse_password(mongo_url, "mongo_url")
    url = mongo_url if mongo_url is not None else os.environ.get(URL_VARIABLE) or None
    if url == NO_DATABASE:
        return None
    if url is not None:
        return Target(database, url=_checked(url))
    if server.executable() is None:
        return None
    return Target(database, server_dir=results_dir.absolute() / "db")


def require_target(
    *, mongo_url: str | None, results_dir: Path, database: str = DEFAULT_DATABASE
) -> Target:
    """Like :func:`choose_target`, for commands that cannot do without a database.

    Raises:
        TrackingError: there is none; says how to get one.
    """
    target = choose_target(mongo_url=mongo_url, results_dir=results_dir, database=database)
    if target is None:
        raise TrackingError(
            f"no database: give --mongo-url, set {URL_VARIABLE}, or {server.INSTALL_HINT}"
        )
    return target


def reading_target(
    *, mongo_url: str | None, results_dir: Path, database: str = DEFAULT_DATABASE
) -> Target | None:
    """Like :func:`choose_target`, for those who only look: the embedded server if it runs, else None.

    What the embedded server has was recorded in the folder beside it, so there is no need to start it.
    """
    target = choose_target(mongo_url=mongo_url, results_dir=results_dir, database=database)
    if target is not None and target.server_dir is not None and server.status(target.server_dir):
        return target
    return target if target is not None and target.url is not None else None


def named_target(name: str, results_dir: Path, database: str = DEFAULT_DATABASE) -> Target:
    """The database a word of the command line names.

    Args:
        name: ``embedded``, an address without a password, or ``env:VARIABLE`` for the address in an
            environment variable.
        results_dir: folder of the runs, beside which the embedded server is.
        database: its name.

    Raises:
        ConfigError: the variable is not set, or the address is malformed or carries a password.
    """
    if name == EMBEDDED:
        return Target(database, server_dir=results_dir.absolute() / "db")
    kind, colon, variable = name.partition(":")
    if colon and kind == "env":
        if not os.environ.get(variable):
            raise ConfigError(f"{name}: the environment variable {variable} is not set")
        return Target(database, url=_checked(os.environ[variable]))
    _refuse_password(name, "the command line", "an environment variable and give env:VARIABLE")
    return Target(database, url=_checked(name))


def _refuse_password(
    address: str, origin: str, instead: str = f"the environment variable {URL_VARIABLE}"
) -> None:
    user = address.partition("://")[2] or address
    if ":" in user.rpartition("@")[0] or _SECRET_OPTION.search(address):
        raise ConfigError(
            f"{origin}: a password there would end up in process lists and in the run's record. "
            f"Put the address into {instead}."
        )


def _checked(url: str) -> str:
    if not url.startswith(("mongodb://", "mongodb+srv://")):
        url = "mongodb://" + url
    from pymongo.errors import PyMongoError
    from pymongo.uri_parser import parse_uri

    # What PyMongo says of a malformed address quotes parts of it, which may be the password.
    malformed = ConfigError(
        f"the MongoDB address {redact(url)!r} is malformed: expected mongodb://host:port or "
        "mongodb://user:password@host:port/?options, where blanks and any of :/?#[]@% in a user or "
        "password are percent-encoded (a blank is %20)"
    )
    if any(letter.isspace() for letter in url) or re.search(
        r"[?&;](?:password|passwd|pwd|user|username)=", url
    ):
        raise malformed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyMongo's words on options, for the same reason
            if url.startswith("mongodb://"):  # the other form needs the network to be resolved
                parse_uri(url, validate=True)
    except (PyMongoError, ValueError):
        raise malformed from None
    return url


def _from_sacred(address: str, database: str) -> Target:
    _refuse_password(address, "-m")
    if "://" in address:
        return Target(database, url=_checked(address))
    match = _SACRED_ADDRESS.match(address)
    if match is None or not any(match.groupdict().values()):
        raise ConfigError(
            f"-m {redact('mongodb://' + address)!r}: expected host:port:database, host:port, a database "
            "name, or mongodb://host:port"
        )
    host, port = match["host"] or "localhost", match["port"] or "27017"
    return Target(match["database"] or database, url=f"mongodb://{host}:{port}")
