"""MLflow's own scoring client, unchanged: ``python mlflow_client.py URL`` reads rows, prints what it got."""

from __future__ import annotations

import json
import sys
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

where = urlsplit(sys.argv[1])
rows = np.array(json.load(sys.stdin))
client = ScoringServerClient(where.hostname, where.port)
client.wait_server_ready(timeout=30)
frame = pd.DataFrame(rows, columns=["a", "b", "c", "d"])
try:
    client.invoke(frame[["a"]])
    error = ""
except Exception as refused:
    error = str(refused)
print(
    json.dumps(
        {
            "version": client.get_version(),
            "frame": client.invoke(frame).get_predictions("ndarray").tolist(),
            "as frame": client.invoke(frame).get_predictions().values.tolist(),
            "array": client.invoke(rows).get_predictions("ndarray").tolist(),
            "list": client.invoke(rows.tolist()).get_predictions("ndarray").tolist(),
            "records": client.invoke(json.dumps({"dataframe_records": frame.to_dict("records")}))
            .get_predictions("ndarray")
            .tolist(),
            "error": error,
        }
    )
)
