"""Delays by airline and origin: $TIDEPOOL_LAKE/flights/delays as Parquet, and as one small JSON file for people.

Reads $TIDEPOOL_LAKE/flights/clean. Delays are in minutes, over the flights that flew; `cancelled` is a share of all.
"""

from __future__ import annotations

from lake import lake, write_json
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F


def main() -> None:
    """Count and write."""
    spark = SparkSession.builder.getOrCreate()
    rows = delays(spark.read.parquet(f"{lake()}/flights/clean")).collect()
    if not rows:
        raise SystemExit(f"{lake()}/flights/clean has no flights")
    spark.createDataFrame(rows).coalesce(1).write.mode("overwrite").parquet(f"{lake()}/flights/delays")
    write_json(spark, f"{lake()}/flights/delays.json", [row.asDict() for row in rows])
    print(f"{len(rows)} pairs of airline and origin written to {lake()}/flights/delays.json")
    spark.stop()


def delays(flights: DataFrame) -> DataFrame:
    """One row for each airline and origin, the latest arrivals first. Means are null where no flight flew."""
    return (
        flights.groupBy("carrier", F.col("carrier_name").alias("name"), "origin")
        .agg(
            F.count("*").alias("flights"),
            F.round(F.mean("dep_delay"), 2).alias("mean_dep_delay"),
            F.round(F.mean("arr_delay"), 2).alias("mean_arr_delay"),
            F.round(F.percentile("arr_delay", 0.9), 2).alias("p90_arr_delay"),
            F.round(F.mean(F.col("cancelled").cast("double")), 4).alias("cancelled"),
        )
        .orderBy(F.desc("mean_arr_delay"), "carrier", "origin")
    )


if __name__ == "__main__":
    main()
