"""What a Ray node must have in its environment before Ray starts, for Serve's proxies to know our edge.

`answer-first serve --replicas N` sets it; on a cluster it belongs to every container that runs `ray start`
(configs/kubernetes/rayservice.yaml). Without it the service works, routed by Serve's own rule.
"""

AFFINITY_HEADER = "x-query-affinity"

ENVIRONMENT = {
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "scale.serving.edge.middlewares",
    "RAY_SERVE_SESSION_ID_HEADER_KEY": AFFINITY_HEADER,
    # The load of the last seconds, not of the last half minute: a queue grows within one.
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "2",
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "2",
    # The app never blocks its loop, so it needs none of its own: two hops between threads fewer for each message.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    # Serve gives up a proxy that takes 5 s to start, and a busy machine takes longer.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
    # Ray runs what it runs at a niceness of 15: beside anything else on the machine, a scorer would starve.
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
