"""Replace the password that Milvus gives its user root when it starts for the first time.

    python set_password.py http://milvus:19530

The new one is in the environment, as LANDCUE_MILVUS_PASSWORD. Run again, it changes nothing.
"""

from __future__ import annotations

import logging
import os
import sys

USER, DEFAULT = "root", "Milvus"
SECONDS = 10.0


def set_password(uri: str, password: str) -> str:
    """Set the password; return what was done."""
    from pymilvus import MilvusClient, MilvusException

    try:
        MilvusClient(uri, user=USER, password=password, timeout=SECONDS).list_collections()
        return "unchanged"
    except MilvusException:
        client = MilvusClient(uri, user=USER, password=DEFAULT, timeout=SECONDS)
        client.update_password(USER, DEFAULT, password)
        return "set"


def main() -> None:
    """Set the password in the environment."""
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL + 1)  # it logs tracebacks
    (uri,), password = sys.argv[1:], os.environ.get("LANDCUE_MILVUS_PASSWORD", "")
    if len(password) < 6 or password == DEFAULT:
        sys.exit("error: set LANDCUE_MILVUS_PASSWORD to 6 characters or more, not the default")
    from pymilvus import MilvusException  # takes a second

    try:
        print(f"password of {USER}: {set_password(uri, password)}")
    except MilvusException:
        sys.exit(
            f"error: {uri} cannot be reached, or its {USER} has neither the default password nor "
            "that in LANDCUE_MILVUS_PASSWORD"
        )


if __name__ == "__main__":
    main()
