"""How late will a flight arrive that has just left? A linear model, judged on flights that it never saw.

Reads $TIDEPOOL_LAKE/flights/clean and writes $TIDEPOOL_LAKE/flights/model.json. The model knows what is known at
take-off, and so how late the flight left: without that, hardly anything about the delay can be told. For the same
reason the baseline is not the mean but the best guess without a model: it arrives as late as it left. RMSE in minutes.
"""

from __future__ import annotations

from lake import lake, write_json
from pyspark.ml import Pipeline
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.feature import OneHotEncoder, StringIndexer, VectorAssembler
from pyspark.ml.regression import LinearRegression
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

CATEGORIES = ["carrier", "origin", "month", "hour"]
NUMBERS = ["dep_delay", "distance", "temp", "humid", "wind_speed", "precip", "visib"]
TEST_SHARE = 0.2
SEED = 2013


def main() -> None:
    """Train on four fifths of the flights, judge on the rest, write what came out."""
    spark = SparkSession.builder.getOrCreate()
    flights = known_at_takeoff(spark.read.parquet(f"{lake()}/flights/clean")).cache()
    test, train = flights.where("is_test"), flights.where("not is_test")
    rows_train, rows_test = train.count(), test.count()
    if not (rows_train and rows_test):
        raise SystemExit(f"{lake()}/flights/clean has too few flights for a model: {rows_train} + {rows_test}")

    predicted = pipeline().fit(train).transform(test)
    result = {
        "rmse": round(rmse(predicted, "prediction"), 3),
        "baseline_rmse": round(rmse(predicted, "dep_delay"), 3),
        "rows_train": rows_train,
        "rows_test": rows_test,
    }
    write_json(spark, f"{lake()}/flights/model.json", result)
    print(f"model of arrival delay: {result}")
    spark.stop()


def known_at_takeoff(flights: DataFrame) -> DataFrame:
    """The flights that flew and arrived, with what was known when they left; one in 200 has no weather report."""
    # By a hash of the flight, so that it is the same split however the files are laid out.
    key = F.xxhash64(F.lit(SEED), "carrier", "flight", "time_hour", "tailnum")
    return flights.select(
        "arr_delay",
        *NUMBERS,
        *(F.col(column).cast("string") for column in CATEGORIES),
        (F.pmod(key, F.lit(1000)) < TEST_SHARE * 1000).alias("is_test"),
    ).dropna()


def pipeline() -> Pipeline:
    """Categories as 0/1 columns, numbers as they are, one linear regression."""
    indexed = [f"{column}_index" for column in CATEGORIES]
    encoded = [f"{column}_encoded" for column in CATEGORIES]
    return Pipeline(
        stages=[
            StringIndexer(inputCols=CATEGORIES, outputCols=indexed, handleInvalid="keep"),
            OneHotEncoder(inputCols=indexed, outputCols=encoded),
            VectorAssembler(inputCols=[*NUMBERS, *encoded], outputCol="features"),
            LinearRegression(labelCol="arr_delay", solver="normal", regParam=0.01),
        ]
    )


def rmse(predicted: DataFrame, column: str) -> float:
    """Root of the mean squared error of a column against the arrival delay, in minutes."""
    return float(RegressionEvaluator(labelCol="arr_delay", predictionCol=column, metricName="rmse").evaluate(predicted))


if __name__ == "__main__":
    main()
