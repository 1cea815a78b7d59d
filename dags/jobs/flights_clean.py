"""Clean the flights: typed, joined with plane, weather and airline, as Parquet by month.

Reads $TIDEPOOL_LAKE/raw/nycflights13/{flights,planes,weather,airlines}.csv and writes $TIDEPOOL_LAKE/flights/clean,
one row for every flight. A second run writes the same again.
"""

from __future__ import annotations

from lake import lake
from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

FLIGHTS = """
    year int, month int, day int, dep_time int, sched_dep_time int, dep_delay double, arr_time int, sched_arr_time int,
    arr_delay double, carrier string, flight int, tailnum string, origin string, dest string, air_time double,
    distance double, hour int, minute int, time_hour timestamp
"""
PLANES = """
    tailnum string, year int, type string, manufacturer string, model string, engines int, seats int, speed int,
    engine string
"""
WEATHER = """
    origin string, year int, month int, day int, hour int, temp double, dewp double, humid double, wind_dir double,
    wind_speed double, wind_gust double, precip double, pressure double, visib double, time_hour timestamp
"""
AIRLINES = "carrier string, name string"


def main() -> None:
    """Read, join, check and write."""
    spark = SparkSession.builder.getOrCreate()
    raw = f"{lake()}/raw/nycflights13"
    flights = read(spark, f"{raw}/flights.csv", FLIGHTS)
    if flights.isEmpty():
        raise SystemExit(f"{raw}/flights.csv has no flights")

    target = f"{lake()}/flights/clean"
    counted = Observation()  # counts while the rows go by: a count() would read the whole file once more
    clean = joined(
        flights.observe(counted, F.count("*").alias("rows")),
        planes=read(spark, f"{raw}/planes.csv", PLANES),
        weather=read(spark, f"{raw}/weather.csv", WEATHER),
        airlines=read(spark, f"{raw}/airlines.csv", AIRLINES),
    )
    # One file a month: the year is small, and every file costs each of its readers.
    clean.repartition("month").write.mode("overwrite").partitionBy("month").parquet(target)

    written = spark.read.parquet(target).count()
    if written != counted.get["rows"]:
        raise SystemExit(f"{counted.get['rows']} flights were read and {written} written to {target}")
    print(f"{written} flights written to {target}")
    spark.stop()


def read(spark: SparkSession, path: str, schema: str) -> DataFrame:
    """A CSV file of nycflights13: NA is null, and a line that does not fit the schema fails the job."""
    return spark.read.csv(path, schema=schema, header=True, nullValue="NA", mode="FAILFAST", enforceSchema=False)


def joined(flights: DataFrame, planes: DataFrame, weather: DataFrame, airlines: DataFrame) -> DataFrame:
    """Every flight once, with what is known of its plane, its airline, and the weather at its origin in its hour."""
    planes = planes.select("tailnum", F.col("year").alias("plane_year"), "manufacturer", "engines", "seats")
    # The hour that the clocks went back is there twice.
    weather = weather.dropDuplicates(["origin", "time_hour"]).select(
        "origin", "time_hour", "temp", "humid", "wind_speed", "precip", "pressure", "visib"
    )
    airlines = airlines.withColumnRenamed("name", "carrier_name")
    return (
        flights.withColumn("cancelled", F.col("dep_time").isNull())
        .join(F.broadcast(planes), "tailnum", "left")
        .join(F.broadcast(weather), ["origin", "time_hour"], "left")
        .join(F.broadcast(airlines), "carrier", "left")
    )


if __name__ == "__main__":
    main()
