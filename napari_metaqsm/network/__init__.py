"""The network: what it is told of a scan, its layers, its weights, and how it runs on any volume."""
