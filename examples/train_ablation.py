"""What each part of the recipe brings: small networks that differ in one thing, equally long in training.

    python examples/train_ablation.py LABELS OUT [--steps 400]

LABELS is the folder of label maps. Prints a Markdown table: NRMSE of the held-out heads' validation scans,
the mean map taken off, at three voxel sizes; the closed-form L2 map beside it. Starts from the seed's network
(the field alone, the voxel size alone, the map itself as output) and adds one part after the other.
"""

import argparse
from pathlib import Path

from napari_metaqsm.training.config import configuration_from
from napari_metaqsm.training.fit import train

# Each row is the one before it and this.
PARTS = [
    (
        "the seed's: field in, map out, voxel size",
        {"inputs": ["field"], "residual": False, "conditions": ["voxel_size"]},
    ),
    ("+ mask", {"inputs": ["field", "mask"]}),
    (
        "+ closed-form map in, its correction out",
        {"inputs": ["field", "mask", "l2"], "residual": True},
    ),
    ("+ that map as smooth as the level asks", {"adapted": True}),
    ("+ B0 direction", {"conditions": ["voxel_size", "b0_direction"]}),
    ("+ level of the scan", {"conditions": ["voxel_size", "b0_direction", "level"]}),
    ("+ magnitude, in half of the scans", {"inputs": ["field", "mask", "l2", "magnitude"]}),
    ("+ 0.1 L1 of differences", {"gradient_weight": 0.1}),
    ("+ 0.3 L1 of the field", {"model_weight": 0.3}),
]


def main() -> None:
    """Train all of them and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    arguments = parser.parse_args()
    architecture, loss = {"adapted": False, "width": 8, "levels": 4, "kernels": 4}, {}
    print("| network | mean | 1×1×1 mm | 0.5×0.5×2 mm | 0.76×0.76×3 mm |\n|---|---|---|---|---|")
    for number, (name, part) in enumerate(PARTS):
        for key, value in part.items():
            (loss if key.endswith("_weight") else architecture)[key] = value
        configuration = configuration_from(
            {
                "data": {
                    "labels": str(arguments.labels),
                    "samples_per_step": 2,
                    "acquisitions_per_subject": 4,
                },
                "recipe": {"shape": [64, 64, 32]},
                "architecture": architecture,
                "loss": loss,
                "optimisation": {"steps": arguments.steps, "warmup_steps": 50, "average_decay": 0.99},
                "run": {"checkpoint_minutes": 1000},
            }
        )
        scores = train(configuration, arguments.out / str(number)).scores
        keys = ["nrmse", *(key for key in scores if key.startswith("nrmse/"))]
        print(f"| {name} | " + " | ".join(f"{scores[key]:.1f}" for key in keys) + " |", flush=True)
    closed = [scores[key] for key in scores if key.startswith("nrmse_l2/")]
    print(
        f"| closed-form L2 | {sum(closed) / len(closed):.1f} | "
        + " | ".join(f"{v:.1f}" for v in closed)
        + " |"
    )


if __name__ == "__main__":
    main()
