"""Read by every Python process of the fake Kaggle session: what its image does not have cannot be imported, no socket opens.

`hcpl_kernel` and `kymatio` are found in the folders of `sys.path` only, never among the installed packages. Every try to
open an internet socket or to look up a host fails, and is written down.
"""

import os
import socket
import sys
from importlib.machinery import PathFinder
from pathlib import Path

NOT_ON_KAGGLE = ("hcpl_kernel", "kymatio", "appdirs")
LOG = Path(os.environ["HCPL_TEST_NETWORK_LOG"])


class BundleOnly:
    """Finds the missing packages where the notebook put them."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if path is not None or name not in NOT_ON_KAGGLE:
            return None
        spec = PathFinder.find_spec(name, [entry for entry in sys.path if "site-packages" not in entry])
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r} (as on Kaggle)", name=name)
        return spec


class LocalSocket(socket.socket):
    """A socket of the session's own processes; any other is refused."""

    def __init__(self, family=-1, type=-1, proto=-1, fileno=None):
        if fileno is None and family in (-1, socket.AF_INET, socket.AF_INET6):
            refuse("socket", family)
        super().__init__(family, type, proto, fileno)


def refuse(*what):
    with LOG.open("a") as log:
        log.write(f"{sys.argv} {what}\n")
    raise PermissionError(f"no network here: {what}")


sys.meta_path.insert(0, BundleOnly)
socket.socket = LocalSocket
socket.getaddrinfo = lambda *arguments, **_: refuse("getaddrinfo", *arguments)
socket.gethostbyname = lambda *arguments: refuse("gethostbyname", *arguments)
