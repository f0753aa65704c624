"""A Ray cluster of two nodes with one CPU each, on this machine: prints its address, ends with its stdin."""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "node_ip_address": "127.0.0.1"})
    cluster.add_node(num_cpus=1, node_ip_address="127.0.0.1")
    print(f"address={cluster.address}", flush=True)
    sys.stdin.read()
    cluster.shutdown()
