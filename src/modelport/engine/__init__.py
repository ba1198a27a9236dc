"""Load, infer, close: formats, runtimes, replicas, the dispatcher and the data plane."""
