"""The operators: the only part of the library that imports Airflow."""
