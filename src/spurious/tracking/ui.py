"""Serve the MLflow UI on this machine and print where the attacks stand side by side.

`python -m spurious.tracking.ui --port 5000`, or `make ui`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from spurious.errors import UserError
from spurious.tracking.store import STORE, exists, explained, server, uri
from spurious.tracking.views import address, experiments, write_view

HOST = "127.0.0.1"


def addresses(base: str, store: Path = STORE) -> dict[str, str]:
    """Name of each experiment and the address of its view, the last used first.

    Raises:
        UserError: there is no store, or it is damaged.
    """
    from mlflow import MlflowClient

    if not exists(store):
        raise UserError(f"{store / 'mlflow.db'} is missing: nothing was tracked yet; `make repro`")
    with explained(store):
        client = MlflowClient(uri(store))
        found = experiments(client)
        for one in found:
            write_view(client, one.experiment_id)
    return {one.name: address(base, one.experiment_id) for one in found}


def main() -> None:
    """Print the addresses, then become MLflow's server, unless another one is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=5000)
    port = parser.parse_args().port
    try:
        remote = server()
        for name, place in addresses(remote or f"http://{HOST}:{port}").items():
            print(f"Attacks of {name}: {place}", flush=True)
    except UserError as error:
        sys.exit(f"error: {error}")
    if remote:
        return
    where = ["--backend-store-uri", uri(), "--host", HOST, "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui", *where])


if __name__ == "__main__":
    main()
