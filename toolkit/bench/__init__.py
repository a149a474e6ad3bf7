"""Measurements that are repeated by command: accuracy of the methods on real data."""
