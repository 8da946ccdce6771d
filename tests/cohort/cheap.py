"""The cheapest chain that makes a map of a made head, for Python and as it is typed."""

CHAIN = {
    "field": "weighted_mean",
    "mask": "threshold",
    "inversion": ("tkd",),
    "parameters": {"resharp": {"radius_mm": 8.0}},
    "device": "cpu",
}
TYPED = ["--fit", "weighted_mean", "--mask", "threshold", "--set", "resharp.radius_mm=8", "--invert", "tkd"]
