"""What a workload would cost under other policies: a simulation of jobs, autoscaler, ladder and spot market."""
