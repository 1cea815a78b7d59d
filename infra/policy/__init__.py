"""Policy: what no environment may contain, whatever its settings; one list of rules, for the tests and for CrossGuard.

Standard library only: the policy pack runs in an environment of its own, without this repository's other packages.
"""
